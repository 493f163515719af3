//! The results of one part of a boot so far.

use crate::judge::Stop;
use crate::observe::Deaf;
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
    /// A witness of the host that says nothing.
    pub(super) deaf: Option<Deaf>,
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

    /// Why the cell of this part stopped. A boot that is complete says nothing of a part with a witness that says
    /// nothing, unless other probes have found what was lost.
    pub(super) fn stop(&self, of_boot: &Stop) -> Stop {
        match &self.deaf {
            Some(deaf) if *of_boot == Stop::Complete && !self.has_failed() => Stop::Host(deaf.to_string()),
            _ => of_boot.clone(),
        }
    }

    /// Records that a witness says nothing. It fails a probe of a part that has lost something, so that no loss that
    /// is known hides it.
    pub(super) fn is_deaf(&mut self, deaf: Deaf) {
        if self.has_failed() {
            let (expected, observed) = ("it hears".to_owned(), deaf.to_string());
            self.probes.push(Probe { name: "witness host: hears".to_owned(), expected, observed, passed: false });
        }
        self.deaf = Some(deaf);
    }

    fn has_failed(&self) -> bool {
        self.probes.iter().any(Probe::shows_a_loss)
    }

    pub(super) fn add(&mut self, probes: Vec<Probe>, phase: Phase) {
        if self.first_failed.is_none() && probes.iter().any(Probe::shows_a_loss) {
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

    #[test]
    fn a_deaf_witness_is_neither_a_survival_nor_hides_a_loss() {
        let probe = |passed| Probe { name: "D0 BARs".into(), expected: "a".into(), observed: "b".into(), passed };
        let deaf = || Deaf { witness: "it", why: "heard nothing".into(), remedy: "do something" };
        let mut checked = Checked { probes: vec![probe(true)], ..Checked::default() };
        assert_eq!(checked.stop(&Stop::Complete), Stop::Complete);
        checked.is_deaf(deaf());
        assert_eq!(checked.probes.len(), 1);
        let why = "it cannot be believed: heard nothing; do something".to_owned();
        assert_eq!(checked.stop(&Stop::Complete), Stop::Host(why));
        assert_eq!(checked.stop(&Stop::Interrupted), Stop::Interrupted);
        checked.probes.push(probe(false));
        assert_eq!(checked.stop(&Stop::Complete), Stop::Complete);
        // A known loss does not hide it.
        let mut lost = Checked { probes: vec![probe(false)], ..Checked::default() };
        lost.is_deaf(deaf());
        assert_eq!((lost.probes[1].name.as_str(), lost.probes[1].passed), ("witness host: hears", false));
    }
}
