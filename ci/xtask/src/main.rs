//! `cargo xtask ci`: the steps of ci/test, once the toolchain is there. `cargo xtask claims`: whether the source is as
//! ARCHITECTURE.md says. `cargo xtask figures`: draws the figures in it.

mod claims;
mod run;
mod slowest;
mod steps;

use run::run;
use std::process::ExitCode;
use steps::{CiStep, STEPS, Tier};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["claims"] => claims::check(&claims::root()),
        ["figures"] => claims::draw(&claims::root()),
        ["ci", rest @ ..] => {
            let (tier, names) = match rest {
                ["--full", names @ ..] => (Tier::Full, names),
                ["--slurm", names @ ..] => (Tier::Slurm, names),
                names => (Tier::Gate, names),
            };
            let of_tier: Vec<&CiStep> = STEPS.iter().filter(|step| step.tier <= tier).collect();
            if names.is_empty() {
                return run(&of_tier, tier);
            }
            // A step that is named is run, whatever its tier.
            let named: Vec<&CiStep> = STEPS.iter().filter(|step| names.contains(&step.name)).collect();
            if named.len() == names.len() { run(&named, tier) } else { usage() }
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: cargo xtask ci [--slurm | --full] [STEP…]\n       cargo xtask claims\n       cargo xtask figures\n\n\
         Without a tier the steps of the gate are run. A STEP that is named is run alone.\n\nsteps, in order:"
    );
    for CiStep { name, purpose, tier, .. } in STEPS {
        let tier = match tier {
            Tier::Gate => String::new(),
            Tier::Slurm => " (--slurm, --full)".to_owned(),
            Tier::Full => " (--full)".to_owned(),
        };
        eprintln!("  {name:<16} {purpose}{tier}");
    }
    ExitCode::from(2)
}
