//! `scale.*`: many sessions and files, and much memory. Each case has a boot of its own, since it uses limits of the whole kernel.

mod curve;
mod numbered;

use crate::errno::errno_name;
use crate::memfd::Memfd;
use crate::workloads::case::{Case, PreservedMemfd};
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
use numbered::{numbered, raise_limit, tag, whole};
use rustix::fd::AsFd;

const BYTES: PreservedMemfd = PreservedMemfd { session: "control", token: 1, memfd: Memfd::new("528m", 528 << 20) };
const MANY_BYTES: PreservedMemfd = PreservedMemfd { memfd: Memfd::new("6g", 6 << 30), ..BYTES };

pub(super) const CASES: &[Case] = &[
    Case { kept: &[BYTES], ..Case::new("scale.bytes-528m") },
    Case { kept: &[MANY_BYTES], ..Case::new("scale.bytes-6g") },
    Case { source: curve::bytes, target: curve::bytes_back, ..Case::new("scale.curve-bytes") },
    Case { source: curve::files, target: curve::files_back, ..Case::new("scale.curve-files") },
    Case { source: curve::sessions, target: curve::sessions_back, ..Case::new("scale.curve-sessions") },
    Case {
        source: |context| files(context, &FULL),
        target: |context| files_back(context, &FULL),
        ..Case::new("scale.files-126")
    },
    Case {
        source: |context| files(context, &ONE_MORE),
        target: |context| files_back(context, &ONE_MORE),
        ..Case::new("scale.files-127")
    },
    Case {
        source: |context| files(context, &MANY),
        target: |context| files_back(context, &MANY),
        ..Case::new("scale.files-1000")
    },
    Case {
        source: |context| sessions(context, 51),
        target: |context| sessions_back(context, 51),
        ..Case::new("scale.sessions-51")
    },
    Case {
        source: duplicate,
        target: |context| sessions_back(context, 51),
        ..Case::new("scale.sessions-51-duplicate")
    },
    Case {
        source: |context| sessions(context, 52),
        target: |context| sessions_back(context, 52),
        ..Case::new("scale.sessions-52")
    },
    Case {
        source: |context| sessions(context, 800),
        target: |context| sessions_back(context, 800),
        ..Case::new("scale.sessions-800")
    },
    Case { source: come_and_go, ..Case::new("scale.sessions-closed") },
    Case { source: shrunk, target: |context| sessions_back(context, 51), ..Case::new("scale.sessions-shrunk") },
];

type Done = Result<(), StepError>;

/// The number of memfds in each session.
const FULL: [u64; 2] = [126, 63];
const ONE_MORE: [u64; 9] = [127, 64, 64, 64, 64, 64, 64, 64, 64];
const MANY: [u64; 1] = [1000];

/// Creates a session for each count, with as many memfds, each with its number in it.
fn files(context: &mut Context, counts: &[u64]) -> Done {
    raise_limit()?;
    for (place, count) in counts.iter().enumerate() {
        let session = context.create(&place.to_string())?;
        for number in 0..*count {
            let memfd = numbered(tag(context, place, number))?;
            context.preserve_fd(&session, memfd.as_fd(), number, &format!("{number} of {count}"))?;
        }
        let (pipe, _) = rustix::pipe::pipe().map_err(StepError::agent("pipe"))?;
        context.check_refused(&format!("a pipe besides the {count}"), "ENOENT", session.preserve(pipe.as_fd(), *count));
    }
    Ok(())
}

fn files_back(context: &mut Context, counts: &[u64]) -> Done {
    raise_limit()?;
    for (place, count) in counts.iter().enumerate() {
        let Some(session) = context.retrieve_session(&place.to_string())? else { continue };
        let back = (0..*count).map(|number| (tag(context, place, number), session.retrieve(number)));
        let observed = whole(back);
        context.check(format!("memfds of session {place}"), format!("{count} whole"), observed);
        context.check_success(&format!("finish of session {place}"), session.finish());
    }
    Ok(())
}

/// Creates sessions until there are `count`, with the session `control`.
fn sessions(context: &mut Context, count: u32) -> Done {
    raise_limit()?;
    (1..count).try_for_each(|number| context.create(&number.to_string()).map(drop))
}

fn sessions_back(context: &mut Context, count: u32) -> Done {
    raise_limit()?;
    let device = context.device()?;
    let (mut back, mut wrong) = (0, None);
    for number in 1..count {
        match device.retrieve_session(&context.session_name(&number.to_string())).and_then(|session| session.finish()) {
            Ok(()) => back += 1,
            Err(errno) => {
                wrong.get_or_insert_with(|| format!("; {number}: {}", errno_name(errno)));
            }
        }
    }
    let observed = format!("{back}{}", wrong.unwrap_or_default());
    context.check("sessions beside the one that is kept", count - 1, observed);
    Ok(())
}

fn duplicate(context: &mut Context) -> Done {
    sessions(context, 51)?;
    let answer = context.device()?.create_session(&context.session_name("1"));
    context.check_refused("a session whose name is taken", "EEXIST", answer);
    Ok(())
}

fn shrunk(context: &mut Context) -> Done {
    sessions(context, 52)?;
    context.close("51");
    Ok(())
}

fn come_and_go(context: &mut Context) -> Done {
    for _ in 0..4 {
        (0..50).try_for_each(|number| context.create(&number.to_string()).map(drop))?;
        (0..50).for_each(|number| context.close(&number.to_string()));
    }
    Ok(())
}
