//! The first kernel at which a cell ends otherwise: of the catalog, and of a git tree. What is booted are real kernels; the tree is one
//! whose Makefile lays them down, since a real one would be compiled for ten minutes.

mod full {
    use crate::common::{assert_nothing_left, image_of, luqual, text};
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output};

    fn bisect(folder: &Path, words: &[&str]) -> Output {
        luqual(folder).args(["bisect", "--report-dir", "run"]).args(words).output().unwrap()
    }

    fn stdout(output: &Output) -> String {
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn the_first_of_the_catalog_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let words = ["--source", "7.3.4", "--good", "6.18.15", "--bad", "7.3.4", "--among", "7.2.12"];
        let output = bisect(folder.path(), &words);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(
            stdout(&output).contains("\nfirst: 7.2.12: survived\n  before it: incompatible: "),
            "{}",
            text(&output)
        );
        // The other way round, by what was seen there before: nothing is run again.
        let words = ["--source", "7.3.4", "--good", "7.3.4", "--bad", "6.18.15", "--among", "7.2.12"];
        let output = bisect(folder.path(), &words);
        assert!(stdout(&output).contains("\nfirst: 6.18.15: incompatible: "), "{}", text(&output));
        assert!(!text(&output).contains("[1/1]"), "{}", text(&output));
        let output = bisect(folder.path(), &["--source", "7.3.4", "--good", "7.2.12", "--bad", "7.3.4"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let output = bisect(folder.path(), &["--source", "7.2.12", "--good", "7.3.4", "--bad", "6.18.15"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert_nothing_left(folder.path());
    }

    #[test]
    fn the_first_commit_is_found_around_one_that_does_not_build() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("linux");
        fs::create_dir(&tree).unwrap();
        let git = |words: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
            let output = Command::new("git").current_dir(&tree).args(identity).args(words).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
            stdout(&output).trim().to_owned()
        };
        git(&["init", "--quiet"]);
        let [good, bad] = ["7.2.12", "6.18.15"].map(|version| {
            let image = image_of(folder.path(), version);
            Path::new(&image).parent().unwrap().display().to_string()
        });
        let config = Path::new(&image_of(folder.path(), "7.3.4")).with_file_name("config").display().to_string();
        let built =
            |from: &str| format!("\tcp {from}/bzImage arch/x86/boot/\n\tcp {from}/System.map {from}/vmlinux .\n");
        let contents =
            [&built(&good), &built(&good), &built(&good), "\tfalse\n", &built(&good), &built(&bad), &built(&bad)];
        for (number, content) in contents.iter().enumerate() {
            let makefile = format!(
                "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n# {number}\nallnoconfig:\n\tcp {config} .config\n\
                 bzImage:\n\tmkdir -p arch/x86/boot\n{content}"
            );
            fs::write(tree.join("Makefile"), makefile).unwrap();
            git(&["add", "."]);
            git(&["commit", "--quiet", "-m", &format!("change {number}")]);
        }
        let words = ["--tree", "linux", "--source", "7.3.4", "--good", "HEAD~6", "--bad", "HEAD"];
        // The store is one of the test's own: no two trees of tests have anything to do with each other.
        let cache = folder.path().join("cache");
        let ask = || {
            let mut command = luqual(folder.path());
            command.env("XDG_CACHE_HOME", &cache).args(["bisect", "--report-dir", "run"]).args(words).output().unwrap()
        };
        lend(&image_of(folder.path(), "7.3.4"), &cache);
        let output = ask();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let first = git(&["log", "-1", "--format=%H", "HEAD~1"]);
        let told = format!("\nfirst: {} change 5: incompatible: ", &first[..12]);
        assert!(stdout(&output).contains(&told), "{}", text(&output));
        let skipped = git(&["log", "-1", "--format=%H", "HEAD~3"]);
        let told = format!("\nskipped: {} change 3: does not build: ", &skipped[..12]);
        assert!(stdout(&output).contains(&told), "{}", text(&output));
        // The user's tree is as it was, and the same command goes on with what is there.
        assert_eq!(git(&["status", "--porcelain", "--ignored"]), "");
        let again = ask();
        assert_eq!((stdout(&again), text(&again).contains("[1/1]")), (stdout(&output), false));
        // A kernel of it is one wherever a kernel is named, as in the command that the answer ends with.
        let output = luqual(folder.path())
            .env("XDG_CACHE_HOME", &cache)
            .args(["repro", &format!("run/{}", &first[..12]), "memfd.basic"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_nothing_left(folder.path());
    }

    /// Puts a kernel of the store into another one, so that it is not built there.
    fn lend(image: &str, cache: &Path) {
        let kernel = Path::new(image).parent().unwrap();
        let into = cache.join("luqual/kernels");
        fs::create_dir_all(&into).unwrap();
        std::os::unix::fs::symlink(kernel, into.join(kernel.file_name().unwrap())).unwrap();
    }
}
