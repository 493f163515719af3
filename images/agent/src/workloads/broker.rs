//! `broker.*`: the agent is the broker here, and has /dev/liveupdate; its clients are processes of other users ([`Peer`]).

use super::{Case, Scene, StepError};
use crate::luo::DEVICE;
use crate::memfd::Memfd;
use crate::peer::{DONE, Peer, SAME};
use rustix::fd::{AsFd, OwnedFd};

pub(super) const CASES: &[Case] = &[
    Case { source: flood, target: after_flood, ..Case::new("broker.flood") },
    Case { source: guessed_source, target: guessed, ..Case::new("broker.guessed-tokens") },
    Case { source: own_source, target: own, ..Case::new("broker.own-memfd") },
    Case { source: right_source, target: right, ..Case::new("broker.session-is-a-right") },
];

type Done = Result<(), StepError>;

/// Two users, and the memfd of each.
const CLIENTS: [(u32, Memfd); 2] = [(1001, Memfd::new("first", 3 * 4096 + 1)), (1002, Memfd::new("second", 2 * 4096))];

/// The token of a client's memfd.
fn token(user: u32) -> u64 {
    u64::from(user) << 20
}

fn agent<T>(result: Result<T, String>) -> Result<T, StepError> {
    result.map_err(StepError::Agent)
}

/// A client with its memfd, of which it gives a copy.
fn client(user: u32, memfd: &Memfd, seed: u64) -> Result<(Peer, OwnedFd), StepError> {
    let peer = agent(Peer::start(user))?;
    agent(peer.tell(&format!("make {} {} {seed}", memfd.name, memfd.size), None))?;
    let (_, given) = agent(peer.ask(&format!("give {}", memfd.name), None))?;
    Ok((peer, given.ok_or_else(|| StepError::Agent("a client gave no memfd".to_owned()))?))
}

fn own_source(scene: &mut Scene) -> Done {
    let session = scene.create("clients")?;
    for (user, memfd) in &CLIENTS {
        let (peer, given) = client(*user, memfd, scene.seed())?;
        scene.hand_over(&session, given.as_fd(), token(*user), memfd.name)?;
        scene.hold_peer(peer);
    }
    Ok(())
}

fn own(scene: &mut Scene) -> Done {
    let Some(session) = scene.retrieve_session("clients")? else { return Ok(()) };
    for (user, memfd) in &CLIENTS {
        let Some(given) = scene.retrieve_file(&session, token(*user), memfd.name) else { continue };
        let peer = agent(Peer::start(*user))?;
        agent(peer.tell(&format!("take {}", memfd.name), Some(given.as_fd())))?;
        let (answer, _) = agent(peer.ask(&format!("compare {} {} {}", memfd.name, memfd.size, scene.seed()), None))?;
        scene.check(format!("memfd {}, by user {user}", memfd.name), SAME, answer);
        let (answer, _) = agent(peer.ask(&format!("write {}", memfd.name), None))?;
        scene.check(format!("write to it, by user {user}"), DONE, answer);
    }
    Ok(())
}

fn right_source(scene: &mut Scene) -> Done {
    let (user, memfd) = &CLIENTS[0];
    let (peer, _) = client(*user, memfd, scene.seed())?;
    scene.create("theirs").map(drop)?;
    scene.close_device();
    let (answer, _) = agent(peer.ask(&format!("open {DEVICE}"), None))?;
    scene.check("the device, by the client", "EACCES", answer);
    agent(peer.tell("take session", Some(scene.session("theirs")?.as_fd())))?;
    let (answer, _) = agent(peer.ask(&format!("preserve session {} 1", memfd.name), None))?;
    scene.check("preserve, by the client", DONE, answer);
    scene.hold_peer(peer);
    Ok(())
}

fn right(scene: &mut Scene) -> Done {
    let (user, memfd) = &CLIENTS[0];
    let Some(session) = scene.retrieve_session("theirs")? else { return Ok(()) };
    let peer = agent(Peer::start(*user))?;
    agent(peer.tell("take session", Some(session.as_fd())))?;
    let (answer, _) = agent(peer.ask(&format!("retrieve session {} 1", memfd.name), None))?;
    scene.check("its memfd, by the client, retrieve", DONE, &answer);
    if answer == DONE {
        let (answer, _) = agent(peer.ask(&format!("compare {} {} {}", memfd.name, memfd.size, scene.seed()), None))?;
        scene.check("its memfd, by the client", SAME, answer);
    }
    Ok(())
}

/// The tokens that a client tries: those of the others, and those nearby.
fn guesses() -> impl Iterator<Item = u64> {
    (0..32).chain(CLIENTS.iter().map(|(user, _)| token(*user))).chain([u64::MAX])
}

fn guessed_source(scene: &mut Scene) -> Done {
    own_source(scene)?;
    scene.create("theirs").map(drop)
}

fn guessed(scene: &mut Scene) -> Done {
    own(scene)?;
    let Some(session) = scene.retrieve_session("theirs")? else { return Ok(()) };
    let peer = agent(Peer::start(1003))?;
    agent(peer.tell("take session", Some(session.as_fd())))?;
    let mut answers = std::collections::BTreeSet::new();
    for token in guesses() {
        answers.insert(agent(peer.ask(&format!("retrieve session stolen {token}"), None))?.0);
    }
    let answers: Vec<String> = answers.into_iter().collect();
    scene.check("what a client gets for others' tokens", "ENOENT", answers.join(" "));
    Ok(())
}

fn flood(scene: &mut Scene) -> Done {
    own_source(scene)?;
    let peer = agent(Peer::start(1003))?;
    scene.create("flooded").map(drop)?;
    agent(peer.tell("take session", Some(scene.session("flooded")?.as_fd())))?;
    scene.close("flooded");
    agent(peer.tell("make junk 4096 1", None))?;
    // The first is taken; then the token is used, then the memfd is, and again.
    let mut answers = std::collections::BTreeSet::new();
    for number in 0..1000_u64 {
        answers.insert(agent(peer.ask(&format!("preserve session junk {}", number % 2), None))?.0);
    }
    let answers: Vec<String> = answers.into_iter().collect();
    scene.check("what a flood is answered", "EBUSY EEXIST done", answers.join(" "));
    agent(peer.kill())
}

fn after_flood(scene: &mut Scene) -> Done {
    own(scene)?;
    scene.has_no_session("flooded")
}
