//! The store and its driver, killed again and again while two processes write: nothing that was acknowledged may be
//! lost, and both go on by themselves.

use crate::{PATIENCE, endless, kill};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::system;
use nexus_ipc::CallError;
use nexus_proto::init::{Client as Init, Run};
use nexus_rt::{Environment, error};
use nexus_state::State;

const CHILD: &str = "soak-child";
const VICTIMS: [&str; 2] = ["statefsd", "virtioblkd"];
/// Kills are up to so much apart, so that they meet a victim before, during and after its start.
const APART_MAX: Duration = Duration::from_millis(120);
/// Keys of one writer.
const KEYS: u64 = 16;
/// Times that a change is tried by a writer, each of which outlives several deaths.
const ATTEMPTS: u32 = 20;
/// Time between two of them: a refusal may come at once, and what it tells of passes only with time.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// In one of so many rounds a writer reads all of its keys.
const ALL_READ_EVERY: u64 = 64;

/// A writer that knows what each of its keys must hold.
struct Writer<'a> {
    environment: &'a Environment,
    state: State,
    folder: &'static str,
    held: BTreeMap<String, Vec<u8>>,
    round: u64,
}

impl<'a> Writer<'a> {
    fn new(environment: &'a Environment, folder: &'static str) -> Result<Self, String> {
        let state = State::open(environment).map_err(|error| format!("{error}"))?;
        Ok(Writer { environment, state, folder, held: BTreeMap::new(), round: 0 })
    }

    /// Changes one key, and looks at another, or at all once in a while.
    fn go_on(&mut self) -> Result<(), String> {
        self.round += 1;
        let key = self.key(self.round % KEYS);
        let value = format!("{} of round {}", self.folder, self.round).into_bytes();
        self.put(&key, &value)?;
        self.held.insert(key, value);
        if self.round.is_multiple_of(ALL_READ_EVERY) {
            return self.look_at_all();
        }
        let other = self.key(self.round.wrapping_mul(7) % KEYS);
        self.held.get(&other).map_or(Ok(()), |value| self.look(&other, value))
    }

    fn key(&self, number: u64) -> String {
        format!("/state/selftest/{}/{number}", self.folder)
    }

    /// Whatever the outcome of an attempt, the next one with the same value makes it certain.
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        let mut attempt = 1;
        loop {
            match self.state.put(key, value, None, self.environment.deadline(PATIENCE)) {
                Ok(_) => return Ok(()),
                Err(failure) if attempt == ATTEMPTS => return Err(format!("writing {key}: {failure}")),
                Err(_) => attempt += 1,
            }
            self.environment.sleep(RETRY_PAUSE);
        }
    }

    fn look(&self, key: &str, value: &[u8]) -> Result<(), String> {
        let mut attempt = 1;
        loop {
            match self.state.get(key, self.environment.deadline(PATIENCE)) {
                Ok((found, _)) if found == value => return Ok(()),
                Ok((found, _)) => {
                    let (found, value) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(value));
                    return Err(format!("{key} is `{found}`, and `{value}` was acknowledged"));
                }
                Err(CallError::Service(failure)) if !is_passing(failure) => {
                    return Err(format!("{key}, which was acknowledged: {failure}"));
                }
                Err(failure) if attempt == ATTEMPTS => return Err(format!("reading {key}: {failure}")),
                Err(_) => attempt += 1,
            }
            self.environment.sleep(RETRY_PAUSE);
        }
    }

    fn look_at_all(&self) -> Result<(), String> {
        self.held.iter().try_for_each(|(key, value)| self.look(key, value))
    }
}

/// Whether a refusal says that the store cannot be reached, and nothing about the key.
fn is_passing(failure: nexus_state::Refusal) -> bool {
    use nexus_state::Refusal;
    matches!(failure, Refusal::DeviceFailed | Refusal::Unavailable | Refusal::NoStore(_) | Refusal::Busy)
}

/// Writes without end.
pub fn write_without_end(environment: &Environment) -> u64 {
    let outcome = Writer::new(environment, "child").and_then(|mut writer| {
        loop {
            writer.go_on()?;
        }
    });
    let Err::<core::convert::Infallible, String>(reason) = outcome;
    error!("soak: FAIL the child: {reason}");
    1
}

/// Kills the store or its driver so many times, while a child writes, and writes itself in between.
pub fn rounds(environment: &Environment, init: Init, count: u64, seed: u64) -> Result<(), String> {
    let load = Run { name: CHILD.into(), arguments: "write".into() };
    endless::start(environment, &init, &load)?;
    let mut writer = Writer::new(environment, "parent")?;
    // The sequence never leaves 0.
    let mut chance = seed.max(1);
    for round in 0..count {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let pause = chance % environment.clock().ticks(APART_MAX);
        system::thread_sleep(environment.clock().now().saturating_add(pause));
        let victim = if chance & 1 << 40 == 0 { VICTIMS[0] } else { VICTIMS[1] };
        kill(environment, &init, victim).map_err(|reason| format!("kill {round} of {victim}: {reason}"))?;
        writer.go_on().map_err(|reason| format!("after kill {round}, of {victim}: {reason}"))?;
    }
    writer.look_at_all()?;
    // It is there to be killed, so nothing ended it before.
    if !kill(environment, &init, CHILD)? {
        return Err("the child that wrote without end is gone".into());
    }
    until_it_ended(environment, init)
}

/// Waits until the child is gone, so that the next round can run it.
fn until_it_ended(environment: &Environment, init: Init) -> Result<(), String> {
    let end = environment.deadline(PATIENCE);
    while !end.has_passed() {
        if endless::entry(environment, &init, CHILD)?.process_id == 0 {
            return Ok(());
        }
        environment.sleep(RETRY_PAUSE);
    }
    Err("the child does not end".into())
}
