//! The deadline of each phase.

use luqual_model::Phase;
use std::collections::BTreeMap;
use std::time::Duration;

/// A deadline for each phase, for an accelerated guest. An emulated guest gets longer ones; see [`Self::stretched`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlines {
    seconds: BTreeMap<Phase, u64>,
}

impl Default for Deadlines {
    fn default() -> Self {
        let seconds = |phase| match phase {
            Phase::Boot | Phase::Reconnect => 60,
            Phase::Preserve | Phase::Load | Phase::Kexec | Phase::Retrieve | Phase::Verify | Phase::Finish => 30,
            Phase::Handshake | Phase::Collect | Phase::Teardown => 15,
        };
        Self { seconds: Phase::ALL.into_iter().map(|phase| (phase, seconds(phase))).collect() }
    }
}

impl Deadlines {
    /// Sets the deadline of one phase.
    pub fn set(&mut self, phase: Phase, seconds: u64) {
        self.seconds.insert(phase, seconds);
    }

    /// All deadlines, multiplied by `factor`.
    #[must_use]
    pub fn stretched(&self, factor: u32) -> Self {
        let longer = |(phase, seconds): (&Phase, &u64)| (*phase, seconds.saturating_mul(factor.into()));
        Self { seconds: self.seconds.iter().map(longer).collect() }
    }

    /// The deadline of `phase`.
    pub fn of(&self, phase: Phase) -> Duration {
        Duration::from_secs(self.seconds.get(&phase).copied().unwrap_or(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_does_not_overflow() {
        let mut deadlines = Deadlines::default();
        deadlines.set(Phase::Boot, u64::MAX);
        let stretched = deadlines.stretched(4);
        assert_eq!([Phase::Boot, Phase::Kexec].map(|phase| stretched.of(phase).as_secs()), [u64::MAX, 120]);
    }
}
