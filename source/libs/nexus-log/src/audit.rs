//! Audit rings: decisions, written down by who took them. A ring like any other, but a slot in it is reserved
//! *before* the decision: where there is none, the decision is no.
//!
//! ```text
//! record: words of it | decision << 16, lengths of action | resource << 8 | rule << 16, ticks (low, high),
//!         subject (low, high), the three texts, each padded with zeroes to whole words
//! ```

use crate::cursor::{Cursor, Found};
use crate::memory::{Memory, Ordering, Reader, text_words};

/// Bytes of what was asked for, as `device.mmio.blk`; longer text is cut.
pub const ACTION_BYTES_MAX: usize = 32;
/// Bytes of what it was asked of, as a path; longer text is cut.
pub const RESOURCE_BYTES_MAX: usize = 64;
/// Bytes of what decided, as the file and line of a rule; longer text is cut.
pub const RULE_BYTES_MAX: usize = 32;

const HEAD_WORDS: u32 = 6;
/// Words of the longest record, which is what a slot reserves.
const SLOT_WORDS: u32 =
    HEAD_WORDS + text_words(ACTION_BYTES_MAX) + text_words(RESOURCE_BYTES_MAX) + text_words(RULE_BYTES_MAX);

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Decision {
    /// No.
    Deny = 0,
    /// Yes.
    Allow = 1,
}

/// A decision to be written down. No text of it may be secret.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    /// Who asked, or for whom it was asked: a service id, by the kernel's word.
    pub subject: u64,
    /// What for.
    pub action: &'a str,
    /// Of what.
    pub resource: &'a str,
    /// What was decided.
    pub decision: Decision,
    /// By which rule.
    pub rule: &'a str,
}

/// The one writer of an audit ring.
pub struct AuditProducer<'a> {
    memory: Memory<'a>,
}

/// Room for one record. Whoever has it may decide and then [`AuditSlot::commit`]; dropped, it leaves no trace.
#[must_use = "a decision without its record is not complete"]
pub struct AuditSlot<'p, 'a> {
    // Borrowed mutably, so that no second slot is reserved from the same room.
    producer: &'p mut AuditProducer<'a>,
}

impl<'a> AuditProducer<'a> {
    /// The writer of this ring; there must be no second one at the same time.
    pub fn new(memory: Memory<'a>) -> Self {
        AuditProducer { memory }
    }

    /// Reserves room for a record. `None`: there is none, which is counted, and what is to be decided must be
    /// denied.
    pub fn reserve(&mut self) -> Option<AuditSlot<'_, 'a>> {
        let head = self.memory.counters.written.head.load(Ordering::Relaxed);
        // The journal's place bounds the ring whether or not the journal runs: nothing goes unread.
        if !self.memory.has_room(head, Reader::Journal, SLOT_WORDS) {
            self.memory.count_dropped();
            return None;
        }
        Some(AuditSlot { producer: self })
    }
}

impl AuditSlot<'_, '_> {
    /// Writes the decision down, at this time; yields whether the journal must be rung.
    pub fn commit(self, ticks: u64, audit: &Audit<'_>) -> bool {
        let memory = &self.producer.memory;
        let action = cut(audit.action, ACTION_BYTES_MAX);
        let resource = cut(audit.resource, RESOURCE_BYTES_MAX);
        let rule = cut(audit.rule, RULE_BYTES_MAX);
        let head = memory.counters.written.head.load(Ordering::Relaxed);
        let texts = [action, resource, rule];
        let words = texts.iter().fold(HEAD_WORDS, |words, text| words + text_words(text.len()));
        let mut writer = memory.writer(head);
        writer.put(words | (audit.decision as u32) << 16);
        writer.put((action.len() | resource.len() << 8 | rule.len() << 16) as u32);
        writer.put_long(ticks);
        writer.put_long(audit.subject);
        for text in texts {
            writer.put_text(text);
        }
        memory.publish(head, head.wrapping_add(words), Reader::Journal.bit()) != 0
    }
}

/// As many whole characters as fit.
fn cut(text: &str, bytes_max: usize) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(bytes_max)]
}

/// One decision, copied out of the ring. Its texts are whatever the producer wrote.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// Who asked, by the producer's word.
    pub subject: u64,
    /// What was decided.
    pub decision: Decision,
    /// The clock when it was decided, in ticks, by the producer's word.
    pub ticks: u64,
    action: Text<ACTION_BYTES_MAX>,
    resource: Text<RESOURCE_BYTES_MAX>,
    rule: Text<RULE_BYTES_MAX>,
}

#[derive(Clone, Debug)]
struct Text<const BYTES: usize> {
    bytes: [u8; BYTES],
    length: usize,
}

impl<const BYTES: usize> Text<BYTES> {
    /// Copies it out; `None` if it says to be longer than it may be.
    fn copy(cursor: &Cursor<'_>, ahead: &mut u32, length: u32) -> Option<Self> {
        let mut text = Text { bytes: [0; BYTES], length: length as usize };
        *ahead = cursor.copy_text(*ahead, text.bytes.get_mut(..text.length)?);
        Some(text)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl AuditRecord {
    /// What was asked for, not necessarily UTF-8.
    pub fn action(&self) -> &[u8] {
        self.action.as_bytes()
    }

    /// What it was asked of, not necessarily UTF-8.
    pub fn resource(&self) -> &[u8] {
        self.resource.as_bytes()
    }

    /// What decided, not necessarily UTF-8.
    pub fn rule(&self) -> &[u8] {
        self.rule.as_bytes()
    }
}

/// What [`AuditConsumer::read`] found.
// There is no heap here, and an item lives on the reader's stack for one turn of its loop.
#[allow(clippy::large_enum_variant)]
pub enum AuditItem {
    /// A decision.
    Record(AuditRecord),
    /// So many times there was no slot, and the answer was no.
    Refused(u32),
    /// The producer broke the ring; everything unread in it was given up.
    Broken,
}

/// The one reader of an audit ring: the journal.
pub struct AuditConsumer<'a>(Cursor<'a>);

impl<'a> AuditConsumer<'a> {
    /// The reader of this ring; it goes on where the one before it stopped.
    pub fn new(memory: Memory<'a>) -> Self {
        AuditConsumer(Cursor::new(memory, Reader::Journal))
    }

    /// Records that were ever taken from this ring, by this reader and those before it.
    pub fn taken(&self) -> u32 {
        self.0.taken()
    }

    /// Times without a slot that were told of, to this reader and those before it.
    pub fn refused(&self) -> u32 {
        self.0.told()
    }

    /// Takes the oldest record; `None` when there is none, after which the next record rings the doorbell.
    pub fn read(&mut self) -> Option<AuditItem> {
        let item = match self.0.available()? {
            Found::Lost(count) => AuditItem::Refused(count),
            Found::Words(available) => match self.record(available) {
                Some((record, words)) => {
                    self.0.take(words);
                    AuditItem::Record(record)
                }
                None => {
                    self.0.skip(available);
                    AuditItem::Broken
                }
            },
        };
        self.0.release(self.0.mark());
        Some(item)
    }

    /// The record at the place, with its words, if there is a whole one.
    fn record(&self, available: u32) -> Option<(AuditRecord, u32)> {
        if available > self.0.capacity() || available < HEAD_WORDS {
            return None;
        }
        let (first, lengths) = (self.0.word(0), self.0.word(1));
        let decision = match first >> 16 {
            0 => Decision::Deny,
            1 => Decision::Allow,
            _ => return None,
        };
        let mut ahead = HEAD_WORDS;
        let action = Text::copy(&self.0, &mut ahead, lengths & 0xff)?;
        let resource = Text::copy(&self.0, &mut ahead, lengths >> 8 & 0xff)?;
        let rule = Text::copy(&self.0, &mut ahead, lengths >> 16)?;
        let (ticks, subject) = (self.0.long(2), self.0.long(4));
        let is_whole = ahead == first & 0xffff && ahead <= available;
        is_whole.then_some((AuditRecord { subject, decision, ticks, action, resource, rule }, ahead))
    }
}
