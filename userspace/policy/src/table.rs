//! The table of lines, and its bytes: a magic with the version of the layout, then [`Table`] in postcard.

use crate::{
    Action, FILES_MAX, NAME_BYTES_MAX, RATE_MAX, RULES_MAX, SUBJECTS_MAX, TABLE_BYTES_MAX, is_resource,
    overlap,
};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// First bytes of an encoded table.
const MAGIC: [u8; 8] = *b"NXPOLCY\x01";

/// Every line that is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The key that verifies overlays; without one none is taken.
    pub overlay_key: Option<[u8; 32]>,
    /// Where lines come from.
    pub files: Vec<String>,
    /// Who lines are about, by rising id.
    pub subjects: Vec<Subject>,
    /// The lines, by rising subject, action and resource.
    pub rules: Vec<Rule>,
}

/// Somebody a line is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The service id, by which the kernel knows it.
    pub id: u64,
    /// The service's name.
    pub name: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// Place in [`Table::subjects`].
    pub subject: u16,
    /// What it may or may not do.
    pub action: Action,
    /// To what; empty: to anything.
    pub resource: String,
    /// Whether it may.
    pub allows: bool,
    /// How often a second; 0: without a bound.
    pub rate: u16,
    /// Place in [`Table::files`].
    pub file: u16,
    /// The line there, beginning with 1.
    pub line: u16,
}

/// Why bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// They do not begin with the magic of this layout.
    BadMagic,
    /// There are more of them than [`TABLE_BYTES_MAX`].
    TooLarge,
    /// They are truncated, too long, or not of this layout.
    Malformed,
    /// More files, subjects or lines than their limits, or a name longer than [`NAME_BYTES_MAX`].
    OverLimit,
    /// Subjects or lines are not in their order, or name what is not there.
    Disordered,
    /// A resource or a rate that no line can have.
    BadLine,
    /// Two lines are about one resource.
    Overlapping,
}

impl fmt::Display for TableError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TableError::BadMagic => "it does not begin with the magic of a policy table",
            TableError::TooLarge => "it has more than TABLE_BYTES_MAX bytes",
            TableError::Malformed => "its bytes are not of this layout",
            TableError::OverLimit => "it has more than RULES_MAX, SUBJECTS_MAX, FILES_MAX or NAME_BYTES_MAX",
            TableError::Disordered => "its lines are not in their order",
            TableError::BadLine => "a line has a resource or a rate that none can have",
            TableError::Overlapping => "two lines are about one resource",
        })
    }
}

impl core::error::Error for TableError {}

impl Table {
    /// What must hold in every table, whoever made it.
    pub fn check(&self) -> Result<(), TableError> {
        let counts = [
            (self.files.len(), FILES_MAX),
            (self.subjects.len(), SUBJECTS_MAX),
            (self.rules.len(), RULES_MAX),
        ];
        let names = self.files.iter().chain(self.subjects.iter().map(|subject| &subject.name));
        if counts.iter().any(|(count, most)| count > most)
            || names.into_iter().any(|name| name.len() > NAME_BYTES_MAX)
        {
            return Err(TableError::OverLimit);
        }
        let rising = self.subjects.is_sorted_by(|one, next| one.id < next.id);
        let there = self.rules.iter().all(|rule| {
            usize::from(rule.subject) < self.subjects.len() && usize::from(rule.file) < self.files.len()
        });
        if !rising || !there || !self.rules.is_sorted() {
            return Err(TableError::Disordered);
        }
        let sound =
            |rule: &Rule| rule.rate <= RATE_MAX && (rule.resource.is_empty() || is_resource(&rule.resource));
        if !self.rules.iter().all(sound) {
            return Err(TableError::BadLine);
        }
        match self.overlapping() {
            Some(_) => Err(TableError::Overlapping),
            None => Ok(()),
        }
    }

    /// Two lines of a sorted table about one resource, by their places.
    ///
    /// Neighbours are enough: whatever stands between a prefix and what it covers is covered as well.
    pub fn overlapping(&self) -> Option<(usize, usize)> {
        let same = |one: &Rule, next: &Rule| {
            (one.subject, one.action) == (next.subject, next.action) && overlap(&one.resource, &next.resource)
        };
        let place = self.rules.windows(2).position(|pair| matches!(pair, [one, next] if same(one, next)))?;
        Some((place, place + 1))
    }

    /// The lines about a subject and an action, with the place of the first.
    pub fn lines(&self, subject: u64, action: Action) -> (usize, &[Rule]) {
        let Ok(subject) = self.subjects.binary_search_by_key(&subject, |known| known.id) else {
            return (0, &[]);
        };
        let key = |rule: &Rule| (usize::from(rule.subject), rule.action);
        let first = self.rules.partition_point(|rule| key(rule) < (subject, action));
        let end = self.rules.partition_point(|rule| key(rule) <= (subject, action));
        (first, self.rules.get(first..end).unwrap_or(&[]))
    }

    /// The name of a subject, if a line is about it.
    pub fn name_of(&self, subject: u64) -> Option<&str> {
        let place = self.subjects.binary_search_by_key(&subject, |known| known.id).ok()?;
        self.subjects.get(place).map(|known| known.name.as_str())
    }

    /// The id of a name, if a line is about it.
    pub fn id_of(&self, name: &str) -> Option<u64> {
        self.subjects.iter().find(|subject| subject.name == name).map(|subject| subject.id)
    }

    /// The file of a line.
    pub fn file_of(&self, rule: &Rule) -> &str {
        self.files.get(usize::from(rule.file)).map_or("?", String::as_str)
    }
}

/// The bytes of a table; refuses what [`decode`] would refuse.
pub fn encode(table: &Table) -> Result<Vec<u8>, TableError> {
    table.check()?;
    let bytes = postcard::to_extend(table, MAGIC.to_vec()).map_err(|_| TableError::Malformed)?;
    if bytes.len() > TABLE_BYTES_MAX { Err(TableError::TooLarge) } else { Ok(bytes) }
}

/// The table in these bytes, fully checked.
pub fn decode(bytes: &[u8]) -> Result<Table, TableError> {
    if bytes.len() > TABLE_BYTES_MAX {
        return Err(TableError::TooLarge);
    }
    let body = bytes.strip_prefix(&MAGIC).ok_or(TableError::BadMagic)?;
    let (table, rest) = postcard::take_from_bytes::<Table>(body).map_err(|_| TableError::Malformed)?;
    if !rest.is_empty() {
        return Err(TableError::Malformed);
    }
    table.check()?;
    Ok(table)
}
