//! All that is known of a workload, in lines. Pure.

use luqual_model::Outcome;
use luqual_protocol::{LoadTime, Requirement, Unplug, Workload};
use luqual_runner::{BrokenBy, capability};

/// All that is known of a workload.
pub(super) fn description(workload: &Workload) -> String {
    let Workload {
        name,
        asserts,
        rule,
        finds,
        profile,
        requires,
        shares_boot,
        update,
        left_out,
        only_named,
        device,
        busy,
        unplug,
        ..
    } = workload;
    let (of_target, of_source): (Vec<_>, Vec<_>) = requires.iter().partition(|it| it.is_of_the_target());
    let list =
        |needs: Vec<&Requirement>| needs.into_iter().map(|it| capability(*it).word()).collect::<Vec<_>>().join(", ");
    let of_target = if of_target.is_empty() { String::new() } else { format!(", a target with {}", list(of_target)) };
    let mut lines = vec![
        format!("{name}\n  asserts   {asserts}"),
        format!("  rule      {rule}"),
        format!("  finds     {finds}"),
        format!(
            "  runs on   {profile}{}",
            if *shares_boot { ", in one boot with others" } else { ", in a boot of its own" }
        ),
        format!("  requires  a source with {}{of_target}", list(of_source)),
    ];
    if let Some(device) = device {
        let unplugged = match unplug {
            None => "",
            Some(Unplug::WhilePreserved) => ", unplugged in the source after preserve",
            Some(Unplug::Afterwards) => ", unplugged in the target after finish",
        };
        let busy = if *busy { ", with DMA under way" } else { "" };
        lines.push(format!("  device    {device}{busy}{unplugged}"));
    }
    let mut made = Vec::new();
    made.extend(
        (!update.source_options.is_empty()).then(|| format!("source started with {}", short(update.source_options))),
    );
    made.extend(
        (!update.target_options.is_empty()).then(|| format!("target started with {}", short(update.target_options))),
    );
    made.extend(
        (update.load == LoadTime::BeforePreserve).then(|| "target loaded before anything is preserved".to_owned()),
    );
    made.extend(
        (update.hops > 1).then(|| format!("{} kexecs: into the target, back into the source, and so on", update.hops)),
    );
    if !made.is_empty() {
        lines.push(format!("  update    {}", made.join("; ")));
    }
    if let Some(why) = left_out {
        lines.push(format!("  qualify   runs it only if it is named: {why}"));
    }
    if let Some(why) = only_named {
        lines.push(format!("  by name   it runs only if it is named in full, and `*` does not match it: {why}"));
    }
    let probes = BrokenBy::of_workload(name);
    if !probes.is_empty() {
        lines.push("  probes of the guest, by the fault that breaks them".to_owned());
    }
    for (fault, names) in probes {
        lines.push(format!("    {fault}"));
        lines.push(format!("      {}", names.into_iter().collect::<Vec<_>>().join("; ")));
    }
    lines.push("  outcomes".to_owned());
    lines.extend(Outcome::ALL.map(|outcome| format!("    {:<14}  {}", outcome.word(), meaning(outcome))));
    lines.join("\n")
}

/// A text that fits into a line.
fn short(text: &str) -> String {
    if text.len() <= 60 { text.to_owned() } else { format!("{}… ({} bytes)", &text[..40], text.len()) }
}

/// What an outcome says of a workload.
fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Survived => "everything that was preserved came back, and all probes passed",
        Outcome::Lost => "the target runs; the first failed probe names what is missing or was not kept",
        Outcome::Incompatible => "the target refused the whole handover; the rule was not tested",
        Outcome::Refused => "the source refused to preserve or to kexec, and kept its state",
        Outcome::Crashed => "a kernel crashed or hung; the title is the first line that says so",
        Outcome::Skipped => "the kernel or the machine lacks a requirement",
        Outcome::HarnessFailed => "luqual or the host failed; this says nothing about the kernels",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_shows_where_its_rule_comes_from_and_how_its_update_is_made() {
        let shown = description(luqual_protocol::find_workload("kexec.kho-off").unwrap());
        for text in [
            "  rule      Documentation/",
            "target started with kho=off",
            "  finds     ",
            "    lost            the target",
        ] {
            assert!(shown.contains(text), "{shown}");
        }
        let shown = description(luqual_protocol::find_workload("lifecycle.hundred").unwrap());
        assert!(
            shown.contains("  update    100 kexecs") && shown.contains("does not match it: it takes minutes"),
            "{shown}"
        );
    }

    #[test]
    fn a_workload_shows_its_probes_and_what_breaks_them() {
        let shown = description(luqual_protocol::find_workload("luo.name-empty").unwrap());
        let (_, probes) = shown.split_once("  probes of the guest").unwrap();
        let (fault, _) = probes.split_once("\n      a session without a name\n").unwrap();
        assert!(fault.ends_with("a name without an end, or an empty one, is accepted"), "{shown}");
    }

    #[test]
    fn all_is_shown_in_lines_that_can_be_read() {
        for workload in luqual_protocol::workloads() {
            let shown = description(workload);
            assert!(!shown.contains("\n\n"), "{shown}");
        }
    }
}
