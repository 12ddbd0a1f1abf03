//! The judge: whether a console shows what the ladder promises, and nothing that it forbids.
//!
//! It sees lines, not time and not QEMU, so that recorded consoles test it. Its verdict is final: after
//! `Done` or `Failed` no line changes it.
//!
//! What a test provokes is announced, by the kernel or the self-test, with a line that ends in
//! `expect fault NAME` or `expect restart NAME`. One announcement allows one fault report (and a panic of
//! that process), and one more start of it.

use crate::console::Line;
use crate::ladder::{Ladder, Marker};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// Who may announce that something bad is about to be provoked.
const ANNOUNCERS: [&str; 2] = ["neuron", "selftest-client"];
/// How the first line of a fault report begins somewhere in the kernel's line.
const FAULT_REPORT: &str = "fault: ";

/// What is known after a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More lines are needed.
    Going,
    /// Everything that is required was seen.
    Done,
    /// The run failed.
    Failed(Failure),
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A later marker came first.
    OutOfOrder {
        /// The marker that came.
        came: String,
    },
    /// Somebody printed another's marker.
    WrongAuthor {
        /// The marker.
        marker: String,
        /// Who printed it, if known.
        author: Option<String>,
        /// Who may.
        expected: String,
    },
    /// A marker came again without an announced restart.
    Twice {
        /// The marker.
        marker: String,
    },
    /// A line says FAIL.
    SaysFail,
    /// A line tells of a panic.
    Panic,
    /// A fault report that nothing announced.
    UnannouncedFault,
    /// Nothing new came for so many seconds.
    Silence {
        /// The bound, in seconds.
        seconds: u64,
    },
    /// The whole run took so many seconds.
    TimedOut {
        /// The bound, in seconds.
        seconds: u64,
    },
    /// QEMU ended too early.
    Ended {
        /// What QEMU said.
        reason: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::OutOfOrder { came } => write!(to, "`{came}` came first"),
            Failure::WrongAuthor { marker, author, expected } => {
                let author = author.as_deref().unwrap_or("somebody without origin");
                write!(to, "`{marker}` was printed by {author}; only {expected} may")
            }
            Failure::Twice { marker } => write!(to, "`{marker}` came twice"),
            Failure::SaysFail => write!(to, "a line says FAIL"),
            Failure::Panic => write!(to, "a line tells of a panic"),
            Failure::UnannouncedFault => write!(to, "a fault was reported that no test announced"),
            Failure::Silence { seconds } => write!(to, "no new marker for {seconds} s"),
            Failure::TimedOut { seconds } => write!(to, "not done after {seconds} s"),
            Failure::Ended { reason } => write!(to, "QEMU ended: {reason}"),
        }
    }
}

/// Which part of the ladder a run must climb.
#[derive(Clone, Debug, Default)]
pub struct Goal {
    /// Profiles whose markers are required besides those that always are.
    pub profiles: Vec<String>,
    /// The last phase; all when left out.
    pub phase: Option<usize>,
    /// The last marker; all when left out.
    pub marker: Option<String>,
}

/// The state of one run.
pub struct Judge<'a> {
    ladder: &'a Ladder,
    /// Required markers that have not come; those in one step may come in any order.
    steps: VecDeque<Vec<&'a Marker>>,
    /// How often each marker may still come again.
    again: BTreeMap<&'a str, u32>,
    seen: BTreeMap<&'a str, u32>,
    /// Faults that were announced and have not been reported.
    faults_announced: u32,
    /// Processes that may panic; each panic ends in a fault report, which is counted.
    may_panic: BTreeSet<String>,
    goal: Goal,
    finished: Option<Verdict>,
}

impl<'a> Judge<'a> {
    /// Begins a run.
    pub fn new(ladder: &'a Ladder, goal: Goal) -> Self {
        let in_goal = |marker: &&Marker| {
            let phase = ladder.phase_index(&marker.phase).unwrap_or(usize::MAX);
            marker.is_required(&goal.profiles) && goal.phase.is_none_or(|last| phase <= last)
        };
        let mut steps: VecDeque<Vec<&Marker>> = VecDeque::new();
        for marker in ladder.markers.iter().filter(in_goal) {
            match steps.back_mut() {
                Some(step) if marker.any_order.is_some() && step[0].any_order == marker.any_order => {
                    step.push(marker);
                }
                _ => steps.push_back(vec![marker]),
            }
        }
        Judge {
            ladder,
            steps,
            again: BTreeMap::new(),
            seen: BTreeMap::new(),
            faults_announced: 0,
            may_panic: BTreeSet::new(),
            goal,
            finished: None,
        }
    }

    /// The marker that must come next.
    pub fn expected(&self) -> Option<&'a Marker> {
        self.steps.front().and_then(|step| step.first().copied())
    }

    /// Takes a line that was cleaned.
    pub fn line(&mut self, line: &str) -> Verdict {
        if let Some(verdict) = &self.finished {
            return verdict.clone();
        }
        let line = Line::parse(line);
        let verdict = match self.forbidden(line) {
            Some(failure) => Verdict::Failed(failure),
            None => self.marker(line).unwrap_or_else(Verdict::Failed),
        };
        if verdict != Verdict::Going {
            self.finished = Some(verdict.clone());
        }
        verdict
    }

    /// What no boot may show.
    fn forbidden(&mut self, line: Line<'_>) -> Option<Failure> {
        if self.ladder.markers.iter().any(|marker| marker.matches(line.text)) {
            return None;
        }
        if line.text.split(|character: char| !character.is_ascii_alphanumeric()).any(|word| word == "FAIL") {
            return Some(Failure::SaysFail);
        }
        if line.author.is_some_and(|author| ANNOUNCERS.contains(&author)) && self.announced(line.text) {
            return None;
        }
        if line.text.to_ascii_lowercase().contains("panic") {
            let announced = line.author.is_some_and(|author| self.may_panic.contains(author));
            return (!announced).then_some(Failure::Panic);
        }
        if line.author == Some("neuron") && line.text.contains(FAULT_REPORT) {
            match self.faults_announced.checked_sub(1) {
                Some(rest) => self.faults_announced = rest,
                None => return Some(Failure::UnannouncedFault),
            }
        }
        None
    }

    fn announced(&mut self, text: &str) -> bool {
        let fault = text.split_once("expect fault ");
        let Some((_, service)) = fault.or_else(|| text.split_once("expect restart ")) else { return false };
        if fault.is_some() {
            self.faults_announced += 1;
            self.may_panic.insert(service.to_string());
        }
        let starts = [format!("init: start {service}"), format!("init: up {service}")];
        for marker in &self.ladder.markers {
            if marker.author == service || starts.contains(&marker.text) {
                *self.again.entry(&marker.text).or_default() += 1;
            }
        }
        true
    }

    fn marker(&mut self, line: Line<'_>) -> Result<Verdict, Failure> {
        let Some(marker) = self.ladder.markers.iter().find(|marker| marker.matches(line.text)) else {
            return Ok(Verdict::Going);
        };
        let text = marker.text.clone();
        if !line.author.is_some_and(|author| is_author(author, &marker.author)) {
            let author = line.author.map(str::to_string);
            return Err(Failure::WrongAuthor { marker: text, author, expected: marker.author.clone() });
        }
        let times = self.seen.entry(&marker.text).or_default();
        *times += 1;
        if !marker.repeats && *times > 1 + self.again.get(marker.text.as_str()).copied().unwrap_or(0) {
            return Err(Failure::Twice { marker: text });
        }
        if *times == 1 {
            self.climb(marker)?;
        }
        let reached = self.goal.marker.as_ref() == Some(&text);
        Ok(if reached || self.steps.is_empty() { Verdict::Done } else { Verdict::Going })
    }

    /// Takes the marker off the step where it is due.
    fn climb(&mut self, marker: &Marker) -> Result<(), Failure> {
        let is_it = |other: &&Marker| other.text == marker.text;
        if let Some(step) = self.steps.front_mut()
            && step.iter().any(is_it)
        {
            step.retain(|other| !is_it(other));
            if step.is_empty() {
                self.steps.pop_front();
            }
            return Ok(());
        }
        match self.steps.iter().flatten().any(is_it) {
            true => Err(Failure::OutOfOrder { came: marker.text.clone() }),
            false => Ok(()),
        }
    }
}

/// Whether an origin names this author: by its name or, before anybody knows names, by its service id.
fn is_author(origin: &str, name: &str) -> bool {
    origin == name || origin == format!("{:016x}", nexus_abi::service_id(name))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
