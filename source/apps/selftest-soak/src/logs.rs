//! Lines and decisions in a storm, whatever becomes of who reads them: each decision is in the journal or counted.

use crate::PATIENCE;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use nexus_proto::log::{Client as Log, Query, Stats};
use nexus_rt::{Audit, AuditLog, Decision, Environment, Key, Level, Value, info, write_record};

/// Decisions in a row, and the lines between them: more than a ring holds.
const BURST: u64 = 200;
/// Lines in a row: fewer than a ring holds.
const LINES: u64 = 16;
/// What a line's number is called.
const LINE: Key = Key::new("line");
/// Time for the readers between two bursts.
const PAUSE: Duration = Duration::from_millis(20);

/// What was asked and answered.
#[derive(Default)]
struct Asked {
    kept: u64,
    denied: u64,
}

/// Writes `bursts` bursts, then compares what it saw with what the journal has and counts.
pub fn storm(environment: &Environment, bursts: u64) -> Result<(), String> {
    let log = Log::new(environment.to_call("log").map_err(|error| format!("{error}"))?);
    let stats =
        || log.stats(&(), environment.deadline(PATIENCE)).map_err(|error| format!("figures: {error}"));
    let mut audit = AuditLog::open(environment).map_err(|error| format!("the audit ring: {error}"))?;
    let subject = environment.page().service_id;
    let before = stats()?;
    let mut asked = Asked::default();
    for burst in 0..bursts {
        for _ in 0..BURST {
            let Some(slot) = audit.reserve() else {
                asked.denied += 1;
                continue;
            };
            let (action, resource, rule) = ("soak.decide", "storm", "soak:1");
            slot.commit(&Audit { subject, action, resource, decision: Decision::Allow, rule });
            asked.kept += 1;
        }
        for line in 0..LINES {
            let number = [(&LINE, Value::Unsigned(burst * LINES + line))];
            write_record(Level::Info, "soak", "storm", &number);
        }
        environment.sleep(PAUSE);
    }
    let after = stats()?;
    let others = compare(&asked, &before, &after)?;
    let query = Query { service_id: Some(subject), audit: true, last: 1, ..Query::ALL };
    let page =
        log.query(&query, environment.deadline(PATIENCE)).map_err(|error| format!("a query: {error}"))?;
    if page.entries.iter().any(|entry| entry.subject != Some(subject) || entry.service_id != subject) {
        return Err(String::from("a decision is told as somebody else's"));
    }
    info!(
        "soak: of {} decisions each is there or counted, {others} more of others",
        asked.kept + asked.denied
    );
    Ok(())
}

/// Whether none is missing; yields how many decisions others made meanwhile, as policyd does when a driver starts anew.
fn compare(asked: &Asked, before: &Stats, after: &Stats) -> Result<u64, String> {
    let all = |stats: &Stats| stats.decisions + stats.decisions_before;
    let (kept, denied) = (all(after) - all(before), after.decisions_refused - before.decisions_refused);
    if kept >= asked.kept && denied == asked.denied {
        return Ok(kept - asked.kept);
    }
    Err(format!(
        "{} decisions were written and {} denied, {kept} and {denied} are there or counted",
        asked.kept, asked.denied
    ))
}
