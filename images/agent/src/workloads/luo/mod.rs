//! `luo.*`: the contract of /dev/liveupdate, its sessions and tokens. Each case keeps a memfd besides, which must survive
//! whatever the case does.

pub(super) mod preserve;
pub(super) mod request;
pub(super) mod retrieve;
pub(super) mod session;

use super::{Kept, Scene, StepError};
use crate::facts::mem_free_kib;
use crate::memfd::Memfd;

/// What a case preserves beside what it keeps.
const SPARE: Memfd = Memfd::new("spare", 2 * 4096 + 9);
const OTHER: Memfd = Memfd::new("other", 4096 + 1);
const THIRD: Memfd = Memfd::new("third", 4096);
/// One that is seen in the amount of free memory.
const LARGE: Memfd = Memfd::new("large", 32 << 20);
const LARGE_KIB: u64 = LARGE.size >> 10;

const fn kept(session: &'static str, token: u64, name: &'static str) -> Kept {
    Kept { session, token, memfd: Memfd::new(name, 4096 + 1) }
}

type Done = Result<(), StepError>;

/// A second session with one memfd, for cases that do something to it in the target.
fn extra_session(scene: &mut Scene) -> Done {
    let session = scene.create("extra")?;
    scene.hand_over_new(&session, &SPARE, 1)
}

fn extra_is_there(scene: &mut Scene) -> Done {
    if let Some(session) = scene.retrieve_session("extra")? {
        scene.retrieve_memfd(&session, 1, &SPARE);
    }
    Ok(())
}

/// Runs `body` and checks that it gave back the memory of [`LARGE`].
fn gives_memory_back(scene: &mut Scene, body: impl FnOnce(&mut Scene)) -> Done {
    let before = mem_free_kib().map_err(StepError::Agent)?;
    body(scene);
    let given = mem_free_kib().map_err(StepError::Agent)?.saturating_sub(before);
    // What else runs here takes and gives some hundred KiB.
    let held = given >= LARGE_KIB * 7 / 8;
    scene.check_that("memory given back", "7/8 of 32 MiB or more", format!("{given} KiB"), held);
    Ok(())
}

/// The token by which a session that refused something takes another thing.
const FREE_TOKEN: u64 = 9;
