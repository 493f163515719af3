//! The target: whether each machine works on, and whether all of it is as it was.

use super::boot::attach;
use super::spec::{MANIFEST_TOKEN, PATIENCE, System, VmSpec};
use super::vm::{COUNTED, COUNTER, HOLDS, MOVES, ROUNDS, Vm};
use crate::nested_init;
use crate::tsc;
use crate::wait::until;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use crate::workloads::manifest;
use luqual_program::{Word, Wrong, chain};
use luqual_protocol::{VmReport, clock_tolerance_ms};
use std::time::Duration;

type Done = Result<(), StepError>;

/// Releases the machines, waits until each has worked on, and checks its account.
pub(super) fn verify(context: &mut Context) -> Done {
    let session = context.session("control")?;
    let Some(notes) = manifest::retrieve(context, &session, MANIFEST_TOKEN)? else { return Ok(()) };
    let all = std::mem::take(&mut context.vms);
    let note = |name: &str| notes.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // All machines are released at once, so that none waits for its turn.
    let away: Vec<u64> = all
        .iter()
        .map(|vm| {
            // A program runs from its release on; a Linux runs already.
            let end = if vm.holds() { tsc::read() } else { vm.running_since };
            let away = end.saturating_sub(note(&vm.note(COUNTER, 0)));
            (0..vm.cpus).for_each(|cpu| vm.set(cpu, Word::Release, 1));
            away
        })
        .collect();
    for (vm, away) in all.into_iter().zip(away) {
        if context.vm_spec().has_device {
            verify_device(context, &vm, note(&vm.note(MOVES, 0)))?;
        }
        verify_processors(context, &vm, away, note);
        context.vms.push(vm);
    }
    Ok(())
}

/// The moments of the update that a machine's first processor noted, by its own clock.
fn moments(spec: VmSpec, vm: &Vm) -> Vec<(String, u64)> {
    let words = [
        (VmReport::BEFORE, Word::ClockBefore),
        (VmReport::AFTER, Word::ClockAfter),
        ("last of its device before the update", Word::DeviceBefore),
        ("first of its device after it", Word::DeviceAfter),
    ];
    let words = words.into_iter().take(if spec.has_device { 4 } else { 2 });
    let mut moments: Vec<(String, u64)> =
        words.map(|(what, word)| (what.to_owned(), vm.word(0, word) / 1000)).filter(|(_, us)| *us > 0).collect();
    moments.sort_by_key(|(_, us)| *us);
    moments
}

/// Gives the machine its device again, and checks that it uses it.
fn verify_device(context: &mut Context, vm: &Vm, done: u64) -> Done {
    let Some(control_plane) = context.control_plane.take() else { return Ok(()) };
    let attached = attach(context, &control_plane, vm);
    context.control_plane = Some(control_plane);
    attached?;
    let uses = vm.uses_device(done);
    let (begun, came) = (vm.word(0, Word::DeviceBegun), vm.word(0, Word::DeviceCame));
    let observed = if uses { "works on" } else { "does not" };
    context.check(format!("{} device", vm.name), WORKS, observed);
    // One interrupt may be pending.
    let expected = format!("{begun} came, or one less");
    let held = begun - came.min(begun) <= 1 && came <= begun;
    context.check_condition(&format!("{} device interrupts", vm.name), &expected, format!("{came} came"), held);
    if uses {
        let without = vm.word(0, Word::DeviceAfter).saturating_sub(vm.word(0, Word::DeviceBefore));
        context.measure(
            "virtual machine without its device, by its own clock",
            (1, "machines"),
            Duration::from_nanos(without),
        );
    }
    Ok(())
}

fn verify_processors(context: &mut Context, vm: &Vm, away: u64, note: impl Fn(&str) -> u64) {
    for cpu in 0..vm.cpus {
        let name = |what: &str| match vm.cpus {
            1 => format!("{} {what}", vm.name),
            _ => format!("{} cpu {cpu} {what}", vm.name),
        };
        let rounds = note(&vm.note(ROUNDS, cpu));
        let holds = note(&vm.note(HOLDS, cpu));
        let went_on = until(PATIENCE, || match vm.system {
            System::Program => vm.word(cpu, Word::Holds) > holds,
            // The last line of its log was written before the pause and read after it.
            System::Linux => vm.word(cpu, Word::Round) > rounds + 2 * nested_init::ROUNDS,
        });
        // Read now: the account of a Linux describes this update only for some looks at the clock.
        let moments = moments(context.vm_spec(), vm);
        if went_on {
            clocks(context, vm, cpu, away, &name);
        }
        // Long enough for every page to be read again, and for a Linux to drop this update from its account.
        let more = if vm.holds() { 64 } else { nested_init::ROUNDS * nested_init::LOOKS as u64 };
        let last = rounds + vm.word(cpu, Word::Pages) + more;
        let is_round = went_on && until(PATIENCE, || vm.word(cpu, Word::Round) >= last);
        let held = is_round && vm.freeze(cpu);
        let observed = match (went_on, is_round, held) {
            (true, true, true) => WORKS.to_owned(),
            (true, true, false) => "waits for ever for a timer".to_owned(),
            (true, false, _) => format!("stopped in round {}", vm.word(cpu, Word::Round)),
            _ => "did not go on".to_owned(),
        };
        context.check(name("work"), WORKS, observed);
        account(context, vm, cpu, held, &name);
        if cpu == 0 {
            let counts = COUNTED
                .into_iter()
                .map(|(what, word)| (what.to_owned(), note(&vm.note(what, cpu)), vm.word(cpu, word)));
            let counts = counts.filter(|(_, before, after)| *before > 0 || *after > 0).collect();
            let apart_us = vm.word(cpu, Word::LookApart) / 1000;
            context.report_vm(VmReport { machine: vm.name.clone(), moments, counts, apart_us });
        }
        vm.thaw(cpu);
    }
}

const WORKS: &str = "works on";

/// Checks the errors that the program in the machine found, and the numbers that can be computed from outside.
fn account(context: &mut Context, vm: &Vm, cpu: u64, held: bool, name: &dyn Fn(&str) -> String) {
    let word = |word| vm.word(cpu, word);
    // A process in Linux checks only its memory.
    let has_device = context.vm_spec().has_device;
    let looks_at = |kind: &(usize, Wrong)| match kind.1 {
        Wrong::Page => true,
        Wrong::Device => has_device,
        _ => vm.holds(),
    };
    for (place, kind) in Wrong::ALL.into_iter().enumerate().filter(looks_at) {
        let count = vm.word_at(cpu, Word::Wrong as usize + place);
        let is_first = word(Word::FirstWrong) == place as u64 + 1;
        let first = is_first.then(|| {
            let (which, expected, observed) =
                (word(Word::FirstWhich), word(Word::FirstExpected), word(Word::FirstObserved));
            format!("; the first {which:#x}: {observed:#x} for {expected:#x}")
        });
        context.check(name(kind.name()), "0 wrong", format!("{count} wrong{}", first.unwrap_or_default()));
    }
    if held {
        let (seed, pages, rounds) = (word(Word::Seed), word(Word::Pages), word(Word::Round));
        let reckoned = format!("{:#018x} after {rounds} rounds", chain(seed, pages, rounds));
        context.check(name("memory chain"), reckoned, format!("{:#018x} after {rounds} rounds", word(Word::Chain)));
    }
    // During a hold one timer and one interrupt are pending.
    let under_way = u64::from(held && vm.holds());
    let each =
        [("timers", Word::TimersBegun, Word::TimersCome), ("interrupts to itself", Word::IpisSent, Word::IpisCome)];
    for (what, begun, come) in each.into_iter().take(if vm.holds() { 2 } else { 1 }) {
        let (begun, come) = (word(begun) - under_way, word(come));
        context.check(name(what), format!("{begun} came"), format!("{come} came"));
    }
    for (what, back) in [("clock went back", Word::ClockBack), ("TSC went back", Word::TscBack)] {
        context.check(name(what), "0 times", format!("{} times", word(back)));
    }
}

/// Checks that both clocks of the machine moved by the time for which it did not run, which the host processor's counter tells.
fn clocks(context: &mut Context, vm: &Vm, cpu: u64, away: u64, name: &dyn Fn(&str) -> String) {
    let word = |word| vm.word(cpu, word);
    let ms = |ticks: u64| {
        let shift = word(Word::TscShift) as i64;
        let ticks = if shift < 0 { u128::from(ticks) >> -shift } else { u128::from(ticks) << shift };
        ((ticks * u128::from(word(Word::TscFactor))) >> 32) as u64 / 1_000_000
    };
    let true_ms = ms(away);
    let tolerance_ms = clock_tolerance_ms(true_ms, word(Word::LookApart) / 1_000_000);
    let before = [Word::ClockBefore, Word::TscBefore].map(word);
    let after = [Word::ClockAfter, Word::TscAfter].map(word);
    let clock_us = after[0].wrapping_sub(before[0]) / 1000;
    let clock_ms = clock_us / 1000;
    let tsc_ms = ms(after[1].wrapping_sub(before[1]));
    for (what, moved_ms) in [("clock over the update", clock_ms), ("TSC over the update", tsc_ms)] {
        let expected = format!("{true_ms} ms on, or {tolerance_ms} ms from it at most");
        context.check_condition(
            &name(what),
            &expected,
            format!("{moved_ms} ms on"),
            moved_ms.abs_diff(true_ms) <= tolerance_ms,
        );
    }
    if (vm.number, cpu) == (0, 0) {
        context.measure("update by the machine's own clock", (1, "machines"), Duration::from_micros(clock_us));
    }
}
