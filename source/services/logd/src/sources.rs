//! What the journal is filled from: the kernel's ring, every service's log ring, every audit ring.

use crate::audits::{Audits, Held};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use journal::{FIELDS_BYTES_MAX, Journal, MESSAGE_BYTES_MAX, Record, SCOPE_BYTES_MAX, clean, fields, kernel};
use nexus_abi::records::{RingRecord, ring_records};
use nexus_abi::{Error, Handle, Kind, Rights, service_id, system};
use nexus_log::{AuditItem, AuditRecord, Consumer, Decision, Item, Memory, RING_BYTES, Reader, Value};
use nexus_rt::{Environment, SetupError};

/// Bytes of the kernel's ring that are read at a time.
const KERNEL_BYTES: usize = 16 * 1024;
/// Items that one source gives in a turn; what is left comes with the next.
const ITEMS_A_TURN: usize = 32;
/// Turns before anybody is answered: what every ring can hold fits into them.
const TURNS_MAX: usize = 8;
/// The journal's number of a warning.
const WARNING: u8 = 1;
/// The journal's number of ordinary life.
const INFO: u8 = 2;
/// What decisions are of.
const AUDIT_SCOPE: &str = "audit";

/// What came of taking in what there is.
pub struct Drained {
    /// Whether there was anything.
    pub had_any: bool,
    /// Whether something is left, which then rings for nobody.
    pub has_more: bool,
}

/// Every ring.
pub struct Sources {
    own_id: u64,
    kernel: Kernel,
    rings: Vec<(String, Consumer<'static>)>,
    /// The audit rings.
    pub audits: Audits,
}

/// The kernel's ring: every reader has its own place in it, by number.
struct Kernel {
    control: Handle,
    after: u64,
    buffer: Vec<u8>,
    has_failed: bool,
}

/// What a turn brought: records, of decisions where they stand, and what only is counted.
#[derive(Default)]
struct Turn {
    records: Vec<(Record, Option<Held>)>,
    lost: u64,
    refused: u64,
    /// Decisions beyond the first of records that tell of several.
    merged: u64,
    is_cut_short: bool,
}

impl Sources {
    /// Maps every ring that this process was handed.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        let control = environment.needed("system", Kind::SystemControl)?;
        let mut rings = Vec::new();
        for (name, vmo) in environment.capabilities("ring/", Kind::Vmo) {
            rings.push((String::from(name), Consumer::new(mapped(environment, vmo)?, Reader::Journal)));
        }
        let audits = Audits::open(environment)?;
        let kernel = Kernel { control, after: 0, buffer: vec![0; KERNEL_BYTES], has_failed: false };
        Ok(Sources { own_id: environment.page().service_id, kernel, rings, audits })
    }

    /// Takes in what there is, in the order of its time, for [`TURNS_MAX`] turns at the most: who writes faster than this
    /// reads does not keep it from answering.
    pub fn drain(&mut self, journal: &mut Journal) -> Drained {
        let mut had_any = false;
        let has_more = take_turns(|| {
            let mut turn = Turn::default();
            self.turn(&mut turn);
            journal.count_lost(turn.lost);
            journal.count_refused(turn.refused);
            journal.count_merged(turn.merged);
            turn.records.sort_by_key(|(record, _)| record.ticks);
            had_any |= !turn.records.is_empty();
            for (record, held) in turn.records {
                let id = journal.push(record);
                if let Some(held) = held {
                    self.audits.hold(id, held);
                }
            }
            self.audits.release();
            turn.is_cut_short
        });
        Drained { had_any, has_more }
    }

    fn turn(&mut self, turn: &mut Turn) {
        let own_id = self.own_id;
        self.kernel.read(own_id, turn);
        for (name, consumer) in &mut self.rings {
            let mut items = core::iter::from_fn(|| consumer.read()).take(ITEMS_A_TURN);
            let count = items
                .by_ref()
                .map(|item| turn.records.push((line(own_id, name, item, &mut turn.lost), None)))
                .count();
            turn.is_cut_short |= count == ITEMS_A_TURN;
        }
        let mut taken = |name: &str, item, held| {
            let record = decision(own_id, name, item, &mut turn.refused, &mut turn.merged);
            let is_decision = record.subject.is_some();
            turn.records.push((record, Some(held).filter(|_| is_decision)));
        };
        turn.is_cut_short |= self.audits.take(ITEMS_A_TURN, &mut taken);
    }
}

impl Turn {
    fn push(&mut self, record: Record) {
        self.records.push((record, None));
    }
}

/// Takes turns until one is not cut short, and [`TURNS_MAX`] at the most; yields whether the last one was.
fn take_turns(mut turn: impl FnMut() -> bool) -> bool {
    (0..TURNS_MAX).all(|_| turn())
}

pub fn mapped(environment: &Environment, vmo: Handle) -> Result<Memory<'static>, SetupError> {
    let base = environment.map_memory(vmo, RING_BYTES, Rights::READ | Rights::WRITE)?;
    // SAFETY: just mapped for good with this size, and reached through the one consumer alone.
    Ok(unsafe { Memory::from_mapped(base) })
}

/// A record of the journal itself, about a source.
fn about(own_id: u64, message: String) -> Record {
    let (ticks, level) = (system::ticks(), WARNING);
    Record { ticks, level, service_id: own_id, message, ..Record::default() }
}

fn line(own_id: u64, name: &str, item: Item, lost: &mut u64) -> Record {
    match item {
        Item::Record(record) => Record {
            ticks: record.ticks,
            level: record.level as u8,
            service_id: service_id(name),
            scope: clean(record.scope(), SCOPE_BYTES_MAX),
            message: clean(record.message(), MESSAGE_BYTES_MAX),
            fields: fields(record.fields().map(|(key, value)| (key, shown(value))), FIELDS_BYTES_MAX),
            ..Record::default()
        },
        Item::Lost(count) => {
            *lost += u64::from(count);
            about(own_id, format!("logd: {count} lines of {name} were lost: its ring was full"))
        }
        Item::Broken => about(own_id, format!("logd: {name} broke its ring; its unread lines were given up")),
    }
}

fn shown(value: Value<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.show(|part| bytes.extend_from_slice(part));
    bytes
}

fn decision(own_id: u64, name: &str, item: AuditItem, refused: &mut u64, merged: &mut u64) -> Record {
    match item {
        AuditItem::Record(record) => {
            *merged += u64::from(record.count.saturating_sub(1));
            decided(service_id(name), &record)
        }
        AuditItem::Refused(count) => {
            *refused += u64::from(count);
            about(own_id, format!("logd: {name} denied {count} times because its audit ring was full"))
        }
        AuditItem::Broken => {
            about(own_id, format!("logd: {name} broke its audit ring; what was unread is lost"))
        }
    }
}

fn decided(author: u64, record: &AuditRecord) -> Record {
    let is_allowed = record.decision == Decision::Allow;
    let (count, since) = (format!("{}", record.count), format!("{}", record.since));
    let pairs = [
        ("action", record.action()),
        ("resource", record.resource()),
        ("rule", record.rule()),
        ("count", count.as_bytes()),
        ("since", since.as_bytes()),
    ];
    // Only a record of several says how many, and since which tick of the clock.
    let parts = if record.count > 1 { &pairs[..] } else { &pairs[..3] };
    audit(author, record.ticks, record.subject, is_allowed, parts)
}

/// A decision as a record: what it was in its message, all of it in its fields.
fn audit(author: u64, ticks: u64, subject: u64, is_allowed: bool, parts: &[(&str, &[u8])]) -> Record {
    let word = if is_allowed { "allow" } else { "deny" };
    let mut message = String::from(word);
    for (_, part) in parts.iter().take(2).filter(|(_, part)| !part.is_empty()) {
        message.push(' ');
        message.push_str(&clean(part, MESSAGE_BYTES_MAX / 2 - 8));
    }
    let pairs = parts.iter().map(|(key, value)| (key.as_bytes(), value.to_vec()));
    let also =
        [(&b"decision"[..], word.as_bytes().to_vec()), (b"subject", format!("{subject:#x}").into_bytes())];
    Record {
        ticks,
        level: if is_allowed { INFO } else { WARNING },
        service_id: author,
        subject: Some(subject),
        scope: AUDIT_SCOPE.into(),
        message,
        fields: fields(pairs.chain(also), FIELDS_BYTES_MAX),
        ..Record::default()
    }
}

impl Kernel {
    fn read(&mut self, own_id: u64, turn: &mut Turn) {
        match system::ring_read(self.control, self.after, &mut self.buffer) {
            Ok(bytes) => {
                let records = self.buffer.get(..bytes).unwrap_or(&[]);
                for (head, text) in ring_records(records) {
                    let missing = head.sequence.saturating_sub(self.after.saturating_add(1));
                    self.after = head.sequence;
                    if missing > 0 {
                        turn.lost += missing;
                        let message =
                            format!("logd: {missing} lines of the kernel's ring were overwritten unread");
                        turn.push(about(own_id, message));
                    }
                    turn.push(of_kernel(&head, text));
                }
                turn.is_cut_short |= bytes > 0;
            }
            Err(Error::WouldBlock) => {}
            // Told once: from here on it is as if there were nothing.
            Err(_) if self.has_failed => {}
            Err(error) => {
                self.has_failed = true;
                turn.push(about(own_id, format!("logd: the kernel's ring cannot be read: {error}")));
            }
        }
    }
}

/// A record of the kernel's ring. What the kernel decided itself is a decision.
fn of_kernel(head: &RingRecord, text: &[u8]) -> Record {
    let line = core::str::from_utf8(text).unwrap_or("");
    if let Some(decision) = kernel::decision(line).filter(|_| head.service_id == 0) {
        let parts = [
            ("action", decision.action.as_bytes()),
            ("resource", decision.target.as_bytes()),
            ("rule", decision.reason.as_bytes()),
        ];
        return audit(0, head.ticks, decision.subject, decision.is_allowed, &parts);
    }
    Record {
        ticks: head.ticks,
        level: u8::try_from(head.level).unwrap_or(INFO),
        service_id: head.service_id,
        message: clean(text, MESSAGE_BYTES_MAX),
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever wrote faster than the journal read once kept it from ever answering anybody.
    #[test]
    fn who_writes_without_end_does_not_keep_the_journal_from_answering() {
        let mut turns = 0;
        let mut endless = || {
            turns += 1;
            true
        };
        assert!(take_turns(&mut endless), "something is left");
        assert_eq!(turns, TURNS_MAX);
    }

    #[test]
    fn turns_end_with_the_first_that_takes_all() {
        let mut left = 3;
        let has_more = take_turns(|| {
            left -= 1;
            left > 0
        });
        assert_eq!((has_more, left), (false, 0));
    }
}
