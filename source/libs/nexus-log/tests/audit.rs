//! What an audit ring promises, also against a producer that lies.
#![cfg(not(loom))]

mod rings;

use nexus_log::{
    ACTION_BYTES_MAX, Audit, AuditConsumer, AuditItem, AuditProducer, CRITICAL, Decision, Keeping,
    RESOURCE_BYTES_MAX, RULE_BYTES_MAX, Several, is_critical,
};
use proptest::prelude::*;
use rings::{Parts, WORDS};
use std::sync::atomic::Ordering;

const DENIED: Audit<'_> = Audit {
    subject: 0x1234_5678_9abc_def0,
    action: "device.mmio.blk",
    resource: "virtio_mmio@10001000",
    decision: Decision::Deny,
    rule: "base.toml:12",
};

fn parts() -> Parts {
    Parts::starting_at(u32::MAX - 9, 0)
}

/// Reserves and commits; yields whether there was a slot.
fn write(producer: &mut AuditProducer<'_>, ticks: u64, audit: &Audit<'_>) -> bool {
    producer.reserve().map(|slot| slot.commit(ticks, audit)).is_some()
}

#[test]
fn a_decision_comes_out_as_it_was_written_down() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    let mut consumer = AuditConsumer::new(parts.memory());
    assert!(
        producer.reserve().unwrap().commit(1 << 40, &DENIED),
        "the journal had read everything and is rung"
    );
    assert!(!producer.reserve().unwrap().commit(2, &Audit { decision: Decision::Allow, rule: "", ..DENIED }));
    let Some(AuditItem::Record(record)) = consumer.read() else { panic!("a decision was written down") };
    assert_eq!((record.subject, record.ticks, record.decision), (DENIED.subject, 1 << 40, Decision::Deny));
    let texts = [record.action(), record.resource(), record.rule()];
    assert_eq!(texts, [DENIED.action.as_bytes(), DENIED.resource.as_bytes(), DENIED.rule.as_bytes()]);
    let Some(AuditItem::Record(record)) = consumer.read() else { panic!("another was written down") };
    assert_eq!((record.decision, record.rule()), (Decision::Allow, &b""[..]));
    assert!(consumer.read().is_none());
    assert_eq!(consumer.taken(), 2);
}

#[test]
fn test_reject_a_decision_without_a_slot_and_count_it() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    let mut kept = 0;
    while write(&mut producer, kept, &DENIED) {
        kept += 1;
    }
    assert!(producer.reserve().is_none());
    let mut consumer = AuditConsumer::new(parts.memory());
    for number in 0..kept {
        let Some(AuditItem::Record(record)) = consumer.read() else { panic!("{number} of {kept}") };
        assert_eq!(record.ticks, number);
    }
    assert!(matches!(consumer.read(), Some(AuditItem::Refused(2))));
    assert!(consumer.read().is_none());
    assert!(write(&mut producer, 0, &DENIED), "what was read makes room");
}

#[test]
fn what_was_refused_is_told_once_and_also_to_a_successor() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    while write(&mut producer, 0, &DENIED) {}
    let _ = AuditConsumer::new(parts.memory());
    let refused = |consumer: &mut AuditConsumer<'_>| {
        let items = std::iter::from_fn(|| consumer.read());
        items.map(|item| if let AuditItem::Refused(count) = item { count } else { 0 }).sum::<u32>()
    };
    assert_eq!(refused(&mut AuditConsumer::new(parts.memory())), 1);
    assert_eq!(refused(&mut AuditConsumer::new(parts.memory())), 0);
}

#[test]
fn a_slot_that_is_not_used_leaves_no_trace() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    let _ = producer.reserve();
    assert!(AuditConsumer::new(parts.memory()).read().is_none());
}

#[test]
fn text_beyond_its_maximum_is_cut_at_a_character() {
    let parts = parts();
    let long = "ä".repeat(100);
    // Odd by one byte, so that the maximum falls into a character.
    let odd = format!("x{long}");
    let audit = Audit { action: &long, resource: &odd, rule: &odd, ..DENIED };
    assert!(write(&mut AuditProducer::new(parts.memory()), 0, &audit));
    let Some(AuditItem::Record(record)) = AuditConsumer::new(parts.memory()).read() else {
        panic!("it is there")
    };
    assert_eq!(record.action().len(), ACTION_BYTES_MAX);
    assert_eq!((record.resource().len(), record.rule().len()), (RESOURCE_BYTES_MAX - 1, RULE_BYTES_MAX - 1));
}

#[test]
fn several_decisions_are_told_of_in_one_record_and_owed_until_then() {
    let parts = parts();
    let mut died = AuditProducer::new(parts.memory());
    (0..5).for_each(|_| died.owe());
    let mut successor = AuditProducer::new(parts.memory());
    assert_eq!(successor.owed(), 5, "whoever comes after one that died knows of them");
    let several = Several { count: 5, since: 1 << 40, owed: 4 };
    successor.reserve().unwrap().commit_several(1 << 41, &DENIED, several);
    assert_eq!(successor.owed(), 1);
    let mut consumer = AuditConsumer::new(parts.memory());
    let Some(AuditItem::Record(record)) = consumer.read() else { panic!("it was written down") };
    assert_eq!((record.count, record.since, record.ticks), (5, 1 << 40, 1 << 41));
    assert_eq!((record.subject, record.rule()), (DENIED.subject, DENIED.rule.as_bytes()));
    assert_eq!(consumer.taken(), 5);
}

#[test]
fn what_may_wait_leaves_half_of_the_ring_to_others() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    let mut written = 0;
    while producer.has_spare_room() {
        assert!(write(&mut producer, 0, &DENIED));
        written += 1;
    }
    let mut others = 0;
    while write(&mut producer, 0, &DENIED) {
        others += 1;
    }
    assert!(others >= written, "{written} took more than their half, {others} found room");
}

#[test]
fn test_reject_records_of_no_decisions_and_of_unknown_kinds() {
    let first = (u32::MAX - 9) as usize % WORDS;
    for (place, word) in [(6, 0), (1, 2 << 24), (1, 0xff << 24)] {
        let parts = parts();
        let several = Several { count: 2, since: 0, owed: 0 };
        AuditProducer::new(parts.memory()).reserve().unwrap().commit_several(0, &DENIED, several);
        parts.words[(first + place) % WORDS].store(word, Ordering::Relaxed);
        let mut consumer = AuditConsumer::new(parts.memory());
        assert!(matches!(consumer.read(), Some(AuditItem::Broken)), "word {place} is {word:#x}");
    }
}

#[test]
fn test_reject_records_that_lie_about_their_lengths() {
    let honest = parts();
    write(&mut AuditProducer::new(honest.memory()), 0, &DENIED);
    let first = (u32::MAX - 9) as usize % WORDS;
    let wrong_firsts = [0, 1 << 16, 7 | 2 << 16, u32::MAX];
    let wrong_lengths = [33, 65 << 8, 33 << 16, u32::MAX];
    for (place, word) in
        wrong_firsts.map(|word| (0, word)).into_iter().chain(wrong_lengths.map(|word| (1, word)))
    {
        let parts = parts();
        write(&mut AuditProducer::new(parts.memory()), 0, &DENIED);
        parts.words[first + place].store(word, Ordering::Relaxed);
        let mut consumer = AuditConsumer::new(parts.memory());
        assert!(matches!(consumer.read(), Some(AuditItem::Broken)), "word {place} is {word:#x}");
        assert!(consumer.read().is_none());
    }
}

#[test]
fn test_reject_an_impossible_place_of_the_journal() {
    let parts = parts();
    parts.counters.places[1].tail.store(77, Ordering::Relaxed);
    assert!(AuditProducer::new(parts.memory()).reserve().is_none());
}

proptest! {
    #[test]
    fn every_decision_is_there_or_counted(start in any::<u32>(), steps in prop::collection::vec(0u8..4, 1..400)) {
        let parts = Parts::starting_at(start, 0);
        let (mut asked, mut seen, mut refused) = (0, 0u64, 0);
        let mut drain = |limit: usize| {
            let mut consumer = AuditConsumer::new(parts.memory());
            for item in std::iter::from_fn(|| consumer.read()).take(limit) {
                match item {
                    AuditItem::Record(record) => { assert!(record.ticks >= seen); seen += 1; }
                    AuditItem::Refused(count) => refused += u64::from(count),
                    AuditItem::Broken => panic!("nobody broke it"),
                }
            }
            seen + refused
        };
        for step in steps {
            if step == 0 { drain(3); } else {
                write(&mut AuditProducer::new(parts.memory()), asked, &DENIED);
                asked += 1;
            }
        }
        prop_assert_eq!(drain(usize::MAX), asked);
    }

    #[test]
    fn any_memory_is_read_in_bounded_steps_without_panic(
        counters in any::<(u32, u32, u32)>(),
        words in prop::collection::vec(any::<u32>(), WORDS),
        near in any::<bool>(),
    ) {
        let (head, dropped, tail) = counters;
        let head = if near { tail.wrapping_add(head % 1100) } else { head };
        let parts = Parts::of(head, dropped, tail, words);
        let mut consumer = AuditConsumer::new(parts.memory());
        let reads = std::iter::from_fn(|| consumer.read()).take(1000).count();
        prop_assert!(reads <= WORDS / 6 + 2, "every read takes at least a record's head");
    }
}

#[test]
fn what_is_critical_is_what_the_table_names_and_was_allowed() {
    for (begin, _) in CRITICAL {
        assert!(is_critical(Decision::Allow, begin.as_bytes()), "{begin}");
        assert!(!is_critical(Decision::Deny, begin.as_bytes()), "{begin}");
    }
    for other in ["proc.kill", "device", "statefs.write", "xidentity.create", ""] {
        assert!(!is_critical(Decision::Allow, other.as_bytes()), "{other}");
    }
}

#[test]
fn a_record_is_durable_when_the_journal_says_so_of_its_place() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    let mut consumer = AuditConsumer::new(parts.memory());
    consumer.set_keeping(true);
    assert!(write(&mut producer, 1, &DENIED));
    let first = producer.mark();
    assert!(write(&mut producer, 2, &DENIED));
    let second = producer.mark();
    assert!(matches!(consumer.take(), Some(AuditItem::Record(_))));
    assert_eq!(producer.watch().keeping(first), Keeping::Waiting);
    consumer.set_kept(consumer.mark());
    assert_eq!(producer.watch().keeping(first), Keeping::Durable);
    assert_eq!(producer.watch().keeping(second), Keeping::Waiting);
}

#[test]
fn test_reject_durability_by_the_word_of_another_keeper_or_of_none() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    assert!(write(&mut producer, 1, &DENIED));
    assert_eq!(producer.watch().keeping(producer.mark()), Keeping::NotDurable, "nobody keeps");
    for keeps_again in [true, false] {
        let mut died = AuditConsumer::new(parts.memory());
        died.set_keeping(true);
        assert!(write(&mut producer, 2, &DENIED));
        let mark = producer.mark();
        let _ = died.take();
        let mut successor = AuditConsumer::new(parts.memory());
        successor.set_keeping(keeps_again);
        while successor.read().is_some() {}
        successor.set_kept(successor.mark());
        assert_eq!(producer.watch().keeping(mark), Keeping::NotDurable);
    }
}

#[test]
fn what_was_taken_and_not_given_back_is_found_by_a_successor_and_still_rings() {
    let parts = parts();
    let mut producer = AuditProducer::new(parts.memory());
    let mut died = AuditConsumer::new(parts.memory());
    assert!(producer.reserve().unwrap().commit(1, &DENIED));
    assert!(died.take().is_some() && died.take().is_none());
    assert!(producer.reserve().unwrap().commit(2, &DENIED), "all before it was taken, so it rings");
    let mut successor = AuditConsumer::new(parts.memory());
    assert_eq!(successor.taken(), 0);
    let ticks = |item| if let Some(AuditItem::Record(record)) = item { record.ticks } else { 0 };
    assert_eq!((ticks(successor.take()), ticks(successor.take())), (1, 2));
    successor.release(successor.mark());
    assert_eq!(AuditConsumer::new(parts.memory()).taken(), 2);
}
