//! Workloads that are programs of the user. Matrix files declare them; no table has them.

use super::entry::{Workload, w};
use crate::PROGRAMS;

/// The prefix of their names.
pub const EXTERNAL: &str = "external.";

/// The path of the workload's program in the guest; `None` for a workload of luqual's own.
pub fn program_path(workload: &str) -> Option<String> {
    workload.strip_prefix(EXTERNAL).map(|name| format!("{PROGRAMS}/{name}"))
}

/// The entry of a program. It is leaked, so that it is `'static` as the entries of the tables are.
pub fn external(name: &str, asserts: &str, origin: &str, shares_boot: bool) -> &'static Workload {
    let text = |text: &str| -> &'static str { Box::leak(text.into()) };
    let finds = "what its authors look for: it is told by what the program prints and how it ends";
    let entry = w(text(name), text(asserts), text(origin), finds);
    Box::leak(Box::new(if shares_boot { entry } else { entry.alone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_where_its_workload_says() {
        assert_eq!(program_path("external.mine").as_deref(), Some("/luqual/programs/mine"));
        assert_eq!(program_path("memfd.basic"), None);
        assert!(!external("external.mine", "a", "b", false).shares_boot);
    }
}
