//! `broker.*`: the agent is the broker here, and has /dev/liveupdate; its clients are processes of other users ([`Peer`]).

use super::{Case, Scene, StepError};
use crate::luo::DEVICE;
use crate::memfd::Memfd;
use crate::namespaces;
use crate::peer::{DONE, Peer, SAME};
use rustix::fd::AsFd;

pub(super) const CASES: &[Case] = &[
    Case { source: flood, target: after_flood, ..Case::new("broker.flood") },
    Case { source: guessed_source, target: guessed, ..Case::new("broker.guessed-tokens") },
    Case { source: namespaces_source, target: namespaces, ..Case::new("broker.namespaces") },
    Case { source: own_source, target: own, ..Case::new("broker.own-memfd") },
    Case { source: restarted_source, target: restarted, ..Case::new("broker.restarted") },
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

/// How a client is started.
type Start = fn(&mut Scene, u32) -> Result<Peer, StepError>;

fn beside(_: &mut Scene, user: u32) -> Result<Peer, StepError> {
    agent(Peer::start(user))
}

/// In namespaces of its own, all of them. It is root there, which is of no use to it.
fn apart(scene: &mut Scene, user: u32) -> Result<Peer, StepError> {
    let link = |kind: &str| format!("/proc/self/ns/{kind}");
    let ours = |kind: &str| std::fs::read_link(link(kind)).map(|target| target.display().to_string());
    let ours: Result<Vec<String>, _> = namespaces::KINDS.into_iter().map(ours).collect();
    let ours = ours.map_err(|error| StepError::Missing(format!("namespaces: {error}")))?;
    let peer = agent(Peer::start_apart(user))?;
    let mut shared = Vec::new();
    for (kind, ours) in namespaces::KINDS.into_iter().zip(ours) {
        let (theirs, _) = agent(peer.ask(&format!("link {}", link(kind)), None))?;
        if theirs == ours || !theirs.starts_with(kind) {
            shared.push(kind);
        }
    }
    let shared = if shared.is_empty() { "none".to_owned() } else { shared.join(" ") };
    scene.check(format!("namespaces of the broker that user {user} has"), "none", shared);
    let (answer, _) = agent(peer.ask(&format!("open {DEVICE}"), None))?;
    scene.check(format!("the device, by user {user} as root there"), "EACCES", answer);
    Ok(peer)
}

/// A client makes its memfd.
fn make(peer: &Peer, memfd: &Memfd, seed: u64) -> Done {
    agent(peer.tell(&format!("make {} {} {seed}", memfd.name, memfd.size), None))
}

/// A peer compares the memfd that it holds.
fn compare(scene: &mut Scene, probe: String, peer: &Peer, memfd: &Memfd) -> Done {
    let (answer, _) = agent(peer.ask(&format!("compare {} {} {}", memfd.name, memfd.size, scene.seed()), None))?;
    scene.check(probe, SAME, answer);
    Ok(())
}

fn own_source(scene: &mut Scene) -> Done {
    preserve_each(scene, beside)
}

fn own(scene: &mut Scene) -> Done {
    give_back_each(scene, beside)
}

fn namespaces_source(scene: &mut Scene) -> Done {
    preserve_each(scene, apart)
}

fn namespaces(scene: &mut Scene) -> Done {
    give_back_each(scene, apart)
}

fn preserve_each(scene: &mut Scene, start: Start) -> Done {
    let session = scene.create("clients")?;
    for (user, memfd) in &CLIENTS {
        let peer = start(scene, *user)?;
        make(&peer, memfd, scene.seed())?;
        let given = agent(peer.give(memfd.name))?;
        scene.hand_over(&session, given.as_fd(), token(*user), memfd.name)?;
        scene.hold_peer(peer);
    }
    Ok(())
}

fn give_back_each(scene: &mut Scene, start: Start) -> Done {
    let Some(session) = scene.retrieve_session("clients")? else { return Ok(()) };
    for (user, memfd) in &CLIENTS {
        let Some(given) = scene.retrieve_file(&session, token(*user), memfd.name) else { continue };
        let peer = start(scene, *user)?;
        agent(peer.tell(&format!("take {}", memfd.name), Some(given.as_fd())))?;
        compare(scene, format!("memfd {}, by user {user}", memfd.name), &peer, memfd)?;
        let (answer, _) = agent(peer.ask(&format!("write {}", memfd.name), None))?;
        scene.check(format!("write to it, by user {user}"), DONE, answer);
    }
    Ok(())
}

fn right_source(scene: &mut Scene) -> Done {
    let (user, memfd) = &CLIENTS[0];
    let peer = agent(Peer::start(*user))?;
    make(&peer, memfd, scene.seed())?;
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
        compare(scene, "its memfd, by the client".to_owned(), &peer, memfd)?;
    }
    Ok(())
}

/// Two sessions, in each a memfd that the first broker asks for and one that it does not come to. Of the first session
/// a store has a descriptor too.
const RESTARTED: [(&str, [Memfd; 2]); 2] = [
    ("stored", [Memfd::new("stored-asked", 3 * 4096 + 1), Memfd::new("stored-unasked", 2 * 4096)]),
    ("lone", [Memfd::new("lone-asked", 4096 + 5), Memfd::new("lone-unasked", 4096)]),
];

fn restarted_source(scene: &mut Scene) -> Done {
    for (label, memfds) in &RESTARTED {
        let session = scene.create(label)?;
        for (token, memfd) in (0..).zip(memfds) {
            scene.hand_over_new(&session, memfd, token)?;
        }
    }
    Ok(())
}

/// What a broker is told when it asks the device for a session.
fn asked_by(broker: &Peer, scene: &Scene, label: &str) -> Result<String, StepError> {
    agent(broker.ask(&format!("session {label} {}", scene.name_of(label)), None)).map(|(answer, _)| answer)
}

fn restarted(scene: &mut Scene) -> Done {
    let (store, client, broker) = (agent(Peer::start(0))?, agent(Peer::start(1001))?, agent(Peer::start(0))?);
    for (label, [asked, _]) in &RESTARTED {
        let answer = asked_by(&broker, scene, label)?;
        scene.check(format!("session {label}, by the broker, retrieve"), DONE, &answer);
        if answer != DONE {
            return Ok(());
        }
        let (answer, _) = agent(broker.ask(&format!("retrieve {label} {} 0", asked.name), None))?;
        scene.check(format!("memfd {}, by the broker, retrieve", asked.name), DONE, &answer);
        if answer != DONE {
            return Ok(());
        }
    }
    let [(stored, memfds), (lone, [asked, _])] = &RESTARTED;
    agent(store.tell(&format!("take {stored}"), Some(agent(broker.give(stored))?.as_fd())))?;
    agent(client.tell(&format!("take {}", asked.name), Some(agent(broker.give(asked.name))?.as_fd())))?;
    agent(broker.kill())?;

    let broker = agent(Peer::start(0))?;
    let answer = asked_by(&broker, scene, stored)?;
    scene.check("the session that is in the store, by its name", "EINVAL", answer);
    let answer = asked_by(&broker, scene, lone)?;
    scene.check("the session that is not", "ENOENT", answer);
    compare(scene, format!("memfd {}, by its client", asked.name), &client, asked)?;
    agent(broker.tell(&format!("take {stored}"), Some(agent(store.give(stored))?.as_fd())))?;
    for (token, memfd) in (0..).zip(memfds) {
        let (answer, _) = agent(broker.ask(&format!("retrieve {stored} {} {token}", memfd.name), None))?;
        scene.check(format!("memfd {}, by the next broker, retrieve", memfd.name), DONE, &answer);
        if answer == DONE {
            compare(scene, format!("memfd {}, by the next broker", memfd.name), &broker, memfd)?;
        }
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
