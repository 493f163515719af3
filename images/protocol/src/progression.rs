//! Which requests still follow after a reply. The host uses this when it sends requests one by one, and the agent
//! uses it in a guest without a connection.

use crate::{NotDone, Reply, Request};
use std::collections::BTreeSet;

/// The progress of a boot. Pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progression {
    /// The workloads whose preserve or retrieve has begun, in order.
    begun: Vec<String>,
    /// The workloads that this kernel was asked to preserve; a refusal may have damaged their state.
    preserved: Vec<String>,
    /// The workloads with a failed probe in this kernel.
    failed: BTreeSet<String>,
    /// The workloads that are not passed to the next kernel, since their update failed.
    out: BTreeSet<String>,
}

/// The next action after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Continue with the next request.
    GoOn,
    /// A source refused: send these requests, which verify each workload that was to be preserved, and then stop.
    LookAgain(Vec<Request>),
    /// Stop: no request follows.
    Stop,
}

impl Progression {
    /// Whether to skip `request`, since its workload is no longer part of the update.
    pub fn leaves_out(&self, request: &Request) -> bool {
        match request.workload() {
            Some(workload) => self.out.contains(workload),
            // Skip an update if no workload is left for it.
            None if matches!(request, Request::KernelLog) => false,
            None => !self.begun.is_empty() && self.begun.iter().all(|workload| self.out.contains(workload)),
        }
    }

    /// Call this when another kernel runs; failures of the previous kernel are already recorded.
    pub fn begins_a_kernel(&mut self) {
        self.failed.clear();
        self.preserved.clear();
    }

    /// Excludes a workload from all further kernels.
    pub fn leave_out(&mut self, workload: &str) {
        self.out.insert(workload.to_owned());
    }

    /// Records that a probe of a workload failed, in the guest or on the host.
    pub fn failed(&mut self, workload: &str) {
        self.failed.insert(workload.to_owned());
    }

    /// Records the reply to a request, and returns the next action.
    pub fn after(&mut self, request: &Request, reply: &Reply) -> Next {
        self.begin(request);
        match reply {
            Reply::NotDone { why: NotDone::Refused { .. }, .. } if request.is_of_a_source() => {
                Next::LookAgain(self.verified())
            }
            Reply::NotDone { .. } => Next::Stop,
            Reply::Done { said, .. } => {
                if let Some(workload) = request.workload() {
                    if said.probes.iter().any(|probe| !probe.passed) {
                        self.failed(workload);
                    }
                    // A workload whose update failed is still finished; only further updates leave it out.
                    if matches!(request, Request::Finish { .. }) && self.failed.contains(workload) {
                        self.out.insert(workload.to_owned());
                    }
                }
                Next::GoOn
            }
            Reply::Hello(_) | Reply::Located(_) | Reply::KernelLog(_) => Next::GoOn,
        }
    }

    /// The requests that verify the state which a refusal may have damaged.
    pub fn verified(&self) -> Vec<Request> {
        self.preserved.iter().map(|workload| Request::Verify { workload: workload.clone(), limit_s: None }).collect()
    }

    fn begin(&mut self, request: &Request) {
        let begun = |list: &mut Vec<String>, workload: &String| {
            if !list.contains(workload) {
                list.push(workload.clone());
            }
        };
        match request {
            Request::Hello { .. } => self.begins_a_kernel(),
            Request::Preserve { workload, .. } => {
                begun(&mut self.begun, workload);
                begun(&mut self.preserved, workload);
            }
            Request::Retrieve { workload, .. } => begun(&mut self.begun, workload),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Probe, Said};

    fn done(passed: bool) -> Reply {
        let probes = vec![Probe { name: "x".into(), expected: "1".into(), observed: "2".into(), passed }];
        Reply::Done { said: Said { probes, ..Said::default() }, taint: 0 }
    }

    fn preserve(workload: &str) -> Request {
        Request::Preserve { workload: workload.into(), seed: 1, device: None, limit_s: None }
    }

    fn finish(workload: &str) -> Request {
        Request::Finish { workload: workload.into() }
    }

    fn verify(workload: &str) -> Request {
        Request::Verify { workload: workload.into(), limit_s: None }
    }

    const HELLO: Request = Request::Hello { protocol: 1 };

    fn refused() -> Reply {
        NotDone::Refused { call: "x".into(), errno: "EBUSY".into(), about: String::new() }.into()
    }

    #[test]
    fn what_failed_in_an_update_is_finished_and_not_handed_on() {
        let mut progression = Progression::default();
        assert_eq!(progression.after(&preserve("a"), &done(true)), Next::GoOn);
        assert_eq!(progression.after(&verify("a"), &done(false)), Next::GoOn);
        assert!(!progression.leaves_out(&finish("a")));
        assert_eq!(progression.after(&finish("a"), &done(true)), Next::GoOn);
        assert!(
            progression.leaves_out(&preserve("a"))
                && progression.leaves_out(&Request::Kexec)
                && progression.leaves_out(&HELLO)
        );
        assert!(!progression.leaves_out(&Request::KernelLog));
    }

    #[test]
    fn a_target_that_knows_no_source_hands_nothing_on_that_failed() {
        let mut progression = Progression::default();
        progression.after(&HELLO, &done(true));
        progression.after(&Request::Retrieve { workload: "a".into(), seed: 1, hop: 1, device: None }, &done(false));
        progression.after(&finish("a"), &done(true));
        assert!(progression.leaves_out(&preserve("a")) && progression.leaves_out(&Request::Kexec));
    }

    #[test]
    fn an_update_is_made_while_one_workload_is_left() {
        let mut progression = Progression::default();
        for workload in ["a", "b"] {
            progression.after(&preserve(workload), &done(true));
        }
        progression.after(&finish("a"), &done(false));
        assert!(progression.leaves_out(&preserve("a")) && !progression.leaves_out(&preserve("b")));
        assert!(!progression.leaves_out(&Request::Kexec));
        progression.after(&finish("b"), &done(false));
        assert!(progression.leaves_out(&Request::Kexec));
    }

    #[test]
    fn what_failed_in_one_kernel_is_no_failure_of_the_next() {
        let mut progression = Progression::default();
        progression.after(&preserve("a"), &done(false));
        progression.after(&HELLO, &done(true));
        progression.after(&finish("a"), &done(true));
        assert!(!progression.leaves_out(&preserve("a")));
    }

    #[test]
    fn a_failure_that_the_host_saw_counts_as_the_guests_own() {
        let mut progression = Progression::default();
        progression.after(&preserve("a"), &done(true));
        progression.failed("a");
        progression.after(&finish("a"), &done(true));
        assert!(progression.leaves_out(&Request::Kexec));
    }

    #[test]
    fn what_a_source_refused_is_looked_at_once_more() {
        let mut progression = Progression::default();
        progression.after(&preserve("a"), &done(true));
        assert_eq!(progression.after(&preserve("b"), &refused()), Next::LookAgain(vec![verify("a"), verify("b")]));
        assert_eq!(Progression::default().after(&Request::Kexec, &refused()), Next::LookAgain(vec![]));
    }

    #[test]
    fn what_the_kernel_before_had_preserved_is_not_looked_at_again() {
        let mut progression = Progression::default();
        progression.after(&preserve("a"), &done(true));
        progression.after(&HELLO, &done(true));
        progression.after(&Request::Retrieve { workload: "a".into(), seed: 1, hop: 1, device: None }, &done(true));
        let load = Request::Load { kernel: crate::Kernel::Target, carry: Vec::new(), command_line: String::new() };
        assert_eq!(progression.clone().after(&load, &refused()), Next::LookAgain(vec![]));
        assert_eq!(progression.after(&preserve("a"), &refused()), Next::LookAgain(vec![verify("a")]));
    }

    #[test]
    fn what_a_target_refused_and_what_cannot_be_done_is_the_end() {
        let mut progression = Progression::default();
        let retrieve = Request::Retrieve { workload: "a".into(), seed: 1, hop: 1, device: None };
        assert_eq!(progression.after(&retrieve, &refused()), Next::Stop);
        assert_eq!(progression.after(&preserve("a"), &Reply::failed("")), Next::Stop);
        assert_eq!(progression.after(&preserve("a"), &NotDone::Missing { what: String::new() }.into()), Next::Stop);
    }
}
