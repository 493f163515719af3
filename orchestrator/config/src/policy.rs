//! `[policy.NAME]`: a team's own rule for `luqual qualify`.

use crate::document::{Table, Text};
use crate::names::{KnownNames, unknown};
use luqual_model::{Accepted, Policy, matches};

/// Reads all policies of a file. None if one of them is wrong, which is reported.
pub(crate) fn read(table: &Table<'_>, known: &KnownNames<'_>) -> Option<Vec<Policy>> {
    table.named("policy", |name, table| policy(&name, table, known))
}

fn policy(name: &Text<'_>, table: &Table<'_>, known: &KnownNames<'_>) -> Option<Policy> {
    let before = table.mistakes();
    let summary = table.text("summary").map_or_else(String::new, |text| text.text.to_owned());
    let require = table.texts("require");
    require.iter().for_each(|glob| workload(glob, known));
    if require.is_empty() && table.mistakes() == before {
        let hint = "name what has to survive, such as require = [\"memfd.*\", \"vmm.*\"], or [\"*\"]".to_owned();
        table.wrong(format!("the policy `{}` requires nothing", name.text), Some(hint));
    }
    let repeat = table.number("repeat").map(|repeat| u32::try_from(repeat).unwrap_or(u32::MAX));
    let accept = table.tables("accept", |table| accepted(table, known));
    (table.mistakes() == before).then(|| Policy {
        name: name.text.to_owned(),
        summary,
        require: require.iter().map(|glob| glob.text.to_owned()).collect(),
        repeat,
        accept,
    })
}

fn accepted(table: &Table<'_>, known: &KnownNames<'_>) -> Option<Accepted> {
    let glob = table.needed_text("workload");
    if let Some(glob) = &glob {
        match glob.text.trim_matches(['*', '?', '.', ' ']) {
            "" => glob.wrong(
                format!("`{}` accepts the loss of everything", glob.text),
                Some("name a workload or a family".into()),
            ),
            _ => workload(glob, known),
        }
    }
    let skipped = table.flag("skipped");
    let reason = table.needed_text("reason");
    if let Some(reason) = reason.as_ref().filter(|reason| reason.text.trim().is_empty()) {
        reason.wrong("the reason is empty", Some("say why the loss is accepted".to_owned()));
    }
    let until = table.needed_text("until");
    if let Some(until) = until.as_ref().filter(|until| !is_day(until.text)) {
        let hint = "write the last day on which it is accepted, such as until = \"2027-06-30\"".to_owned();
        until.wrong(format!("`{}` is no day", until.text), Some(hint));
    }
    Some(Accepted {
        workload: glob?.text.to_owned(),
        skipped,
        reason: reason?.text.to_owned(),
        until: until?.text.to_owned(),
    })
}

fn workload(glob: &Text<'_>, known: &KnownNames<'_>) {
    if !known.workloads.iter().any(|name| matches(glob.text, name)) {
        unknown(glob, "workload", known.workloads, "");
    }
}

/// Whether a text is a day as `2027-06-30`. Days in this form compare as texts do; the library reads others too.
fn is_day(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok_and(|day| day.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    const KNOWN: KnownNames<'_> =
        KnownNames { kernels: &[], workloads: &["memfd.basic", "memfd.name", "vmm.four"], profiles: &[] };

    fn policies(text: &str) -> Result<Vec<Policy>, String> {
        document::read("m.toml", text, |table| read(table, &KNOWN)).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_policy_is_what_is_required_and_what_is_accepted() {
        let text = "[policy.fleet]\nsummary = \"hosts of VMs\"\nrequire = [\"memfd.*\", \"vmm.*\"]\nrepeat = 10\n\
                    [[policy.fleet.accept]]\nworkload = \"memfd.name\"\nreason = \"nobody reads it\"\nuntil = \"2028-02-29\"\n\
                    [[policy.fleet.accept]]\nworkload = \"vmm.*\"\nskipped = true\nreason = \"no KVM in CI\"\nuntil = \"2027-06-30\"\n";
        let accepted = |workload: &str, skipped, reason: &str, until: &str| Accepted {
            workload: workload.into(),
            skipped,
            reason: reason.into(),
            until: until.into(),
        };
        let fleet = Policy {
            name: "fleet".into(),
            summary: "hosts of VMs".into(),
            require: vec!["memfd.*".into(), "vmm.*".into()],
            repeat: Some(10),
            accept: vec![
                accepted("memfd.name", false, "nobody reads it", "2028-02-29"),
                accepted("vmm.*", true, "no KVM in CI", "2027-06-30"),
            ],
        };
        assert_eq!(policies(text), Ok(vec![fleet]));
    }

    #[test]
    fn mistakes_are_told_with_their_places() {
        for (text, told) in [
            ("", "m.toml:1:1: the policy `a` requires nothing\n  hint: name what has to survive"),
            (
                "require = [\"memfd.bsic\"]\n",
                "m.toml:2:12: unknown workload `memfd.bsic`\n  hint: is `memfd.basic` meant?",
            ),
            ("require = [\"*\"]\n[[policy.a.accept]]\nworkload = \"*.*\"\n", "`*.*` accepts the loss of everything"),
            ("require = [\"*\"]\n[[policy.a.accept]]\nworkload = \"vfio.*\"\n", "unknown workload `vfio.*`"),
            ("require = [\"*\"]\n[[policy.a.accept]]\nworkload = \"vmm.*\"\nreason = \" \"\n", "the reason is empty"),
            ("require = [\"*\"]\n[[policy.a.accept]]\nworkload = \"vmm.*\"\nreason = \"x\"\n", "`until` is missing"),
            ("require = [\"*\"]\nrepeats = 3\n", "unknown key `repeats`\n  hint: is `repeat` meant?"),
        ] {
            let mistakes = policies(&format!("[policy.a]\n{text}")).unwrap_err();
            assert!(mistakes.contains(told), "{mistakes}, not {told}");
        }
    }

    #[test]
    fn a_day_is_one_of_the_calendar() {
        assert!(["2026-11-28", "2028-02-29", "2000-02-29", "2027-12-31"].into_iter().all(is_day));
        for wrong in
            ["", "soon", "2027-02-29", "1900-02-29", "2027-13-01", "2027-1-1", "2027-04-31", "2027-00-10", "2027-01-00"]
        {
            assert!(!is_day(wrong), "{wrong}");
        }
    }
}
