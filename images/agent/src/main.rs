//! The guest side, one binary for every role.
//!
//! As process 1 it only mounts, forks and reaps. Every role that does work is another process of the same binary, so that no reaper
//! takes another's children:
//!
//! | `luqual-agent …` | role |
//! | --- | --- |
//! | (as process 1) | `init`: mounts, starts the others, reaps |
//! | `tick` | `tick`: counts in a page that the host reads |
//! | `hold` | `holder`: holds the workloads' descriptors until the kexec |
//! | `serve` | `ssh`: the SSH server |
//! | `call` | `call`: one request from standard input, one reply to standard output |
//! | `kill ROLE`, `panic`, `hang` | `inject`: faults that are injected on purpose |
//! | `vmm` | `vmm::monitor`: a virtual machine monitor |
//! | `orchestrator` | `vmm::orchestrator`: brings virtual machines through an update |
//! | `helper` | `helper`: obeys a workload, as any user |
//! | `helper-isolated` | `namespaces`: the same in namespaces of its own |
//! | `program …`, `program-init …` | `sandbox`: are around another person's program |
//! | `write-pages …`, `write-log …` | `writer`: write into a memfd |
//! | `shell` | `shell`: an interactive prompt |
//! | `autorun` | `autorun`: requests from a file, for a guest without a host that talks to it |
//! | (as `/nested-init`) | `nested_init`: the /init of a Linux in a virtual machine |

use std::process::ExitCode;

fn main() -> ExitCode {
    match luqual_agent::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("luqual-agent: {message}");
            ExitCode::FAILURE
        }
    }
}
