//! What is asked of the journal.

use crate::Record;

/// Bytes of a text that is looked for.
pub const QUESTION_TEXT_BYTES_MAX: usize = 64;

/// Which records are wanted. Every part that is given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question<'a> {
    /// Only records after this number.
    pub after: u64,
    /// Only so many of the newest; 0: from the oldest on.
    pub last: usize,
    /// Only records at most this far from an error.
    pub level: u8,
    /// Only what this service wrote or, of decisions, was asked by.
    pub service_id: Option<u64>,
    /// Only records since this time, in ticks.
    pub since: u64,
    /// Only records that have this in scope, message or fields, whatever its case.
    pub text: &'a str,
    /// Only decisions.
    pub audit: bool,
    /// Only what is kept of boots before this one; otherwise only what is of this one.
    pub earlier: bool,
}

impl Question<'_> {
    /// Whether it asks for this record.
    pub fn asks_for(&self, record: &Record) -> bool {
        let is_of = |id| record.service_id == id || record.subject == Some(id);
        record.id > self.after
            && record.level <= self.level
            && record.ticks >= self.since
            && self.service_id.is_none_or(is_of)
            && (!self.audit || record.subject.is_some())
            && [&record.scope, &record.message, &record.fields].iter().any(|text| holds(text, self.text))
    }
}

/// Whether a text holds another, whatever the case of ASCII letters.
fn holds(text: &str, wanted: &str) -> bool {
    let wanted = wanted.as_bytes();
    wanted.is_empty() || text.as_bytes().windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
}
