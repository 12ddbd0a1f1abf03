//! Asking the policy without ever waiting for it.
//!
//! The supervising thread calls nobody. It puts a question on a [`Desk`]; a second thread takes it from there, calls
//! `policyd` with a deadline, puts the answer back and sets a bit that the supervising thread waits for anyway. No
//! answer is no. The second thread allocates nothing: its questions and answers travel in registers.
//!
//! That a device is given is critical: the second thread waits until the record of it is durable before it says so,
//! bounded by [`RECORD_PATIENCE`]. Where there is no store, or not yet, it does not wait.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use nexus_abi::limits::FOREVER;
use nexus_abi::{Handle, Rights, system};
use nexus_ipc::{Clock, Deadline};
use nexus_log::{Keeping, Memory, RING_BYTES, Watch};
use nexus_proto::policy::{ALLOWED, Client, DENIED, Question};
use nexus_rt::{Environment, KEPT_BIT, MapError, error, warning};
use zerocopy::{FromBytes, IntoBytes};

/// The bit of the deaths' notification that says that an answer is there: services have those below it.
pub const ANSWER_BIT: u64 = 1 << 63;
/// Time that `policyd` has for an answer: more than a busy computer ever stood still for, and than it takes to miss a
/// `policyd` that hangs and to start the next, which is then asked. Less than a person at the prompt waits.
const PATIENCE: Duration = Duration::from_millis(4_500);
/// Time that the journal and the store have to make the record of an answer durable.
pub const RECORD_PATIENCE: Duration = Duration::from_millis(500);
/// The bit by which the second thread hears of a question.
const QUESTION_BIT: u64 = 1;
/// Words of a question.
const WORDS: usize = size_of::<Question>() / size_of::<u64>();
/// Questions that wait: one a service, and as many of callers.
pub const QUESTIONS_MAX: usize = 2 * system_manifest::SERVICES_MAX;

const _: () = assert!(system_manifest::SERVICES_MAX < 63);

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The policy allows it.
    Allowed,
    /// The policy denies it.
    Denied,
    /// There is no answer, or none that can be understood: for now that is no.
    NoAnswer,
}

/// Who is asked about, what, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The service id of whoever wants it.
    pub subject: u64,
    /// The number of the action; `None`: no action is of that kind, and nobody may do it.
    pub action: Option<u16>,
    /// The resource.
    pub resource: alloc::string::String,
    /// Whether a yes waits until its record is durable.
    pub waits: bool,
}

/// Where the answers are written down.
#[derive(Clone, Copy)]
struct Record {
    watch: Watch<'static>,
    bell: Handle,
}

impl Record {
    /// Of the ring and the bell that this process holds.
    fn open(environment: &Environment, (ring, bell): (Handle, Handle)) -> Result<Self, MapError> {
        let base = environment.map_memory(ring, RING_BYTES, Rights::READ | Rights::WRITE)?;
        // SAFETY: just mapped for good with this size, and only looked at through the one `Watch`.
        let watch = Watch::new(unsafe { Memory::from_mapped(base) });
        Ok(Record { watch, bell })
    }

    /// Waits until all that is critical is durable, or will not be told of as that.
    fn wait(&self, clock: &Clock) {
        let (mark, deadline) = (self.watch.mark(), Deadline::after(clock, RECORD_PATIENCE));
        while self.watch.keeping(mark) == Keeping::Waiting {
            if system::notification_wait(self.bell, KEPT_BIT, deadline.ticks()).is_err() {
                return warning!("init: the record of a device that is given is not durable in time");
            }
        }
    }
}

/// Where both threads meet: one question at a time.
struct Desk {
    endpoint: Handle,
    /// Tells the second thread of a question.
    asked: Handle,
    /// Tells the first of an answer.
    answered: Handle,
    clock: Clock,
    record: Option<Record>,
    question: [AtomicU64; WORDS],
    /// Whether a yes waits for its record.
    waits: AtomicBool,
    answer: AtomicU8,
}

/// [`Desk::answer`] while there is none.
const OPEN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;
const NONE: u8 = 3;

impl Desk {
    /// The second thread: answers what is asked, for ever.
    fn answer_questions(&self) {
        loop {
            if let Err(error) = system::notification_wait(self.asked, QUESTION_BIT, FOREVER) {
                error!("init: questions to the policy cannot be waited for: {error}");
                return;
            }
            self.answer.store(self.answer(), Ordering::Release);
            if let Err(error) = system::notification_signal(self.answered, ANSWER_BIT) {
                error!("init: an answer of the policy cannot be told: {error}");
            }
        }
    }

    fn answer(&self) -> u8 {
        let mut words = [0; WORDS];
        for (word, from) in words.iter_mut().zip(&self.question) {
            *word = from.load(Ordering::Acquire);
        }
        let Ok(question) = Question::read_from_bytes(words.as_bytes()) else { return NONE };
        let mut record = self.record.filter(|_| self.waits.load(Ordering::Acquire));
        // Before it is written: only who keeps it from the beginning knows what becomes of it.
        record.iter_mut().for_each(|record| record.watch.look());
        let deadline = Deadline::after(&self.clock, PATIENCE);
        match Client::new(self.endpoint).decide(&question, deadline) {
            Ok(verdict) if verdict.decision == ALLOWED => {
                record.iter().for_each(|record| record.wait(&self.clock));
                YES
            }
            Ok(verdict) if verdict.decision == DENIED => NO,
            _ => NONE,
        }
    }
}

/// Questions that wait, each with what it is asked for.
pub struct Questions<P> {
    desk: Option<&'static Desk>,
    waiting: VecDeque<(P, Asked)>,
    under_way: Option<P>,
    /// What needs no asking: no action is of its kind, or nobody is there to ask.
    settled: VecDeque<(P, Permission)>,
}

impl<P> Questions<P> {
    /// Starts the second thread, which asks at `endpoint`; `None`: there is no policy, and nothing is allowed. `record`:
    /// the ring that its answers are written down in, and what rings when that is durable.
    pub fn open(
        environment: &Environment,
        endpoint: Option<Handle>,
        record: Option<(Handle, Handle)>,
        answered: Handle,
    ) -> Result<Self, MapError> {
        let record = record.map(|record| Record::open(environment, record)).transpose()?;
        let desk = endpoint.map(|endpoint| begin(environment, endpoint, record, answered)).transpose()?;
        Ok(Questions { desk, waiting: VecDeque::new(), under_way: None, settled: VecDeque::new() })
    }

    /// Whether another question finds room.
    pub fn have_room(&self) -> bool {
        self.waiting.len() + self.settled.len() < QUESTIONS_MAX
    }

    /// Asks; the answer comes out of [`Questions::answered`], at once or later. Beyond [`QUESTIONS_MAX`] there is none.
    pub fn ask(&mut self, purpose: P, asked: Asked) {
        if self.desk.is_none() || !self.have_room() {
            self.settled.push_back((purpose, Permission::NoAnswer));
        } else if asked.action.is_none() {
            self.settled.push_back((purpose, Permission::Denied));
        } else {
            self.waiting.push_back((purpose, asked));
            self.go_on();
        }
    }

    /// The next answer that is there.
    pub fn answered(&mut self) -> Option<(P, Permission)> {
        if let Some(settled) = self.settled.pop_front() {
            return Some(settled);
        }
        let answer = self.desk?.answer.load(Ordering::Acquire);
        if answer == OPEN {
            return None;
        }
        let purpose = self.under_way.take()?;
        self.go_on();
        let permission = match answer {
            YES => Permission::Allowed,
            NO => Permission::Denied,
            _ => Permission::NoAnswer,
        };
        Some((purpose, permission))
    }

    /// Puts the next question on the desk, if it is free.
    fn go_on(&mut self) {
        let Some(desk) = self.desk.filter(|_| self.under_way.is_none()) else { return };
        let Some((purpose, asked)) = self.waiting.pop_front() else { return };
        let question = asked.action.and_then(|action| Question::new(asked.subject, action, &asked.resource));
        self.under_way = Some(purpose);
        let Some(question) = question else {
            // No resource is that long.
            desk.answer.store(NO, Ordering::Release);
            return tell(desk.answered, ANSWER_BIT);
        };
        for (word, bytes) in desk.question.iter().zip(question.as_bytes().chunks_exact(size_of::<u64>())) {
            let bytes = bytes.try_into().unwrap_or_default();
            word.store(u64::from_ne_bytes(bytes), Ordering::Release);
        }
        desk.waits.store(asked.waits, Ordering::Release);
        desk.answer.store(OPEN, Ordering::Release);
        tell(desk.asked, QUESTION_BIT);
    }
}

/// Both are init's own and never closed.
fn tell(notification: Handle, bit: u64) {
    if let Err(error) = system::notification_signal(notification, bit) {
        error!("init: the thread that asks the policy cannot be told: {error}");
    }
}

fn begin(
    environment: &Environment,
    endpoint: Handle,
    record: Option<Record>,
    answered: Handle,
) -> Result<&'static Desk, MapError> {
    let asked = system::notification_create()?;
    let desk: &'static Desk = Box::leak(Box::new(Desk {
        endpoint,
        asked,
        answered,
        clock: environment.clock(),
        record,
        question: Default::default(),
        waits: AtomicBool::new(false),
        answer: AtomicU8::new(OPEN),
    }));
    nexus_rt::thread::spawn(environment, Box::leak(Box::new(|| desk.answer_questions())))?;
    Ok(desk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    /// A desk with nobody behind it: what is asked stays until an answer is put there.
    fn questions() -> (Questions<usize>, &'static Desk) {
        let desk: &'static Desk = Box::leak(Box::new(Desk {
            endpoint: Handle::NONE,
            asked: Handle::NONE,
            answered: Handle::NONE,
            clock: Clock::new(1000),
            record: None,
            question: Default::default(),
            waits: AtomicBool::new(false),
            answer: AtomicU8::new(OPEN),
        }));
        let (waiting, settled) = (VecDeque::new(), VecDeque::new());
        (Questions { desk: Some(desk), waiting, under_way: None, settled }, desk)
    }

    fn asked(resource: &str) -> Asked {
        Asked { subject: 7, action: Some(3), resource: resource.into(), waits: false }
    }

    #[test]
    fn answers_come_one_by_one_in_the_order_of_the_questions() {
        let (mut questions, desk) = questions();
        questions.ask(1, asked("a"));
        questions.ask(2, asked("b"));
        assert_eq!(questions.answered(), None, "nobody has answered");
        desk.answer.store(YES, Ordering::Release);
        assert_eq!(questions.answered(), Some((1, Permission::Allowed)));
        assert_eq!(questions.answered(), None, "the answer to the first is not taken for one to the second");
        desk.answer.store(NO, Ordering::Release);
        assert_eq!(questions.answered(), Some((2, Permission::Denied)));
        assert_eq!(questions.answered(), None);
    }

    #[test]
    fn test_reject_whatever_is_not_exactly_an_answer() {
        for odd in [NONE, 4, 0x81, u8::MAX] {
            let (mut questions, desk) = questions();
            questions.ask(1, asked("a"));
            desk.answer.store(odd, Ordering::Release);
            assert_eq!(questions.answered(), Some((1, Permission::NoAnswer)));
        }
    }

    #[test]
    fn test_reject_what_no_action_is_about_and_resources_that_no_line_can_have() {
        let (mut questions, _) = questions();
        questions.ask(1, Asked { action: None, ..asked("a") });
        assert_eq!(questions.answered(), Some((1, Permission::Denied)));
        questions.ask(2, asked(&"x".repeat(policy::RESOURCE_BYTES_MAX + 1)));
        assert_eq!(questions.answered(), Some((2, Permission::Denied)));
    }

    #[test]
    fn test_reject_every_question_where_there_is_no_policy() {
        let (waiting, settled) = (VecDeque::new(), VecDeque::new());
        let mut questions = Questions { desk: None, waiting, under_way: None, settled };
        questions.ask(1, asked("a"));
        questions.ask(2, Asked { action: None, resource: String::new(), subject: 0, waits: false });
        assert_eq!(questions.answered(), Some((1, Permission::NoAnswer)));
        assert_eq!(questions.answered(), Some((2, Permission::NoAnswer)));
    }

    #[test]
    fn test_reject_more_questions_than_may_wait() {
        let (mut questions, _) = questions();
        // The first is on the desk.
        for number in 0..=QUESTIONS_MAX {
            assert!(questions.have_room());
            questions.ask(number, asked("a"));
        }
        assert!(!questions.have_room());
        questions.ask(usize::MAX, asked("a"));
        assert_eq!(questions.answered(), Some((usize::MAX, Permission::NoAnswer)));
    }
}
