//! The decision: one lookup, no memory, no clock.

use crate::{Action, Rule, Table, covers};
use core::fmt;

/// What a table says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Why.
    pub reason: Reason,
    /// The line that decided, and its place in the table; none for what no line is about.
    pub rule: Option<(usize, &'a Rule)>,
}

/// Why something is allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A line allows it.
    Allowed,
    /// A line denies it.
    Denied,
    /// No line is about the subject and the action.
    NoLine,
    /// Lines are about the subject and the action, and none covers the resource.
    OtherResource,
    /// The line that allows it does so less often.
    TooOften,
    /// It would have to be recorded, and there is no room.
    NoRecord,
    /// It was asked in somebody else's name. No verdict says so; records do.
    Spoofed,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Reason::Allowed => "a line allows it",
            Reason::Denied => "a line denies it",
            Reason::NoLine => "no line is about it",
            Reason::OtherResource => "no line covers the resource",
            Reason::TooOften => "it was asked more often than its line allows",
            Reason::NoRecord => "there is no room to record it",
            Reason::Spoofed => "it was asked in another's name",
        })
    }
}

impl Decision<'_> {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        self.reason == Reason::Allowed
    }
}

impl Table {
    /// Whether a subject may do something to a resource; an empty one is none in particular, which only a line
    /// about every resource covers.
    pub fn decide(&self, subject: u64, action: Action, resource: &str) -> Decision<'_> {
        let (first, lines) = self.lines(subject, action);
        if lines.is_empty() {
            return Decision { reason: Reason::NoLine, rule: None };
        }
        let found = lines.iter().enumerate().find(|(_, line)| covers(&line.resource, resource));
        match found.map(|(place, line)| (first + place, line)) {
            Some((place, line)) => {
                let reason = if line.allows { Reason::Allowed } else { Reason::Denied };
                Decision { reason, rule: Some((place, line)) }
            }
            None => Decision { reason: Reason::OtherResource, rule: None },
        }
    }
}
