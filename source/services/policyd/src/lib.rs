//! The one authority about who may do what.
//!
//! It reads the table that the initial image carries, answers questions out of it, records what must be recorded,
//! and takes signed overlays. What it decides is in the library `policy`; here that meets the system calls. Who asks
//! is the kernel's word. It calls nobody and has no device, so everybody may ask it.
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod audit;
mod pushes;
mod rejects;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use audit::Trail;
use core::convert::Infallible;
use core::fmt;
use nexus_abi::Error;
use nexus_ipc::{Answer, Call, Caller, Clock, Deadline, Event, Leases, Refused, TELL_INTERVAL, Tally};
use nexus_policy::OwnBoard;
use nexus_proto::policy::{
    ALLOWED, DENIED, EXPLANATION_BYTES_MAX, Epoch, Explanation, MAX_BYTES, PolicyError, Pushed, Question,
    REFERENCE, Server, Stats, Verdict, Why, dispatch,
};
use nexus_rt::{Environment, SetupError, error, info, warning};
use policy::{
    Action, Judge, OVERLAY_BYTES_MAX, OverlayError, PushError, RESOURCE_BYTES_MAX, Reason, Refusal,
    TableError,
};
use pushes::Pushes;
use rejects::Class;

/// The table's file in the initial image.
pub const TABLE_FILE: &str = "policy.table";

const _: () = assert!(RESOURCE_BYTES_MAX == nexus_proto::policy::RESOURCE_BYTES_MAX);

/// Why it cannot go on. While it does not, nothing is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Setup(SetupError),
    Table(TableError),
    Overlay(OverlayError),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Setup(error) => write!(formatter, "{error}"),
            Failure::Table(error) => write!(formatter, "the table: {error}"),
            Failure::Overlay(error) => write!(formatter, "the overlay that was in force: {error}"),
        }
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Failure::Setup(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Setup(error.into())
    }
}

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("policyd: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, Failure> {
    let mut receiver = environment.to_serve(REFERENCE.endpoint, MAX_BYTES)?;
    let mut authority = Authority::begin(environment)?;
    let lines = authority.judge.table().rules.len();
    info!("policyd: {lines} lines in force, epoch {}", authority.judge.epoch());
    info!("policyd: ready");
    environment.ready();
    loop {
        let Authority { judge, pushes, clock, .. } = &mut authority;
        let due = judge.audit().tend(clock.now()).map_or(Deadline::NEVER, Deadline::at);
        let due = due.min(pushes.tend(judge.audit())?);
        if let Event::Call(call) = receiver.next(due)? {
            authority.count_refused(&call);
            dispatch(&mut authority, call);
        }
    }
}

/// The judge, and where its epoch and its overlay stand.
struct Authority {
    judge: Judge<Trail>,
    board: OwnBoard,
    clock: Clock,
    /// Whose push is in force and not answered yet.
    pushes: Pushes,
    rejects: Tally<{ Class::COUNT }>,
    /// Messages that were none of this service's and never became a question.
    not_understood: u64,
}

impl Authority {
    /// Begins with the image's table, under an epoch of its own, and with the overlay that was in force when its
    /// predecessor died.
    fn begin(environment: &Environment) -> Result<Self, Failure> {
        let table = policy::decode(&environment.file(TABLE_FILE)?).map_err(Failure::Table)?;
        let mut board = OwnBoard::open(environment)?;
        let (clock, trail) = (environment.clock(), audit::open(environment)?);
        let ticks_per_second = environment.page().ticks_per_second;
        let mut judge = Judge::new(table, board.epoch().saturating_add(1), ticks_per_second, trail);
        if let Some(overlay) = board.kept()? {
            // Without it, what it took away would be allowed again: then rather nothing is.
            judge.restore(&overlay).map_err(Failure::Overlay)?;
        }
        board.set_epoch(judge.epoch());
        let (pushes, rejects) = (Pushes::default(), Tally::default());
        Ok(Authority { judge, board, clock, pushes, rejects, not_understood: 0 })
    }

    /// Takes over how many messages before this one were refused before anybody here saw them.
    fn count_refused(&mut self, call: &Call<'_>) {
        let before = |refused| call.refused_before(refused);
        self.not_understood = before(Refused::Malformed).saturating_add(before(Refused::UnknownOperation));
    }

    /// Says once in a while, and per class, that something is refused; who does it often cannot fill the log.
    fn reject(&mut self, class: Class, caller: Caller) {
        let interval = self.clock.ticks(TELL_INTERVAL);
        if let Some(times) = self.rejects.count(class as usize, self.clock.now(), interval) {
            let name = self.judge.table().name_of(caller.service_id).unwrap_or("somebody");
            let id = caller.service_id;
            warning!("policyd: reject {class} of {name} ({id:016x}), {times} since this was last said");
        }
    }

    /// The lent overlay, read once.
    fn lent(leases: &Leases<'_>) -> Option<Vec<u8>> {
        let lent = leases.get(0).ok()?;
        let length = usize::try_from(lent.bytes()).ok().filter(|&length| length <= OVERLAY_BYTES_MAX)?;
        let mut overlay = vec![0; length];
        lent.read(0, &mut overlay).ok()?;
        Some(overlay)
    }

    /// Puts the lent overlay in force.
    fn take_overlay(&mut self, caller: Caller, leases: &Leases<'_>) -> Result<Epoch, PolicyError> {
        let Some(overlay) = Self::lent(leases) else {
            self.judge.count_malformed();
            self.reject(Class::Malformed, caller);
            return Err(PolicyError::NotLent);
        };
        let board = &mut self.board;
        // Kept before it is in force: a successor must not fall back behind it.
        let taken = self
            .judge
            .push(caller.service_id, &overlay, self.clock.now(), |overlay| board.keep(overlay).map_err(drop));
        match taken {
            Ok(epoch) => {
                self.board.set_epoch(epoch);
                info!("policyd: overlay {} in force, epoch {epoch}", self.judge.sequence());
                Ok(self.now_in_force())
            }
            Err(error) => {
                self.reject(Class::Overlay, caller);
                Err(refused(error))
            }
        }
    }

    fn now_in_force(&self) -> Epoch {
        Epoch { epoch: self.judge.epoch(), sequence: self.judge.sequence() }
    }

    fn answer(
        &mut self,
        caller: Caller,
        outcome: Result<policy::Verdict, Refusal>,
    ) -> Result<Verdict, PolicyError> {
        match outcome {
            Ok(verdict) => Ok(Verdict {
                decision: if verdict.reason == Reason::Allowed { ALLOWED } else { DENIED },
                epoch: verdict.epoch,
                why: why(verdict.reason) as u32,
                lasts: verdict.lasts.into(),
            }),
            Err(refusal) => {
                let (class, error) = match refusal {
                    Refusal::Spoofed => (Class::Spoofed, PolicyError::Spoofed),
                    Refusal::NotDelegated => (Class::NotDelegated, PolicyError::NotDelegated),
                    Refusal::Malformed => (Class::Malformed, PolicyError::Malformed),
                };
                self.reject(class, caller);
                Err(error)
            }
        }
    }
}

fn why(reason: Reason) -> Why {
    match reason {
        Reason::Allowed => Why::Allowed,
        Reason::Denied => Why::Denied,
        Reason::NoLine => Why::NoLine,
        Reason::OtherResource => Why::OtherResource,
        Reason::TooOften => Why::TooOften,
        Reason::NoRecord => Why::NoRecord,
        // Only records say it.
        Reason::Spoofed => Why::Denied,
    }
}

fn refused(error: PushError) -> PolicyError {
    match error {
        PushError::NotAdmin(_) => PolicyError::NotAdmin,
        PushError::NotKept => PolicyError::NotKept,
        PushError::Overlay(OverlayError::NoKey) => PolicyError::NoKey,
        PushError::Overlay(OverlayError::Malformed) => PolicyError::BadOverlay,
        PushError::Overlay(OverlayError::BadSignature) => PolicyError::BadSignature,
        PushError::Overlay(OverlayError::Replayed) => PolicyError::Replayed,
        PushError::Overlay(OverlayError::Forbidden) => PolicyError::Forbidden,
        PushError::Overlay(OverlayError::Table(_)) => PolicyError::BadTable,
    }
}

/// What a question's resource says that is not filled up with zeroes: nothing that any resource is.
const NO_RESOURCE: &[u8] = &[0];

impl Server for Authority {
    fn check(&mut self, caller: Caller, question: Question) -> Result<Verdict, PolicyError> {
        let resource = question.resource().unwrap_or(NO_RESOURCE);
        let (asker, now) = (caller.service_id, self.clock.now());
        let outcome = self.judge.check(asker, question.subject, question.action, resource, now);
        self.answer(caller, outcome)
    }

    fn decide(&mut self, caller: Caller, question: Question) -> Result<Verdict, PolicyError> {
        let resource = question.resource().unwrap_or(NO_RESOURCE);
        let (asker, now) = (caller.service_id, self.clock.now());
        let outcome = self.judge.check_for(asker, question.subject, question.action, resource, now);
        self.answer(caller, outcome)
    }

    fn epoch(&mut self, _caller: Caller, (): ()) -> Result<Epoch, PolicyError> {
        Ok(self.now_in_force())
    }

    fn push(&mut self, caller: Caller, (): (), answer: Answer<Pushed, PolicyError>) {
        let pushed = match self.take_overlay(caller, &answer.leases()) {
            Ok(Epoch { epoch, sequence }) => Pushed { epoch, sequence, durable: 0 },
            Err(error) => {
                // Whoever pushed may have given up meanwhile.
                let _ = answer.send(Err(error));
                return;
            }
        };
        if let Err(error) = self.pushes.wait(answer, pushed, self.judge.audit(), &self.clock) {
            error!("policyd: the journal's bell cannot be bound: {error}");
        }
    }

    fn stats(&mut self, _caller: Caller, (): ()) -> Result<Stats, PolicyError> {
        let counts = self.judge.counts();
        Ok(Stats {
            epoch: self.judge.epoch(),
            allowed: counts.allowed,
            denied: counts.denied,
            unrecorded: counts.unrecorded,
            refused: counts.refused,
            malformed: counts.malformed.saturating_add(self.not_understood),
            overlays_refused: counts.overlays_refused,
            recorded: counts.recorded,
        })
    }

    fn explain(&mut self, caller: Caller, question: Question) -> Result<Explanation, PolicyError> {
        let resource = question.resource().and_then(|resource| core::str::from_utf8(resource).ok());
        let known = Action::from_number(question.action).zip(resource);
        let Some((action, resource)) = known else {
            self.judge.count_malformed();
            self.reject(Class::Malformed, caller);
            return Err(PolicyError::Malformed);
        };
        let table = self.judge.table();
        let name = table.name_of(question.subject).map(String::from);
        let name = name.unwrap_or_else(|| alloc::format!("{:016x}", question.subject));
        Ok(explanation(policy::explain(table, &name, question.subject, action, resource)))
    }
}

/// As much of the text as a message holds, with room for its length. It may have any letters, as names of files do.
fn explanation(mut text: String) -> Explanation {
    text.truncate(text.floor_char_boundary(EXPLANATION_BYTES_MAX - size_of::<u64>()));
    Explanation { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_ipc::Message;

    #[test]
    fn test_reject_each_overlay_in_a_word_of_its_own() {
        let overlay = PushError::Overlay;
        let words = [
            (PushError::NotAdmin(Reason::NoLine), PolicyError::NotAdmin),
            (PushError::NotKept, PolicyError::NotKept),
            (overlay(OverlayError::NoKey), PolicyError::NoKey),
            (overlay(OverlayError::Malformed), PolicyError::BadOverlay),
            (overlay(OverlayError::BadSignature), PolicyError::BadSignature),
            (overlay(OverlayError::Replayed), PolicyError::Replayed),
            (overlay(OverlayError::Forbidden), PolicyError::Forbidden),
            (overlay(OverlayError::Table(TableError::OverLimit)), PolicyError::BadTable),
        ];
        for (error, word) in words {
            assert_eq!(refused(error), word);
        }
    }

    /// What is allowed without a record could never be durable.
    #[test]
    fn what_is_critical_is_an_action_that_is_recorded_each_time() {
        let is_critical =
            |action: &&Action| nexus_log::is_critical(nexus_rt::Decision::Allow, action.name().as_bytes());
        let critical: Vec<Action> = Action::ALL.iter().filter(is_critical).copied().collect();
        assert!(critical.iter().all(|action| action.is_sensitive()), "{critical:?}");
        let names: Vec<&str> = critical.iter().map(|action| action.name()).collect();
        let devices = ["uart", "rng", "blk", "net", "rtc", "slot"].map(|name| format!("device.mmio.{name}"));
        assert_eq!(names[..6], devices);
        assert_eq!(names[6..], ["policy.admin", "device.mmio.fwcfg"]);
    }

    /// It was once cut wherever its bytes ended, which ended policyd when that was within a letter.
    #[test]
    fn an_explanation_that_is_too_long_is_cut_at_a_letter_and_fits_its_message() {
        for beginning in ["", "x"] {
            let text = format!("{beginning}{}", "ä".repeat(EXPLANATION_BYTES_MAX));
            let explanation = explanation(text.clone());
            assert!(text.starts_with(&explanation.text) && explanation.text.ends_with('ä'));
            assert!(explanation.encode(&mut [0; EXPLANATION_BYTES_MAX]).is_ok());
        }
        assert_eq!(explanation("short".into()).text, "short");
    }
}
