//! The source: the device is put to work, and left as it is to the update.

use super::attach::{attach, refused, start_load};
use super::device::{
    CANARY, CANARY_TOKEN, DEVICE_TOKEN, DMA_TOKEN, DeviceUnderTest, GROUP_TOKEN, MANIFEST_TOKEN, SPACE_TOKEN,
    device_under_test, dma_memfd,
};
use super::plan::{HeldDevice, Memory};
use super::snapshot::{STATE, digest_of, facts, page_name, quiet_pages, state};
use crate::drivers::{self, BUSY_PAGE, Check, Driver, KNOWN_PAGE, Load, Rig, TransferCounts};
use crate::mapping::PAGE;
use crate::memfd;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use crate::workloads::manifest;
use luqual_protocol::{KnownPage, Reaches, digest};
use rustix::fd::AsFd;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Puts the device to work, preserves what can be preserved, and notes what the target compares.
pub(super) fn preserve(context: &mut Context) -> Result<(), StepError> {
    let DeviceUnderTest { driver, is_busy, function } = device_under_test(context)?;
    let plan = *context.plan();
    let session = context.session("control")?;
    // The kernel pins preserved memory, so its physical addresses stay the same from here on.
    context.make_and_preserve(&session, &CANARY, CANARY_TOKEN)?;
    let memory = memfd::with_large_folios(|| context.make_memfd(&dma_memfd(driver))).map_err(StepError::Missing)??;
    context.preserve_fd(&session, memory.as_fd(), DMA_TOKEN, "dma")?;

    function.bind("vfio-pci").map_err(StepError::Missing)?;
    let rig = attach(driver, &function, plan, &memory).map_err(|error| error.of(driver))?;
    let checks = (driver.exercise)(&rig, context.seed()).map_err(|refusal| refused(refusal, driver))?;
    if let Some(Check { what, expected, observed }) = checks.into_iter().find(|it| it.expected != it.observed) {
        return Err(does_not_work(driver, what, format!("expected {expected}, observed {observed}")));
    }
    if plan.preserves {
        let space = session.preserve(rig.device.space.fd(), SPACE_TOKEN);
        let group = rig.device.space.group().map(|group| session.preserve(group, GROUP_TOKEN));
        if let Err(errno) = session.preserve(rig.device.as_fd(), DEVICE_TOKEN) {
            // A device that a kernel refuses to preserve goes on to work.
            context.hold_device(HeldDevice { driver, rig });
            let about = format!("the descriptor of {}", driver.device);
            return Err(StepError::refused("ioctl LIVEUPDATE_SESSION_PRESERVE_FD", about)(errno));
        }
        context.check_success("D4 address space preserve", space);
        if let Some(group) = group {
            context.check_success("D4 group preserve", group);
        }
    }

    let mut manifest = facts(&function).map_err(StepError::Agent)?;
    let bar = rig.device.bar(driver.registers).map_err(|refusal| refused(refusal, driver))?;
    let load = driver.load.as_ref().filter(|_| is_busy);
    if let Some(Load::Frames { listen, .. }) = load {
        listen(&rig).map_err(|refusal| refused(refusal, driver))?;
    }
    if let Some(Load::Transfers { run, .. }) = load {
        let bar = rig.device.bar(driver.registers).map_err(|refusal| refused(refusal, driver))?;
        TransferCounts::clear(&rig.dma.memory);
        start_load(*run, bar, &rig.dma, &memory)?;
        if !drivers::until(|| TransferCounts::read(&rig.dma.memory).1 > 0) {
            return Err(does_not_work(driver, "at work", "no end".to_owned()));
        }
    }
    let known = drivers::written_page(context.seed());
    rig.dma.memory.fill(KNOWN_PAGE * PAGE, &known);
    let config = function.config().map_err(StepError::Agent)?;
    manifest.insert(STATE.to_owned(), state(driver, &config, &bar));
    for page in quiet_pages(driver, is_busy) {
        manifest.insert(page_name(page), digest_of(&rig.dma.memory, page));
    }
    if plan.keeps_bus_master {
        keep_bus_master(&rig, driver)?;
        std::fs::write(PRINTK_DELAY, LATE_MS).map_err(StepError::agent(PRINTK_DELAY))?;
    }
    manifest::preserve(context, &session, MANIFEST_TOKEN, &manifest)?;
    if plan.memory == Memory::Preserved {
        let at = |page: usize| rig.dma.iova(page * PAGE);
        let quiet = quiet_pages(driver, is_busy).map(at).collect();
        let busy = matches!(load, Some(Load::Transfers { .. })).then(|| at(BUSY_PAGE));
        let known = KnownPage { at: at(KNOWN_PAGE), digest: digest(&known) };
        context.report_reaches(Reaches { quiet, busy, known });
    }
    context.hold("dma", memory);
    if !plan.lets_go {
        context.hold_device(HeldDevice { driver, rig });
    }
    Ok(())
}

/// The end of a step in which a device did not work before the update.
fn does_not_work(driver: &Driver, what: &str, how: String) -> StepError {
    StepError::Declined { call: format!("{} {what}", driver.device), how, about: "the source".to_owned() }
}

/// The milliseconds that a processor waits before each message of the kernel (kernel/printk/printk.c, printk_delay()).
/// Between turning bus mastering off and stopping the other processors, the kernel says "Starting new kernel"
/// (kernel/kexec_core.c, kernel_kexec()): the others then have that long to turn it on again, on a busy host too.
const PRINTK_DELAY: &str = "/proc/sys/kernel/printk_delay";
const LATE_MS: &str = "200";

/// Turns bus mastering on again and again from every processor: one of them runs until the very end of the kexec.
fn keep_bus_master(rig: &Rig, driver: &Driver) -> Result<(), StepError> {
    for cpu in 0..sched_getaffinity(None).map_or(1, |cpus| cpus.count() as usize) {
        let command = rig.device.command_register().map_err(|refusal| refused(refusal, driver))?;
        std::thread::spawn(move || {
            let mut only = CpuSet::new();
            only.set(cpu);
            let _ = sched_setaffinity(None, &only);
            command.keep_bus_master();
        });
    }
    Ok(())
}
