//! A program that asks for one thing too many and tells what it was answered: what `tests/refusals.rs` boots under
//! several names at once. What it does, the boot argument `crowd=WORD` says.

use driver_kit::KitError;
use nexus_ipc::{CallError, Deadline, Lent};
use nexus_proto::state::{Batch, Changes, Delete, Key, List, Put, StateError, VALUE_BYTES_MAX};
use nexus_proto::{console, init, log, state};
use nexus_rt::{Environment, info};
use std::fmt::Debug;
use std::time::Duration;

/// What any of them may wait for.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Time after which the one is ready for whom all others wait.
const LATE: Duration = Duration::from_secs(2);
/// Times that each writes on the terminal, [`console::WRITE_BYTES_MAX`] bytes at a time.
const WRITES: usize = 20;
/// virtio's number of an entropy device, and pages of memory that it is given.
const ENTROPY: (u32, usize) = (4, 3);
/// Where the one that stores may read and write.
const FOLDER: &str = "/state/selftest";

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let due = environment.deadline(PATIENCE);
    let has = |word: &str| environment.has_argument(word);
    if environment.name() == "late" {
        environment.sleep(LATE);
    }
    if has("crowd=second-device") {
        devices(environment);
    }
    environment.ready();
    if environment.name() == "late" || has("crowd=rest") {
        environment.sleep(PATIENCE);
    } else if has("crowd=follow") {
        follow(environment, due);
    } else if has("crowd=ready") {
        let Ok(endpoint) = environment.to_call("init") else { return 1 };
        tell(environment, "ready", init::Client::new(endpoint).ready(&(), due));
    } else if has("crowd=write") {
        write(environment, due);
    } else if has("crowd=read") {
        let Ok(endpoint) = environment.to_call("console") else { return 1 };
        tell(environment, "read", console::Client::new(endpoint).read(&(), due));
    } else if has("crowd=state") {
        store(environment, due);
    }
    0
}

fn tell<A: Debug, E: Debug>(environment: &Environment, what: &str, answer: Result<A, CallError<E>>) {
    let name = environment.name();
    match answer {
        Ok(_) => info!("crowd: {name} {what}: done"),
        Err(CallError::Service(refusal)) => info!("crowd: {name} {what}: {refusal:?}"),
        Err(other) => info!("crowd: {name} {what}: no answer ({other:?})"),
    }
}

/// Waits for a record that nobody writes.
fn follow(environment: &Environment, due: Deadline) {
    let Ok(endpoint) = environment.to_call("log") else { return };
    let query = log::Query { text: "nobody writes this".into(), ..log::Query::ALL };
    tell(environment, "follow", log::Client::new(endpoint).follow(&query, due));
}

/// Writes and writes, until it is refused.
fn write(environment: &Environment, due: Deadline) {
    let Ok(endpoint) = environment.to_call("console") else { return };
    let text = nexus_ipc::Bytes(vec![b'.'; console::WRITE_BYTES_MAX]);
    for _ in 0..WRITES {
        let outcome = console::Client::new(endpoint).write(&text, due);
        if outcome.is_err() {
            return tell(environment, "write", outcome);
        }
    }
    info!("crowd: {} write: done", environment.name());
}

/// Takes a device, and a second one.
fn devices(environment: &Environment) {
    for what in ["first", "second"] {
        let opened = driver_kit::open(environment, "rng", ENTROPY.0, ENTROPY.1);
        let outcome = opened.map(drop).map_err(|error: KitError| CallError::Service(error));
        tell(environment, what, outcome);
    }
}

/// Asks the store for everything that it refuses.
fn store(environment: &Environment, due: Deadline) {
    let Ok(endpoint) = environment.to_call("state") else { return };
    let client = state::Client::new(endpoint);
    let key = |name: &str| format!("{FOLDER}/{name}");
    let (mut value, large) = (vec![0x7f; 100], vec![0; VALUE_BYTES_MAX + 1]);
    let put = |name: &str, bytes: usize, expect, lent: &[u8]| {
        let request = Put { key: name.into(), bytes: bytes as u32, expect, operation: None };
        client.put(&request, [Lent::read(lent)], due)
    };
    let batch = |lent: &[u8]| {
        let request = Batch { bytes: lent.len() as u32, operation: None };
        client.batch(&request, [Lent::read(lent)], due)
    };
    let changes = |count: usize, same: bool| {
        let names: Vec<String> =
            (0..count).map(|at| key(&format!("{}", if same { 0 } else { at }))).collect();
        let change = |name| state::Change { key: name, value: Some(b"x"), expect: None };
        Changes { changes: names.iter().map(|name| change(name)).collect() }.to_bytes().unwrap_or_default()
    };
    let too_many = changes(state::BATCH_CHANGES_MAX + 1, false);
    let too_large = vec![0; state::BATCH_LENT_BYTES_MAX + 1];
    let get = |name: String, lent: &mut [u8]| client.get(&Key { key: name }, [Lent::write(lent)], due);
    let told = |what, outcome: Result<(), CallError<StateError>>| tell(environment, what, outcome);
    told("put", put(&key("a"), 100, None, &value).map(drop));
    told("absent", get(key("nothing"), &mut value).map(drop));
    told("no-key", put("/state/selftest/../a", 1, None, &value).map(drop));
    told("long-value", put(&key("b"), VALUE_BYTES_MAX + 1, None, &large).map(drop));
    told("not-lent", put(&key("b"), 101, None, &value).map(drop));
    told("stale", put(&key("a"), 1, Some(1), &value).map(drop));
    told("short", get(key("a"), &mut value[..99]).map(drop));
    told("not-mine", get("/state/keystore/device".into(), &mut value).map(drop));
    let delete = Delete { key: key("nothing"), expect: None, operation: None };
    told("delete", client.delete(&delete, due).map(drop));
    told("no-batch", batch(&value[..20]).map(drop));
    told("empty-batch", batch(&changes(0, false)).map(drop));
    told("same-batch", batch(&changes(2, true)).map(drop));
    told("many-batch", batch(&too_many).map(drop));
    told("large-batch", batch(&too_large).map(drop));
    let list = |prefix: &str| List { prefix: prefix.into(), after: None, limit: 0 };
    told("list", client.list(&list("/etc/"), due).map(drop));
    told("list-theirs", client.list(&list("/state/keystore/"), due).map(drop));
}
