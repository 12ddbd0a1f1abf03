//! The journal: what was written is found by its author, what was decided by whom it was decided about, and what may
//! not be sent is refused for its reason.

use crate::{Subject, announce_restart, expect, trying};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use nexus_abi::capability::Qos;
use nexus_abi::message::{Header, Registers};
use nexus_abi::{Error, Handle, service_id, system};
use nexus_ipc::{CallError, Status};
use nexus_proto::init::Target;
use nexus_proto::log::{Append, Entry, LEVEL_MAX, LogError, Query};
use nexus_rt::{Key, Level, Value, info, write_record};

/// Services that run in every boot, and what each wrote.
const CORE: [(&str, &str); 5] = [
    ("nexus-init", "init: start"),
    ("consoled", "consoled: ready"),
    ("logd", "logd: ready"),
    ("pong", "pong: ready"),
    ("nexus-shell", "nexus-shell: ready"),
];
/// Services, an endpoint of each, and an operation of it for which the byte 255 is no message.
const SERVED: [(&str, &str, u16); 9] = [
    ("policyd", "policy", 1),
    ("logd", "log", 3),
    ("rngd", "rng", 1),
    ("virtioblkd", "block", 6),
    ("statefsd", "state", 7),
    ("keystored", "keystore", 1),
    ("consoled", "console", 3),
    ("nexus-init", "init", 1),
    ("pong", "pong", 1),
];
/// Far more than anybody may send within a second, also where this many take longer than that.
const TOO_MANY: u32 = 1000;

fn found(subject: &Subject<'_>, query: &Query) -> Result<Vec<Entry>, String> {
    trying("a query", subject.log.query(query, subject.deadline())).map(|page| page.entries)
}

fn written_by(id: u64, text: &str) -> Query {
    Query { service_id: Some(id), text: text.into(), last: 8, ..Query::ALL }
}

/// What each core service wrote is found under its own name, and under nobody else's.
pub fn core_services(subject: &Subject<'_>) -> Result<(), String> {
    for (name, text) in CORE {
        let id = service_id(name);
        // From the oldest on: `init: start` is also the beginning of many later lines.
        let records = found(subject, &Query { last: 0, ..written_by(id, text) })?;
        expect(name, records.iter().any(|record| record.message == text && record.service_id == id), true)?;
        let anybody = found(subject, &Query { service_id: None, last: 0, ..written_by(0, text) })?;
        let claimed = anybody.iter().any(|record| record.message == text && record.service_id != id);
        expect("whether somebody else wrote it", claimed, false)?;
    }
    Ok(())
}

/// Records come back whole, by author, level, time, text and number, and who waits for one is told of it.
pub fn query(subject: &Subject<'_>) -> Result<(), String> {
    let own = subject.environment.page().service_id;
    let before = trying("figures", subject.log.stats(&(), subject.deadline()))?;
    let [number, below, word] = ["number", "below", "word"].map(Key::new);
    let fields = [(&number, Value::Unsigned(42)), (&below, Value::Signed(-1)), (&word, Value::Text(b"x"))];
    write_record(Level::Warning, "proof", "through the ring", &fields);
    let records =
        found(subject, &Query { level: Level::Warning as u8, ..written_by(own, "through the ring") })?;
    let Some(record) = records.last() else { return Err("what went through the ring is not found".into()) };
    let texts = (record.scope.as_str(), record.message.as_str(), record.fields.as_str());
    expect("the record", texts, ("proof", "through the ring", "below=-1\nnumber=42\nword=x"))?;
    let append =
        Append { level: 3, scope: "proof".into(), message: "by message".into(), fields: "a=b".into() };
    trying("an append", subject.log.append(&append, subject.deadline()))?;
    let follow = Query { after: record.id, last: 0, ..written_by(own, "by message") };
    let followed = trying("following", subject.log.follow(&follow, subject.deadline()))?.entries;
    let seen: Vec<_> = followed.iter().map(|record| (record.level, record.message.as_str())).collect();
    expect("what follows", seen.as_slice(), &[(3, "by message")])?;
    let none = |query| found(subject, &query).map(|records| records.len());
    expect("records of another", none(written_by(service_id("pong"), "by message"))?, 0)?;
    expect("records of the future", none(Query { since: u64::MAX, ..Query::ALL })?, 0)?;
    expect("serious ones", none(Query { level: 0, ..written_by(own, "by message") })?, 0)?;
    let after = trying("figures", subject.log.stats(&(), subject.deadline()))?;
    expect("whether the figures went up", after.total >= before.total + 2, true)
}

/// What the kernel decided about this process when it asked for a class of urgency is there, both ways.
pub fn decisions(subject: &Subject<'_>) -> Result<(), String> {
    let own = subject.environment.page().service_id;
    let set = |class: Qos| system::thread_set_qos(Handle::NONE, class as u64, Handle::NONE);
    expect("raising its class", set(Qos::PerfBurst), Err(Error::NotPermitted))?;
    expect("lowering its class", set(Qos::Normal), Ok(()))?;
    let records = found(subject, &Query { audit: true, last: 0, ..written_by(own, "thread.qos") })?;
    let is_own = records.iter().all(|record| record.subject == Some(own) && record.service_id == 0);
    expect("whether all are the kernel's about this process", is_own, true)?;
    for word in ["decision=deny", "decision=allow"] {
        expect(word, records.iter().any(|record| record.fields.lines().any(|line| line == word)), true)?;
    }
    Ok(())
}

fn append(subject: &Subject<'_>, append: &Append) -> Result<(), CallError<LogError>> {
    subject.log.append(append, subject.deadline())
}

/// What may not be sent, or asked, is refused for its reason, counted, and told of by the journal itself.
pub fn hardening(subject: &Subject<'_>) -> Result<(), String> {
    let stats = || trying("figures", subject.log.stats(&(), subject.deadline()));
    let refused = |reason| Err(CallError::Service(reason));
    let before = stats()?;
    let good = Append { level: 2, scope: String::new(), message: "m".into(), fields: String::new() };
    let claim = Append { fields: "service_id=1".into(), ..good.clone() };
    expect("a field that says who it is", append(subject, &claim), refused(LogError::InvalidArgs))?;
    let level = Append { level: LEVEL_MAX + 1, ..good.clone() };
    expect("a level that there is not", append(subject, &level), refused(LogError::InvalidArgs))?;
    let long = Append { message: "x".repeat(257), ..good.clone() };
    expect("a message too long", append(subject, &long), refused(LogError::OverLimit))?;
    let question = Query { text: "x".repeat(65), ..Query::ALL };
    let asked = subject.log.query(&question, subject.deadline()).map(drop);
    expect("a question too long", asked, refused(LogError::OverLimit))?;
    let flood = (0..TOO_MANY).map(|_| append(subject, &good)).find(Result::is_err);
    expect("too much at once", flood, Some(refused(LogError::RateLimited)))?;
    let after = stats()?;
    let counted = |before: u64, after: u64| after.saturating_sub(before);
    expect("invalid ones counted", counted(before.invalid_args, after.invalid_args), 2)?;
    expect("long ones counted", counted(before.over_limit, after.over_limit), 2)?;
    expect("excessive ones counted", counted(before.rate_limited, after.rate_limited), 1)?;
    for class in ["invalid_args", "over_limit", "rate_limited"] {
        let line = format!("logd: reject {class}");
        expect(&line, found(subject, &written_by(service_id("logd"), &line))?.len(), 1)?;
    }
    Ok(())
}

/// A message that is none is refused by every service as that, and each tells of it in the journal.
pub fn malformed_told(subject: &Subject<'_>) -> Result<(), String> {
    for (service, endpoint, operation) in SERVED {
        let endpoint = trying(endpoint, subject.environment.to_call(endpoint))?;
        let mut registers = Registers { header: Header::new(operation, 1, 0), ..Registers::default() };
        // The beginning of a number that goes on behind it.
        registers.words[0] = 0xff;
        // SAFETY: there are no buffers.
        match unsafe { system::call(endpoint, &mut registers, None, subject.deadline().ticks()) } {
            // Its machine has no device for it.
            Err(Error::Sealed) => continue,
            called => trying(service, called)?,
        }
        let status = Status::from_number(registers.header.label());
        expect(service, status, Some(Status::Malformed))?;
        let line = format!("{service}: reject malformed message");
        let told = found(subject, &written_by(service_id(service), &line))?;
        expect(&line, told.is_empty(), false)?;
    }
    Ok(())
}

/// A journal that is killed comes back, and what was written while it was away is in it.
pub fn restart(subject: &Subject<'_>) -> Result<(), String> {
    let own = subject.environment.page().service_id;
    announce_restart("logd");
    trying("killing logd", subject.init.kill(&Target::Name("logd".into()), subject.deadline()))?;
    info!("written while the journal was away");
    let records = found(subject, &written_by(own, "written while the journal was away"))?;
    expect("records of what was written meanwhile", records.len(), 1)
}
