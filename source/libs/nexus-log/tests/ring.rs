//! What a ring promises, also against a producer that lies.
#![cfg(not(loom))]

mod rings;

use nexus_log::{
    Consumer, FIELD_WORDS_MAX, Item, Key, Level, MESSAGE_BYTES_MAX, Producer, Reader, SCOPE_BYTES_MAX, Value,
    Written,
};
use proptest::prelude::*;
use rings::Parts;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// Read by both.
const BOTH: u32 = Reader::Console.bit() | Reader::Journal.bit();
/// What a record is answered that found everything read by the console alone.
const RINGS: Written = Written::Kept(Reader::Console.bit());
const QUIET: Written = Written::Kept(0);

/// A ring that the console alone reads.
fn ring(place: u32) -> Parts {
    Parts::starting_at(place, Reader::Console.bit())
}

fn console(parts: &Parts) -> Consumer<'_> {
    Consumer::new(parts.memory(), Reader::Console)
}

fn journal(parts: &Parts) -> Consumer<'_> {
    Consumer::new(parts.memory(), Reader::Journal)
}

fn text_of(item: Option<Item>) -> Vec<u8> {
    match item {
        Some(Item::Record(record)) => record.message().to_vec(),
        Some(Item::Lost(count)) => format!("lost {count}").into_bytes(),
        Some(Item::Broken) => b"broken".to_vec(),
        None => b"none".to_vec(),
    }
}

#[test]
fn records_come_out_whole_in_order_and_with_their_level() {
    let parts = ring(u32::MAX - 5);
    let mut producer = Producer::new(parts.memory());
    let mut consumer = console(&parts);
    assert_eq!(producer.write(Level::Warning, 1 << 40, b"", b"first", &[]), RINGS);
    assert_eq!(producer.write(Level::Info, 2, b"", b"", &[]), QUIET);
    let Some(Item::Record(record)) = consumer.read() else { panic!("a record was written") };
    assert_eq!((record.level, record.ticks, record.message()), (Level::Warning, 1 << 40, &b"first"[..]));
    assert_eq!(text_of(consumer.read()), b"");
    assert!(consumer.read().is_none());
    assert_eq!(producer.write(Level::Info, 3, b"", b"again", &[]), RINGS);
}

#[test]
fn a_full_ring_drops_the_newest_and_tells_how_many() {
    let parts = ring(0);
    let mut producer = Producer::new(parts.memory());
    let mut consumer = console(&parts);
    let mut kept = 0;
    while producer.write(Level::Info, 0, b"", b"0123456789", &[]) != Written::Dropped {
        kept += 1;
    }
    assert_eq!(producer.write(Level::Info, 0, b"", b"0123456789", &[]), Written::Dropped);
    for _ in 0..kept {
        assert_eq!(text_of(consumer.read()), b"0123456789");
    }
    assert_eq!(text_of(consumer.read()), b"lost 2");
    assert!(consumer.read().is_none());
}

#[test]
fn both_sides_may_restart_and_nothing_comes_twice() {
    let parts = ring(7);
    Producer::new(parts.memory()).write(Level::Info, 0, b"", b"one", &[]);
    Producer::new(parts.memory()).write(Level::Info, 0, b"", b"two", &[]);
    assert_eq!(text_of(console(&parts).read()), b"one");
    let mut successor = console(&parts);
    assert_eq!(text_of(successor.read()), b"two");
    assert!(successor.read().is_none());
}

#[test]
fn scope_message_and_unformatted_fields_come_out_as_they_went_in() {
    let parts = ring(u32::MAX - 3);
    let fields = [
        ("bytes", Value::Unsigned(u64::MAX)),
        ("", Value::Signed(-3)),
        ("who", Value::Text(b"\xffme")),
        ("of sixteen bytes", Value::Text(b"")),
    ];
    let keys = fields.map(|(key, _)| Key::new(key));
    let written: Vec<_> = keys.iter().zip(fields.map(|(_, value)| value)).collect();
    Producer::new(parts.memory()).write(Level::Error, 9, b"scope", b"message", &written);
    let Some(Item::Record(record)) = console(&parts).read() else { panic!("a record was written") };
    assert_eq!(
        (record.scope(), record.message(), record.level),
        (&b"scope"[..], &b"message"[..], Level::Error)
    );
    let seen: Vec<_> = record.fields().collect();
    assert_eq!(seen, fields.map(|(key, value)| (key.as_bytes(), value)));
}

#[test]
fn numbers_are_shown_in_decimal_and_text_as_it_is() {
    let shown = |value: Value<'_>| {
        let mut bytes = Vec::new();
        value.show(|part| bytes.extend_from_slice(part));
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(shown(Value::Unsigned(0)), "0");
    assert_eq!(shown(Value::Unsigned(u64::MAX)), u64::MAX.to_string());
    assert_eq!(shown(Value::Signed(i64::MIN)), i64::MIN.to_string());
    assert_eq!(shown(Value::Text(b"as it is")), "as it is");
}

#[test]
fn fields_that_do_not_fit_are_left_out_and_the_record_is_kept() {
    let parts = ring(0);
    let long = [b'x'; 4 * FIELD_WORDS_MAX as usize];
    let fields = [("a", Value::Unsigned(1)), ("b", Value::Text(&long)), ("c", Value::Unsigned(2))];
    let keys = fields.map(|(key, _)| Key::new(key));
    let fields: Vec<_> = keys.iter().zip(fields.map(|(_, value)| value)).collect();
    Producer::new(parts.memory()).write(Level::Info, 0, &long, b"m", &fields);
    let Some(Item::Record(record)) = console(&parts).read() else { panic!("a record was written") };
    assert_eq!(record.scope().len(), SCOPE_BYTES_MAX);
    assert_eq!(record.fields().collect::<Vec<_>>(), [(&b"a"[..], Value::Unsigned(1))]);
}

#[test]
fn two_readers_each_get_everything_at_their_own_pace() {
    let parts = Parts::starting_at(7, BOTH);
    let mut producer = Producer::new(parts.memory());
    assert_eq!(producer.write(Level::Info, 0, b"", b"one", &[]), Written::Kept(BOTH));
    assert_eq!(text_of(console(&parts).read()), b"one");
    assert_eq!(
        producer.write(Level::Info, 0, b"", b"two", &[]),
        RINGS,
        "the journal was rung for the first already"
    );
    assert_eq!(text_of(journal(&parts).read()), b"one");
    assert_eq!(text_of(journal(&parts).read()), b"two");
    assert_eq!(text_of(console(&parts).read()), b"two");
    assert!(console(&parts).read().is_none() && journal(&parts).read().is_none());
}

#[test]
fn a_ring_is_full_when_it_is_full_for_one_who_reads_and_both_are_told() {
    let parts = Parts::starting_at(0, BOTH);
    let mut producer = Producer::new(parts.memory());
    while producer.write(Level::Info, 0, b"", b"0123456789", &[]) != Written::Dropped {
        while !matches!(console(&parts).read(), None | Some(Item::Lost(_))) {}
    }
    assert_eq!(text_of(console(&parts).read()), b"lost 1");
    while !matches!(journal(&parts).read(), Some(Item::Lost(1))) {}
    assert!(console(&parts).read().is_none() && journal(&parts).read().is_none());
}

#[test]
fn what_is_held_is_read_again_by_a_successor_and_what_was_released_is_not() {
    let parts = ring(0);
    let mut producer = Producer::new(parts.memory());
    for text in [b"one", b"two"] {
        producer.write(Level::Info, 0, b"", text, &[]);
    }
    let mut reader = console(&parts);
    assert_eq!(text_of(reader.read_held()), b"one");
    let mark = reader.mark();
    assert_eq!(text_of(reader.read_held()), b"two");
    assert!(reader.read_held().is_none());
    assert_eq!(text_of(console(&parts).read_held()), b"one");
    reader.release(mark);
    assert_eq!(text_of(console(&parts).read_held()), b"two");
    assert_eq!(producer.write(Level::Info, 0, b"", b"three", &[]), QUIET, "so whoever releases looks again");
    assert_eq!(text_of(reader.read_held()), b"three");
}

#[test]
fn a_loss_that_was_told_of_and_not_released_is_told_again_to_a_successor() {
    let parts = ring(0);
    let mut producer = Producer::new(parts.memory());
    while producer.write(Level::Info, 0, b"", b"x", &[]) != Written::Dropped {}
    let lost = |reader: &mut Consumer<'_>| {
        std::iter::from_fn(|| reader.read_held()).find_map(|item| match item {
            Item::Lost(count) => Some(count),
            _ => None,
        })
    };
    assert_eq!(lost(&mut console(&parts)), Some(1));
    let mut successor = console(&parts);
    assert_eq!(lost(&mut successor), Some(1));
    successor.release(successor.mark());
    assert_eq!(lost(&mut console(&parts)), None);
}

#[test]
fn who_does_not_read_holds_nobody_up() {
    let parts = ring(0);
    let mut producer = Producer::new(parts.memory());
    for _ in 0..10_000 {
        assert_eq!(producer.write(Level::Info, 0, b"", b"0123456789", &[]), RINGS);
        assert_eq!(text_of(console(&parts).read()), b"0123456789");
    }
}

#[test]
fn what_was_dropped_is_told_once_also_to_a_successor() {
    let parts = ring(0);
    while Producer::new(parts.memory()).write(Level::Info, 0, b"", b"x", &[]) != Written::Dropped {}
    while !matches!(console(&parts).read(), None | Some(Item::Lost(1))) {}
    assert!(console(&parts).read().is_none());
}

#[test]
fn text_beyond_the_maximum_is_cut() {
    let parts = ring(0);
    Producer::new(parts.memory()).write(Level::Info, 0, b"", &[b'x'; MESSAGE_BYTES_MAX + 1], &[]);
    assert_eq!(text_of(console(&parts).read()).len(), MESSAGE_BYTES_MAX);
}

#[test]
fn test_reject_a_head_beyond_the_capacity() {
    let parts = ring(0);
    let mut consumer = console(&parts);
    parts.counters.written.head.store(1025, Ordering::Relaxed);
    assert_eq!(text_of(consumer.read()), b"broken");
    assert!(consumer.read().is_none());
    assert_eq!(Producer::new(parts.memory()).write(Level::Info, 0, b"", b"mended", &[]), RINGS);
    assert_eq!(text_of(consumer.read()), b"mended");
}

#[test]
fn test_reject_a_record_longer_than_what_was_written() {
    let parts = ring(0);
    let mut consumer = console(&parts);
    parts.words[0].store(500, Ordering::Relaxed);
    parts.counters.written.head.store(4, Ordering::Relaxed);
    assert_eq!(text_of(consumer.read()), b"broken");
    assert!(consumer.read().is_none());
}

#[test]
fn test_reject_an_impossible_tail() {
    let parts = ring(0);
    parts.counters.places[0].tail.store(1, Ordering::Relaxed);
    assert_eq!(Producer::new(parts.memory()).write(Level::Info, 0, b"", b"x", &[]), Written::Dropped);
}

proptest! {
    /// Also at its end, with keys of every length, and with more than fit.
    #[test]
    fn numbers_of_any_keys_come_back_at_any_place_of_the_ring(
        start in any::<u32>(),
        message in 0usize..40,
        fields in prop::collection::vec(("[a-z]{0,16}", any::<u64>(), any::<bool>()), 0..24),
    ) {
        let parts = ring(start);
        let keys: Vec<Key> = fields.iter().map(|(key, ..)| Key::new(key)).collect();
        let value = |number, is_signed| match is_signed {
            true => Value::Signed(number as i64),
            false => Value::Unsigned(number),
        };
        let values = fields.iter().map(|&(_, number, is_signed)| value(number, is_signed));
        let written: Vec<_> = keys.iter().zip(values).collect();
        let words = [u32::from_le_bytes(*b"text"); 10];
        let bytes = &zerocopy::IntoBytes::as_bytes(&words)[..message];
        prop_assert!(matches!(
            Producer::new(parts.memory()).write(Level::Info, 5, b"", bytes, &written),
            Written::Kept(_)
        ));
        let Some(Item::Record(record)) = console(&parts).read() else { panic!("it was written") };
        prop_assert_eq!(record.message(), bytes);
        let (mut expected, mut used) = (Vec::new(), 0);
        for (key, number, is_signed) in &fields {
            used += 1 + key.len().div_ceil(4) + 2;
            if used > FIELD_WORDS_MAX as usize {
                break;
            }
            expected.push((key.as_bytes(), value(*number, *is_signed)));
        }
        prop_assert_eq!(record.fields().collect::<Vec<_>>(), expected);
        prop_assert!(console(&parts).read().is_none());
    }

    /// Wherever texts begin in memory, and wherever the record ends in the ring.
    #[test]
    fn texts_of_any_place_and_length_come_out_as_they_went_in(
        start in any::<u32>(),
        bytes in prop::collection::vec(any::<u8>(), 400),
        (scope, message, value) in ((0usize..8, 0usize..65), (0usize..8, 0usize..257), (0usize..8, 0usize..60)),
        key in "[a-z]{0,16}",
        number in any::<u64>(),
    ) {
        let parts = ring(start);
        let part = |(skew, length): (usize, usize)| &bytes[skew..skew + length];
        let keys = [Key::new(&key), Key::new("n")];
        let fields = [(&keys[0], Value::Text(part(value))), (&keys[1], Value::Unsigned(number))];
        let written =
            Producer::new(parts.memory()).write(Level::Info, number, part(scope), part(message), &fields);
        prop_assert!(matches!(written, Written::Kept(_)));
        let Some(Item::Record(record)) = console(&parts).read() else { panic!("it was written") };
        prop_assert_eq!((record.scope(), record.message()), (part(scope), part(message)));
        let expected = [(key.as_bytes(), Value::Text(part(value))), (&b"n"[..], Value::Unsigned(number))];
        prop_assert_eq!(record.fields().collect::<Vec<_>>(), expected);
        prop_assert_eq!(record.ticks, number);
    }
}

proptest! {
    #[test]
    fn behaves_as_a_bounded_queue(
        start in any::<u32>(),
        steps in prop::collection::vec((any::<bool>(), 0usize..257), 1..200),
    ) {
        let parts = ring(start);
        let mut producer = Producer::new(parts.memory());
        let mut consumer = console(&parts);
        let mut model: VecDeque<Vec<u8>> = VecDeque::new();
        for (place, (write, length)) in steps.into_iter().enumerate() {
            if write {
                let text = vec![place as u8; length];
                let words: usize = model.iter().map(|text| 4 + text.len().div_ceil(4)).sum();
                let fits = words + 4 + length.div_ceil(4) <= 1024;
                let was_empty = model.is_empty();
                let expected = match (fits, was_empty) {
                    (false, _) => Written::Dropped,
                    (true, true) => RINGS,
                    (true, false) => QUIET,
                };
                prop_assert_eq!(producer.write(Level::Info, 0, b"", &text, &[]), expected);
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
        let parts = Parts::of(head, dropped, tail, words);
        let mut consumer = console(&parts);
        let reads = std::iter::from_fn(|| consumer.read()).take(1000);
        let reads = reads.inspect(|item| if let Item::Record(record) = item { record.fields().for_each(drop) }).count();
        prop_assert!(reads <= 1024 / 4 + 2, "every read takes at least a record's head");
    }
}
