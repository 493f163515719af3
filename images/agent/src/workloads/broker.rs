//! `broker.*`: a broker owns /dev/liveupdate, and its clients are processes of other users ([`Helper`]). The agent is the broker.

use crate::channel::DONE;
use crate::helper::{Helper, SAME};
use crate::luo::DEVICE;
use crate::memfd::Memfd;
use crate::namespaces;
use crate::workloads::case::Case;
use crate::workloads::context::Context;
use crate::workloads::error::StepError;
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

/// Two clients: the user of each, and its memfd.
const CLIENTS: [(u32, Memfd); 2] = [(1001, Memfd::new("first", 3 * 4096 + 1)), (1002, Memfd::new("second", 2 * 4096))];

/// The token of a client's memfd.
fn token(user: u32) -> u64 {
    u64::from(user) << 20
}

fn agent<T>(result: Result<T, String>) -> Result<T, StepError> {
    result.map_err(StepError::Agent)
}

/// A function that starts a client.
type Start = fn(&mut Context, u32) -> Result<Helper, StepError>;

fn beside(_: &mut Context, user: u32) -> Result<Helper, StepError> {
    agent(Helper::start(user))
}

/// Starts a client in namespaces of its own. It is root there, which must not give it any rights.
fn apart(context: &mut Context, user: u32) -> Result<Helper, StepError> {
    let link = |kind: &str| format!("/proc/self/ns/{kind}");
    let ours = |kind: &str| std::fs::read_link(link(kind)).map(|target| target.display().to_string());
    let ours: Result<Vec<String>, _> = namespaces::KINDS.into_iter().map(ours).collect();
    let ours = ours.map_err(|error| StepError::Missing(format!("namespaces: {error}")))?;
    let helper = agent(Helper::start_isolated(user))?;
    let mut shared = Vec::new();
    for (kind, ours) in namespaces::KINDS.into_iter().zip(ours) {
        let (theirs, _) = agent(helper.ask(&format!("link {}", link(kind)), None))?;
        if theirs == ours || !theirs.starts_with(kind) {
            shared.push(kind);
        }
    }
    let shared = if shared.is_empty() { "none".to_owned() } else { shared.join(" ") };
    context.check(format!("namespaces of the broker that user {user} has"), "none", shared);
    let (answer, _) = agent(helper.ask(&format!("open {DEVICE}"), None))?;
    context.check(format!("the device, by user {user} as root there"), "EACCES", answer);
    Ok(helper)
}

/// A client makes its memfd.
fn make(helper: &Helper, memfd: &Memfd, seed: u64) -> Done {
    agent(helper.tell(&format!("make {} {} {seed}", memfd.name, memfd.size), None))
}

/// A helper compares the memfd that it holds with what it made.
fn compare(context: &mut Context, probe: String, helper: &Helper, memfd: &Memfd) -> Done {
    let (answer, _) = agent(helper.ask(&format!("compare {} {} {}", memfd.name, memfd.size, context.seed()), None))?;
    context.check(probe, SAME, answer);
    Ok(())
}

fn own_source(context: &mut Context) -> Done {
    preserve_each(context, beside)
}

fn own(context: &mut Context) -> Done {
    give_back_each(context, beside)
}

fn namespaces_source(context: &mut Context) -> Done {
    preserve_each(context, apart)
}

fn namespaces(context: &mut Context) -> Done {
    give_back_each(context, apart)
}

fn preserve_each(context: &mut Context, start: Start) -> Done {
    let session = context.create("clients")?;
    for (user, memfd) in &CLIENTS {
        let helper = start(context, *user)?;
        make(&helper, memfd, context.seed())?;
        let given = agent(helper.get_fd(memfd.name))?;
        context.preserve_fd(&session, given.as_fd(), token(*user), memfd.name)?;
        context.hold_helper(helper);
    }
    Ok(())
}

fn give_back_each(context: &mut Context, start: Start) -> Done {
    let Some(session) = context.retrieve_session("clients")? else { return Ok(()) };
    for (user, memfd) in &CLIENTS {
        let Some(given) = context.retrieve_file(&session, token(*user), memfd.name) else { continue };
        let helper = start(context, *user)?;
        agent(helper.tell(&format!("take {}", memfd.name), Some(given.as_fd())))?;
        compare(context, format!("memfd {}, by user {user}", memfd.name), &helper, memfd)?;
        let (answer, _) = agent(helper.ask(&format!("write {}", memfd.name), None))?;
        context.check(format!("write to it, by user {user}"), DONE, answer);
    }
    Ok(())
}

fn right_source(context: &mut Context) -> Done {
    let (user, memfd) = &CLIENTS[0];
    let helper = agent(Helper::start(*user))?;
    make(&helper, memfd, context.seed())?;
    context.create("theirs").map(drop)?;
    context.close_device();
    let (answer, _) = agent(helper.ask(&format!("open {DEVICE}"), None))?;
    context.check("the device, by the client", "EACCES", answer);
    agent(helper.tell("take session", Some(context.session("theirs")?.as_fd())))?;
    let (answer, _) = agent(helper.ask(&format!("preserve session {} 1", memfd.name), None))?;
    context.check("preserve, by the client", DONE, answer);
    context.hold_helper(helper);
    Ok(())
}

fn right(context: &mut Context) -> Done {
    let (user, memfd) = &CLIENTS[0];
    let Some(session) = context.retrieve_session("theirs")? else { return Ok(()) };
    let helper = agent(Helper::start(*user))?;
    agent(helper.tell("take session", Some(session.as_fd())))?;
    let (answer, _) = agent(helper.ask(&format!("retrieve session {} 1", memfd.name), None))?;
    context.check("its memfd, by the client, retrieve", DONE, &answer);
    if answer == DONE {
        compare(context, "its memfd, by the client".to_owned(), &helper, memfd)?;
    }
    Ok(())
}

/// Two sessions, in each a memfd that the first broker asks for and one that it does not come to. Of the first session
/// a store has a descriptor too.
const RESTARTED: [(&str, [Memfd; 2]); 2] = [
    ("stored", [Memfd::new("stored-asked", 3 * 4096 + 1), Memfd::new("stored-unasked", 2 * 4096)]),
    ("lone", [Memfd::new("lone-asked", 4096 + 5), Memfd::new("lone-unasked", 4096)]),
];

fn restarted_source(context: &mut Context) -> Done {
    for (label, memfds) in &RESTARTED {
        let session = context.create(label)?;
        for (token, memfd) in (0..).zip(memfds) {
            context.make_and_preserve(&session, memfd, token)?;
        }
    }
    Ok(())
}

/// The answer to a broker that asks for a session.
fn asked_by(broker: &Helper, context: &Context, label: &str) -> Result<String, StepError> {
    agent(broker.ask(&format!("session {label} {}", context.session_name(label)), None)).map(|(answer, _)| answer)
}

fn restarted(context: &mut Context) -> Done {
    let (store, client, broker) = (agent(Helper::start(0))?, agent(Helper::start(1001))?, agent(Helper::start(0))?);
    for (label, [asked, _]) in &RESTARTED {
        let answer = asked_by(&broker, context, label)?;
        context.check(format!("session {label}, by the broker, retrieve"), DONE, &answer);
        if answer != DONE {
            return Ok(());
        }
        let (answer, _) = agent(broker.ask(&format!("retrieve {label} {} 0", asked.name), None))?;
        context.check(format!("memfd {}, by the broker, retrieve", asked.name), DONE, &answer);
        if answer != DONE {
            return Ok(());
        }
    }
    let [(stored, memfds), (lone, [asked, _])] = &RESTARTED;
    agent(store.tell(&format!("take {stored}"), Some(agent(broker.get_fd(stored))?.as_fd())))?;
    agent(client.tell(&format!("take {}", asked.name), Some(agent(broker.get_fd(asked.name))?.as_fd())))?;
    agent(broker.kill())?;

    let broker = agent(Helper::start(0))?;
    let answer = asked_by(&broker, context, stored)?;
    context.check("the session that is in the store, by its name", "EINVAL", answer);
    let answer = asked_by(&broker, context, lone)?;
    context.check("the session that is not", "ENOENT", answer);
    compare(context, format!("memfd {}, by its client", asked.name), &client, asked)?;
    agent(broker.tell(&format!("take {stored}"), Some(agent(store.get_fd(stored))?.as_fd())))?;
    for (token, memfd) in (0..).zip(memfds) {
        let (answer, _) = agent(broker.ask(&format!("retrieve {stored} {} {token}", memfd.name), None))?;
        context.check(format!("memfd {}, by the next broker, retrieve", memfd.name), DONE, &answer);
        if answer == DONE {
            compare(context, format!("memfd {}, by the next broker", memfd.name), &broker, memfd)?;
        }
    }
    Ok(())
}

/// The tokens that a client guesses: those of other clients, and small ones.
fn guesses() -> impl Iterator<Item = u64> {
    (0..32).chain(CLIENTS.iter().map(|(user, _)| token(*user))).chain([u64::MAX])
}

fn guessed_source(context: &mut Context) -> Done {
    own_source(context)?;
    context.create("theirs").map(drop)
}

fn guessed(context: &mut Context) -> Done {
    own(context)?;
    let Some(session) = context.retrieve_session("theirs")? else { return Ok(()) };
    let helper = agent(Helper::start(1003))?;
    agent(helper.tell("take session", Some(session.as_fd())))?;
    let mut answers = std::collections::BTreeSet::new();
    for token in guesses() {
        answers.insert(agent(helper.ask(&format!("retrieve session stolen {token}"), None))?.0);
    }
    let answers: Vec<String> = answers.into_iter().collect();
    context.check("what a client gets for others' tokens", "ENOENT", answers.join(" "));
    Ok(())
}

fn flood(context: &mut Context) -> Done {
    own_source(context)?;
    let helper = agent(Helper::start(1003))?;
    context.create("flooded").map(drop)?;
    agent(helper.tell("take session", Some(context.session("flooded")?.as_fd())))?;
    context.close("flooded");
    agent(helper.tell("make junk 4096 1", None))?;
    // The kernel takes the first. Later requests use a token that is in use, or a memfd that is preserved already.
    let mut answers = std::collections::BTreeSet::new();
    for number in 0..1000_u64 {
        answers.insert(agent(helper.ask(&format!("preserve session junk {}", number % 2), None))?.0);
    }
    let answers: Vec<String> = answers.into_iter().collect();
    context.check("what a flood is answered", "EBUSY EEXIST done", answers.join(" "));
    agent(helper.kill())
}

fn after_flood(context: &mut Context) -> Done {
    own(context)?;
    context.check_no_session("flooded")
}
