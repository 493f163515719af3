//! The results of one part of a boot so far.

use luqual_model::{Frames, Measure, Observer, Phase, Probe, VmReport};
use luqual_protocol::Said;

/// The results of one part so far.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) probes: Vec<Probe>,
    pub(super) measures: Vec<Measure>,
    pub(super) frames: Option<Frames>,
    pub(super) vm_reports: Vec<VmReport>,
    pub(super) first_failed: Option<Phase>,
}

impl Checked {
    /// Adds the results of a phase.
    pub(super) fn take(&mut self, said: Said, phase: Phase, hop: u32) {
        let probes = said.probes.into_iter().map(|it| {
            let luqual_protocol::Probe { name, expected, observed, passed } = it;
            let probe = Probe { name, expected, observed, passed };
            // What the host sees, the host alone can say.
            match probe.observer() {
                Observer::Guest => probe,
                Observer::Host => Probe { name: format!("of the guest: {}", probe.name), ..probe },
            }
        });
        self.add(probes.collect(), phase);
        self.measures.extend(said.measures.into_iter().map(|it| {
            let luqual_protocol::Measure { what, size, unit, duration_us } = it;
            Measure { what, size, unit, hop, duration_us }
        }));
    }

    pub(super) fn add(&mut self, probes: Vec<Probe>, phase: Phase) {
        if self.first_failed.is_none() && probes.iter().any(|probe| !probe.passed) {
            self.first_failed = Some(phase);
        }
        self.probes.extend(probes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_speak_for_the_host() {
        let probes = ["memfd 1 content", "D2 host: DMA of an idle device"];
        let probes = probes.map(|name| luqual_protocol::Probe::compare(name, "a", "a")).to_vec();
        let mut checked = Checked::default();
        checked.take(Said { probes, ..Said::default() }, Phase::Verify, 1);
        assert!(checked.probes.iter().all(|probe| probe.observer() == Observer::Guest), "{:?}", checked.probes);
        assert_eq!(checked.probes[0].name, "memfd 1 content");
    }
}
