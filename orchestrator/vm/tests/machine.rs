//! Real QEMUs with a guest of 291 bytes (tests/guest/guest.S): how machines start, speak, end, and leave nothing behind.

use libtest_mimic::{Arguments, Failed, Trial};
use luqual_config::own_machines;
use luqual_model::{Accel, FindingKind, Side};
use luqual_vm::{
    Launch, Launcher, Machine, MachineEnd, Mode, Qemu, SUBCOMMAND, VmError, exec_with_parent, probe_accel,
};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Outcome = Result<(), Failed>;

/// How long anything may take here; all of it takes a second.
const LONG: Duration = Duration::from_secs(120);

/// What the test's program is called with to start a machine and wait to be killed.
const PARENT: &str = "__parent";

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match &words[..] {
        [first, parent, program, rest @ ..] if first == SUBCOMMAND => become_qemu(parent, program, rest),
        [first, folder] if first == PARENT => be_parent(Path::new(folder)),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the_accelerator_probe_passes_under_tcg", || block_on(the_accelerator_probe_passes_under_tcg())),
        Trial::test("a_guest_speaks_and_quits", || block_on(a_guest_speaks_and_quits())),
        Trial::test("a_killed_qemu_is_told", || block_on(a_killed_qemu_is_told())),
        Trial::test("an_nmi_reaches_the_guest", || block_on(an_nmi_reaches_the_guest())),
        Trial::test("what_a_guest_does_to_itself_is_told", || block_on(what_a_guest_does_to_itself_is_told())),
        Trial::test("a_kernel_that_is_none_is_told_by_qemu", || block_on(a_kernel_that_is_none_is_told_by_qemu())),
        Trial::test("a_machine_that_is_dropped_is_gone", || block_on(a_machine_that_is_dropped_is_gone())),
        Trial::test("a_machine_outlives_the_thread_that_started_it", a_machine_outlives_the_thread_that_started_it),
        Trial::test("a_killed_parent_leaves_no_qemu", a_killed_parent_leaves_no_qemu),
        Trial::test("a_parent_that_is_gone_starts_nothing", a_parent_that_is_gone_starts_nothing),
    ]
}

async fn the_accelerator_probe_passes_under_tcg() -> Outcome {
    Ok(probe_accel(&launcher(), &Qemu::find(None)?, Accel::Tcg).await?)
}

async fn a_guest_speaks_and_quits() -> Outcome {
    let fixture = Fixture::new("w")?;
    let machine = fixture.start().await?;
    assert!(machine.ssh_port().is_some());
    machine.console().set_hop(1);
    assert_eq!(machine.hmp("info status").await?.trim(), "VM status: paused (prelaunch)");
    machine.resume().await?;
    machine.console().saw("luo: hello", 1).await;

    let findings = machine.console().findings();
    let found: Vec<_> =
        findings.iter().map(|found| (found.kind, found.side, found.line, found.text.as_str())).collect();
    assert_eq!(found, [(FindingKind::Luo, Side::Target, 2, "luo: hello")]);
    let log = fs::read_to_string(fixture.logs().join("console.log"))?;
    assert!(log.contains("] [    0.000002] luo: hello\n"), "{log}");

    // Multiboot put the guest at 1 MiB, where its header is.
    let mut word = [0; 4];
    machine.ram().read(0x10_0000, &mut word)?;
    assert_eq!(u32::from_le_bytes(word), 0x1bad_b002);
    machine.ram().write(0x20_0000, b"host")?;
    let seen = machine.hmp("xp /4cb 0x200000").await?;
    assert!(seen.contains("'h' 'o' 's' 't'"), "{seen}");

    let pid = machine.pid();
    assert!(lives(pid));
    machine.quit().await;
    assert!(!lives(pid));
    let command = fs::read_to_string(fixture.logs().join("command.txt"))?;
    assert!(command.contains("guest.bin"), "{command}");
    let qmp = fs::read_to_string(fixture.logs().join("qmp.jsonl"))?;
    for word in ["\"execute\":\"cont\"", "\"received\":{\"QMP\"", "\"event\":\"RESUME\""] {
        assert!(qmp.contains(word), "{word} is not in {qmp}");
    }
    Ok(())
}

async fn a_killed_qemu_is_told() -> Outcome {
    let fixture = Fixture::new("w")?;
    let machine = fixture.start().await?;
    machine.resume().await?;
    machine.kill();
    let MachineEnd::Qemu(why) = machine.wait_end().await else { return Err("it ended otherwise".into()) };
    assert_eq!(why, "QEMU ended (signal: 9 (SIGKILL))");
    assert!(machine.hmp("info status").await.is_err());
    machine.quit().await;
    Ok(())
}

async fn an_nmi_reaches_the_guest() -> Outcome {
    let fixture = Fixture::new("w")?;
    let machine = fixture.start().await?;
    machine.resume().await?;
    machine.console().saw("luo: hello", 1).await;
    machine.inject_nmi().await?;
    // This guest handles no interrupts: the processor gives up, which resets the machine.
    assert_eq!(machine.wait_end().await, MachineEnd::Reset);
    machine.quit().await;
    Ok(())
}

async fn what_a_guest_does_to_itself_is_told() -> Outcome {
    for (letter, expected) in [("r", MachineEnd::Reset), ("o", MachineEnd::PoweredOff), ("p", MachineEnd::Panicked)] {
        let fixture = Fixture::new(letter)?;
        let machine = fixture.start().await?;
        machine.resume().await?;
        assert_eq!(machine.wait_end().await, expected, "{letter}");
        // What came first stands, whatever ends QEMU then.
        machine.kill();
        assert_eq!(machine.wait_end().await, expected, "{letter}");
        machine.quit().await;
    }
    Ok(())
}

async fn a_kernel_that_is_none_is_told_by_qemu() -> Outcome {
    for content in [None, Some("this is no kernel, however long it may be made")] {
        let mut fixture = Fixture::new("w")?;
        fixture.kernel = fixture.folder.path().join("no-kernel");
        if let Some(content) = content {
            fs::write(&fixture.kernel, content.repeat(1000))?;
        }
        match fixture.start().await {
            Err(VmError::Start(why)) => {
                assert!(why.starts_with("it ended (exit status: 1): ") && why.contains("kernel"), "{why}");
            }
            Err(error) => return Err(format!("{error}, not an error of the start").into()),
            Ok(_) => return Err("it started".into()),
        }
    }
    Ok(())
}

async fn a_machine_that_is_dropped_is_gone() -> Outcome {
    let fixture = Fixture::new("w")?;
    let machine = fixture.start().await?;
    let pid = machine.pid();
    drop(machine);
    gone(pid)
}

/// The parent-death signal is bound to the thread that forked.
fn a_machine_outlives_the_thread_that_started_it() -> Outcome {
    let fixture = Fixture::new("w")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(fixture.start())).join());
    let machine = started.map_err(|_| "the thread panicked")??;
    // To die of a signal takes no time; to see that nothing happens takes some.
    let waited = async { tokio::time::timeout(Duration::from_millis(300), machine.wait_end()).await };
    if let Ok(end) = runtime.block_on(waited) {
        return Err(format!("it ended with its thread: {end:?}").into());
    }
    assert!(lives(machine.pid()));
    runtime.block_on(machine.quit());
    Ok(())
}

fn a_killed_parent_leaves_no_qemu() -> Outcome {
    let folder = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let mut parent = Command::new(program).arg(PARENT).arg(folder.path()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(parent.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let pid = line.trim().parse()?;
    assert!(lives(pid));
    parent.kill()?;
    parent.wait()?;
    gone(pid)
}

fn a_parent_that_is_gone_starts_nothing() -> Outcome {
    // Process 1 is not this test.
    let output = Command::new(std::env::current_exe()?).args([SUBCOMMAND, "1", "echo", "started"]).output()?;
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has ended"), "{output:?}");
    Ok(())
}

/// Where one machine has its files.
struct Fixture {
    folder: tempfile::TempDir,
    kernel: PathBuf,
    letter: &'static str,
}

impl Fixture {
    fn new(letter: &'static str) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("luqual-vm").tempdir()?;
        prepare(folder.path())?;
        Ok(Self { folder, kernel: guest(), letter })
    }

    fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    async fn start(&self) -> Result<Machine, VmError> {
        start(self.folder.path(), &self.kernel, self.letter).await
    }
}

fn launcher() -> Launcher {
    Launcher { program: std::env::current_exe().unwrap_or_default() }
}

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/guest.bin")
}

fn prepare(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("logs"))?;
    fs::write(folder.join("initrd"), "nothing")
}

async fn start(folder: &Path, kernel: &Path, letter: &str) -> Result<Machine, VmError> {
    let launch = Launch {
        profile: &own_machines()[0],
        mode: Mode::plain(Accel::Tcg),
        kernel,
        initrd: &folder.join("initrd"),
        command_line: letter,
        folder,
        logs: &folder.join("logs"),
        open: false,
        gdb: false,
    };
    Machine::start(&launcher(), &Qemu::find(None)?, &launch, Instant::now()).await
}

/// Whether that process is there and is no zombie.
fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X'])))
}

/// A signal that was sent takes a moment to do its work, and nobody here is told when.
fn gone(pid: i32) -> Outcome {
    let until = Instant::now() + LONG;
    while lives(pid) {
        if Instant::now() > until {
            return Err(format!("process {pid} still lives").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn block_on(test: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(LONG, test).await? })
}

fn become_qemu(parent: &OsString, program: &OsString, arguments: &[OsString]) -> ExitCode {
    let parent = parent.to_str().and_then(|parent| parent.parse().ok()).unwrap_or_default();
    eprintln!("{}", exec_with_parent(parent, program.clone(), arguments.to_vec()));
    ExitCode::FAILURE
}

fn be_parent(folder: &Path) -> ExitCode {
    let run = block_on(async {
        prepare(folder)?;
        let machine = start(folder, &guest(), "w").await?;
        machine.resume().await?;
        println!("{}", machine.pid());
        std::future::pending::<Outcome>().await
    });
    eprintln!("{run:?}");
    ExitCode::FAILURE
}
