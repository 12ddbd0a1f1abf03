//! Every interleaving of one producer and one consumer: no record is torn, lost or slept through.
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p nexus-log --test interleavings --release`.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use nexus_log::{Consumer, Item, Level, Memory, Producer, Written};

struct Parts {
    head: AtomicU32,
    dropped: AtomicU32,
    tail: AtomicU32,
    words: Vec<AtomicU32>,
    rung: AtomicBool,
}

impl Parts {
    fn memory(&self) -> Memory<'_> {
        Memory::new(&self.head, &self.dropped, &self.tail, &self.words).unwrap()
    }
}

#[test]
fn a_consumer_that_found_nothing_is_rung_for_the_next_record() {
    loom::model(|| {
        let counter = || AtomicU32::new(0);
        let words = (0..8).map(|_| counter()).collect();
        let rung = AtomicBool::new(false);
        let parts = Arc::new(Parts { head: counter(), dropped: counter(), tail: counter(), words, rung });
        let shared = parts.clone();
        let producer = loom::thread::spawn(move || {
            let mut producer = Producer::new(shared.memory());
            for text in [b"a", b"b"] {
                if producer.write(Level::Info, 0, text) == Written::Doorbell {
                    shared.rung.store(true, Ordering::SeqCst);
                }
            }
        });
        let mut seen = Vec::new();
        let mut consumer = Consumer::new(parts.memory());
        let mut drain = |consumer: &mut Consumer<'_>| {
            while let Some(Item::Record(record)) = consumer.read() {
                seen.push(record.text()[0]);
            }
        };
        // As the reader does: it takes the doorbell's bit first and drains then.
        parts.rung.store(false, Ordering::SeqCst);
        drain(&mut consumer);
        producer.join().unwrap();
        // Whoever sleeps now is woken only if it was rung after it found the ring empty.
        if parts.rung.load(Ordering::SeqCst) {
            drain(&mut consumer);
        }
        assert_eq!(seen, b"ab");
    });
}
