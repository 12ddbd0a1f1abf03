//! The state: what is stored is there again, also after its service and its driver died, and nobody reads what is not
//! theirs.

use crate::{Subject, announce_restart, expect, trying};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use nexus_ipc::CallError;
use nexus_proto::init::Target;
use nexus_state::{Change, Refusal, State, StateFailure};

/// Where everything here is stored.
const FOLDER: &str = "/state/selftest/";
/// What makes a value larger than one request of the device.
const LARGE: usize = 40_000;

fn state(subject: &Subject<'_>) -> State {
    State::new(subject.state, subject.environment.clock())
}

fn value(length: usize, salt: u8) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ salt).collect()
}

/// Memory to lend: what is in the program itself cannot be lent in a simulation.
fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn refused<T>(refusal: Refusal) -> Result<T, StateFailure> {
    Err(CallError::Service(refusal))
}

fn key(name: &str) -> String {
    format!("{FOLDER}{name}")
}

/// Values of any size come back with their versions; conditions, batches, deletions and pages are as promised.
pub fn put(subject: &Subject<'_>) -> Result<(), String> {
    let (mut state, due) = (state(subject), subject.deadline());
    let small = trying("a small value", state.put(&key("small"), &text("kept"), None, due))?;
    expect("the small value", state.get(&key("small"), due), Ok((text("kept"), small)))?;
    let large = value(LARGE, 0x5a);
    let version = trying("a large value", state.put(&key("large"), &large, None, due))?;
    expect("whether versions rise", version > small, true)?;
    expect("the large value", state.get(&key("large"), due), Ok((large, version)))?;
    trying("an empty value", state.put(&key("empty"), b"", None, due))?;
    expect("the empty value", state.get(&key("empty"), due).map(|(value, _)| value), Ok(vec![]))?;
    let stale = state.put(&key("small"), &text("never"), Some(version), due);
    expect("a stale condition", stale, refused(Refusal::VersionMismatch { actual: small }))?;
    let names = [key("batch/a"), key("batch/b")];
    let changes = [
        Change { key: &names[0], value: Some(b"a"), expect: None },
        Change { key: &names[1], value: Some(b"b"), expect: None },
    ];
    trying("a batch", state.batch(&changes, due))?;
    let half = [
        Change { key: &names[0], value: None, expect: None },
        Change { key: &names[1], value: Some(b"c"), expect: Some(1) },
    ];
    expect("half a batch", state.batch(&half, due).is_err(), true)?;
    let page = trying("a page", state.list(&key("batch/"), None, due))?;
    let listed: Vec<&str> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
    expect("the page", listed, names.iter().map(String::as_str).collect())?;
    trying("deleting", state.delete(&names[0], None, due))?;
    expect("what was deleted", state.get(&names[0], due), refused(Refusal::NotFound))?;
    expect("deleting it again", state.delete(&names[0], None, due), refused(Refusal::NotFound))
}

/// The service is killed: what was acknowledged is there for its successor, and a client goes on.
pub fn persist(subject: &Subject<'_>) -> Result<(), String> {
    let mut state = state(subject);
    let before = value(LARGE, 0x33);
    let version = trying("writing", state.put(&key("persist"), &before, None, subject.deadline()))?;
    for victim in ["statefsd", "virtioblkd"] {
        announce_restart(victim);
        let target = Target::Name(victim.to_string());
        trying("killing", subject.init.kill(&target, subject.deadline()))?;
        let found = state.get(&key("persist"), subject.deadline());
        expect(&format!("the value after {victim} died"), found, Ok((before.clone(), version)))?;
        let next = state.put(&key("next"), &text(victim), None, subject.deadline());
        expect("whether versions rise", trying("writing on", next)? > version, true)?;
    }
    let found = state.get(&key("next"), subject.deadline()).map(|(value, _)| value);
    expect("what was written since", found, Ok(text("virtioblkd")))
}

/// Nobody reads, writes, lists or deletes what the policy does not give them, nor learns that it is there.
pub fn unauthorized(subject: &Subject<'_>) -> Result<(), String> {
    let (mut state, due) = (state(subject), subject.deadline());
    for theirs in ["/state/keystore/device.signing", "/state/boot/bootctl.a", "/state/user/note"] {
        expect("reading it", state.get(theirs, due).map(drop), refused(Refusal::Denied))?;
        expect("its length", state.stat(theirs, due).map(drop), refused(Refusal::Denied))?;
        expect("writing it", state.put(theirs, &text("mine"), None, due), refused(Refusal::Denied))?;
        expect("deleting it", state.delete(theirs, None, due), refused(Refusal::Denied))?;
    }
    let (mine, theirs) = (key("mine"), "/state/keystore/mine");
    let changes = [
        Change { key: &mine, value: Some(b"x"), expect: None },
        Change { key: theirs, value: Some(b"x"), expect: None },
    ];
    expect("a batch with it", state.batch(&changes, due), refused(Refusal::Denied))?;
    expect("what came along with it", state.stat(&mine, due).map(drop), refused(Refusal::NotFound))?;
    for folder in ["/state/", "/state/keystore/", "/state/s"] {
        expect("listing it", state.list(folder, None, due).map(drop), refused(Refusal::Denied))?;
    }
    let detour = state.get("/state/selftest/../keystore/device.signing", due).map(drop);
    expect("a detour", detour, refused(Refusal::KeyInvalid))
}
