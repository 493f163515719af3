//! `luo.*`: the interface of /dev/liveupdate, its sessions and tokens. Each case also keeps a memfd, which must survive whatever the
//! case does.

pub(super) mod preserve;
pub(super) mod race;
pub(super) mod request;
pub(super) mod retrieve;
pub(super) mod session;

use crate::facts::mem_free_kib;
use crate::memfd::Memfd;
use crate::workloads::case::PreservedMemfd;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;

/// Memfds that a case preserves in addition to what it keeps.
const SPARE: Memfd = Memfd::new("spare", 2 * 4096 + 9);
const OTHER: Memfd = Memfd::new("other", 4096 + 1);
const THIRD: Memfd = Memfd::new("third", 4096);
/// A memfd that is large enough to be seen in the amount of free memory.
const LARGE: Memfd = Memfd::new("large", 32 << 20);
const LARGE_KIB: u64 = LARGE.size >> 10;

const fn kept(session: &'static str, token: u64, name: &'static str) -> PreservedMemfd {
    PreservedMemfd { session, token, memfd: Memfd::new(name, 4096 + 1) }
}

type Done = Result<(), StepError>;

/// Creates a second session with one memfd.
fn extra_session(context: &mut Context) -> Done {
    let session = context.create("extra")?;
    context.make_and_preserve(&session, &SPARE, 1)
}

fn extra_is_there(context: &mut Context) -> Done {
    if let Some(session) = context.retrieve_session("extra")? {
        context.retrieve_memfd(&session, 1, &SPARE);
    }
    Ok(())
}

/// Runs `body` and checks that it gave back the memory of [`LARGE`].
fn gives_memory_back(context: &mut Context, body: impl FnOnce(&mut Context)) -> Done {
    let before = mem_free_kib().map_err(StepError::Agent)?;
    body(context);
    let given = mem_free_kib().map_err(StepError::Agent)?.saturating_sub(before);
    // Other processes change the amount by some hundred KiB.
    let held = given >= LARGE_KIB * 7 / 8;
    context.check_condition("memory given back", "7/8 of 32 MiB or more", format!("{given} KiB"), held);
    Ok(())
}

/// The token of a memfd that a session takes after it has refused something.
const FREE_TOKEN: u64 = 9;
