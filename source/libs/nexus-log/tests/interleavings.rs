//! Every interleaving of one producer and one consumer with few preemptions: no record is torn, lost or slept through.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p nexus-log --test interleavings --release`.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use nexus_log::memory::Counters;
use nexus_log::{
    Audit, AuditConsumer, AuditItem, AuditProducer, Consumer, Decision, Item, Level, Memory, Producer, Reader,
};

/// Preemptions in one run: with more, the orders are too many to be tried in a test.
const PREEMPTIONS_MAX: usize = 3;

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(run);
}

/// A small ring and what its readers were told.
struct Parts {
    counters: Counters,
    words: Vec<AtomicU32>,
    rung: [AtomicBool; 2],
}

impl Parts {
    fn new(words: u32, readers: u32) -> Self {
        let counters = Counters::default();
        counters.readers.store(readers, Ordering::Relaxed);
        let words = (0..words).map(|_| AtomicU32::new(0)).collect();
        Parts { counters, words, rung: [AtomicBool::new(false), AtomicBool::new(false)] }
    }

    fn memory(&self) -> Memory<'_> {
        Memory::new(&self.counters, &self.words).unwrap()
    }

    fn ring(&self, reader: Reader) {
        self.rung[reader as usize].store(true, Ordering::SeqCst);
    }

    fn is_rung(&self, reader: Reader) -> bool {
        self.rung[reader as usize].swap(false, Ordering::SeqCst)
    }
}

#[test]
fn a_reader_that_found_nothing_is_rung_for_the_next_record() {
    for reader in [Reader::Console, Reader::Journal] {
        model(move || {
            let parts = Arc::new(Parts::new(16, reader.bit()));
            let shared = parts.clone();
            let producer = loom::thread::spawn(move || {
                let mut producer = Producer::new(shared.memory());
                for text in [b"a", b"b"] {
                    if producer.write(Level::Info, 0, b"", text, &[]).rings(reader) {
                        shared.ring(reader);
                    }
                }
            });
            let mut seen = Vec::new();
            let mut consumer = Consumer::new(parts.memory(), reader);
            let mut drain = |consumer: &mut Consumer<'_>| {
                while let Some(Item::Record(record)) = consumer.read() {
                    seen.push(record.message()[0]);
                }
            };
            // As the reader does: it takes the doorbell's bit first and drains then.
            parts.is_rung(reader);
            drain(&mut consumer);
            producer.join().unwrap();
            // Whoever sleeps now is woken only if it was rung after it found the ring empty.
            if parts.is_rung(reader) {
                drain(&mut consumer);
            }
            assert_eq!(seen, b"ab");
        });
    }
}

#[test]
fn a_decision_is_read_whole_or_its_reader_is_rung() {
    model(|| {
        let parts = Arc::new(Parts::new(64, 0));
        let shared = parts.clone();
        let audit = |action| Audit { subject: 7, action, resource: "", decision: Decision::Deny, rule: "" };
        let producer = loom::thread::spawn(move || {
            let mut producer = AuditProducer::new(shared.memory());
            for action in ["a", "b"] {
                let slot = producer.reserve().expect("both fit");
                if slot.commit(1, &audit(action)) {
                    shared.ring(Reader::Journal);
                }
            }
        });
        let mut seen = Vec::new();
        let mut consumer = AuditConsumer::new(parts.memory());
        let mut drain = |consumer: &mut AuditConsumer<'_>| {
            while let Some(item) = consumer.read() {
                let AuditItem::Record(record) = item else { panic!("nothing is refused or broken") };
                assert_eq!((record.subject, record.decision, record.ticks), (7, Decision::Deny, 1));
                seen.push(record.action()[0]);
            }
        };
        parts.is_rung(Reader::Journal);
        drain(&mut consumer);
        producer.join().unwrap();
        if parts.is_rung(Reader::Journal) {
            drain(&mut consumer);
        }
        assert_eq!(seen, b"ab");
    });
}

#[test]
fn a_decision_is_kept_or_refused_and_counted_whenever_the_journal_reads() {
    model(|| {
        // Room for one record beside a reserved one.
        let parts = Arc::new(Parts::new(64, 0));
        let first = AuditProducer::new(parts.memory()).reserve().unwrap().commit(0, &LONG);
        assert!(first);
        let shared = parts.clone();
        let producer = loom::thread::spawn(move || {
            let mut producer = AuditProducer::new(shared.memory());
            producer.reserve().map(|slot| slot.commit(0, &LONG)).is_some()
        });
        let (mut records, mut refused) = (0, 0);
        let mut consumer = AuditConsumer::new(parts.memory());
        let mut drain = |consumer: &mut AuditConsumer<'_>| {
            while let Some(item) = consumer.read() {
                match item {
                    AuditItem::Record(_) => records += 1,
                    AuditItem::Refused(count) => refused += count,
                    AuditItem::Broken => panic!("nobody broke it"),
                }
            }
        };
        drain(&mut consumer);
        let kept = producer.join().unwrap();
        drain(&mut consumer);
        assert_eq!((records, refused), if kept { (2, 0) } else { (1, 1) });
    });
}

/// A decision of 33 words.
const LONG: Audit<'static> = Audit {
    subject: 1,
    action: "0123456789012345678901",
    resource: "0123456789012345678901234567890123456789",
    decision: Decision::Allow,
    rule: "0123456789012345678901",
};
