use crate::filter::{Named, Subject};
use crate::machine::own_machines;
use crate::matrix::EMBEDDED;
use crate::matrix::read;
use crate::names::KnownNames;
use luqual_model::{End, Expectation, Outcome, Phase, ProbeNames, Refusal, Side, Status};

const KNOWN: KnownNames<'_> =
    KnownNames { kernels: &["7.0.13", "7.2.12", "7.3.4"], workloads: &["memfd.basic"], profiles: &["q35-intel"] };
const MATRIX: &str =
    "[matrix.a]\nkernels = [\"7.0.13\", \"7.2.12\", \"7.3.4\"]\npairs = \"all\"\nworkloads = [\"*\"]\n";

fn subject<'a>(source: &'a str, target: &'a str) -> Subject<'a> {
    Subject {
        source: Named { name: source, release: source },
        target: Named { name: target, release: target },
        profile: "q35-intel",
        workload: "memfd.basic",
    }
}

#[test]
fn the_last_rule_that_matches_a_cell_counts() {
    let text = format!(
        "{MATRIX}[[expect]]\nsource = \"<7.1\"\ntarget = \"*\"\noutcome = \"incompatible\"\nsignature = \"KHO: *\"\nreason = \"kho-v1\"\n\
         [[expect]]\nsource = \"7.0\"\ntarget = \"7.0\"\noutcome = \"survived\"\ntainted = [\"target: taint 512 (W)\"]\nreason = \"x\"\n\
         link = \"https://example.org\"\n"
    );
    let expectations = read("m.toml", &text, &KNOWN).unwrap().expectations;
    let of = |source, target| expectations.of(&subject(source, target));
    assert_eq!(of("7.0.13", "7.3.4").unwrap().outcome, Outcome::Incompatible);
    let own = of("7.0.13", "7.0.13").unwrap();
    assert_eq!((own.outcome, own.link.as_deref()), (Outcome::Survived, Some("https://example.org")));
    assert_eq!(own.tainted, ["target: taint 512 (W)"]);
    assert_eq!(of("7.2.12", "7.3.4"), None);
}

#[test]
fn mistakes_have_their_positions() {
    let text = format!(
        "{MATRIX}[[expect]]\nsource = \"7.9\"\ntarget = \"new\"\nworkload = \"vfio.*\"\noutcome = \"skipped\"\n\
         reason = \" \"\n[[expect]]\nsource = \"*\"\noutcome = \"survive\"\n\
         [[expect]]\nsource = \"*\"\ntarget = \"*\"\noutcome = \"gone\"\nreason = 7\n"
    );
    let told = read("m.toml", &text, &KNOWN).unwrap_err().to_string();
    for line in [
        "m.toml:6:10: `7.9` matches no kernel of any matrix",
        "m.toml:7:10: `new` is not a range of versions",
        "m.toml:8:12: unknown workload `vfio.*`",
        "m.toml:9:11: `skipped` says nothing about a kernel\n  hint: expect one of survived, lost, incompatible",
        "m.toml:10:10: the reason is empty\n  hint: say why",
        "`target` is missing",
        "`reason` is missing",
        "m.toml:17:11: unknown outcome `gone`\n  hint: known: survived, lost, incompatible, refused, crashed\n",
        "m.toml:13:11: unknown outcome `survive`\n  hint: is `survived` meant?",
    ] {
        assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
    }
    let rule = "[[expect]]\nsource = \"7.0\"\ntarget = \"7.3\"\noutcome = \"lost\"\nfailed = [\"a\"]\nreason = \"x\"\n";
    // Each by itself is there, the pair is not.
    let told = read("m.toml", &format!("{}{rule}", MATRIX.replace("all", "adjacent")), &KNOWN).unwrap_err().to_string();
    assert_eq!(told, "m.toml:5:1: this rule matches no cell of any matrix");
    assert!(read("m.toml", &format!("{MATRIX}{rule}"), &KNOWN).is_ok());
    let paths = MATRIX.replace("all", "adjacent").replace("7.2.12", "./tree");
    assert!(read("m.toml", &format!("{paths}{rule}"), &KNOWN).is_ok(), "who knows what ./tree is");
    // What is wrong with a matrix is no fault of an expectation.
    let told = read("m.toml", &format!("{}{rule}", MATRIX.replace("all", "al")), &KNOWN).unwrap_err().to_string();
    assert!(told.starts_with("m.toml:3:9: `al` does not select") && !told.contains("matches no"), "{told}");
}

#[test]
fn a_refusal_and_a_crash_are_named() {
    let rule = |rest: &str| {
        let text = format!("{MATRIX}[[expect]]\nsource = \"7.0\"\ntarget = \"7.3\"\nreason = \"x\"\n{rest}\n");
        read("m.toml", &text, &KNOWN).map(|file| file.expectations).map_err(|mistakes| mistakes.to_string())
    };
    let of = |rest: &str| rule(rest).unwrap().of(&subject("7.0.13", "7.3.4")).unwrap().clone();
    let refused = of("outcome = \"refused\"\ncall = \"ioctl P*\"\nerrno = \"EEXIST\"\nphase = \"preserve\"");
    assert_eq!((refused.call.as_deref(), refused.errno.as_deref()), (Some("ioctl P*"), Some("EEXIST")));
    assert_eq!((refused.phase, refused.side, refused.signature), (Some(Phase::Preserve), None, None));
    let crashed = of("outcome = \"crashed\"\nsignature = \"Oops*\"\nside = \"target\"\nphase = \"boot\"");
    assert_eq!((crashed.signature.as_deref(), crashed.side), (Some("Oops*"), Some(Side::Target)));
    for (rest, told) in [
        ("outcome = \"crashed\"\ncall = \"x\"", "`call` says nothing of a cell that is `crashed`"),
        ("outcome = \"refused\"\nsignature = \"x\"", "`signature` says nothing of a cell that is `refused`"),
        ("outcome = \"survived\"\nphase = \"load\"", "`phase` says nothing of a cell that is `survived`"),
        ("outcome = \"crashed\"\nside = \"left\"", "unknown side `left`"),
        ("outcome = \"crashed\"\nphase = \"tea\"", "unknown phase `tea`"),
        ("outcome = \"refused\"\nerrno = \" \"", "` ` names no errno"),
        ("outcome = \"crashed\"\nsignature = \"*\"", "`*` names no signature"),
        ("outcome = \"lost\"\ntainted = [\"**\"]", "`**` names no line"),
        ("outcome = \"survived\"\ntainted = true", "`tainted` takes any warning and any taint"),
    ] {
        let mistake = rule(rest).unwrap_err();
        assert!(mistake.contains(told), "{mistake}");
    }
}

#[test]
fn a_rule_that_names_nothing_is_a_mistake_told_with_the_line_to_add() {
    let rule = |rest: &str| {
        let text = format!("{MATRIX}[[expect]]\nsource = \"7.0\"\ntarget = \"7.3\"\nreason = \"x\"\n{rest}\n");
        read("m.toml", &text, &KNOWN).map(|_| ()).map_err(|mistakes| mistakes.to_string())
    };
    let told = rule("outcome = \"lost\"").unwrap_err();
    assert_eq!(
        told,
        "m.toml:5:1: this rule takes any cell that is `lost`, whatever the reason\n  \
         hint: add failed = [\"a probe that fails\"], as reports have it; or delete the rule: \
         `luqual expect update RUN` writes it whole"
    );
    for (rest, add) in [
        ("outcome = \"lost\"\ncall = \"open\"", "errno = "),
        ("outcome = \"refused\"", "call = \"the refused call\" and errno = "),
        ("outcome = \"refused\"\nside = \"source\"", "call = \"the refused call\" and errno = "),
        ("outcome = \"incompatible\"", "signature = "),
        ("outcome = \"crashed\"\nsignature = \"Oops: a\"", "side = \"source or target\" and phase = "),
    ] {
        let told = rule(rest).unwrap_err();
        assert!(told.contains(&format!("hint: add {add}")), "{told}");
    }
    for rest in [
        "outcome = \"survived\"",
        "outcome = \"lost\"\nfailed = [\"a\"]",
        "outcome = \"lost\"\nsignature = \"the target lacks *\"",
        "outcome = \"lost\"\ncall = \"open\"\nerrno = \"ENOENT\"",
        "outcome = \"refused\"\ncall = \"open\"\nerrno = \"ENOENT\"",
        "outcome = \"incompatible\"\nsignature = \"KHO: *\"",
        "outcome = \"crashed\"\nsignature = \"Oops: a\"\nside = \"target\"\nphase = \"boot\"",
    ] {
        assert_eq!(rule(rest), Ok(()), "{rest}");
    }
}

#[test]
fn the_probes_of_a_loss_are_named() {
    let rule = |rest: &str| {
        let text = format!("{MATRIX}[[expect]]\nsource = \"7.0\"\ntarget = \"7.3\"\nreason = \"x\"\n{rest}\n");
        read("m.toml", &text, &KNOWN).map(|file| file.expectations).map_err(|mistakes| mistakes.to_string())
    };
    let named = rule("outcome = \"lost\"\nfailed = [\"D3 *\", \"D4 *\"]").unwrap();
    assert_eq!(named.of(&subject("7.0.13", "7.3.4")).unwrap().failed, ["D3 *", "D4 *"]);
    // Older files have the old names of the keys.
    let old = rule("outcome = \"lost\"\nbroken = [\"D4 *\"]\nunsteady = [\"D2 *\"]").unwrap();
    assert_eq!(old, rule("outcome = \"lost\"\nfailed = [\"D4 *\"]\nunstable = [\"D2 *\"]").unwrap());
    for (rest, told) in [
        (
            "outcome = \"lost\"\nfailed = [\"D3 *\"]\nbroken = [\"D4 *\"]",
            "m.toml:11:10: `broken` is the old name of `failed`\n  hint: keep one of the two",
        ),
        ("outcome = \"lost\"\nbroken = \"D3 *\"", "m.toml:10:10: `broken` must be a list of strings, not a string"),
        (
            "outcome = \"lost\"\nfailed = [\"a\"]\nunsteadi = [\"D3 *\"]",
            "m.toml:11:1: unknown key `unsteadi`\n  hint: valid keys: source, target, profile, workload, outcome, \
             tainted, failed, unstable, side, phase, call, errno, signature, reason, link",
        ),
        (
            "outcome = \"crashed\"\nfailed = [\"D3 *\"]",
            "m.toml:10:11: no probe decides whether a cell is `crashed`\n  \
             hint: `failed` names the probes that fail in a cell that is `lost`",
        ),
        (
            "outcome = \"lost\"\nfailed = [\"D3 *\", \" \"]",
            "m.toml:10:19: ` ` names no probe\n  \
             hint: write the name of a probe as reports have it; * and ? are wildcards, as in \"D4 *\"",
        ),
        (
            "outcome = \"lost\"\nunstable = [\"D3 *\"]",
            "m.toml:10:13: `unstable` has no effect without `failed`\n  \
             hint: `failed` names the probes that always fail; without it, any probe may fail",
        ),
        ("outcome = \"lost\"\nfailed = \"D3 *\"", "m.toml:10:10: `failed` must be a list of strings, not a string"),
    ] {
        assert_eq!(rule(rest).unwrap_err(), told);
    }
}

#[test]
fn a_rule_takes_a_cell_by_its_pair_its_machine_and_its_workload_at_once() {
    let known =
        KnownNames { workloads: &["memfd.basic", "memfd.sealed"], profiles: &["q35-intel", "q35-amd"], ..KNOWN };
    let takes = |matrices: &str, of: &str| {
        let rule =
            "[[expect]]\nsource = \"7.2\"\ntarget = \"7.3\"\noutcome = \"lost\"\nfailed = [\"x\"]\nreason = \"x\"\n";
        read("m.toml", &format!("{matrices}{rule}{of}\n"), &known).is_ok()
    };
    let matrix = |name: &str, kernels: &str, pairs: &str, rest: &str| {
        format!("[matrix.{name}]\nkernels = [{kernels}]\npairs = \"{pairs}\"\n{rest}\n")
    };
    let (both, basic) = ("\"7.2.12\", \"7.3.4\"", "workloads = [\"memfd.basic\"]");
    let intel = format!("{basic}\nprofiles = [\"q35-intel\"]");
    let one = matrix("a", both, "all", basic);
    assert!(takes(&one, "workload = \"memfd.b*\"") && !takes(&one, "workload = \"memfd.s*\""));
    assert!(takes(&one, "profile = \"q35-amd\""), "each workload brings its own");
    let on_intel = matrix("a", both, "all", &intel);
    assert!(takes(&on_intel, "profile = \"q35-i*\"") && !takes(&on_intel, "profile = \"q35-a*\""));
    // One matrix has the pair, another the workload: no cell has both.
    let sealed = matrix("b", "\"7.3.4\"", "all", "workloads = [\"memfd.sealed\"]");
    assert!(!takes(&format!("{one}{sealed}"), "workload = \"memfd.sealed\""));
    // ./tree may be a 7.3.
    assert!(takes(&matrix("a", "\"7.2.12\", \"./tree\"", "7.2 -> 7.3", basic), ""));
}

/// What an expectation is about, as a cell that ends exactly so has it.
struct Exact {
    outcome: Outcome,
    failed: Vec<String>,
    refusal: Option<Refusal>,
    title: String,
    side: Option<Side>,
    phase: Phase,
    tainted: Vec<String>,
}

impl Exact {
    fn of(known: &Expectation) -> Self {
        let text = |glob: &str| glob.replace('*', "x");
        let texts = |globs: &[String]| globs.iter().map(|glob| text(glob)).collect();
        let refusal = known.call.as_deref().zip(known.errno.as_deref());
        let refusal =
            refusal.map(|(call, errno)| Refusal { call: text(call), errno: text(errno), about: String::new() });
        Self {
            outcome: known.outcome,
            failed: texts(&known.failed),
            refusal,
            title: text(known.signature.as_deref().unwrap_or_default()),
            side: known.side,
            phase: known.phase.unwrap_or(Phase::Verify),
            tainted: texts(&known.tainted),
        }
    }

    fn status(&self, known: &Expectation) -> Status {
        let failed = self.failed.iter().map(String::as_str).collect();
        let end = End {
            outcome: self.outcome,
            tainted: &self.tainted,
            probes: ProbeNames { failed, passed: Vec::new() },
            title: &self.title,
            refusal: self.refusal.as_ref(),
            side: self.side,
            phase: self.phase,
        };
        Status::of(&end, Some(known))
    }
}

#[test]
fn each_expectation_of_the_shipped_file_notices_another_end() {
    let known = KnownNames {
        kernels: &[
            "6.19.6",
            "6.19.14",
            "7.0.4",
            "7.0.13",
            "7.1.3",
            "7.1.13",
            "7.2.6",
            "7.2.12",
            "7.2.12-debian",
            "7.3.4",
            "7.3.4-debian",
            "7.3.4-debug",
            "7.3.4-modular",
            "7.3.4-no-memfd",
            "7.3.4-bus-master",
            "7.3.4-no5lvl",
            "7.3.4-mem",
            "7.3.4-memmap",
            "7.3.4-init-on-free",
            "7.3.4-1g-pages",
            "7.3.4-reserve-mem",
            "7.3.4-crashkernel",
            "7.3.4-debian-no-memcg",
            "7.3.4-debian-kfence",
        ],
        workloads: &luqual_protocol::workloads().map(|it| it.name).collect::<Vec<_>>(),
        profiles: &own_machines().iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
    };
    let file = read("matrix.toml", EMBEDDED, &known).unwrap();
    let mut ends = 0;
    for known in file.expectations.all() {
        let exact = || Exact::of(known);
        assert_eq!(exact().status(known), Status::Expected, "{known:?}");
        let mut others: Vec<(&str, Exact)> = Vec::new();
        for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != known.outcome) {
            others.push(("outcome", Exact { outcome, ..exact() }));
        }
        let more = |lines: &[String], other: &str| [lines, &[other.to_owned()]].concat();
        others.push(("taint", Exact { tainted: more(&exact().tainted, "target: BUG: other"), ..exact() }));
        others.push(("taint", Exact { tainted: more(&exact().tainted, "source: taint 128 (D)"), ..exact() }));
        if !known.tainted.is_empty() {
            others.push(("no taint", Exact { tainted: Vec::new(), ..exact() }));
        }
        match known.outcome {
            Outcome::Lost if !known.failed.is_empty() => {
                others.push(("probe", Exact { failed: more(&exact().failed, "D0 another probe"), ..exact() }));
                others.push(("no probe", Exact { failed: Vec::new(), ..exact() }));
            }
            Outcome::Crashed => {
                let side = Some(if known.side == Some(Side::Source) { Side::Target } else { Side::Source });
                others.push(("side", Exact { side, ..exact() }));
                others.push(("no side", Exact { side: None, ..exact() }));
                others.push(("phase", Exact { phase: Phase::Load, ..exact() }));
            }
            _ => {}
        }
        if let Some(refusal) = exact().refusal {
            others.push((
                "errno",
                Exact { refusal: Some(Refusal { errno: "EIO2".into(), ..refusal.clone() }), ..exact() },
            ));
            others.push(("call", Exact { refusal: Some(Refusal { call: "other".into(), ..refusal }), ..exact() }));
            others.push(("no refusal", Exact { refusal: None, ..exact() }));
        }
        if known.signature.is_some() {
            others.push(("signature", Exact { title: "BUG: other".into(), ..exact() }));
            others.push(("no signature", Exact { title: String::new(), ..exact() }));
        }
        for (what, other) in &others {
            // An untainted survival is better than what is known, and is said to be.
            let status = other.status(known);
            let is_better = other.outcome == Outcome::Survived && other.tainted.is_empty();
            assert!(status != Status::Expected, "another {what} is not noticed: {known:?}");
            assert_eq!(status == Status::Improvement, is_better, "{what} {known:?}");
        }
        ends += others.len();
    }
    assert!(ends > 8 * file.expectations.all().count());
}
