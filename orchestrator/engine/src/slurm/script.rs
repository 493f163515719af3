//! The batch script. Pure.

use crate::error::EngineError;
use std::path::Path;

/// The content of a batch script.
pub(crate) struct Task<'a> {
    /// This luqual.
    pub(crate) program: &'a Path,
    /// The file with the request; the part comes from the array's index.
    pub(crate) request: &'a Path,
    /// The current folder; relative paths start here.
    pub(crate) here: &'a Path,
    /// The run's folder.
    pub(crate) folder: &'a Path,
    pub(crate) parts: u32,
    pub(crate) sbatch_options: &'a [String],
}

/// Checks an option for sbatch, which is one line of the script.
pub fn option(text: &str) -> Result<String, String> {
    if text.starts_with('-') && !text.contains('\n') {
        Ok(text.to_owned())
    } else {
        Err("an option of sbatch has to begin with `-` and to be one line".to_owned())
    }
}

/// Quotes a word for the shell.
pub(crate) fn quoted(text: &str) -> Result<String, EngineError> {
    let quoted = shlex::try_quote(text).map(|text| text.into_owned());
    quoted.map_err(|error| EngineError::usage(format!("`{text}` cannot be written into the job script: {error}")))
}

/// The text of the script. The user's options come first: if an option occurs twice, sbatch takes the last.
pub(crate) fn text(task: &Task<'_>) -> Result<String, EngineError> {
    let Task { parts, .. } = task;
    // sbatch replaces `%` and the next character in names.
    let log = task.folder.join("slurm/task-").display().to_string().replace('%', "%%") + "%a.log";
    let own = [
        "--job-name=luqual".to_owned(),
        format!("--chdir={}", quoted(&task.here.display().to_string())?),
        format!("--output={}", quoted(&log)?),
        // Append, so that the log of a killed task remains.
        "--open-mode=append".to_owned(),
    ];
    let options: String = task.sbatch_options.iter().chain(&own).map(|option| format!("#SBATCH {option}\n")).collect();
    let path = |path: &Path| quoted(&path.display().to_string());
    let (program, request, folder) = (path(task.program)?, path(task.request)?, path(&task.folder.join("parts"))?);
    Ok(format!(
        "#!/bin/bash\n\
         # Written by luqual. Task K of the array runs part K of {parts}, or resumes it: sbatch --array=K job.sh\n\
         {options}\
         exec {program} run --request {request} \\\n  \
           --partition \"$SLURM_ARRAY_TASK_ID/{parts}\" --report-dir {folder}/\"$SLURM_ARRAY_TASK_ID\" --resume-if-exists\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_script_is_what_a_person_would_write() {
        let task = Task {
            program: Path::new("/opt/luqual"),
            request: Path::new("/shared/100 %/slurm/request.json"),
            here: Path::new("/home/somebody's"),
            folder: Path::new("/shared/100 %"),
            parts: 4,
            sbatch_options: &words("--mem=8G --output=mine"),
        };
        assert_eq!(
            text(&task).unwrap(),
            "#!/bin/bash
# Written by luqual. Task K of the array runs part K of 4, or resumes it: sbatch --array=K job.sh
#SBATCH --mem=8G
#SBATCH --output=mine
#SBATCH --job-name=luqual
#SBATCH --chdir=\"/home/somebody's\"
#SBATCH --output='/shared/100 %%/slurm/task-%a.log'
#SBATCH --open-mode=append
exec /opt/luqual run --request '/shared/100 %/slurm/request.json' \\
  --partition \"$SLURM_ARRAY_TASK_ID/4\" --report-dir '/shared/100 %/parts'/\"$SLURM_ARRAY_TASK_ID\" --resume-if-exists
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
