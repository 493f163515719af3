//! The batch script, and what of the user's words is in it. Pure.

use crate::error::CliError;
use std::path::Path;

/// The options that are about the array; a task gets its own in their place.
const OWN: [&str; 4] = ["--executor", "--parts", "--sbatch-option", "--report-dir"];

/// What is in a batch script.
pub(crate) struct Task<'a> {
    /// This luqual.
    pub(crate) program: &'a Path,
    /// What it is told, beside what part it is.
    pub(crate) words: &'a [String],
    /// Where the user is: relative paths are meant from here.
    pub(crate) here: &'a Path,
    /// The run's.
    pub(crate) folder: &'a Path,
    pub(crate) parts: u32,
    pub(crate) sbatch_options: &'a [String],
}

/// An option for sbatch is a line of the script.
pub(crate) fn option(text: &str) -> Result<String, String> {
    if text.starts_with('-') && !text.contains('\n') {
        Ok(text.to_owned())
    } else {
        Err("an option of sbatch begins with `-` and is one line".to_owned())
    }
}

/// The words of a command line without those about the array.
pub(crate) fn without_own(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if !OWN.contains(&name) {
            kept.push(word.clone());
        } else if name == word {
            // Its value is the next word.
            words.next();
        }
    }
    kept
}

/// A word, as a shell takes it.
pub(crate) fn quoted(text: &str) -> Result<String, CliError> {
    let quoted = shlex::try_quote(text).map(|text| text.into_owned());
    quoted.map_err(|error| CliError::usage(format!("`{text}` cannot be a word of a script: {error}")))
}

/// The script. What the user tells sbatch comes first: where a thing is said twice, the last counts.
pub(crate) fn text(task: &Task<'_>) -> Result<String, CliError> {
    let Task { parts, .. } = task;
    // `%` is the beginning of a name for sbatch.
    let log = task.folder.join("slurm/task-").display().to_string().replace('%', "%%") + "%a.log";
    let own = [
        "--job-name=luqual".to_owned(),
        format!("--chdir={}", quoted(&task.here.display().to_string())?),
        format!("--output={}", quoted(&log)?),
        // What a task said before it was killed stays.
        "--open-mode=append".to_owned(),
    ];
    let options: String = task.sbatch_options.iter().chain(&own).map(|option| format!("#SBATCH {option}\n")).collect();
    let program = task.program.display().to_string();
    let words = std::iter::once(&program).chain(task.words).map(|word| quoted(word)).collect::<Result<Vec<_>, _>>()?;
    let words = words.join(" ");
    let folder = quoted(&task.folder.join("parts").display().to_string())?;
    Ok(format!(
        "#!/bin/bash\n\
         # Written by luqual. Task K of the array runs part K of {parts}, or goes on with it: sbatch --array=K job.sh\n\
         {options}\
         exec {words} \\\n  \
           --partition \"$SLURM_ARRAY_TASK_ID/{parts}\" --report-dir {folder}/\"$SLURM_ARRAY_TASK_ID\" --go-on\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_task_is_told_all_but_what_is_about_the_array() {
        for given in [
            "run --executor slurm --matrix quick --parts 4 --report-dir out --sbatch-option --mem=8G --seed 7",
            "run --matrix quick --sbatch-option=-pbig --executor=slurm --parts=4 --seed 7 --report-dir=out",
            "run --matrix quick --seed 7",
        ] {
            assert_eq!(without_own(&words(given)), words("run --matrix quick --seed 7"), "{given}");
        }
        // Only whole names, and no values of others.
        let others = words("run --partition=1/2 --parts-of x --filter target(7.3)&source(7.2) --keep");
        assert_eq!(without_own(&others), others);
        assert_eq!(without_own(&words("run --parts")), words("run"));
    }

    #[test]
    fn the_script_is_what_a_person_would_write() {
        let task = Task {
            program: Path::new("/opt/luqual"),
            words: &words("run --filter target(7.3)"),
            here: Path::new("/home/somebody's"),
            folder: Path::new("/shared/100 %"),
            parts: 4,
            sbatch_options: &words("--mem=8G --output=mine"),
        };
        assert_eq!(
            text(&task).unwrap(),
            "#!/bin/bash
# Written by luqual. Task K of the array runs part K of 4, or goes on with it: sbatch --array=K job.sh
#SBATCH --mem=8G
#SBATCH --output=mine
#SBATCH --job-name=luqual
#SBATCH --chdir=\"/home/somebody's\"
#SBATCH --output='/shared/100 %%/slurm/task-%a.log'
#SBATCH --open-mode=append
exec /opt/luqual run --filter 'target(7.3)' \\
  --partition \"$SLURM_ARRAY_TASK_ID/4\" --report-dir '/shared/100 %/parts'/\"$SLURM_ARRAY_TASK_ID\" --go-on
"
        );
    }

    #[test]
    fn an_option_of_sbatch_is_one_line() {
        assert_eq!(option("--mem=8G").as_deref(), Ok("--mem=8G"));
        for wrong in ["", "mem=8G", "--mem=8G\nrm -r ."] {
            assert!(option(wrong).is_err(), "{wrong}");
        }
    }
}
