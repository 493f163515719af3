//! The roles that the agent has as a process.

use crate::{
    autorun, call, helper, holder, init, inject, namespaces, nested_init, sandbox, shell, ssh, tick, vmm, writer,
};

/// A name on the command line, and what is run.
type Role = (&'static str, fn() -> Result<(), String>);

const ROLES: [Role; 22] = [
    ("tick", tick::run),
    ("hold", holder::run),
    ("serve", ssh::run),
    ("call", call::run),
    ("kill", inject::kill),
    ("panic", inject::panic),
    ("hang", inject::hang),
    ("oom", inject::oom),
    ("oom-unseen", inject::oom_unseen),
    ("victim", inject::victim),
    ("deceive", inject::deceive),
    ("vmm", vmm::monitor::run),
    ("orchestrator", vmm::orchestrator::run),
    (helper::ROLE, helper::run),
    ("helper-isolated", namespaces::run),
    (sandbox::ROLE, sandbox::run),
    (sandbox::INIT_ROLE, sandbox::init),
    ("write-pages", writer::pages),
    ("write-log", writer::log),
    ("fill-memory", writer::fill_memory),
    ("autorun", autorun::run),
    ("shell", shell::run),
];

/// Runs the role that the command line names. As process 1 that is /init, of the guest or of a virtual machine in it.
///
/// # Errors
///
/// A message for the user: the command line names no role, or the role has failed.
pub fn run() -> Result<(), String> {
    let mut arguments = std::env::args();
    let (program, name) = (arguments.next(), arguments.next());
    let is_process_1 = std::process::id() == 1;
    // These are process 1 in a PID namespace of their own.
    let is_nested_role = [helper::ROLE, sandbox::INIT_ROLE].map(Some).contains(&name.as_deref());
    if is_process_1 && !is_nested_role {
        let is_nested = program.as_deref() == Some(nested_init::PATH);
        return if is_nested { nested_init::run() } else { init::run() };
    }
    match ROLES.iter().find(|(role, _)| name.as_deref() == Some(*role)) {
        Some((_, run)) => run(),
        None => {
            let names: Vec<&str> = ROLES.iter().map(|(role, _)| *role).collect();
            Err(format!("usage: luqual-agent {} (as process 1: /init)", names.join("|")))
        }
    }
}
