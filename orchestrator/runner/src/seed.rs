//! Random numbers: all are drawn from the run's seed, so that a run can be reproduced.

use luqual_model::CellId;
use sha2::{Digest, Sha256};

/// The source of the seeds of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// Each attempt draws its seed from the run's.
    OfRun(u64),
    /// The attempt is reproduced with this seed.
    OfAttempt(u64),
}

impl Seed {
    /// The seed of an attempt at a boot, for its delays and the contents of its parts.
    pub(crate) fn of_attempt(self, boot: &CellId, number: usize) -> u64 {
        match self {
            Self::OfRun(run) => drawn(run, &format!("{boot} {number}")),
            Self::OfAttempt(seed) => seed,
        }
    }
}

/// The seed of a workload's content in an attempt; no two parts of a boot have the same content.
pub(crate) fn of_content(attempt: u64, workload: &str) -> u64 {
    drawn(attempt, workload)
}

/// A number from 0 to 1, drawn from `seed` and `which`.
pub(crate) fn fraction(seed: u64, which: u32) -> f64 {
    f64::from((seed >> (which * 16)) as u16) / f64::from(u16::MAX)
}

/// A number that depends only on `seed` and `what`.
pub fn drawn(seed: u64, what: &str) -> u64 {
    let mut digest = Sha256::new();
    digest.update(seed.to_le_bytes());
    digest.update(what);
    let bytes: [u8; 32] = digest.finalize().into();
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_drawn_again_and_other_things_are_not() {
        let (a, b) = (CellId("a".into()), CellId("b".into()));
        let of = |run, boot, number| Seed::OfRun(run).of_attempt(boot, number);
        assert_eq!(of(7, &a, 0), of(7, &a, 0));
        let seeds = [of(7, &a, 0), of(8, &a, 0), of(7, &b, 0), of(7, &a, 1)];
        assert_eq!(Seed::OfAttempt(seeds[3]).of_attempt(&b, 0), seeds[3]);
        let contents = seeds.iter().flat_map(|seed| ["memfd.basic", "memfd.sparse"].map(|it| of_content(*seed, it)));
        let all: std::collections::BTreeSet<u64> = contents.chain(seeds).collect();
        assert_eq!(all.len(), 12);
    }

    #[test]
    fn fractions_cover_what_they_should() {
        let drawn: Vec<f64> =
            (0..1000).map(|n| fraction(Seed::OfRun(1).of_attempt(&CellId("a".into()), n), 1)).collect();
        assert!(drawn.iter().all(|it| (0.0..=1.0).contains(it)));
        let quarter = |from: f64| drawn.iter().filter(|it| (from..from + 0.25).contains(it)).count();
        assert!([0.0, 0.25, 0.5, 0.75].into_iter().all(|from| quarter(from) > 150), "{drawn:?}");
    }
}
