//! The target: whether the device is as the source left it, whether it was quiet, and whether it works again.

use super::attach::{AttachError, attach, call_and_errno, refused};
use super::device::{
    CANARY, CANARY_TOKEN, DEVICE_TOKEN, DMA_TOKEN, DeviceUnderTest, MANIFEST_TOKEN, device_under_test,
};
use super::plan::{HeldDevice, Memory};
use super::snapshot::{FACTS, STATE, arrival, changed_pages, digest_of, facts, page_name, quiet_pages, state};
use crate::drivers::{self, Check, Load};
use crate::errno::{success_or_errno, value_or_errno};
use crate::mapping::{Mapping, PAGE};
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use crate::workloads::manifest;
use luqual_protocol::{Written, digest};
use std::time::{Duration, Instant};

/// Compares the device with what the source noted, before anything else touches it, and opens it again.
pub(super) fn compare_and_open(context: &mut Context) -> Result<(), StepError> {
    let DeviceUnderTest { driver, is_busy, function } = device_under_test(context)?;
    let plan = *context.plan();
    let session = context.session("control")?;
    let canary = context.retrieve_file(&session, CANARY_TOKEN, "canary");
    let memory = context.retrieve_file(&session, DMA_TOKEN, "dma");
    let manifest = manifest::retrieve(context, &session, MANIFEST_TOKEN)?;
    let (Some(canary), Some(memory), Some(manifest)) = (canary, memory, manifest) else { return Ok(()) };

    let presence = |there| if there { "there" } else { "gone" };
    context.check("D0 presence", presence(!plan.lets_go), presence(function.exists()));
    if !function.exists() {
        return Ok(());
    }
    let now = facts(&function).map_err(StepError::Agent)?;
    for name in FACTS {
        context.check(format!("D0 {name}"), manifest.get(name).cloned().unwrap_or_default(), now[name].clone());
    }
    let mapping = Mapping::of_file(&memory, driver.pages * PAGE).map_err(StepError::agent("mmap"))?;
    let changed: Vec<usize> = quiet_pages(driver, is_busy)
        .filter(|page| manifest.get(&page_name(*page)).is_some_and(|known| *known != digest_of(&mapping, *page)))
        .collect();
    if driver.has_dma && plan.memory == Memory::Preserved {
        context.check("D2 preserved pages", "unchanged", changed_pages(&changed));
    }
    let differs = CANARY.difference(&canary, context.seed());
    let differs = differs.map(|place| place.map_or_else(|| "unchanged".to_owned(), |place| place.to_string()));
    context.check("D2 canaries", "unchanged", value_or_errno(differs));
    if let Some(Load::Frames { received, .. }) = driver.load.as_ref().filter(|_| is_busy) {
        context.report_frames(frames_so_far(&mapping, *received));
    } else if is_busy {
        let arrived = arrival(&mapping);
        if plan.keeps_bus_master {
            context.check("control DMA under way", "arrived", arrived);
        } else if plan.preserves {
            context.check("D5 DMA under way", "arrived", arrived);
        }
    }
    let left = manifest.get(STATE).cloned().unwrap_or_default();
    let config = function.config().map_err(StepError::Agent)?;
    let found = function.bar(driver.registers as usize).map_or_else(|error| error, |bar| state(driver, &config, &bar));
    if plan.preserves {
        context.check("D3 registers before the open", &left, found);
    }

    if !plan.claims {
        return Ok(());
    }
    context.check("D1 bind", "vfio-pci", function.bind("vfio-pci").map_or_else(|why| why, |()| "vfio-pci".to_owned()));
    if plan.preserves {
        let again = session.retrieve(DEVICE_TOKEN);
        context.check("D4 descriptor retrieve", "a descriptor", success_or_errno(&again, "a descriptor"));
        let second = session.retrieve(DEVICE_TOKEN);
        context.check("D4 second retrieve", "a descriptor", success_or_errno(&second, "a descriptor"));
    }
    let rig = match attach(driver, &function, plan, &memory) {
        Ok(rig) => rig,
        Err(AttachError::Kernel(refusal)) => {
            context.check("D1 open", "opened", call_and_errno(&refusal));
            return Ok(());
        }
        Err(error) => return Err(error.of(driver)),
    };
    context.check("D1 open", "opened", "opened");
    let bar = rig.device.bar(driver.registers).map_err(|refusal| refused(refusal, driver))?;
    if plan.preserves {
        context.check("D3 registers after the open", left, state(driver, &config, &bar));
    }
    if !rig.vectors.is_empty() {
        context.check("D2 stray interrupts", 0, rig.vectors.iter().map(|vector| vector.taken()).sum::<u64>());
    }
    context.hold_device(HeldDevice { driver, rig });
    Ok(())
}

/// Puts the device to work again.
pub(super) fn exercise(context: &mut Context) -> Result<(), StepError> {
    let Some(HeldDevice { driver, rig }) = context.take_device() else { return Ok(()) };
    let is_busy = device_under_test(context)?.is_busy;
    let round = context.seed().wrapping_add(1);
    if let Some(offset) = driver.page_in_file {
        context.report_written(Written { offset, digest: digest(&drivers::written_page(round)) });
    }
    match (driver.exercise)(&rig, round) {
        Ok(checks) => {
            for Check { what, expected, observed } in checks {
                context.check(format!("D1 {what}"), expected, observed);
            }
        }
        Err(refusal) => context.check("D1 work", "no error", call_and_errno(&refusal)),
    }
    if let Some(Load::Frames { listen, received }) = driver.load.as_ref().filter(|_| is_busy) {
        match listen(&rig) {
            Ok(()) => context.report_frames(wait_for_frames(&rig.dma.memory, *received)),
            Err(refusal) => context.check("D1 receive", "no error", call_and_errno(&refusal)),
        }
    }
    context.hold_device(HeldDevice { driver, rig });
    Ok(())
}

/// The numbers of the frames that have arrived. While buffers are read, a frame can arrive in one that was read already,
/// and the next frame in one that was not: only what is not newer than the newest of a first look is complete.
fn frames_so_far(memory: &Mapping, received: fn(&Mapping) -> Vec<u32>) -> Vec<u32> {
    let newest = received(memory).into_iter().max();
    received(memory).into_iter().filter(|number| Some(*number) <= newest).collect()
}

/// Waits until some frames were received; the host sends one every few milliseconds. Returns their numbers.
fn wait_for_frames(memory: &Mapping, received: fn(&Mapping) -> Vec<u32>) -> Vec<u32> {
    const ENOUGH: usize = 20;
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let numbers = frames_so_far(memory, received);
        if numbers.len() >= ENOUGH || Instant::now() > until {
            return numbers;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Closes the device at the end, so that it can be unplugged.
pub(super) fn close(context: &mut Context) -> Result<(), StepError> {
    drop(context.take_device());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A card whose frames 2 and 3 arrive while its buffers are read for the first time, and 5 while they are again.
    fn while_it_receives(_: &Mapping) -> Vec<u32> {
        static AGAIN: AtomicBool = AtomicBool::new(false);
        if AGAIN.swap(true, Ordering::Relaxed) { vec![0, 1, 2, 3, 5] } else { vec![0, 1, 3] }
    }

    #[test]
    fn a_frame_that_arrives_while_buffers_are_read_is_not_missing() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE as u64).unwrap();
        let mapping = Mapping::of_file(&file, PAGE).unwrap();
        assert_eq!(frames_so_far(&mapping, while_it_receives), [0, 1, 2, 3]);
    }
}
