//! The policy: what is allowed and denied, who may ask about whom, what is no question, overlays, and a device that
//! is not given.

use crate::{Subject, announce_restart, devices, disk, expect, trying};
use alloc::format;
use alloc::string::String;
use nexus_abi::message::{Header, Registers};
use nexus_abi::{service_id, system};
use nexus_ipc::{CallError, Lent, Status};
use nexus_policy::{Denial, Policy};
use nexus_proto::init::{InitError, Run, StartFailure, Target};
use nexus_proto::log::{Query, Stats as LogStats};
use nexus_proto::policy::{ALLOWED, DENIED, PolicyError, Question, Stats, Verdict, Why};
use nexus_proto::rng::RngError;
use policy::{Action, OVERLAY_BYTES_MAX};

/// The operation `check`.
const CHECK: u16 = 1;
/// Denials in a row: several times what the record has room for.
const DENIALS: u64 = 300;
/// Decisions after them that find room.
const OTHERS: u64 = 8;
/// What one may draw from a line that has a bound of 3 a second, at once.
const BOUND: u64 = 3;
/// Far more than that, also where it is refilled while somebody asks.
const TOO_MANY: u64 = 64;
/// Turns of a proof that counts everybody's questions.
const UNDISTURBED_TURNS: u32 = 3;

fn own() -> u64 {
    service_id("selftest-client")
}

fn question(subject: u64, action: Action, resource: &str) -> Result<Question, String> {
    Question::new(subject, action.number(), resource).ok_or("the resource is too long".into())
}

fn check(subject: &Subject<'_>, action: Action, resource: &str) -> Result<Verdict, String> {
    let outcome = subject.policy.check(&question(own(), action, resource)?, subject.deadline());
    trying(&format!("asking about {action}"), outcome)
}

fn stats(subject: &Subject<'_>) -> Result<Stats, String> {
    trying("the counts", subject.policy.stats(&(), subject.deadline()))
}

fn is_allowed(subject: &Subject<'_>, action: Action, resource: &str) -> Result<(), String> {
    let verdict = check(subject, action, resource)?;
    expect(&format!("{action} {resource}"), (verdict.decision, verdict.why), (ALLOWED, Why::Allowed as u32))
}

fn is_denied(subject: &Subject<'_>, action: Action, resource: &str, why: Why) -> Result<(), String> {
    let verdict = check(subject, action, resource)?;
    expect(&format!("{action} {resource}"), (verdict.decision, verdict.why), (DENIED, why as u32))
}

/// Tells whether something holds in one of a few turns: others are asked about meanwhile, as the journal is when the
/// store writes for it, but not all the time.
fn undisturbed(mut proof: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    (1..UNDISTURBED_TURNS).find_map(|_| proof().ok()).map_or_else(proof, Ok)
}

/// What a line allows is allowed, and each of the sensitive ones is recorded.
pub fn allow(subject: &Subject<'_>) -> Result<(), String> {
    undisturbed(|| allowed_once(subject))
}

fn allowed_once(subject: &Subject<'_>) -> Result<(), String> {
    let before = stats(subject)?;
    is_allowed(subject, Action::IpcCore, "")?;
    is_allowed(subject, Action::StatefsRead, "/state/selftest/x")?;
    is_allowed(subject, Action::ProcSpawn, "pong")?;
    let after = stats(subject)?;
    expect("how many were allowed", after.allowed - before.allowed, 3)?;
    expect("how many were recorded", after.recorded - before.recorded, 1)
}

/// Asks until it is denied for asking too often; yields how often it was allowed before.
fn until_too_often(subject: &Subject<'_>, action: Action, resource: &str) -> Result<u64, String> {
    for allowed in 0..TOO_MANY {
        let verdict = check(subject, action, resource)?;
        if verdict.decision != ALLOWED {
            expect(&format!("{action}"), (verdict.decision, verdict.why), (DENIED, Why::TooOften as u32))?;
            return Ok(allowed);
        }
    }
    Err(format!("{action} was never asked for too often"))
}

/// What no line allows is denied, each for its own reason, and recorded.
pub fn deny(subject: &Subject<'_>) -> Result<(), String> {
    let before = stats(subject)?;
    is_denied(subject, Action::DeviceKeygen, "", Why::NoLine)?;
    is_denied(subject, Action::StatefsRead, "/state/keystore/device", Why::Denied)?;
    is_denied(subject, Action::StatefsRead, "/state/selftestx", Why::OtherResource)?;
    is_denied(subject, Action::StatefsRead, "", Why::OtherResource)?;
    let allowed = until_too_often(subject, Action::StatefsRead, "/state/bounded/x")?;
    expect("whether as many as the line says were allowed", allowed >= BOUND, true)?;
    let after = stats(subject)?;
    expect("how many were denied", after.denied - before.denied, 5)?;
    expect("how many were recorded", after.recorded - before.recorded, 5)
}

/// Who asks in another's name, or about another without the right to, is told so and nothing else.
pub fn requester_spoof(subject: &Subject<'_>) -> Result<(), String> {
    undisturbed(|| spoofed_once(subject))
}

fn spoofed_once(subject: &Subject<'_>) -> Result<(), String> {
    let before = stats(subject)?;
    let about_rngd = question(service_id("rngd"), Action::DeviceRng, "virtio:entropy")?;
    let spoofed = subject.policy.check(&about_rngd, subject.deadline());
    expect("asking as rngd", spoofed, Err(CallError::Service(PolicyError::Spoofed)))?;
    let undelegated = subject.policy.decide(&about_rngd, subject.deadline());
    expect("asking about rngd", undelegated, Err(CallError::Service(PolicyError::NotDelegated)))?;
    let after = stats(subject)?;
    expect("how many were refused", after.refused - before.refused, 2)?;
    expect("how many were recorded", after.recorded - before.recorded, 2)?;
    expect("how many were allowed", after.allowed, before.allowed)
}

/// What is no question is refused as that and counted, and the next question is answered.
pub fn malformed(subject: &Subject<'_>) -> Result<(), String> {
    let before = stats(subject)?;
    let good = question(own(), Action::IpcCore, "")?;
    let mut dirty = question(own(), Action::StatefsRead, "/a")?;
    dirty.length = 1;
    let dotted = question(own(), Action::StatefsRead, "/state/../keys")?;
    let unknown = [
        Question { action: 0, ..good },
        Question { action: u16::MAX, ..good },
        Question { length: u16::MAX, ..good },
        dirty,
        dotted,
    ];
    for wrong in unknown {
        let outcome = subject.policy.check(&wrong, subject.deadline());
        expect("a question that is none", outcome, Err(CallError::Service(PolicyError::Malformed)))?;
    }
    let explained = subject.policy.explain(&Question { action: 0, ..good }, subject.deadline());
    expect("explaining it", explained.err(), Some(CallError::Service(PolicyError::Malformed)))?;
    for bytes in [0, 1, 63] {
        let header = Header::new(CHECK, bytes, 0);
        let mut registers = Registers { header, ..Registers::default() };
        // SAFETY: there are no buffers.
        let called = unsafe {
            system::call(subject.policy_endpoint, &mut registers, None, subject.deadline().ticks())
        };
        trying("a message of another size", called)?;
        let label = registers.header.label();
        expect("its answer", Status::from_number(label), Some(Status::Malformed))?;
    }
    let after = stats(subject)?;
    expect("how many were malformed", after.malformed - before.malformed, unknown.len() as u64 + 4)?;
    is_allowed(subject, Action::IpcCore, "")
}

/// An overlay takes a signature, `policy.admin` and a sequence; when it is in force nobody uses what they were told
/// before; and it is in force still when policyd has died.
pub fn overlay(subject: &Subject<'_>) -> Result<(), String> {
    let mut kept = trying("the policy", Policy::open(subject.environment))?;
    let mut may = |subject: &Subject<'_>| kept.may(own(), Action::IpcCore, "", subject.deadline());
    expect("what is asked first", may(subject), Ok(()))?;
    let asked = stats(subject)?.allowed;
    expect("what is kept", may(subject), Ok(()))?;
    expect("whether it was asked again", stats(subject)?.allowed, asked)?;

    let overlay = trying("the overlay", subject.environment.file("policy.overlay"))?;
    let next = trying("the next overlay", subject.environment.file("policy.overlay-next"))?;
    let push = |bytes: &[u8]| subject.policy.push(&(), [Lent::read(bytes)], subject.deadline());
    let before = trying("the epoch", subject.policy.epoch(&(), subject.deadline()))?;
    let mut forged = overlay.clone();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    let long = alloc::vec![0; OVERLAY_BYTES_MAX + 1];
    expect("an overlay too long", push(&long), Err(CallError::Service(PolicyError::NotLent)))?;
    expect("an overlay of one byte", push(&long[..1]), Err(CallError::Service(PolicyError::BadOverlay)))?;
    let signature = Err(CallError::Service(PolicyError::BadSignature));
    expect("a forged overlay", push(&forged), signature)?;
    expect("the policy after it", may(subject), Ok(()))?;
    let taken = trying("pushing", push(&overlay))?;
    expect("the epoch", taken.epoch, before.epoch + 1)?;
    let has_store = disk::has_disk(subject)?;
    expect("whether its record is durable", taken.durable, has_store.into())?;
    expect("what was kept", may(subject), Err(Denial::Denied(Some(Why::Denied))))?;
    is_allowed(subject, Action::DeviceKeygen, "")?;
    is_denied(subject, Action::StatefsRead, "/state/selftest/x", Why::OtherResource)?;
    if devices::has_entropy(subject)? {
        let refused = Err(CallError::Service(RngError::Denied));
        expect("bytes for whom it denies them", devices::draw(subject, 1), refused)?;
    }
    expect("pushing it again", push(&overlay), Err(CallError::Service(PolicyError::Replayed)))?;

    announce_restart("policyd");
    trying("killing policyd", subject.init.kill(&Target::Name("policyd".into()), subject.deadline()))?;
    is_allowed(subject, Action::DeviceKeygen, "")?;
    is_denied(subject, Action::IpcCore, "", Why::Denied)?;
    expect("pushing it again", push(&overlay), Err(CallError::Service(PolicyError::Replayed)))?;
    let taken = trying("pushing the next", push(&next))?;
    expect("whether its record is durable", taken.durable, has_store.into())?;
    expect("what is asked then", may(subject), Ok(()))?;
    let older = push(&overlay);
    expect("pushing the one before", older, Err(CallError::Service(PolicyError::Replayed)))?;
    is_denied(subject, Action::DeviceKeygen, "", Why::NoLine)
}

/// Who is denied again and again is recorded once at once and then together: each is counted, and nobody else's
/// record is kept out by it.
pub fn denials_merged(subject: &Subject<'_>) -> Result<(), String> {
    let stats = || trying("the journal's figures", subject.log.stats(&(), subject.deadline()));
    let before = stats()?;
    for _ in 0..DENIALS {
        is_denied(subject, Action::DeviceKeygen, "", Why::NoLine)?;
    }
    for _ in 0..OTHERS {
        is_allowed(subject, Action::ProcSpawn, "pong")?;
    }
    let decisions = |stats: &LogStats| stats.decisions + stats.decisions_before;
    let mut query = Query { after: before.total, service_id: Some(own()), audit: true, ..Query::ALL };
    while decisions(&stats()?) - decisions(&before) < DENIALS + OTHERS {
        // The last ones are told of when their window has passed.
        let page = trying("waiting for records", subject.log.follow(&query, subject.deadline()))?;
        query.after = page.end;
    }
    expect("decisions without room", stats()?.decisions_refused, before.decisions_refused)
}

/// A service that the policy does not give its device is not started, and whoever wanted it is told why.
pub fn mmio_deny(subject: &Subject<'_>) -> Result<(), String> {
    let before = stats(subject)?;
    let request = Run { name: "selftest-intruder".into(), arguments: String::new() };
    let denied = InitError::CouldNotStart(StartFailure::DeniedByPolicy);
    let outcome = subject.init.run(&request, subject.deadline());
    expect("running the intruder", outcome, Err(CallError::Service(denied)))?;
    let after = stats(subject)?;
    expect("how many were denied", after.denied - before.denied, 1)?;
    let services = trying("init's list", subject.init.list(&(), subject.deadline()))?;
    let intruder = services.entries.iter().find(|entry| entry.name == request.name);
    expect("its process", intruder.map(|entry| (entry.process_id, entry.restarts)), Some((0, 0)))
}
