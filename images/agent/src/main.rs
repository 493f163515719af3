//! The guest side, one binary for every role.
//!
//! As process 1 it only mounts, forks and reaps; the roles that do work are re-executions of it, so that
//! no reaper steals another's children:
//!
//! | `luqual-agent …` | role |
//! | --- | --- |
//! | (as process 1) | [`init`]: mounts, starts the others, reaps |
//! | `tick` | [`tick`]: counts in a page that the host reads |
//! | `hold` | [`hold`]: holds the workloads' descriptors until the kexec |
//! | `serve` | [`serve`]: the SSH server |
//! | `call` | [`call`]: one request from standard input, one reply to standard output |
//! | `kill ROLE`, `panic`, `hang` | [`fault`]: faults that are planted on purpose |
//! | `orchestrator` | [`orchestrator`]: brings virtual machines through an update |
//! | `peer` | [`peer`]: does what a workload tells it, as any user |
//! | (as `/inner`) | [`inner`]: what a Linux in a virtual machine has as its /init |
//! | `vmm` | [`vmm`]: a virtual machine monitor that does what a workload tells it |
//! | `peer-apart` | [`namespaces`]: the same in namespaces of its own |
//! | `write-pages …`, `write-log …` | [`writer`]: write into a memfd |
//! | `shell` | [`shell`]: a prompt for a person |
//! | `autorun` | [`autorun`]: requests from a file, for a guest that nobody talks to |

mod autorun;
mod call;
mod content;
mod devices;
mod drivers;
mod facts;
mod fault;
mod hold;
mod init;
mod initramfs;
mod inner;
mod kexec;
mod log;
mod luo;
mod mapping;
mod memfd;
mod namespaces;
mod orchestrator;
mod pci;
mod peer;
mod program;
mod pty;
mod serve;
mod shell;
mod swap;
mod tick;
mod vfio;
mod vmm;
mod wait;
mod workloads;
mod writer;

use std::process::ExitCode;

fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let ended = match (std::process::id(), role.as_deref()) {
        (1, _) if std::env::args().next().as_deref() == Some(inner::INNER) => inner::run(),
        // In a namespace of its own it is process 1 too.
        (_, Some("peer")) => peer::run(),
        (1, _) => init::run(),
        (_, Some("tick")) => tick::run(),
        (_, Some("hold")) => hold::run(),
        (_, Some("serve")) => serve::run(),
        (_, Some("call")) => call::run(),
        (_, Some("kill")) => fault::kill(),
        (_, Some("panic")) => fault::panic(),
        (_, Some("hang")) => fault::hang(),
        (_, Some("vmm")) => vmm::run(),
        (_, Some("orchestrator")) => orchestrator::run(),
        (_, Some("peer-apart")) => namespaces::run(),
        (_, Some("write-pages")) => writer::pages(),
        (_, Some("write-log")) => writer::log(),
        (_, Some("autorun")) => autorun::run(),
        (_, Some("shell")) => shell::run(),
        _ => Err("usage: luqual-agent tick|hold|serve|call|kill|panic|hang|orchestrator|peer|vmm|peer-apart|write-pages|write-log|autorun|shell \
             (as process 1: /init)"
            .to_owned()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("luqual-agent: {message}");
            ExitCode::FAILURE
        }
    }
}
