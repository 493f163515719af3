//! The comparison of preserved memory by the host, in the steps of a boot.

use super::driver::{BootDriver, no_machine};
use super::guard::Watched;
use crate::judge::Stop;
use crate::observe::Look;
use luqual_model::Phase;
use luqual_protocol::{MemfdPages, Request};

impl BootDriver<'_> {
    /// Compares the preserved memory with its content. A guest without a connection would go on meanwhile.
    pub(super) async fn compare_memory(&mut self, phase: Phase, moment: Look) -> Result<(), Stop> {
        if self.host.deterministic {
            return Ok(());
        }
        let machine = self.machine.as_deref().ok_or_else(no_machine)?;
        let watched = Watched::running(machine, self.ticks.last(), self.last_words());
        let looked = self.memory.look(moment, machine.ram());
        for (number, probes) in self.guard.within(phase, watched, looked).await? {
            self.add(number, probes, phase);
        }
        Ok(())
    }

    /// Takes what a part said of its pages after a request, and adds the host's probes of those that came back.
    /// `has_failed` is whether a probe of the request failed.
    pub(super) fn watch_memory(
        &mut self,
        number: usize,
        request: &Request,
        pages: Vec<MemfdPages>,
        has_failed: bool,
    ) -> Result<(), Stop> {
        let name = self.boot.parts[number].workload.name;
        let wrong = |why| Stop::Host(format!("{name}: {why}"));
        match request {
            Request::Preserve { seed, .. } => {
                let memory_bytes = self.machine()?.ram().size();
                self.memory.preserved(number, *seed, pages, memory_bytes).map_err(wrong)
            }
            Request::Retrieve { .. } => {
                let probes = self.memory.retrieved(number, &pages, has_failed).map_err(wrong)?;
                self.add(number, probes, Phase::Retrieve);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
