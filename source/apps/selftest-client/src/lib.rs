//! Proves the system from inside. Each marker is printed only after its behaviour was seen; what was not
//! seen is printed as `SELFTEST: FAIL`.
//!
//! Where to start reading: [`PROOFS`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod borrowed;
mod capabilities;
mod devices;
mod disk;
mod drills;
mod figures;
mod interrupts;
mod journal;
mod keys;
mod memory;
mod messages;
mod policy;
mod restarts;
mod state;
mod tight;

use alloc::format;
use alloc::string::String;
use core::time::Duration;
use nexus_abi::Handle;
use nexus_ipc::Deadline;
use nexus_proto::{block, drill, init, keystore, log, peer, pong, rng};
use nexus_rt::{Environment, SetupError, error, info};

/// Time that anything here may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A proof: what it is called in its marker, and how it is done.
type Proof = (&'static str, fn(&Subject<'_>) -> Result<(), String>);

/// Every proof, in the order of the markers.
const PROOFS: &[Proof] = &[
    ("mmio map", devices::mmio_map),
    ("cap query mmio", devices::query_mmio),
    ("ipc payload roundtrip", messages::payload_roundtrip),
    ("ipc deadline timeout", messages::deadline_timeout),
    ("ipc sender pid", messages::sender_pid),
    ("ipc sender service_id", messages::sender_service_id),
    ("ipc operation refused", messages::operation_refused),
    ("ipc lease", borrowed::lease),
    ("ipc reply handed on", borrowed::reply_handed_on),
    ("ipc urgency", borrowed::urgency),
    ("cap query vmo", capabilities::query_vmo),
    ("peer death", restarts::peer_death),
    ("stale handle", capabilities::stale_handle),
    ("qos", capabilities::qos),
    ("service restart", restarts::service_restart),
    ("fault contained", restarts::fault_contained),
    ("w^x enforced", memory::write_xor_execute),
    ("user pointer guard", memory::user_pointer_guard),
    ("mmio map refused", memory::mmio_map_refused),
    ("device memory", memory::device_memory),
    ("vmo resize", memory::resize),
    ("spawn reasons", restarts::spawn_reasons),
    #[cfg(target_os = "none")]
    ("lockstep", restarts::lockstep),
    // It leaves no peer; what follows needs none.
    ("crash loop given up", restarts::crash_loop),
    ("core services log", journal::core_services),
    ("log query", journal::query),
    ("kernel decisions audited", journal::decisions),
    ("logd hardening rejects", journal::hardening),
    ("malformed messages told", journal::malformed_told),
    ("logd restart", journal::restart),
];

/// The proofs of the policy. They come first.
const POLICY_PROOFS: &[Proof] = &[
    ("policy allow", policy::allow),
    ("policy deny", policy::deny),
    ("mmio policy deny", policy::mmio_deny),
    ("policyd requester spoof denied", policy::requester_spoof),
    ("policy overlay", policy::overlay),
    ("policy malformed", policy::malformed),
    ("policy denials merged", policy::denials_merged),
];

/// The proofs of a machine with an entropy device; one without has another proof in their place.
const ENTROPY_PROOFS: &[Proof] = &[
    ("rng entropy", devices::entropy),
    ("rng entropy oversized", devices::entropy_oversized),
    ("driver restart", devices::driver_restart),
];

/// The proofs of a machine with a disk, behind those.
const DISK_PROOFS: &[Proof] = &[
    ("blk partition", disk::partition),
    ("blk refusals", disk::refusals),
    ("blk restart", disk::restart),
    ("statefs put", state::put),
    ("statefs unauthorized access rejected", state::unauthorized),
    ("statefs persist", state::persist),
];

/// The proofs of a machine with an identity, behind those.
const KEY_PROOFS: &[Proof] = &[
    ("device key pubkey", keys::pubkey),
    ("device key private export rejected", keys::private_export),
    ("keystored v1", keys::v1),
    ("device key persist", keys::persist),
];

/// The proofs of a machine with a second entropy device, behind those.
const DRILL_PROOFS: &[Proof] = &[("driver stall contained", drills::stall), ("driver hang", drills::hang)];

/// What the proofs work on.
struct Subject<'a> {
    environment: &'a Environment,
    peer_endpoint: Handle,
    peer: peer::Client,
    policy_endpoint: Handle,
    policy: nexus_proto::policy::Client,
    pong: pong::Client,
    init: init::Client,
    keystore: keystore::Client,
    log: log::Client,
    rng: rng::Client,
    block: block::Client,
    state: nexus_proto::state::Client,
    drill: drill::Client,
}

impl Subject<'_> {
    fn deadline(&self) -> Deadline {
        self.environment.deadline(PATIENCE)
    }
}

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    match subject(environment) {
        Ok(subject) => prove(&subject),
        Err(reason) => {
            error!("SELFTEST: FAIL setup {reason}");
            1
        }
    }
}

fn subject(environment: &Environment) -> Result<Subject<'_>, SetupError> {
    let peer_endpoint = environment.to_call("peer")?;
    let policy_endpoint = environment.to_call("policy")?;
    Ok(Subject {
        environment,
        peer_endpoint,
        peer: peer::Client::new(peer_endpoint),
        policy_endpoint,
        policy: nexus_proto::policy::Client::new(policy_endpoint),
        pong: pong::Client::new(environment.to_call("pong")?),
        init: init::Client::new(environment.to_call("init")?),
        keystore: keystore::Client::new(environment.to_call("keystore")?),
        log: log::Client::new(environment.to_call("log")?),
        rng: rng::Client::new(environment.to_call("rng")?),
        block: block::Client::new(environment.to_call("block")?),
        state: nexus_proto::state::Client::new(environment.to_call("state")?),
        drill: drill::Client::new(environment.to_call("drill")?),
    })
}

fn prove(subject: &Subject<'_>) -> u64 {
    subject.environment.ready();
    let mut failures = 0;
    // The markers of the start come first: what follows ends services that would not be up yet.
    if let Err(reason) = subject.init.ready(&(), subject.deadline()) {
        error!("SELFTEST: FAIL the system is not ready: {reason}");
        failures += 1;
    }
    if subject.environment.has_argument("bench=calls")
        && let Err(reason) = figures::tell(subject)
    {
        error!("SELFTEST: FAIL figures: {reason}");
        failures += 1;
    }
    let mut proofs_with = |what: &str, has_it: Result<bool, String>, proofs: &'static [Proof]| match has_it {
        Ok(true) => proofs,
        Ok(false) => {
            info!("SELFTEST: {what} absent ok");
            &[]
        }
        Err(reason) => {
            failures += 1;
            error!("SELFTEST: FAIL {what} absent: {reason}");
            &[]
        }
    };
    let entropy = proofs_with("rng", devices::has_entropy(subject), ENTROPY_PROOFS);
    let disk = proofs_with("blk", disk::has_disk(subject), DISK_PROOFS);
    let key = proofs_with("key", keys::has_key(subject), KEY_PROOFS);
    let drill = proofs_with("drill", drills::has_driver(subject), DRILL_PROOFS);
    let devices = entropy.iter().chain(disk).chain(key).chain(drill);
    for (name, proof) in POLICY_PROOFS.iter().chain(devices).chain(PROOFS) {
        match proof(subject) {
            // What is a refusal says so itself.
            Ok(()) if name.ends_with("access rejected") => info!("SELFTEST: {name}"),
            Ok(()) => info!("SELFTEST: {name} ok"),
            Err(reason) => {
                failures += 1;
                error!("SELFTEST: FAIL {name}: {reason}");
            }
        }
    }
    info!("SELFTEST: end");
    failures
}

/// Says before it is done that a process will fault, so that nobody takes its report for an accident.
fn announce_fault(deed: &str, service: &str) {
    info!("SELFTEST: {deed}: expect fault {service}");
}

/// Says before it is done that a service will be started again.
fn announce_restart(service: &str) {
    info!("SELFTEST: expect restart {service}");
}

/// Demands that something is as expected, or tells what it is.
fn expect<T: PartialEq + core::fmt::Debug>(what: &str, seen: T, expected: T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what} is {seen:?}, not {expected:?}")) }
}

/// Puts what was tried before why it failed.
fn trying<T, E: core::fmt::Display>(what: &str, outcome: Result<T, E>) -> Result<T, String> {
    outcome.map_err(|error| format!("{what}: {error}"))
}
