//! A run as a job array of Slurm.

/// With a Slurm that the test starts; ci/slurm brings its programs.
mod daemons {
    use crate::common::cluster::{Cluster, wait};
    use crate::common::{assert_nothing_left, count, luqual, text};
    use crate::parts::{ONE, SELECTION, essence};
    use luqual_model::Event;
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};

    fn phases(run: &Path) -> usize {
        count(run, |event| matches!(event, Event::PhaseStarted { .. }))
    }

    fn resumptions(run: &Path) -> usize {
        count(run, |event| matches!(event, Event::RunResumed { .. }))
    }

    #[test]
    fn a_job_array_is_the_run_also_when_a_task_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let whole = luqual(folder).arg("run").args(SELECTION).args(["--report-dir", "whole"]).output().unwrap();
        assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
        let wanted = essence(&folder.join("whole"));

        let cluster = Cluster::start(&folder.join("slurm"));
        // A folder whose name has to be quoted, for the shell and for sbatch.
        let array =
            [&["run", "--executor", "slurm", "--parts=4", "--report-dir", "it's an array"], &SELECTION[..]].concat();
        let run = cluster.luqual(folder, &array).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let part = |number: usize| folder.join(format!("it's an array/parts/{number}"));
        wait("a boot of part 2", || phases(&part(2)) > 0);
        let (killed, _) = tasks(folder, "parts/2").pop().unwrap();
        assert!(Command::new("kill").args(["-KILL", &killed]).status().unwrap().success());
        let run = run.wait_with_output().unwrap();
        let said = text(&run);
        assert_eq!(run.status.code(), Some(0), "{said}");
        assert_eq!(essence(&folder.join("it's an array")), wanted, "a job array is another run");
        // Part 2, alone and once.
        let resumed: Vec<usize> = (1..=4).map(|number| resumptions(&part(number))).collect();
        assert_eq!(resumed, [0, 1, 0, 0]);
        for number in 1..=4 {
            let log = fs::read_to_string(folder.join(format!("it's an array/slurm/task-{number}.log"))).unwrap();
            // Each run that comes to its end names its report once, and the killed one did not.
            assert_eq!(log.matches("report.html").count(), 1, "part {number} was submitted again:\n{log}");
        }
        assert_eq!(fs::read_to_string(folder.join("it's an array/slurm/jobs")).unwrap().lines().count(), 2);
        assert!(said.contains("6 survived, 2 lost"), "{said}");
        // It has a whole run now, and nothing is run in it.
        let (again, said) = cluster.run(folder, &array);
        assert!(again.status.code() == Some(2) && said.contains("it's an array"), "{said}");
        drop(cluster);
        assert_no_process_of(folder);
    }

    #[test]
    fn an_array_is_cancelled_and_goes_on_and_is_not_mixed_with_another() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let cluster = Cluster::start(&folder.join("slurm"));
        let slurm = ["--executor", "slurm", "--report-dir", "run", "--parts"];
        let words = [&ONE[..], &slurm, &["2"]].concat();
        let refused = |more: &[&str], told: &str| {
            let (output, said) = cluster.run(folder, &[&ONE[..], &slurm, more].concat());
            assert!(output.status.code() == Some(2) && said.contains(told), "`{told}` is not in:\n{said}");
        };
        refused(&["2", "--sbatch-option=--tea"], "--tea");
        refused(&["2", "--sbatch-option", "--partition=nowhere"], "nowhere");

        let run = cluster.luqual(folder, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait("a boot", || phases(&folder.join("run/parts/1")) > 0);
        refused(&["2"], "job 1 ");
        assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
        let run = run.wait_with_output().unwrap();
        assert_eq!(run.status.code(), Some(130), "{}", text(&run));
        assert!(text(&run).contains("--report-dir"), "{}", text(&run));
        wait("the end of the job", || cluster.is_idle());
        assert!(tasks(folder, "parts/").is_empty(), "tasks are left");

        refused(&["3"], "run/parts/1");
        refused(&["2", "--workload", "luo.session-dup"], "run/parts/1");
        refused(&["2", "--seed", "1"], "run/parts/1");
        let (output, said) = cluster.run(folder, &words);
        assert!(output.status.code() == Some(0) && said.contains("1 survived"), "{said}");
        assert_eq!(resumptions(&folder.join("run/parts/1")), 1);
        assert_nothing_left(folder);

        // A folder that cannot be made.
        fs::write(folder.join("file"), "").unwrap();
        let nowhere = ["--executor=slurm", "--parts=1", "--report-dir=file/run"];
        let (output, said) = cluster.run(folder, &[&ONE[..], &nowhere].concat());
        assert!(output.status.code() == Some(2) && said.contains("file/run: "), "{said}");

        // A part that cannot begin on its node is tried three times.
        let never = ["--executor=slurm", "--parts=1", "--report-dir=never", "--qemu", "/nowhere/qemu"];
        let (output, said) = cluster.run(folder, &[&ONE[..], &never].concat());
        assert!(output.status.code() == Some(3) && said.contains("never/slurm/task-1.log"), "{said}");
        let log = fs::read_to_string(folder.join("never/slurm/task-1.log")).unwrap();
        assert_eq!(log.matches("/nowhere/qemu").count(), 3, "{log}");
        assert!(!folder.join("never/events.jsonl").exists());
        drop(cluster);
        assert_no_process_of(folder);
    }

    #[test]
    fn a_slurm_that_does_not_answer_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("file");
        fs::write(&conf, "").unwrap();
        let mut command = Cluster::client(folder.path(), &conf);
        let output = command.args(ONE).args(["--executor", "slurm", "--parts", "2"]).output().unwrap();
        let said = text(&output);
        assert!(output.status.code() == Some(2) && said.contains("sbatch"), "{said}");
        assert!(!folder.path().join("luqual-runs").exists(), "a folder was left");
    }

    /// The tasks of a part, by what its folder ends in: process and command line.
    fn tasks(folder: &Path, part: &str) -> Vec<(String, String)> {
        processes(folder).into_iter().filter(|(_, line)| line.contains(part) && line.contains("--partition")).collect()
    }

    /// The processes that have the folder on their command line or in their environment.
    fn processes(folder: &Path) -> Vec<(String, String)> {
        let name = folder.display().to_string();
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let read = |file: &str| {
                let bytes = fs::read(process.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let line = read("cmdline");
            if line.contains(&name) || read("environ").contains(&name) {
                found.push((process.file_name().display().to_string(), line));
            }
        }
        found
    }

    fn assert_no_process_of(folder: &Path) {
        wait("the end of all processes", || processes(folder).is_empty());
    }
}
