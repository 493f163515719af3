//! The host as a witness of the log of a kernel that is about to be left. Between the last request and the jump, LUO
//! freezes and serialises, and nobody asks the kernel any more; with `quiet` the console has none of it. The host
//! reads the log buffer and the taint flags in the RAM file until the memory is no longer that kernel's.

mod page_tables;
mod ring;
mod vmcoreinfo;

use super::poll::{PERIOD, Poller};
use super::ticks::micros;
use luqual_model::bounds::{LATE_LINES, VMCOREINFO};
use luqual_protocol::KernelLog;
use luqual_vm::Ram;
use page_tables::{Mapped, PageTables};
use ring::{Ring, Slot};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use vmcoreinfo::Vmcoreinfo;

/// Reads a kernel's log until it is dropped.
pub struct LogReader(Looks);

/// How the log is read.
enum Looks {
    /// By a polling thread.
    Thread { heard: Arc<Mutex<Heard>>, poller: Poller },
    /// Not at all: a fake machine has no log.
    #[cfg_attr(not(any(test, feature = "fake")), expect(dead_code, reason = "only a fake machine makes it"))]
    Told(Result<LateLog, String>),
}

/// What a kernel said after it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateLog {
    /// The lines that the kernel itself wrote.
    pub lines: Vec<String>,
    /// The taint flags that were seen.
    pub taint: u64,
}

/// What was read so far.
#[derive(Default)]
struct Heard {
    /// The id of the record that is read next.
    next: u64,
    lines: Vec<String>,
    left_out: usize,
    /// A record that may still be continued.
    open: Option<String>,
    /// The values of the taint flags, and when each was first seen, in microseconds since the start.
    taints: Vec<(u64, u64)>,
    /// When the memory was last the kernel's, in microseconds since the start.
    last_us: u64,
    /// How often in a row the place of a record has had something else.
    others: u32,
}

/// What the memory of the log is at a look.
enum Memory {
    /// The kernel's.
    Its,
    /// That of a kernel which is about to write a record, or no longer the kernel's.
    Unsure,
    /// No longer the kernel's.
    Others,
}

/// The memory of a log that is read.
struct Source {
    ram: Ram,
    ring: Ring,
    taint: Option<Mapped>,
}

/// A kernel whose log is to be read, and what the guest told of it.
#[derive(Clone, Copy)]
pub struct KernelOfLog<'a> {
    /// Its release.
    pub release: &'a str,
    /// Its System.map, if there is one.
    pub symbols: Option<&'a Path>,
    /// The log that the guest told.
    pub told: &'a KernelLog,
}

impl LogReader {
    /// Reads what comes after the last line that the kernel told; times are relative to `started`. An error says why
    /// the host cannot hear: then nobody may say that the kernel was silent.
    pub(crate) fn start(ram: &Ram, kernel: KernelOfLog<'_>, started: Instant) -> Result<Self, String> {
        let (source, next) = Source::find(ram, kernel)?;
        let heard = Arc::new(Mutex::new(Heard { next, ..Heard::default() }));
        let started = started.into_std();
        let poller = Poller::start(PERIOD, {
            let heard = heard.clone();
            move || lock(&heard).look(&source, micros(started.elapsed()))
        });
        Ok(Self(Looks::Thread { heard, poller }))
    }

    /// One that says this.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn told(log: Result<LateLog, String>) -> Self {
        Self(Looks::Told(log))
    }

    /// Ends the reading. `last_tick_us` is when the last tick of the kernel was seen: until then its memory was its
    /// own. An error says that the host did not hear it to its end.
    pub(crate) fn end(self, last_tick_us: u64) -> Result<LateLog, String> {
        match self.0 {
            Looks::Thread { heard, poller } => {
                poller.end();
                let slack = micros(PERIOD + poller.late());
                lock(&heard).end(last_tick_us, slack)
            }
            Looks::Told(log) => log,
        }
    }
}

impl Source {
    /// Finds the log, and the record after the last line that the kernel told.
    fn find(ram: &Ram, kernel: KernelOfLog<'_>) -> Result<(Self, u64), String> {
        let told = kernel.told;
        let place = told.vmcoreinfo.ok_or("the guest has no /sys/kernel/vmcoreinfo (CONFIG_CRASH_DUMP)")?;
        let mut note = vec![0; usize::try_from(place.length).map_or(VMCOREINFO, |length| length.min(VMCOREINFO))];
        ram.read(place.address, &mut note).map_err(|error| error.to_string())?;
        let of_note = |why: String| format!("the note at {:#x}: {why}", place.address);
        let info = Vmcoreinfo::parse(&note).map_err(of_note)?;
        if info.release() != kernel.release {
            return Err(of_note(format!("it is of {}, not of {}", info.release(), kernel.release)));
        }
        let tables = PageTables::of(ram, &info).map_err(of_note)?;
        let ring = Ring::find(&tables, &info).map_err(of_note)?;
        let taint = kernel.symbols.map(|path| taint_flags(&tables, &info, path, told.taint)).transpose()?;
        let source = Self { ram: ram.clone(), ring, taint };
        let last = told.lines.last().ok_or("the log that the guest told is empty")?;
        let next = source.after(last)?.ok_or_else(|| format!("it has no record `{last}`, which the guest told"))?;
        Ok((source, next))
    }

    /// The id of the record after the newest one with that text.
    fn after(&self, told: &str) -> Result<Option<u64>, String> {
        let head = self.ring.head(&self.ram)?;
        for back in 0..self.ring.count().min(SEARCHED) {
            let id = ring::moved(head, back.wrapping_neg());
            if let Slot::Complete(record) = self.ring.slot(id, &self.ram)?
                && record.text == told
            {
                return Ok(Some(ring::moved(id, 1)));
            }
        }
        Ok(None)
    }
}

/// The memory of `tainted_mask` (kernel/panic.c). It has to have the flags that the guest told.
fn taint_flags(tables: &PageTables<'_>, info: &Vmcoreinfo, path: &Path, told: u64) -> Result<Mapped, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let symbols = luqual_files::read_text(path, luqual_model::bounds::SYMBOLS).map_err(|it| wrong(it.to_string()))?;
    let address = symbols.lines().find_map(|line| {
        let (address, rest) = line.split_once(' ')?;
        rest.ends_with(" tainted_mask").then(|| u64::from_str_radix(address, 16).ok())?
    });
    let address = address.ok_or_else(|| wrong("it has no tainted_mask".to_owned()))?;
    let mapped = tables.map(address.wrapping_add(info.kernel_offset()?), 8).map_err(wrong)?;
    let seen = mapped.word(tables.ram, 0)?;
    if seen & told != told || seen & !TAINTS != 0 {
        return Err(wrong(format!("tainted_mask is {seen:#x} where it says, the guest told {told:#x}")));
    }
    Ok(mapped)
}

impl Heard {
    /// Reads what is new. Breaks when the memory is no longer the kernel's.
    fn look(&mut self, source: &Source, now_us: u64) -> ControlFlow<()> {
        match self.read(source, now_us) {
            Ok(Memory::Its) => {
                (self.last_us, self.others) = (now_us, 0);
                ControlFlow::Continue(())
            }
            Ok(Memory::Unsure) if self.others < UNSURE => {
                self.others += 1;
                ControlFlow::Continue(())
            }
            Ok(Memory::Unsure | Memory::Others) | Err(_) => ControlFlow::Break(()),
        }
    }

    fn read(&mut self, source: &Source, now_us: u64) -> Result<Memory, String> {
        let Source { ram, ring, taint } = source;
        let Some(new) = ring.from(self.next, ram)? else { return Ok(Memory::Others) };
        for _ in 0..new {
            match ring.slot(self.next, ram)? {
                // The head moves before the descriptor has the new id (desc_reserve()).
                Slot::Other => return Ok(Memory::Unsure),
                Slot::Reserved => break,
                Slot::Open(record) => {
                    self.open = record.is_of_kernel.then_some(record.text);
                    break;
                }
                Slot::Complete(record) => {
                    self.open = None;
                    self.next = ring::moved(self.next, 1);
                    if record.is_of_kernel && self.lines.len() < LATE_LINES {
                        self.lines.push(record.text);
                    } else if record.is_of_kernel {
                        self.left_out += 1;
                    }
                }
            }
        }
        if let Some(taint) = taint {
            let now = taint.word(ram, 0)?;
            if self.taints.last().is_none_or(|(last, _)| *last != now) && self.taints.len() < MOST_TAINTS {
                self.taints.push((now, now_us));
            }
        }
        Ok(Memory::Its)
    }

    fn end(&mut self, last_tick_us: u64, slack_us: u64) -> Result<LateLog, String> {
        if self.last_us + slack_us < last_tick_us {
            let ms = (last_tick_us - self.last_us) / 1000;
            return Err(format!("its log buffer could not be read any more {ms} ms before its last tick"));
        }
        let mut lines = std::mem::take(&mut self.lines);
        lines.extend(self.open.take());
        if self.left_out > 0 {
            lines.push(format!("… {} lines left out here …", self.left_out));
        }
        // Flags are only ever added. Afterwards the memory can have any content.
        let is_its_own = |(value, at_us): &&(u64, u64)| value & !TAINTS == 0 && *at_us <= last_tick_us + LEFT_US;
        let taint = self.taints.iter().take_while(is_its_own).fold(0, |all, (value, _)| all | value);
        Ok(LateLog { lines, taint })
    }
}

/// A poisoned lock means that the poller panicked; what it read before is still valid.
fn lock(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many looks in a row, of a millisecond or more each, the place of a record may have something else while it is
/// reserved. A kernel that boots in the same memory takes longer to write as many records.
const UNSURE: u32 = 200;

/// How many records are searched for the last line that a kernel told.
const SEARCHED: u64 = 4096;

/// The flags that there are (include/linux/panic.h, TAINT_FLAGS_COUNT), with room for some more.
const TAINTS: u64 = (1 << 24) - 1;

/// How many values of the taint flags are kept.
const MOST_TAINTS: usize = 64;

/// How long after its last tick the memory of a kernel is still its own.
const LEFT_US: u64 = Duration::from_millis(100).as_micros() as u64;

#[cfg(test)]
mod tests;
