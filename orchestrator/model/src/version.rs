use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The version at the start of a kernel's release, such as 7.3.4 of `7.3.4-custom+`; a release candidate `-rcN`, or `~rcN` as
/// packages of Debian have it, comes before the release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: Vec<u64>,
    /// The number of a release candidate; `u64::MAX` for a release.
    candidate: u64,
}

/// What precedes the number of a release candidate.
const CANDIDATE: [&str; 2] = ["-rc", "~rc"];

impl Version {
    /// The version at the start of `release`, if there is one.
    pub fn of(release: &str) -> Option<Self> {
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        let (numbers, rest) = release.split_at(end);
        let numbers: Vec<u64> =
            numbers.trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
        let candidate = CANDIDATE.iter().find_map(|sign| rest.strip_prefix(sign)).and_then(digits).unwrap_or(u64::MAX);
        (numbers.len() > 1).then_some(Self { numbers, candidate })
    }

    /// Its series, such as 7.3 of 7.3.4; `None` for a release candidate.
    pub fn series(&self) -> Option<[u64; 2]> {
        let of_release = (self.candidate == u64::MAX).then_some(self.numbers.as_slice())?;
        of_release.first_chunk().copied()
    }

    /// The version if all of `text` is one: numbers, and the number of a candidate.
    pub fn whole(text: &str) -> Option<Self> {
        // A number that is too large must not parse as no number.
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok();
        let parts = CANDIDATE.iter().find_map(|sign| text.split_once(sign));
        let (numbers, candidate) = parts.unwrap_or((text, "0"));
        let is_whole = numbers.split('.').all(is_number) && is_number(candidate);
        Self::of(text).filter(|_| is_whole)
    }

    /// Compares as many parts as `bound` has: 7.1.13 is neither less nor greater than 7.1.
    fn against(&self, bound: &Self) -> Ordering {
        let part = |index: usize| self.numbers.get(index).copied().unwrap_or(0);
        let numbers = bound.numbers.iter().enumerate().map(|(index, number)| part(index).cmp(number));
        let order = numbers.fold(Ordering::Equal, Ordering::then);
        // 7.3-rc2 is before 7.3, and within 7.3-rc2 only itself.
        let only_zeros_follow = self.numbers.iter().skip(bound.numbers.len()).all(|number| *number == 0);
        order.then_with(|| match (self.candidate, bound.candidate) {
            (u64::MAX, u64::MAX) => Ordering::Equal,
            (own, _) if own != u64::MAX && !only_zeros_follow => Ordering::Equal,
            (own, other) => own.cmp(&other),
        })
    }
}

/// Versions between bounds: `<7.1`, `>=7.1,<7.3`, `7.2` (all of 7.2), `7.2.12`, `*`. Comma means and.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange {
    text: String,
    bounds: Vec<(Bound, Version)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Less,
    AtMost,
    Is,
    AtLeast,
    Greater,
}

/// How a range is written, for hints.
pub const RANGE_SYNTAX: &str = "7.2 (all of 7.2), 7.2.12, <7.1, <=7.1, >7.1, >=7.1,<7.3 or *";

impl VersionRange {
    /// Whether `version` is in it.
    pub fn contains(&self, version: &Version) -> bool {
        self.bounds.iter().all(|(bound, limit)| {
            let order = version.against(limit);
            match bound {
                Bound::Less => order.is_lt(),
                Bound::AtMost => order.is_le(),
                Bound::Is => order.is_eq(),
                Bound::AtLeast => order.is_ge(),
                Bound::Greater => order.is_gt(),
            }
        })
    }

    /// Whether the kernel of that release is in it; a release without a version is only in `*`.
    pub fn contains_release(&self, release: &str) -> bool {
        Version::of(release).map_or(self.bounds.is_empty(), |version| self.contains(&version))
    }
}

impl FromStr for VersionRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |part: &str| format!("`{part}` is not a range of versions");
        let bound = |part: &str| {
            let part = part.trim();
            let signs = [
                ("<=", Bound::AtMost),
                (">=", Bound::AtLeast),
                ("<", Bound::Less),
                (">", Bound::Greater),
                ("=", Bound::Is),
            ];
            let (bound, version) = signs
                .into_iter()
                .find_map(|(sign, bound)| Some((bound, part.strip_prefix(sign)?)))
                .unwrap_or((Bound::Is, part));
            let parsed = Version::whole(version.trim()).ok_or_else(|| wrong(part))?;
            Ok((bound, parsed))
        };
        let bounds = match text.trim() {
            "*" => Vec::new(),
            some => some.split(',').map(bound).collect::<Result<_, String>>()?,
        };
        Ok(Self { text: text.trim().to_owned(), bounds })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(range: &str, release: &str) -> bool {
        range.parse::<VersionRange>().unwrap().contains_release(release)
    }

    #[test]
    fn versions_are_ordered_as_kernels_are_released() {
        let order = [
            "6.19.14", "7.0.13", "7.1-rc1", "7.1~rc2", "7.1-rc10", "7.1", "7.1.3", "7.1.13+", "7.3~rc7", "7.3",
            "7.10.0",
        ];
        let versions: Vec<Version> = order.iter().map(|release| Version::of(release).unwrap()).collect();
        assert!(versions.is_sorted(), "{versions:?}");
        assert_eq!(Version::of("7.3~rc7"), Version::of("7.3-rc7+deb14-amd64"));
        let series = |release: &str| Version::of(release).unwrap().series();
        assert_eq!((series("7.3.4"), series("7.3"), series("7.3~rc7")), (Some([7, 3]), Some([7, 3]), None));
        assert_eq!(Version::of("custom"), None);
        assert_eq!(Version::of("7"), None);
    }

    #[test]
    fn a_bound_compares_as_many_parts_as_it_has() {
        for (range, inside, outside) in [
            ("7.3~rc7", &["7.3~rc7", "7.3-rc7+deb14"][..], &["7.3", "7.3~rc6"][..]),
            ("7.2", &["7.2", "7.2.12", "7.2.0-custom"][..], &["7.3.4", "7.20.1"][..]),
            ("7.2.12", &["7.2.12", "7.2.12+"], &["7.2.1", "7.2.13"]),
            ("<7.1", &["6.19.14", "7.0.13", "7.1-rc3"], &["7.1", "7.1.13"]),
            ("<=7.1", &["7.1.13", "7.0"], &["7.2-rc1"]),
            (">7.1", &["7.2.0", "7.2-rc1"], &["7.1.13"]),
            (">=7.1,<7.3", &["7.1.0", "7.2.12"], &["7.3.4", "7.0.13"]),
            ("*", &["7.1", "custom"], &[]),
        ] {
            for release in inside {
                assert!(within(range, release), "{release} in {range}");
            }
            for release in outside {
                assert!(!within(range, release), "{release} not in {range}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_told() {
        for text in ["", "7", "new", ">=7.1,", "7.2.*", "7.2.12abc", "7.3x", "7.2.", "7.2-rc", "7.2-rcx", "7..2"] {
            assert!(text.parse::<VersionRange>().is_err(), "{text}");
        }
        assert!("7.2-rc99999999999999999999".parse::<VersionRange>().is_err(), "it would be 7.2");
    }
}
