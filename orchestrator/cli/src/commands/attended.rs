//! What somebody wants who is there while a machine runs: its live console, and a debugger on its kernels.

use clap::Args;
use luqual_config::Deadlines;
use luqual_kernels::Kernel;
use luqual_model::Phase;
use luqual_runner::Person;
use std::collections::BTreeMap;
use std::path::Path;

/// For commands that run one machine.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Attended {
    /// Show the guest's console on standard error while it runs
    #[arg(long)]
    pub(crate) console: bool,
    /// Wait for gdb before the first instruction, and say what to type; no phase has a deadline, and the kernels get nokaslr
    #[arg(long)]
    pub(crate) gdb: bool,
}

impl Attended {
    /// As the runner has it; `wait` is told where gdb is waited for.
    pub(crate) fn person<'a>(self, wait: &'a dyn Fn(&Path)) -> Person<'a> {
        let console = self.console.then_some(crate::terminal::console_line as fn(&str));
        Person { visit: None, console, gdb: self.gdb.then_some(wait) }
    }

    /// The kernels have to be where their symbols say that they are.
    pub(crate) fn prepare(self, kernels: &mut BTreeMap<String, Kernel>) {
        for line in kernels.values_mut().map(|kernel| &mut kernel.info.command_line).filter(|_| self.gdb) {
            // What is made again may have been with gdb itself.
            if !line.split(' ').any(|option| option == NOKASLR) {
                line.push(' ');
                line.push_str(NOKASLR);
            }
        }
    }
}

const NOKASLR: &str = "nokaslr";

/// Whoever stands in a debugger is given a year for each phase.
pub(crate) fn patient(mut deadlines: Deadlines) -> Deadlines {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Teardown) {
        deadlines.set(phase, 365 * 24 * 60 * 60);
    }
    deadlines
}

/// What to type for gdb to be in either kernel. Pure.
pub(crate) fn what_to_type(socket: &Path, source: &Kernel, target: Option<&Kernel>) -> String {
    let quoted = |path: &Path| shlex::try_quote(&path.display().to_string()).unwrap_or_default().into_owned();
    let none =
        |kernel: &Kernel| format!("{} has no vmlinux beside it: there are addresses, and no names", kernel.info.name);
    let socket = socket.display();
    let mut text = "the guest waits for gdb before its first instruction. In another terminal:\n".to_owned();
    text.push_str(&match &source.symbols {
        Some(symbols) => format!("  gdb {} -ex 'target remote {socket}'\n", quoted(symbols)),
        None => format!("  gdb -ex 'target remote {socket}'\n  ({})\n", none(source)),
    });
    text.push_str("and there, for the source:\n  hbreak start_kernel\n  continue\n");
    match target.map(|target| (target, &target.symbols)) {
        Some((_, Some(symbols))) => text.push_str(&format!(
            "then, for the target:\n  hbreak kernel_kexec\n  continue\n  delete\n  file {}\n  hbreak start_kernel\n  continue\n",
            symbols.display()
        )),
        Some((target, None)) => text.push_str(&format!("for the target: {}\n", none(target))),
        None => {}
    }
    text.push_str("(not break: what gdb writes into a kernel's memory is lost with that kernel)\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::KernelInfo;

    fn kernel(name: &str, symbols: Option<&str>) -> Kernel {
        let info = KernelInfo { name: name.into(), command_line: "console=ttyS0".into(), ..KernelInfo::default() };
        Kernel { info, image: "/bzImage".into(), symbols: symbols.map(Into::into) }
    }

    #[test]
    fn gdb_is_told_of_both_kernels_symbols() {
        let (old, new) = (kernel("old", Some("/a b/vmlinux")), kernel("new", Some("/n/vmlinux")));
        let text = what_to_type(Path::new("/w/0/gdb"), &old, Some(&new));
        assert!(text.contains("\n  gdb '/a b/vmlinux' -ex 'target remote /w/0/gdb'\n"), "{text}");
        assert!(text.contains("\n  file /n/vmlinux\n  hbreak start_kernel\n"), "{text}");
        let bare = what_to_type(Path::new("/w/0/gdb"), &kernel("bare", None), Some(&kernel("bare", None)));
        assert_eq!(bare.matches("bare has no vmlinux beside it").count(), 2, "{bare}");
        assert!(!what_to_type(Path::new("/w/0/gdb"), &old, None).contains("for the target"));
    }

    #[test]
    fn only_a_debugger_changes_what_a_kernel_is_told_and_once() {
        let told = |gdb| {
            let mut kernels = BTreeMap::from([("a".to_owned(), kernel("a", None))]);
            (0..2).for_each(|_| Attended { console: true, gdb }.prepare(&mut kernels));
            kernels["a"].info.command_line.clone()
        };
        assert_eq!([told(false), told(true)], ["console=ttyS0", "console=ttyS0 nokaslr"]);
    }
}
