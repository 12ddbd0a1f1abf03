//! Figures of calls that several processes work for, on a machine where an instruction takes a nanosecond.

use crate::PATIENCE;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use nexus_abi::{Error, Handle, system};
use nexus_ipc::Bytes;
use nexus_proto::keystore;
use nexus_rt::{Environment, info};
use nexus_state::State;

/// Bytes of a value whose way to the disk is measured.
const VALUE_BYTES: usize = 128;
/// Bytes of a message that is signed.
const MESSAGE_BYTES: usize = 64;
/// The first rounds touch pages and fill slabs.
const WARM_UP: u64 = 8;

/// What a durable put costs from the call to its answer: the time of all processes together, for while the disk works
/// nobody computes.
pub fn puts(environment: &Environment, control: Handle, count: u64) -> Result<(), String> {
    let mut state = State::open(environment).map_err(|error| format!("{error}"))?;
    let value = vec![0x5a; VALUE_BYTES];
    let now = || busy_ticks(control);
    each(environment, now, &format!("state/put/{VALUE_BYTES}/durable"), count, || {
        let outcome = state.put("/state/selftest/figure", &value, None, environment.deadline(PATIENCE));
        outcome.map(drop).map_err(|failure| format!("a put: {failure}"))
    })?;
    info!("soak: puts are measured");
    Ok(())
}

/// What the public key and a signature of the device cost from the call to its answer, the policy's word included.
/// Somebody always computes for it.
pub fn signatures(environment: &Environment, count: u64) -> Result<(), String> {
    let endpoint = environment.to_call(keystore::REFERENCE.endpoint).map_err(|error| format!("{error}"))?;
    let keystore = keystore::Client::new(endpoint);
    let now = || Ok(environment.clock().now());
    each(environment, now, "keystore/public", count, || {
        let key = keystore.public(&(), environment.deadline(PATIENCE));
        key.map(drop).map_err(|error| format!("the public key: {error}"))
    })?;
    let message = Bytes(vec![0x5a; MESSAGE_BYTES]);
    each(environment, now, &format!("keystore/sign/{MESSAGE_BYTES}"), count, || {
        let signature = keystore.sign(&message, environment.deadline(PATIENCE));
        signature.map(drop).map_err(|error| format!("a signature: {error}"))
    })
}

/// Tells the mean of what a deed costs, in the time that this clock of ticks shows.
fn each(
    environment: &Environment,
    now: impl Fn() -> Result<u64, String>,
    name: &str,
    count: u64,
    mut deed: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    (0..WARM_UP).try_for_each(|_| deed())?;
    let before = now()?;
    (0..count).try_for_each(|_| deed())?;
    let all = environment.clock().duration(now()?.saturating_sub(before));
    info!("BENCH: {name} {} instructions", all.as_nanos() / u128::from(count));
    Ok(())
}

/// Time that all processes have computed so far, in ticks.
fn busy_ticks(control: Handle) -> Result<u64, String> {
    let (mut all, mut after) = (0u64, 0);
    loop {
        match system::process_list(control, after) {
            Ok(status) => {
                all = all.saturating_add(status.cpu_ticks);
                after = status.process_id;
            }
            Err(Error::WouldBlock) => return Ok(all),
            Err(error) => return Err(format!("the list of processes: {error}")),
        }
    }
}
