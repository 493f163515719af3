use crate::matrix;
use crate::names::KnownNames;
use crate::program::Origin;

const KNOWN: KnownNames<'_> = KnownNames { kernels: &["7.3.4"], workloads: &["memfd.basic"], profiles: &["q35-intel"] };

#[test]
fn a_program_is_a_workload_of_its_file() {
    let text = "[matrix.a]\nkernels = [\"7.3.4\"]\npairs = \"all\"\nworkloads = [\"external.*\", \"external.mine\"]\n\
                [program.mine]\npath = \"build/mine\"\nasserts = \"all is well\"\nshares_boot = true\n\
                [program.theirs]\nselftest = \"luo_kexec_simple\"\nversion = \"7.3.4\"\n\
                [[expect]]\nsource = \"7.3.4\"\ntarget = \"7.3.4\"\nworkload = \"external.theirs\"\n\
                outcome = \"lost\"\nfailed = [\"x\"]\nreason = \"x\"\n";
    let read = matrix::read("some/m.toml", text, &KNOWN).unwrap_or_else(|error| panic!("{error}"));
    let origins: Vec<(&str, &Origin, bool)> =
        read.programs.iter().map(|it| (it.workload.as_str(), &it.origin, it.shares_boot)).collect();
    let theirs = Origin::Selftest { program: "luo_kexec_simple".into(), version: "7.3.4".into() };
    assert_eq!(
        origins,
        [("external.mine", &Origin::Path("some/build/mine".into()), true), ("external.theirs", &theirs, false)]
    );
    assert_eq!(read.programs[0].asserts, "all is well");
}

#[test]
fn mistakes_in_programs_are_reported() {
    let text = "[program.Mine]\npath = \"x\"\n[program.a]\npath = \"x\"\nselftest = \"y\"\nversion = \"7.3.4\"\n\
                [program.b]\nselftest = \"y\"\nversion = \"7.3.44\"\n[program.c]\nselftest = \"y\"\n\
                [program.d]\npath = \"x\"\nshare_boot = true\n";
    let told = matrix::read("m.toml", text, &KNOWN).unwrap_err().to_string();
    for line in [
        "m.toml:1:10: `Mine` is not a valid name of a program\n  hint: use up to 32 lower-case",
        "m.toml:3:1: a program needs either `path`, or `selftest` and `version`\n  hint: write path =",
        "m.toml:9:11: unknown kernel `7.3.44`\n  hint: is `7.3.4` meant?",
        "m.toml:10:1: a program needs either",
        "m.toml:14:1: unknown key `share_boot`\n  hint: is `shares_boot` meant?",
    ] {
        assert!(told.contains(line), "{line}\n--- not in ---\n{told}");
    }
}
