//! Audit rings: decisions, written down by who took them. A ring like any other, but a slot in it is reserved
//! *before* the decision: where there is none, the decision is no.
//!
//! ```text
//! record: words of it | decision << 16, lengths of action | resource << 8 | rule << 16, ticks (low, high),
//!         subject (low, high), the three texts, each padded with zeroes to whole words
//! ```
//! A record of several decisions has bit 24 of the lengths set, and before its texts their number and the ticks of
//! the first (low, high). What was decided and waits to be told of so is counted in the ring, so that a successor of
//! who dies knows how many there were.

use crate::cursor::{Cursor, Found, Mark};
use crate::kept::{AuditMark, Watch};
use crate::memory::{Memory, Ordering, Reader, Writer, halves, text_words};

/// Bytes of what was asked for, as `device.mmio.blk`; longer text is cut.
pub const ACTION_BYTES_MAX: usize = 32;
/// Bytes of what it was asked of, as a path; longer text is cut.
pub const RESOURCE_BYTES_MAX: usize = 64;
/// Bytes of what decided, as the file and line of a rule; longer text is cut.
pub const RULE_BYTES_MAX: usize = 32;

const HEAD_WORDS: u32 = 6;
/// Words more of a record of several decisions.
const SEVERAL_WORDS: u32 = 3;
/// In the word of lengths, that it is one.
const SEVERAL: u32 = 1 << 24;
/// Words of the longest record, which is what a slot reserves.
const SLOT_WORDS: u32 = HEAD_WORDS
    + SEVERAL_WORDS
    + text_words(ACTION_BYTES_MAX)
    + text_words(RESOURCE_BYTES_MAX)
    + text_words(RULE_BYTES_MAX);

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

/// That something was decided more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several {
    /// How often; not 0.
    pub count: u32,
    /// When the first time was, in ticks.
    pub since: u64,
    /// How many of these waited to be told of.
    pub owed: u32,
}

/// The one writer of an audit ring.
pub struct AuditProducer<'a> {
    memory: Memory<'a>,
    watch: Watch<'a>,
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
        AuditProducer { memory, watch: Watch::new(memory) }
    }

    /// Where the record ends that was written last: by it is known whether it is durable.
    pub fn mark(&self) -> AuditMark {
        self.watch.mark()
    }

    /// Whether what is written is made durable, by the journal's word.
    pub fn watch(&self) -> &Watch<'a> {
        &self.watch
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
        self.watch.look();
        Some(AuditSlot { producer: self })
    }

    /// Whether half of the ring would still be free behind another record.
    pub fn has_spare_room(&self) -> bool {
        let head = self.memory.counters.written.head.load(Ordering::Relaxed);
        self.memory.has_room(head, Reader::Journal, SLOT_WORDS + self.memory.capacity() / 2)
    }

    /// Decisions that were made and wait to be told of in one record, by this writer or those before it.
    pub fn owed(&self) -> u32 {
        self.memory.counters.written.owed.load(Ordering::Relaxed)
    }

    /// One decision more waits.
    pub fn owe(&mut self) {
        let owed = &self.memory.counters.written.owed;
        owed.store(owed.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

impl AuditSlot<'_, '_> {
    /// Writes the decision down, at this time; yields whether the journal must be rung.
    pub fn commit(self, ticks: u64, audit: &Audit<'_>) -> bool {
        self.write(ticks, audit, None)
    }

    /// Writes down that it was decided so several times, the last of them at `ticks`; so many of them waited for this,
    /// and wait no more. A writer that dies in between has told of them twice, and never not at all.
    pub fn commit_several(self, ticks: u64, audit: &Audit<'_>, several: Several) -> bool {
        self.write(ticks, audit, Some(several))
    }

    fn write(self, ticks: u64, audit: &Audit<'_>, several: Option<Several>) -> bool {
        let memory = &self.producer.memory;
        let action = cut(audit.action, ACTION_BYTES_MAX);
        let resource = cut(audit.resource, RESOURCE_BYTES_MAX);
        let rule = cut(audit.rule, RULE_BYTES_MAX);
        let head = memory.counters.written.head.load(Ordering::Relaxed);
        let texts = [action, resource, rule];
        let (head_words, mark) = match several {
            Some(_) => (HEAD_WORDS + SEVERAL_WORDS, SEVERAL),
            None => (HEAD_WORDS, 0),
        };
        let words = texts.iter().fold(head_words, |words, text| words + text_words(text.len()));
        let lengths = (action.len() | resource.len() << 8 | rule.len() << 16) as u32 | mark;
        let put = || {
            let writer = memory.around(head).put([words | (audit.decision as u32) << 16, lengths])?;
            let mut writer = writer.put(halves(ticks))?.put(halves(audit.subject))?;
            if let Some(several) = several {
                writer = writer.put([several.count])?.put(halves(several.since))?;
            }
            texts.iter().try_fold(writer, |writer, text| writer.put_text(text))
        };
        // A slot is room for the longest record.
        let _ = put();
        let rings = memory.publish_to_journal(head, head.wrapping_add(words));
        if let Some(several) = several {
            let owed = &memory.counters.written.owed;
            owed.store(owed.load(Ordering::Relaxed).saturating_sub(several.owed), Ordering::Relaxed);
        }
        rings
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
    /// The clock when it was decided, the last time, in ticks, by the producer's word.
    pub ticks: u64,
    /// How often it was decided so; never 0.
    pub count: u32,
    /// The clock when it was decided the first time of these.
    pub since: u64,
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

    /// Decisions that were ever taken from this ring, by this reader and those before it.
    pub fn taken(&self) -> u32 {
        self.0.taken()
    }

    /// Times without a slot that were told of, to this reader and those before it.
    pub fn refused(&self) -> u32 {
        self.0.told()
    }

    /// Takes the oldest record and gives its room back; `None` when there is none, after which the next record rings
    /// the doorbell.
    pub fn read(&mut self) -> Option<AuditItem> {
        let item = self.take()?;
        self.release(self.mark());
        Some(item)
    }

    /// As [`AuditConsumer::read`], but its room stays taken, and a successor finds it again, until all up to a
    /// [`AuditConsumer::mark`] behind it is given back.
    pub fn take(&mut self) -> Option<AuditItem> {
        self.0.see();
        let item = match self.0.available()? {
            Found::Lost(count) => AuditItem::Refused(count),
            Found::Words(available) => match self.record(available) {
                Some((record, words)) => {
                    self.0.take(words, record.count);
                    AuditItem::Record(record)
                }
                None => {
                    self.0.skip(available);
                    AuditItem::Broken
                }
            },
        };
        Some(item)
    }

    /// The place behind all that was taken.
    pub fn mark(&self) -> Mark {
        self.0.mark()
    }

    /// Gives everything up to a place back.
    pub fn release(&self, mark: Mark) {
        self.0.release(mark);
    }

    /// Whether more than one part in so many of the ring is taken by what was not given back.
    pub fn holds_more_than_one_in(&self, parts: u32) -> bool {
        self.0.unreleased() > self.0.capacity() / parts
    }

    /// Tells the writer whether what is critical is made durable from now on. What it waits for until now is not told
    /// of as durable any more.
    pub fn set_keeping(&self, keeps: bool) {
        self.0.set_keeping(keeps);
    }

    /// Tells the writer that what is critical is durable up to a place.
    pub fn set_kept(&self, mark: Mark) {
        self.0.set_kept(mark);
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
        let ticks = self.0.long(2);
        let (mut ahead, count, since) = match lengths >> 24 {
            0 => (HEAD_WORDS, 1, ticks),
            1 => (HEAD_WORDS + SEVERAL_WORDS, self.0.word(HEAD_WORDS), self.0.long(HEAD_WORDS + 1)),
            _ => return None,
        };
        if count == 0 {
            return None;
        }
        let action = Text::copy(&self.0, &mut ahead, lengths & 0xff)?;
        let resource = Text::copy(&self.0, &mut ahead, lengths >> 8 & 0xff)?;
        let rule = Text::copy(&self.0, &mut ahead, lengths >> 16 & 0xff)?;
        let subject = self.0.long(4);
        let is_whole = ahead == first & 0xffff && ahead <= available;
        is_whole.then_some((
            AuditRecord { subject, decision, ticks, count, since, action, resource, rule },
            ahead,
        ))
    }
}
