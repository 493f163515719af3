//! Interactive options: the live console, and gdb.

use luqual_config::Deadlines;
use luqual_kernels::Kernel;
use luqual_model::Phase;
use luqual_runner::InteractiveOptions;
use std::collections::BTreeMap;
use std::path::Path;

/// Interactive options for one machine at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interactive {
    /// Gets each line of the console; for one machine at a time.
    pub console: Option<fn(&str)>,
    /// Whether to wait for gdb before the first instruction. The phases then have no deadline, and the kernels get
    /// nokaslr.
    pub gdb: bool,
}

impl Interactive {
    /// The options of the runner. `wait` is called with the socket while the guest waits for gdb.
    pub(crate) fn person<'a>(self, wait: &'a dyn Fn(&Path)) -> InteractiveOptions<'a> {
        InteractiveOptions { visit: None, console: self.console, gdb: self.gdb.then_some(wait) }
    }

    /// Adds nokaslr for gdb: the kernels have to be at the addresses of their symbols.
    pub(crate) fn prepare(self, kernels: &mut BTreeMap<String, Kernel>) {
        for line in kernels.values_mut().map(|kernel| &mut kernel.info.command_line).filter(|_| self.gdb) {
            // A reproduced run may have had gdb, too.
            if !line.split(' ').any(|option| option == NOKASLR) {
                line.push(' ');
                line.push_str(NOKASLR);
            }
        }
    }
}

const NOKASLR: &str = "nokaslr";

/// Each phase gets a year, for a user in a debugger.
pub(crate) fn patient(mut deadlines: Deadlines) -> Deadlines {
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Teardown) {
        deadlines.set(phase, 365 * 24 * 60 * 60);
    }
    deadlines
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::KernelInfo;

    #[test]
    fn only_a_debugger_changes_what_a_kernel_is_told_and_once() {
        let told = |gdb| {
            let info = KernelInfo { name: "a".into(), command_line: "console=ttyS0".into(), ..KernelInfo::default() };
            let kernel = Kernel { info, image: "/bzImage".into(), symbols: None, map: None, modules: Vec::new() };
            let mut kernels = BTreeMap::from([("a".to_owned(), kernel)]);
            (0..2).for_each(|_| Interactive { console: None, gdb }.prepare(&mut kernels));
            kernels["a"].info.command_line.clone()
        };
        assert_eq!([told(false), told(true)], ["console=ttyS0", "console=ttyS0 nokaslr"]);
    }
}
