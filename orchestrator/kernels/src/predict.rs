//! Predicts the outcome of a pair from the ABI strings of its kernels. A prediction is never a result; the report
//! shows both. A better predictor can replace this one with the same signature.

use luqual_model::{KernelInfo, Outcome, Prediction};

/// Predicts the outcome; `None` if an image does not have its strings. A target accepts each of its versions of a
/// string, and it is unknown which of them a source writes, so one common version is enough.
pub fn predict(source: &KernelInfo, target: &KernelInfo) -> Option<Prediction> {
    let (from, to) = (Strings(source.abi.as_ref()?), Strings(target.abi.as_ref()?));
    let say = |outcome, why: String| Some(Prediction { outcome, why });
    let differ = |part: &str| {
        let (from, to) = (from.of(part), to.of(part));
        let agree = from.is_empty() && to.is_empty() || from.iter().any(|string| to.contains(string));
        let why = || format!("the source hands over {}, the target takes {}", word(&from, part), word(&to, part));
        (!agree).then(why)
    };
    if from.of("luo").is_empty() {
        return say(Outcome::Skipped, "the source has no LUO".to_owned());
    }
    // luo_preserve_file() finds no handler (kernel/liveupdate/luo_file.c).
    if from.of("memfd").is_empty() {
        return say(Outcome::Refused, "the source preserves no memfd".to_owned());
    }
    // Without any version of KHO there is no prediction.
    if from.of("kho").is_empty() && to.of("kho").is_empty() {
        return None;
    }
    // Checked first of all in a boot (kernel/liveupdate/kexec_handover.c, kho_populate): the whole handover is refused.
    if let Some(why) = differ("kho") {
        return say(Outcome::Incompatible, why);
    }
    if to.of("luo").is_empty() {
        return say(Outcome::Lost, "the target takes the memory and has no LUO to give it out".to_owned());
    }
    // Each part of LUO's own tree that the target knows has to be there as it knows it, or it panics
    // (kernel/liveupdate/luo_core.c, luo_restore_fail); parts that it does not know are not read.
    if let Some(why) = to.parts().filter(|part| part.starts_with("luo")).find_map(differ) {
        return say(Outcome::Crashed, why);
    }
    // No handler in the target is compatible with the file's string (kernel/liveupdate/luo_file.c).
    if let Some(why) = differ("memfd") {
        return say(Outcome::Lost, why);
    }
    let both = |part: &str| -> Vec<&str> {
        let to = to.of(part);
        from.of(part).into_iter().filter(|string| to.contains(string)).collect()
    };
    let common = ["kho", "luo", "memfd"].map(|part| word(&both(part), part)).join(", ");
    say(Outcome::Survived, format!("both have {common}"))
}

/// The ABI strings of one kernel, each `NAME-vN`.
struct Strings<'a>(&'a [String]);

impl<'a> Strings<'a> {
    fn parts(&self) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(|string| string.rsplit_once("-v")).map(|(name, _)| name)
    }

    fn of(&self, part: &str) -> Vec<&'a str> {
        let is = |string: &&str| string.rsplit_once("-v").is_some_and(|(name, _)| name == part);
        self.0.iter().map(String::as_str).filter(is).collect()
    }
}

fn word(strings: &[&str], part: &str) -> String {
    if strings.is_empty() { format!("no {part}") } else { strings.join(" or ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(abi: Option<&[&str]>) -> KernelInfo {
        KernelInfo {
            name: "x".into(),
            release: "7.3.4".into(),
            abi: abi.map(|strings| strings.iter().map(|string| (*string).to_owned()).collect()),
            ..KernelInfo::default()
        }
    }

    #[test]
    fn the_strings_decide_in_the_order_in_which_a_target_reads_them() {
        let new: &[&str] = &["kho-v4", "luo-v5", "memblock-v1", "memfd-v2"];
        for (source, target, outcome, why) in [
            (new, new, Outcome::Survived, "both have kho-v4, luo-v5, memfd-v2"),
            (new, &["kho-v1"], Outcome::Incompatible, "hands over kho-v4, the target takes kho-v1"),
            (&["kho-v1", "luo-v1", "memfd-v1"], &["kho-v1"], Outcome::Lost, "no LUO to give it out"),
            (new, &["kho-v4", "luo-v6", "memfd-v2"], Outcome::Crashed, "luo-v5, the target takes luo-v6"),
            // As observed: 6.19.14 into 7.0.13 panics, the way back survives.
            (
                &["kho-v1", "luo-v1", "memfd-v1"],
                &["kho-v1", "luo-flb-v1", "luo-v1", "memfd-v1"],
                Outcome::Crashed,
                "no luo-flb, the target takes luo-flb-v1",
            ),
            (
                &["kho-v1", "luo-flb-v1", "luo-v1", "memfd-v1"],
                &["kho-v1", "luo-v1", "memfd-v1"],
                Outcome::Survived,
                "both have",
            ),
            (new, &["kho-v4", "luo-v5", "memfd-v1", "memfd-v2"], Outcome::Survived, "memfd-v2"),
            (&["kho-v4", "luo-v4", "luo-v5", "memfd-v2"], new, Outcome::Survived, "luo-v5"),
            (&["kho-v4", "luo-v5"], new, Outcome::Refused, "preserves no memfd"),
            (new, &["kho-v4", "luo-v5", "memfd-v3"], Outcome::Lost, "memfd-v2, the target takes memfd-v3"),
            (new, &["kho-v4", "luo-v5"], Outcome::Lost, "memfd-v2, the target takes no memfd"),
            (&["kho-v1"], new, Outcome::Skipped, "no LUO"),
            (new, &[], Outcome::Incompatible, "takes no kho"),
        ] as [(&[&str], &[&str], _, _); 13]
        {
            let prediction = predict(&kernel(Some(source)), &kernel(Some(target))).unwrap();
            assert_eq!(prediction.outcome, outcome, "{prediction:?}");
            assert!(prediction.why.contains(why), "{prediction:?}");
        }
    }

    #[test]
    fn nothing_is_predicted_of_what_is_not_known() {
        assert_eq!(predict(&kernel(None), &kernel(Some(&["kho-v4"]))), None);
        let renamed: &[&str] = &["handover-v1", "luo-v9", "memfd-v9"];
        assert_eq!(predict(&kernel(Some(renamed)), &kernel(Some(renamed))), None);
    }
}
