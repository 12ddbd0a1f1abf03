//! What a ring promises, also against a producer that lies.
#![cfg(not(loom))]

use nexus_log::{Consumer, Item, Level, Memory, Producer, TEXT_BYTES_MAX, Written};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

struct Parts {
    head: AtomicU32,
    dropped: AtomicU32,
    tail: AtomicU32,
    words: Vec<AtomicU32>,
}

impl Parts {
    fn starting_at(place: u32) -> Self {
        let counter = || AtomicU32::new(place);
        let words = (0..1024).map(|_| AtomicU32::new(0)).collect();
        Parts { head: counter(), dropped: AtomicU32::new(0), tail: counter(), words }
    }

    fn memory(&self) -> Memory<'_> {
        Memory::new(&self.head, &self.dropped, &self.tail, &self.words).unwrap()
    }
}

fn text_of(item: Option<Item>) -> Vec<u8> {
    match item {
        Some(Item::Record(record)) => record.text().to_vec(),
        Some(Item::Lost(count)) => format!("lost {count}").into_bytes(),
        Some(Item::Broken) => b"broken".to_vec(),
        None => b"none".to_vec(),
    }
}

#[test]
fn records_come_out_whole_in_order_and_with_their_level() {
    let parts = Parts::starting_at(u32::MAX - 5);
    let mut producer = Producer::new(parts.memory());
    let mut consumer = Consumer::new(parts.memory());
    assert_eq!(producer.write(Level::Warning, 1 << 40, b"first"), Written::Doorbell);
    assert_eq!(producer.write(Level::Info, 2, b""), Written::Quiet);
    let Some(Item::Record(record)) = consumer.read() else { panic!("a record was written") };
    assert_eq!((record.level, record.ticks, record.text()), (Level::Warning, 1 << 40, &b"first"[..]));
    assert_eq!(text_of(consumer.read()), b"");
    assert!(consumer.read().is_none());
    assert_eq!(producer.write(Level::Info, 3, b"again"), Written::Doorbell);
}

#[test]
fn a_full_ring_drops_the_newest_and_tells_how_many() {
    let parts = Parts::starting_at(0);
    let mut producer = Producer::new(parts.memory());
    let mut consumer = Consumer::new(parts.memory());
    let mut kept = 0;
    while producer.write(Level::Info, 0, b"0123456789") != Written::Dropped {
        kept += 1;
    }
    assert_eq!(producer.write(Level::Info, 0, b"0123456789"), Written::Dropped);
    for _ in 0..kept {
        assert_eq!(text_of(consumer.read()), b"0123456789");
    }
    assert_eq!(text_of(consumer.read()), b"lost 2");
    assert!(consumer.read().is_none());
}

#[test]
fn both_sides_may_restart_and_nothing_comes_twice() {
    let parts = Parts::starting_at(7);
    Producer::new(parts.memory()).write(Level::Info, 0, b"one");
    Producer::new(parts.memory()).write(Level::Info, 0, b"two");
    assert_eq!(text_of(Consumer::new(parts.memory()).read()), b"one");
    let mut successor = Consumer::new(parts.memory());
    assert_eq!(text_of(successor.read()), b"two");
    assert!(successor.read().is_none());
}

#[test]
fn text_beyond_the_maximum_is_cut() {
    let parts = Parts::starting_at(0);
    Producer::new(parts.memory()).write(Level::Info, 0, &[b'x'; TEXT_BYTES_MAX + 1]);
    assert_eq!(text_of(Consumer::new(parts.memory()).read()).len(), TEXT_BYTES_MAX);
}

#[test]
fn test_reject_a_head_beyond_the_capacity() {
    let parts = Parts::starting_at(0);
    let mut consumer = Consumer::new(parts.memory());
    parts.head.store(1025, Ordering::Relaxed);
    assert_eq!(text_of(consumer.read()), b"broken");
    assert!(consumer.read().is_none());
    assert_eq!(Producer::new(parts.memory()).write(Level::Info, 0, b"mended"), Written::Doorbell);
    assert_eq!(text_of(consumer.read()), b"mended");
}

#[test]
fn test_reject_a_record_longer_than_what_was_written() {
    let parts = Parts::starting_at(0);
    let mut consumer = Consumer::new(parts.memory());
    parts.words[0].store(500, Ordering::Relaxed);
    parts.head.store(4, Ordering::Relaxed);
    assert_eq!(text_of(consumer.read()), b"broken");
    assert!(consumer.read().is_none());
}

#[test]
fn test_reject_an_impossible_tail() {
    let parts = Parts::starting_at(0);
    parts.tail.store(1, Ordering::Relaxed);
    assert_eq!(Producer::new(parts.memory()).write(Level::Info, 0, b"x"), Written::Dropped);
}

proptest! {
    #[test]
    fn behaves_as_a_bounded_queue(
        start in any::<u32>(),
        steps in prop::collection::vec((any::<bool>(), 0usize..300), 1..200),
    ) {
        let parts = Parts::starting_at(start);
        let mut producer = Producer::new(parts.memory());
        let mut consumer = Consumer::new(parts.memory());
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        for (place, (write, length)) in steps.into_iter().enumerate() {
            if write {
                let text = vec![place as u8; length];
                let words: usize = model.iter().map(|text| 3 + text.len().div_ceil(4)).sum();
                let fits = words + 3 + length.div_ceil(4) <= 1024;
                let was_empty = model.is_empty();
                let expected = match (fits, was_empty) {
                    (false, _) => Written::Dropped,
                    (true, true) => Written::Doorbell,
                    (true, false) => Written::Quiet,
                };
                prop_assert_eq!(producer.write(Level::Info, 0, &text), expected);
                if fits { model.push_back(text); }
            } else if let Some(expected) = model.pop_front() {
                prop_assert_eq!(text_of(consumer.read()), expected);
            }
        }
    }

    #[test]
    fn any_memory_is_read_in_bounded_steps_without_panic(
        counters in any::<(u32, u32, u32)>(),
        words in prop::collection::vec(any::<u32>(), 1024),
        near in any::<bool>(),
    ) {
        let (head, dropped, tail) = counters;
        let head = if near { tail.wrapping_add(head % 1100) } else { head };
        let parts = Parts {
            head: AtomicU32::new(head),
            dropped: AtomicU32::new(dropped),
            tail: AtomicU32::new(tail),
            words: words.into_iter().map(AtomicU32::new).collect(),
        };
        let mut consumer = Consumer::new(parts.memory());
        let reads = std::iter::from_fn(|| consumer.read()).take(1000).count();
        prop_assert!(reads <= 1024 / 3 + 2, "every read takes at least a record's head");
    }
}
