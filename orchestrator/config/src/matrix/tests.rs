//! Whole matrix files, right and wrong.

mod expect;
mod program;

use super::*;
use crate::pairs::Budget;
use luqual_model::Phase;

const KNOWN: KnownNames<'_> = KnownNames {
    kernels: &["6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4"],
    workloads: &["memfd.basic"],
    profiles: &["q35-intel"],
};

fn pairs_of(matrix: &Matrix) -> Vec<(String, String)> {
    matrix.pairs(str::to_owned)
}

#[test]
fn pairs_by_name_and_by_ranges() {
    let of = |pairs: &str| {
        let text = format!(
            "[matrix.a]\nkernels = [\"7.0.13\", \"7.1.13\", \"7.2.12\"]\npairs = {pairs}\nworkloads = [\"*\"]\n"
        );
        pairs_of(&read("m.toml", &text, &KNOWN).unwrap().matrices[0])
            .into_iter()
            .map(|(source, target)| format!("{} {}", &source[..3], &target[..3]))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(of("\"upgrades\""), "7.0 7.0, 7.0 7.1, 7.0 7.2, 7.1 7.1, 7.1 7.2, 7.2 7.2");
    assert_eq!(of("\"adjacent\""), "7.0 7.1, 7.1 7.2");
    assert_eq!(of("\"with-first\""), "7.0 7.0, 7.0 7.1, 7.0 7.2, 7.1 7.0, 7.2 7.0");
    assert_eq!(of("[\"<7.2 -> 7.2\", \"7.2.12 -> 7.0\"]"), "7.0 7.2, 7.1 7.2, 7.2 7.0");
    assert_eq!(of("\"7.1 -> *\""), "7.1 7.0, 7.1 7.1, 7.1 7.2");
}

#[test]
fn the_newest_releases_of_each_series_are_taken_without_their_variants() {
    let kernels = ["7.2.12", "7.2.6", "7.2.12-debian", "7.3~rc7", "7.3.4", "7.2.13", "6.19.14", "6.18.15", "other"];
    let known = KnownNames { kernels: &kernels, ..KNOWN };
    let of = |newest: &str| {
        let text = format!("[matrix.a]\n{newest}\npairs = \"all\"\nworkloads = [\"*\"]\n");
        read("m.toml", &text, &known).map(|file| file.matrices[0].kernels.join(" ")).map_err(|why| why.to_string())
    };
    assert_eq!(of("newest = 1").unwrap(), "7.3.4 7.2.13 6.19.14");
    assert_eq!(of("newest = 2").unwrap(), "7.3.4 7.2.13 7.2.12 6.19.14");
    assert!(of("newest = 0").unwrap_err().contains("`newest` must be a positive integer"));
    let text = "[matrix.a]\nnewest = 1\npairs = \"upgrades\"\nworkloads = [\"*\"]\n";
    let upgrades = pairs_of(&read("m.toml", text, &known).unwrap().matrices[0]);
    let pair = |source: &str, target: &str| (source.to_owned(), target.to_owned());
    assert!(
        upgrades.contains(&pair("7.2.13", "7.3.4")) && !upgrades.contains(&pair("7.3.4", "7.2.13")),
        "{upgrades:?}"
    );
    let both = of("newest = 1\nkernels = [\"7.3.4\"]").unwrap_err();
    assert!(both.contains("`kernels` names kernels, and `newest` chooses them"), "{both}");
}

#[test]
fn numbers_may_be_written_in_any_way() {
    let text = "[matrix.a]\nkernels = [\"7.3.4\"]\npairs = \"all\"\nworkloads = [\"*\"]\n\
                [matrix.a.budget]\njobs = 0b11\nmemory_mib = 0x2000\n[matrix.a.deadlines]\nboot = 1_0\n";
    let matrix = &read("m.toml", text, &KNOWN).unwrap().matrices[0];
    assert_eq!(matrix.budget, Budget { jobs: Some(3), memory_mib: Some(8192) });
    assert_eq!(matrix.deadlines.of(Phase::Boot).as_secs(), 10);
}

#[test]
fn mistakes_have_their_positions() {
    let text = "[matrix.a]\nkernels = [\"7.2.122\", \"./tree\"]\npairs = \"al\"\nworkloads = [\"memfd.*\", \"vfio.*\"]\n\
                [matrix.a.deadlines]\nbot = 3\nboot = 0\nkexec = -3\nload = 86401\nverify = 0xfffffffffffffffff\n[matrix.b]\npairs = \"all\"\n\
                [matrix.c]\nkernels = [\"7.3.4\"]\npairs = \"adjacent\"\nworkloads = [\"*\", \"*\"]\n";
    let told = read("m.toml", text, &KNOWN).unwrap_err().to_string();
    for line in [
        "m.toml:2:12: unknown kernel `7.2.122`\n  hint: is `7.2.12` meant?",
        "m.toml:3:9: `al` does not select pairs\n  hint: write all, upgrades, adjacent, with-first, or a list such as",
        "m.toml:4:25: unknown workload `vfio.*`\n  hint: known: memfd.basic",
        "m.toml:6:1: unknown phase `bot`\n  hint: is `boot` meant?",
        "m.toml:7:1: a deadline of 0 s is too short for boot",
        "m.toml:8:9: `kexec` must be a non-negative integer",
        "m.toml:9:1: a deadline of 86401 s is longer than a day",
        "m.toml:10:10: `verify` is too large",
        "m.toml:15:9: `adjacent` needs at least two kernels",
        "m.toml:16:19: `*` is listed twice",
        "matrix `b` has no kernels",
        "matrix `b` has no workloads",
    ] {
        assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
    }
    assert!(!told.contains("./tree"), "{told}");
}

#[test]
fn a_mistake_in_a_matrix_is_reported_once_and_not_again_by_what_builds_on_it() {
    let right = ["kernels = [\"7.2.12\", \"7.3.4\"]", "pairs = \"all\"", "workloads = [\"*\"]"];
    let told = |matrix: &str| {
        let text = format!(
            "{matrix}\n[[expect]]\nsource = \"7.2\"\ntarget = \"7.3\"\noutcome = \"lost\"\nfailed = [\"x\"]\nreason = \"x\"\n"
        );
        read("m", &text, &KNOWN).map_or_else(|told| told.to_string(), |_| String::new())
    };
    assert_eq!(told(&format!("[matrix.a]\n{}", right.join("\n"))), "");
    for (line, wrong, expected) in [
        (0, "kernels = \"7.2.12\"", "m:2:11: `kernels` must be a list of strings, not a string"),
        (0, "kernels = [\"7.3.4\", 7.2]", "m:2:21: `kernels` must be a string, not a floating-point number"),
        (0, "kernels = [\"7.2.12\", \"7.3.44\"]", "m:2:22: unknown kernel `7.3.44`\n  hint: is `7.3.4` meant?"),
        (0, "kernels = []", "m:1:1: matrix `a` has no kernels"),
        (1, "pairs = 7", "m:3:9: `pairs` must be a list of strings, not a number"),
        (1, "pairs = [\"7.3 -> 7.3\", 7]", "m:3:24: `pairs` must be a string, not a number"),
        (1, "pairs = \"7.2 -> 7.9\"", "m:3:9: `7.2 -> 7.9` matches no pair of this matrix's kernels"),
        (2, "workloads = \"*\"", "m:4:13: `workloads` must be a list of strings, not a string"),
        (2, "workloads = [\"vfio.*\"]", "m:4:14: unknown workload `vfio.*`\n  hint: known: memfd.basic"),
        (2, "workloads = []", "m:1:1: matrix `a` has no workloads"),
    ] {
        let mut lines = right;
        lines[line] = wrong;
        assert_eq!(told(&format!("[matrix.a]\n{}", lines.join("\n"))), expected, "{wrong}");
    }
    let typo = "[matrix.a]\nkernels = [\"7.3.44\"]\npairs = [\"7.2 -> 7.3\"]\nworkloads = [\"*\"]";
    assert_eq!(told(typo), "m:2:12: unknown kernel `7.3.44`\n  hint: is `7.3.4` meant?");
    let one = "[matrix.a]\nkernels = [\"7.3.4\", 7.2]\npairs = \"adjacent\"\nworkloads = [\"*\"]";
    assert_eq!(told(one), "m:2:21: `kernels` must be a string, not a floating-point number");
    assert_eq!(told("[matrix]\na = 3"), "m:2:5: `a` must be a table, not a number");
    assert_eq!(told("[[matrix]]\npairs = \"all\""), "m:1:1: `matrix` must be a table, not a list");
    // A matrix that can be read is checked, whatever else is wrong with it.
    let late = format!("[matrix.a]\n{}\ndeadlines = {{ boot = 0 }}", right.join("\n").replace("7.2.12", "7.1.13"));
    assert_eq!(
        told(&late),
        "m:5:15: a deadline of 0 s is too short for boot\nm:7:10: `7.2` matches no kernel of any matrix"
    );
}
