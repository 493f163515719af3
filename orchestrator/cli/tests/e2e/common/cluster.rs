//! A Slurm of one node on this machine, which is gone with the test. Its programs are those that ci/slurm unpacked.

use super::{luqual, text};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// munged, slurmctld and slurmd, with all that is theirs in one folder. One task runs at a time.
pub(crate) struct Cluster {
    conf: PathBuf,
    daemons: Vec<Child>,
}

impl Cluster {
    /// Starts it, and waits until the node takes jobs.
    pub(crate) fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("state")).unwrap();
        let at = |name: &str| folder.join(name).display().to_string();
        fs::write(at("key"), [7; 64]).unwrap();
        fs::set_permissions(at("key"), fs::Permissions::from_mode(0o600)).unwrap();
        let said = |program: &str, words: &[&str]| {
            String::from_utf8(Command::new(program).args(words).output().unwrap().stdout).unwrap().trim().to_owned()
        };
        let (host, user) = (said("uname", &["-n"]), said("id", &["-un"]));
        // Both at once, so that they are two.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [control, node] = ports.map(|port| port.local_addr().unwrap().port());
        let conf = folder.join("slurm.conf");
        let text = format!(
            "ClusterName=luqual\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={control}\n\
             CommunicationParameters=NoInAddrAny,NoCtldInAddrAny\nSlurmUser={user}\nSlurmdUser={user}\n\
             AuthType=auth/munge\nCredType=cred/munge\nAuthInfo=socket={socket}\nMailProg=/bin/true\n\
             StateSaveLocation={state}\nSlurmdSpoolDir={spool}\nSlurmctldPidFile={control_pid}\nSlurmdPidFile={node_pid}\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/linear\nMpiDefault=none\n\
             AccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none\nKillWait=1\n\
             PluginDir={plugins}\nNodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs=1 State=UNKNOWN\n\
             PartitionName=all Nodes=one Default=YES State=UP MaxTime=INFINITE\n",
            socket = at("munge.sock"),
            plugins = plugins().display(),
            state = at("state"),
            spool = at("spool"),
            control_pid = at("slurmctld.pid"),
            node_pid = at("slurmd.pid"),
        );
        fs::write(&conf, text).unwrap();
        let mut cluster = Self { conf, daemons: Vec::new() };
        let [key, socket, pid, log, seed] = [
            ("key-file", "key"),
            ("socket", "munge.sock"),
            ("pid-file", "munged.pid"),
            ("log-file", "munged.log"),
            ("seed-file", "munged.seed"),
        ]
        .map(|(option, name)| format!("--{option}={}", at(name)));
        cluster.daemon(folder, "munged", &["--foreground", "--force", &key, &socket, &pid, &log, &seed]);
        wait("munged", || Path::new(&at("munge.sock")).exists());
        cluster.daemon(folder, "slurmctld", &["-D", "-c"]);
        // It looks for what runs a task where the package would have been installed.
        let stepd = root().join("usr/sbin/slurmstepd").display().to_string();
        cluster.daemon(folder, "slurmd", &["-D", "-c", "-N", "one", "-d", &stepd]);
        wait("the node", || cluster.ask("sinfo", &["--noheader", "--format=%T"]).trim() == "idle");
        cluster
    }

    /// It dies with the test, however that ends.
    fn daemon(&mut self, folder: &Path, program: &str, words: &[&str]) {
        let log = fs::File::create(folder.join(format!("{program}.out"))).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(words).stdin(Stdio::null());
        at_home(&mut command).env("SLURM_CONF", &self.conf).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemons.push(command.spawn().unwrap());
    }

    /// What a program of Slurm's prints.
    pub(crate) fn ask(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new(program);
        let output = at_home(&mut command).args(words).env("SLURM_CONF", &self.conf).output();
        String::from_utf8(output.unwrap_or_else(|error| panic!("{program}: {error}")).stdout).unwrap()
    }

    /// `luqual`, which finds the programs of Slurm, and this configuration.
    pub(crate) fn client(folder: &Path, conf: &Path) -> Command {
        let mut command = luqual(folder);
        at_home(&mut command).env("SLURM_CONF", conf);
        command
    }

    /// Waits until no job is there.
    pub(crate) fn is_idle(&self) -> bool {
        self.ask("squeue", &["--noheader"]).is_empty()
    }

    /// `luqual`, which finds this Slurm.
    pub(crate) fn luqual(&self, folder: &Path, words: &[&str]) -> Command {
        let mut command = Self::client(folder, &self.conf);
        command.args(words);
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, folder: &Path, words: &[&str]) -> (Output, String) {
        let output = self.luqual(folder, words).output().unwrap();
        let said = text(&output);
        (output, said)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What runs a task is no child of slurmd, and ends with its job.
        let until = Instant::now() + Duration::from_secs(20);
        while !self.is_idle() && Instant::now() < until {
            self.ask("scancel", &["--state=PENDING"]);
            self.ask("scancel", &["--state=RUNNING"]);
            std::thread::sleep(Duration::from_millis(200));
        }
        for daemon in self.daemons.iter_mut().rev() {
            // In order first: slurmctld has a process of its own to end.
            let _ = Command::new("kill").arg(daemon.id().to_string()).status();
            let until = Instant::now() + Duration::from_secs(10);
            while daemon.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Where ci/slurm unpacks the packages.
fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/slurm/root");
    root.canonicalize().unwrap_or_else(|error| panic!("{}: {error}: ci/slurm makes it", root.display()))
}

/// Where the libraries of the packages are.
fn libraries() -> PathBuf {
    root().join("usr/lib/x86_64-linux-gnu")
}

/// Where Slurm's plugins are, and the library that its programs share.
fn plugins() -> PathBuf {
    libraries().join("slurm-wlm")
}

/// Lets a program find Slurm's programs and libraries.
fn at_home(command: &mut Command) -> &mut Command {
    let folders = |own: [PathBuf; 2], variable: &str| {
        let others = std::env::var_os(variable).unwrap_or_default();
        let all = own.into_iter().chain(std::env::split_paths(&others).filter(|folder| folder.is_absolute()));
        std::env::join_paths(all).unwrap()
    };
    command
        .env("PATH", folders([root().join("usr/bin"), root().join("usr/sbin")], "PATH"))
        .env("LD_LIBRARY_PATH", folders([libraries(), plugins()], "LD_LIBRARY_PATH"))
}

/// Waits for what nobody tells.
pub(crate) fn wait(what: &str, is_there: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_there() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
