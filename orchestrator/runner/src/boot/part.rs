//! What one part of a boot has said so far.

use luqual_model::{Account, Frames, Measure, Phase, Probe};
use luqual_protocol::Said;

/// What one part has said so far.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) probes: Vec<Probe>,
    pub(super) measures: Vec<Measure>,
    pub(super) frames: Option<Frames>,
    pub(super) accounts: Vec<Account>,
    pub(super) first_failed: Option<Phase>,
}

impl Checked {
    /// Takes in what the guest has found out in a phase.
    pub(super) fn take(&mut self, said: Said, phase: Phase, hop: u32) {
        let probes = said.probes.into_iter().map(|it| {
            let luqual_protocol::Probe { name, expected, observed, held } = it;
            Probe { name, expected, observed, held }
        });
        self.add(probes.collect(), phase);
        self.measures.extend(said.measures.into_iter().map(|it| {
            let luqual_protocol::Measure { what, size, unit, duration_us } = it;
            Measure { what, size, unit, hop, duration_us }
        }));
    }

    pub(super) fn add(&mut self, probes: Vec<Probe>, phase: Phase) {
        if self.first_failed.is_none() && probes.iter().any(|probe| !probe.held) {
            self.first_failed = Some(phase);
        }
        self.probes.extend(probes);
    }
}
