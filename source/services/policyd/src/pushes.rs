//! Overlays that are in force and whose record is not durable yet: whoever pushed one is answered when it is.
//!
//! The journal writes the record into a store that asks policyd whether it may, so policyd must go on answering meanwhile.

use crate::audit::Trail;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::{Error, Handle, system};
use nexus_ipc::{Answer, Clock, Deadline};
use nexus_proto::policy::{PolicyError, Pushed};
use nexus_rt::{AuditMark, Keeping, warning};

/// Who may wait at a time; whoever comes then is told at once that it is not known.
const WAITING_MAX: usize = 4;
/// Time that the journal and the store have.
const PATIENCE: Duration = Duration::from_secs(2);

type ToAnswer = Answer<Pushed, PolicyError>;

/// One that waits.
struct Waiting {
    answer: ToAnswer,
    pushed: Pushed,
    mark: AuditMark,
    until: Deadline,
}

/// Who waits.
#[derive(Default)]
pub struct Pushes(Vec<Waiting>);

impl Pushes {
    /// Answers a push when the record that was written last is durable. While anybody waits, the bell of the ring is
    /// bound: without it an answer is a shorter way for everybody else.
    pub fn wait(
        &mut self,
        answer: ToAnswer,
        pushed: Pushed,
        trail: &Trail,
        clock: &Clock,
    ) -> Result<(), Error> {
        let log = trail.sink().log();
        let waiting = Waiting { answer, pushed, mark: log.mark(), until: Deadline::after(clock, PATIENCE) };
        if self.0.len() >= WAITING_MAX {
            waiting.answer(false);
            return Ok(());
        }
        if self.0.is_empty() {
            system::notification_bind(log.kept_bell())?;
        }
        self.0.push(waiting);
        Ok(())
    }

    /// Answers whom it can; yields until when somebody waits at the most.
    pub fn tend(&mut self, trail: &Trail) -> Result<Deadline, Error> {
        if self.0.is_empty() {
            return Ok(Deadline::NEVER);
        }
        for waiting in core::mem::take(&mut self.0) {
            match trail.sink().log().keeping(waiting.mark) {
                Keeping::Waiting if !waiting.until.has_passed() => self.0.push(waiting),
                keeping => waiting.answer(keeping == Keeping::Durable),
            }
        }
        if self.0.is_empty() {
            system::notification_bind(Handle::NONE)?;
        }
        Ok(self.0.iter().map(|waiting| waiting.until).min().unwrap_or(Deadline::NEVER))
    }
}

impl Waiting {
    fn answer(self, is_durable: bool) {
        if !is_durable {
            let sequence = self.pushed.sequence;
            warning!("policyd: overlay {sequence} is in force, and its record is not durable");
        }
        // Whoever pushed may have given up meanwhile.
        let _ = self.answer.send(Ok(Pushed { durable: is_durable.into(), ..self.pushed }));
    }
}
