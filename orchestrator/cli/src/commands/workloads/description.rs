//! All that is known of a workload, in lines. Pure.

use luqual_model::Outcome;
use luqual_protocol::{LoadTime, Unplug, Workload};
use luqual_runner::capability;

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
        qualifies,
        long,
        device,
        busy,
        unplug,
        ..
    } = workload;
    let requires: Vec<&str> = requires.iter().map(|it| capability(*it).word()).collect();
    let mut lines = vec![
        format!("{name}\n  asserts   {asserts}"),
        format!("  rule      {rule}"),
        format!("  finds     {finds}"),
        format!(
            "  runs on   {profile}{}",
            if *shares_boot { ", beside others in one boot" } else { ", in a boot of its own" }
        ),
        format!("  requires  a source with {}", requires.join(", ")),
    ];
    if let Some(device) = device {
        let unplugged = match unplug {
            None => "",
            Some(Unplug::WhilePreserved) => ", unplugged in the source once all is preserved",
            Some(Unplug::Afterwards) => ", unplugged in the target at the end",
        };
        let busy = if *busy { ", in the middle of DMA" } else { "" };
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
    if !qualifies {
        lines.push("  qualify   does not ask it, unless it is named: no released kernel passes".to_owned());
    }
    if *long {
        lines.push("  long      takes minutes: it is run only by its own name, by no `*`".to_owned());
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
        Outcome::Survived => "all that was preserved came back, and everything asserted held",
        Outcome::Lost => "the target runs; the first probe that did not hold says what is missing or what was not kept",
        Outcome::Incompatible => "the target refused the handover as a whole; nothing can be said of the rule",
        Outcome::Refused => "the source would not preserve or leave, and kept what it had",
        Outcome::Crashed => "a kernel died or hung on the way; the title is its first word of it",
        Outcome::Skipped => "the kernel or the machine does not have what it is about",
        Outcome::HarnessFailed => "luqual or the host failed; nothing is said of the kernels",
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
        assert!(shown.contains("  update    100 kexecs") && shown.contains("  long      takes minutes"), "{shown}");
    }

    #[test]
    fn all_is_shown_in_lines_that_can_be_read() {
        for workload in luqual_protocol::workloads() {
            let shown = description(workload);
            assert!(!shown.contains("\n\n"), "{shown}");
        }
    }
}
