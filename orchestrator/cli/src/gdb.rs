//! What to type for gdb to be in a guest's kernels. Pure.

use luqual_kernels::Kernel;
use std::path::Path;

/// What to type for gdb to be in either kernel. Pure.
pub(crate) fn what_to_type(socket: &Path, source: &Kernel, target: Option<&Kernel>) -> String {
    let quoted = |path: &Path| shlex::try_quote(&path.display().to_string()).unwrap_or_default().into_owned();
    let none = |kernel: &Kernel| {
        format!("{} has no vmlinux beside it: gdb shows addresses instead of names", kernel.info.name)
    };
    let socket = socket.display();
    let mut text = "the guest waits for gdb before its first instruction. In another terminal:\n".to_owned();
    text.push_str(&match &source.symbols {
        Some(symbols) => format!("  gdb {} -ex 'target remote {socket}'\n", quoted(symbols)),
        None => format!("  gdb -ex 'target remote {socket}'\n  ({})\n", none(source)),
    });
    text.push_str("type in gdb, for the source:\n  hbreak start_kernel\n  continue\n");
    match target.map(|target| (target, &target.symbols)) {
        Some((_, Some(symbols))) => text.push_str(&format!(
            "then, for the target:\n  hbreak kernel_kexec\n  continue\n  delete\n  file {}\n  hbreak start_kernel\n  continue\n",
            symbols.display()
        )),
        Some((target, None)) => text.push_str(&format!("for the target: {}\n", none(target))),
        None => {}
    }
    text.push_str("(use hbreak, not break: the kexec overwrites the breakpoints that gdb writes into memory)\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use luqual_model::KernelInfo;

    fn kernel(name: &str, symbols: Option<&str>) -> Kernel {
        let info = KernelInfo { name: name.into(), command_line: "console=ttyS0".into(), ..KernelInfo::default() };
        Kernel { info, image: "/bzImage".into(), symbols: symbols.map(Into::into), map: None, modules: Vec::new() }
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
}
