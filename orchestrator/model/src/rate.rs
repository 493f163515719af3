use std::fmt;

/// How often something failed, and the bound of the true failure rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The number of failures.
    pub failed: u64,
    /// The number of trials.
    pub of: u64,
    /// The upper bound of the true rate with 95 % confidence, one-sided (Clopper and Pearson, 1934); 1 if nothing
    /// ran.
    pub at_most: f64,
}

impl Rate {
    /// The rate of `failed` failures in `of` independent trials.
    pub fn new(failed: u64, of: u64) -> Self {
        Self { failed, of, at_most: upper_bound(failed, of) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failed, of, at_most } = self;
        write!(f, "{failed} of {of} failed, at most {:.1} % (95 %)", at_most * 100.0)
    }
}

/// The rate at which this many failures or fewer have a probability of 5 %.
fn upper_bound(failed: u64, of: u64) -> f64 {
    if failed >= of {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    // Halved until the bound is exact to a double's digits.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if chance_of_at_most(failed, of, middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// The binomial distribution's lower tail, by logarithms: `of` may be large.
fn chance_of_at_most(failed: u64, of: u64, rate: f64) -> f64 {
    if rate <= 0.0 {
        return 1.0;
    }
    let mut choose = 0.0_f64;
    let mut chance = 0.0;
    for k in 0..=failed {
        if k > 0 {
            choose += ((of - k + 1) as f64).ln() - (k as f64).ln();
        }
        chance += (choose + k as f64 * rate.ln() + (of - k) as f64 * (1.0 - rate).ln()).exp();
    }
    chance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // Zero of n: 1 - 0.05^(1/n). One of 100 and five of 20 from published tables.
        for (failed, of, bound) in [
            (0, 1, 0.95),
            (0, 10, 0.2589),
            (0, 100, 0.0295),
            (1, 100, 0.0466),
            (5, 20, 0.4556),
            (3, 3, 1.0),
            (0, 0, 1.0),
        ] {
            let rate = Rate::new(failed, of);
            assert!((rate.at_most - bound).abs() < 0.0002, "{rate:?}, expected {bound}");
        }
        assert_eq!(Rate::new(0, 100).to_string(), "0 of 100 failed, at most 3.0 % (95 %)");
    }
}
