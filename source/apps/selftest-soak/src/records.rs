//! Decisions that must outlive whatever happens: of each critical one it is told whether it is durable.

use alloc::format;
use alloc::string::String;
use core::time::Duration;
use nexus_rt::{Audit, AuditLog, Decision, Environment, Keeping, info};

/// Time that the journal and the store have to make one durable.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two.
const PAUSE: Duration = Duration::from_millis(30);

/// Takes so many critical decisions, and tells each number that is durable.
pub fn decide(environment: &Environment, count: u64) -> Result<(), String> {
    let mut audit = AuditLog::open(environment).map_err(|error| format!("the audit ring: {error}"))?;
    let mut durable = 0;
    for number in 0..count {
        let Some(slot) = audit.reserve() else { return Err("there is no slot".into()) };
        let (subject, resource) = (environment.page().service_id, format!("{number}"));
        let (action, rule) = ("identity.soak", "soak:1");
        slot.commit(&Audit { subject, action, resource: &resource, decision: Decision::Allow, rule });
        if audit.wait_kept(audit.mark(), environment.deadline(PATIENCE)) == Keeping::Durable {
            durable += 1;
            info!("soak: record {number} is durable");
        }
        environment.sleep(PAUSE);
    }
    info!("soak: {durable} of {count} records were durable when it was asked");
    Ok(())
}
