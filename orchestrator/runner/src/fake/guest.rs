//! The guest.

use super::machine::{A_MOMENT, State};
use super::script::Play;
use crate::judge::owed;
use crate::lab::{Guest, Waiting};
use luqual_guest::Agent;
use luqual_protocol::{
    Hello, KernelLog, Located, MemfdPages, PageContent, PagePlace, Probe, Reply, Request, Said, VERSION, WorkloadPage,
};
use luqual_vm::MachineEnd;
use std::future::pending;
use std::rc::Rc;
use tokio::time::sleep;

/// A guest that is not there.
pub(super) struct FakeGuest {
    state: Rc<State>,
    /// After how many kexecs its kernel runs.
    hop: u32,
}

impl FakeGuest {
    pub(super) fn new(state: Rc<State>) -> Self {
        let hop = state.hop();
        Self { state, hop }
    }

    async fn play(&self, mut play: Play, request: &Request) -> Result<Reply, String> {
        loop {
            play = match play {
                Play::Well => return self.well(request).await,
                Play::Reply(reply) => return Ok(reply),
                Play::Silent => return pending().await,
                Play::Hang => {
                    self.state.hang();
                    return pending().await;
                }
                Play::Cut => return Err("SSH: the connection ended before the command did".to_owned()),
                Play::End(end) => {
                    self.state.end(end);
                    return pending().await;
                }
                Play::Last(end) => {
                    let reply = self.well(request).await;
                    self.state.end(end);
                    return reply;
                }
                Play::LastReply(reply, end) => {
                    self.state.end(end);
                    return Ok(reply);
                }
                Play::Pause(time, then) => {
                    self.state.hang();
                    sleep(time).await;
                    self.state.resume();
                    *then
                }
                Play::Say(line, then) => {
                    self.state.say(line);
                    *then
                }
                Play::After(time, then) => {
                    sleep(time).await;
                    *then
                }
            };
        }
    }

    async fn well(&self, request: &Request) -> Result<Reply, String> {
        let (kernel, nonce) = self.state.kernel(self.hop);
        Ok(match request {
            Request::Hello { .. } => Reply::Hello((self.state.script.hello)(
                self.hop,
                Hello {
                    protocol: VERSION,
                    agent: "fake".to_owned(),
                    release: kernel.release.clone(),
                    build_id: kernel.build_id.clone().unwrap_or_default(),
                    nonce,
                    boot_id: String::new(),
                    tick_page: 0,
                    taint: 0,
                    liveupdate: true,
                },
            )),
            Request::Load { command_line, .. } => {
                *self.state.loaded.borrow_mut() = Some(command_line.clone());
                done(Vec::new())
            }
            Request::Kexec => {
                sleep(A_MOMENT).await;
                self.state.kexec();
                // A kernel that is left cuts no connection.
                return pending().await;
            }
            Request::Panic => {
                self.state.end(MachineEnd::Panicked);
                return pending().await;
            }
            Request::Locate { place: WorkloadPage::Unpreserved, .. } => {
                Reply::Located(Located { address: Some(PRESERVED + 0x1000) })
            }
            Request::Locate { .. } => Reply::Located(Located { address: Some(PRESERVED) }),
            Request::KernelLog => Reply::KernelLog(KernelLog { lines: Vec::new(), taint: 0, vmcoreinfo: None }),
            Request::Retrieve { workload, .. } => with_pages(owed_by(workload, true)),
            Request::Verify { workload, .. } => done(owed_by(workload, false)),
            Request::Preserve { .. } => with_pages(Vec::new()),
            Request::Inject { .. } | Request::Flip { .. } | Request::Tamper { .. } | Request::Finish { .. } => {
                done(Vec::new())
            }
        })
    }
}

/// What the workload owes of a retrieve, or of all other steps.
fn owed_by(workload: &str, is_retrieve: bool) -> Vec<Probe> {
    let owed = owed(workload).and_then(|alternatives| alternatives.into_iter().next()).unwrap_or_default();
    let names = owed.into_iter().filter(|(name, _)| name.ends_with(" retrieve") == is_retrieve);
    names.flat_map(|(name, count)| vec![Probe::compare(name, "as it was", "as it was"); count]).collect()
}

/// Where the memory of the guest's only memfd is. It has never been written.
const PRESERVED: u64 = 0x1000;

/// What a guest says of its memory.
pub(crate) fn pages() -> Vec<MemfdPages> {
    vec![MemfdPages::new("4k", 4096, [(PagePlace::Memory(PRESERVED), PageContent::Zeros)])]
}

/// A step that tells where the memory is.
fn with_pages(probes: Vec<Probe>) -> Reply {
    Reply::Done { said: Said { probes, pages: pages(), ..Said::default() }, taint: 0 }
}

fn done(probes: Vec<Probe>) -> Reply {
    Reply::Done { said: Said { probes, ..Said::default() }, taint: 0 }
}

impl Guest for FakeGuest {
    fn ask<'a>(&'a self, request: &'a Request) -> Waiting<'a, Result<Reply, String>> {
        Box::pin(async move {
            sleep(A_MOMENT).await;
            if self.state.hop() != self.hop {
                return Err("SSH: the connection ended with its kernel".to_owned());
            }
            self.play((self.state.script.plays)(self.hop, request), request).await
        })
    }

    fn inject<'a>(&'a self, fault: &'a str) -> Waiting<'a, Result<(), String>> {
        Box::pin(async move {
            match fault {
                "panic" => self.state.end(MachineEnd::Panicked),
                "hang" => self.state.hang(),
                // It compares nothing.
                "deceive" => {}
                _ => return Err(format!("a guest that is not there cannot `{fault}`")),
            }
            Ok(())
        })
    }

    fn agent(&self) -> Option<&Agent> {
        None
    }
}
