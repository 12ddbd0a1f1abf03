//! Denials that come again and again: recorded once at once, and then together, with how many there were and since
//! when. So nobody fills the record by being denied, and no denial goes uncounted.
//!
//! A subject has few open windows of its own, each for one action and what denied it; what does not fit them is merged
//! into one more that tells of several. A window that has passed is written while the record has half of its room
//! free; until then it goes on counting. What is allowed is never merged: each time that it happened is a record.

use crate::{Action, Audit, Reason, Record};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Windows that one subject has of its own, beside the one that tells of several.
pub const WINDOWS_A_SUBJECT: usize = 4;
/// Windows of all subjects; beyond, the one that is due first is written early.
pub const WINDOWS_MAX: usize = 64;

/// What a record says that several decisions of one kind have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who asked, or for whom it was asked; for who asked in another's name, that one, not the other.
    pub subject: u64,
    /// What for; `None`: several things.
    pub action: Option<Action>,
    /// Of what, the last time.
    pub resource: String,
    /// Whether it was allowed.
    pub is_allowed: bool,
    /// What decided: file and line, or the reason where no line did.
    pub rule: String,
    /// How many decisions it tells of.
    pub count: u32,
    /// When the first was, in ticks.
    pub since: u64,
    /// When the last was.
    pub until: u64,
}

/// Where entries are written.
pub trait Sink {
    /// Whether the next entry finds room; if not, that is counted.
    fn has_room(&mut self) -> bool;

    /// Whether it would find room beside what is kept free for others.
    fn has_spare_room(&self) -> bool;

    /// Writes an entry, of which so many decisions were owed.
    fn write(&mut self, entry: &Entry, owed: u32);

    /// One more decision is owed: a successor learns of how many, should this process die before they are written.
    fn owe(&mut self);
}

struct Window {
    /// What came since the window's beginning and is owed.
    entry: Entry,
    due: u64,
}

/// The record of decisions, with denials merged.
pub struct Merging<S> {
    sink: S,
    windows: Vec<Window>,
    /// Ticks that a window lasts.
    length: u64,
}

impl<S: Sink> Merging<S> {
    /// A record into a sink, where a window lasts so many ticks. `inherited` tells of what a predecessor owed.
    pub fn new(sink: S, length: u64, inherited: Option<Entry>) -> Self {
        let windows = inherited.map(|entry| Window { due: entry.until, entry });
        Merging { sink, windows: windows.into_iter().collect(), length }
    }

    /// Where it is written to.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Writes what is due; yields when to come again, if anything is owed.
    pub fn tend(&mut self, now: u64) -> Option<u64> {
        let Merging { sink, windows, length } = self;
        if windows.is_empty() {
            return None;
        }
        windows.retain_mut(|window| {
            if now < window.due {
                return true;
            }
            if window.entry.count == 0 {
                return false;
            }
            window.due = now.saturating_add(*length);
            if sink.has_spare_room() {
                sink.write(&window.entry, window.entry.count);
                window.entry.count = 0;
            }
            true
        });
        windows.iter().filter(|window| window.entry.count > 0).map(|window| window.due).min()
    }

    fn merge(&mut self, entry: Entry) {
        let same = |window: &Window| {
            let known = &window.entry;
            (known.subject, known.action, known.rule.as_str())
                == (entry.subject, entry.action, entry.rule.as_str())
        };
        if let Some(window) = self.windows.iter_mut().find(|window| same(window)) {
            self.sink.owe();
            return add(&mut window.entry, entry);
        }
        let own = |window: &&Window| window.entry.subject == entry.subject;
        if self.windows.iter().filter(own).count() >= WINDOWS_A_SUBJECT {
            return self.merge_with_several(entry);
        }
        if self.windows.len() < WINDOWS_MAX {
            self.sink.write(&entry, 0);
            self.open(Entry { count: 0, ..entry });
        } else {
            self.make_place();
            self.sink.owe();
            self.open(entry);
        }
    }

    /// Into the one window of a subject that is about several things.
    fn merge_with_several(&mut self, entry: Entry) {
        self.sink.owe();
        let several =
            |window: &&mut Window| window.entry.subject == entry.subject && window.entry.action.is_none();
        if let Some(window) = self.windows.iter_mut().find(several) {
            return add(&mut window.entry, entry);
        }
        if self.windows.len() >= WINDOWS_MAX {
            self.make_place();
        }
        self.open(Entry { action: None, rule: String::from("several"), ..entry });
    }

    /// Ends the window that is due first. There is room for what it owes: that was made sure of for the decision that
    /// takes its place.
    fn make_place(&mut self) {
        let first = self.windows.iter().enumerate().min_by_key(|(_, window)| window.due);
        let Some(place) = first.map(|(place, _)| place) else { return };
        let window = self.windows.swap_remove(place);
        if window.entry.count > 0 {
            self.sink.write(&window.entry, window.entry.count);
        }
    }

    fn open(&mut self, entry: Entry) {
        let due = entry.until.saturating_add(self.length);
        self.windows.push(Window { entry, due });
    }
}

/// Counts a decision in. What was written before is not told of again.
fn add(window: &mut Entry, entry: Entry) {
    window.since = if window.count == 0 { entry.since } else { window.since };
    window.count = window.count.saturating_add(entry.count);
    (window.until, window.resource) = (entry.until, entry.resource);
}

impl<S: Sink> Audit for Merging<S> {
    fn has_room(&mut self) -> bool {
        self.sink.has_room()
    }

    fn keep(&mut self, record: &Record<'_>) {
        let entry = entry(record);
        match entry.is_allowed {
            true => self.sink.write(&entry, 0),
            false => self.merge(entry),
        }
    }
}

fn entry(record: &Record<'_>) -> Entry {
    // The folder says nothing that a reader does not know, and a record has little room.
    let rule = match (record.reason, record.rule) {
        (Reason::Spoofed, _) => match record.name {
            Some(name) => format!("Spoofed as {name}"),
            None => format!("Spoofed as {:016x}", record.subject),
        },
        (_, Some((file, line))) => format!("{}:{line}", file.rsplit('/').next().unwrap_or(file)),
        (reason, None) => format!("{reason:?}"),
    };
    Entry {
        subject: if record.reason == Reason::Spoofed { record.asker } else { record.subject },
        action: Some(record.action),
        resource: record.resource.into(),
        is_allowed: record.reason == Reason::Allowed,
        rule,
        count: 1,
        since: record.ticks,
        until: record.ticks,
    }
}
