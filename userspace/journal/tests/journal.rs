//! What the journal promises.

use journal::{
    Admission, BYTES_MAX, Before, FIELDS_BYTES_MAX, Figures, Journal, LEVEL_MAX, MESSAGE_BYTES_MAX, Question,
    RATE_MAX, RECORDS_MAX, Record, Reject, SCOPE_BYTES_MAX, SENDERS_MAX, SHARE_RECORDS_MAX, SUBJECTS_MAX,
    Sent, clean, fields, kernel,
};
use proptest::prelude::*;

fn record(service_id: u64, ticks: u64, level: u8, message: &str) -> Record {
    Record { ticks, level, service_id, message: message.into(), ..Record::default() }
}

fn decision(subject: u64) -> Record {
    Record { subject: Some(subject), ..record(9, 0, 2, "deny") }
}

const ALL: Question<'static> = Question {
    after: 0,
    last: 0,
    level: LEVEL_MAX,
    service_id: None,
    since: 0,
    text: "",
    audit: false,
    earlier: false,
};

fn ids(journal: &Journal, question: &Question<'_>) -> Vec<u64> {
    journal.answer(question, usize::MAX, 0).0.iter().map(|record| record.id).collect()
}

#[test]
fn records_are_found_by_author_level_time_and_text() {
    let mut journal = Journal::default();
    journal.push(record(1, 10, 0, "it broke"));
    journal.push(record(2, 20, 2, "All Well"));
    journal.push(Record { fields: "block=77".into(), scope: "disk".into(), ..record(1, 30, 1, "slow") });
    assert_eq!(ids(&journal, &ALL), [1, 2, 3]);
    assert_eq!(ids(&journal, &Question { service_id: Some(1), ..ALL }), [1, 3]);
    assert_eq!(ids(&journal, &Question { level: 1, ..ALL }), [1, 3]);
    assert_eq!(ids(&journal, &Question { since: 20, ..ALL }), [2, 3]);
    assert_eq!(ids(&journal, &Question { text: "wELL", ..ALL }), [2]);
    assert_eq!(ids(&journal, &Question { text: "k=77", ..ALL }), [3]);
    assert_eq!(ids(&journal, &Question { text: "DISK", ..ALL }), [3]);
    assert_eq!(ids(&journal, &Question { last: 2, ..ALL }), [2, 3]);
    assert_eq!(ids(&journal, &Question { after: 2, ..ALL }), [3]);
    assert!(ids(&journal, &Question { audit: true, ..ALL }).is_empty());
}

#[test]
fn pages_follow_each_other_without_gap_and_the_newest_come_oldest_first() {
    let mut journal = Journal::default();
    for _ in 0..10 {
        journal.push(record(1, 0, 2, "0123456789"));
    }
    let mut seen = Vec::new();
    loop {
        let after = seen.last().copied().unwrap_or(0);
        let (page, has_more) = journal.answer(&Question { after, ..ALL }, 45, 5);
        seen.extend(page.iter().map(|record| record.id));
        if !has_more {
            break;
        }
        assert_eq!(page.len(), 3);
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    let (newest, has_more) = journal.answer(&Question { last: 9, ..ALL }, 45, 5);
    assert_eq!(
        (newest.iter().map(|record| record.id).collect::<Vec<_>>(), has_more),
        (vec![8, 9, 10], false)
    );
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let mut journal = Journal::default();
    for _ in 0..RECORDS_MAX + 3 {
        journal.push(record(1, 0, 2, "x"));
    }
    assert_eq!((journal.kept().0, journal.figures().evicted), (RECORDS_MAX, 3));
    let long = "x".repeat(BYTES_MAX / 2);
    journal.push(record(1, 0, 2, &long));
    journal.push(record(1, 0, 2, &long));
    assert_eq!(journal.kept(), (2, BYTES_MAX));
    let total = RECORDS_MAX as u64 + 5;
    assert_eq!(journal.figures(), Figures { total, evicted: total - 2, ..Figures::default() });
}

#[test]
fn nobody_evicts_the_decisions_about_another() {
    let mut journal = Journal::new(0, Before { decisions: 7, ..Before::default() });
    journal.push(decision(1));
    for _ in 0..10 * SHARE_RECORDS_MAX {
        journal.push(decision(2));
    }
    for _ in 0..2 * RECORDS_MAX {
        journal.push(record(2, 0, 2, "noise"));
    }
    let of = |subject| ids(&journal, &Question { service_id: Some(subject), audit: true, ..ALL });
    assert_eq!(of(1), [1]);
    assert_eq!(of(2).len(), SHARE_RECORDS_MAX);
    let figures = journal.figures();
    assert_eq!((figures.decisions, figures.decisions_evicted), (1 + 10 * SHARE, 9 * SHARE));
    assert_eq!(figures.before, 7);
}

#[test]
fn subjects_beyond_the_last_share_have_one_together() {
    let mut journal = Journal::default();
    for subject in 0..10 * SUBJECTS_MAX as u64 {
        journal.push(decision(subject));
    }
    assert_eq!(journal.kept().0, SUBJECTS_MAX + SHARE_RECORDS_MAX);
    assert_eq!(ids(&journal, &Question { service_id: Some(0), ..ALL }), [1]);
}

#[test]
fn decisions_of_the_kernel_are_understood() {
    let line = "QOS-AUDIT decision=deny reason=unauthorized_escalation caller_sid=0xab caller_pid=7 target_pid=8 from=Normal to=PerfBurst";
    let seen = kernel::decision(line).unwrap();
    assert_eq!((seen.subject, seen.is_allowed, seen.action), (0xab, false, "thread.qos"));
    assert_eq!((seen.target, seen.reason), ("8", "unauthorized_escalation"));
    for wrong in
        ["", "fault: x", "QOS-AUDIT ", "QOS-AUDIT decision=allow caller_sid=ab", "xQOS-AUDIT decision=deny"]
    {
        assert_eq!(kernel::decision(wrong), None, "{wrong}");
    }
}

const SHARE: u64 = SHARE_RECORDS_MAX as u64;

const SENT: Sent<'static> = Sent { level: 2, scope: "a", message: "b", fields: "k=v\nl=" };

#[test]
fn what_is_well_formed_is_admitted() {
    assert_eq!(Admission::new(100).admit(1, 0, &SENT), Ok(()));
    assert_eq!(Admission::new(100).admit(1, 0, &Sent { fields: "", level: LEVEL_MAX, ..SENT }), Ok(()));
}

#[test]
fn test_reject_what_is_too_long() {
    let long = "x".repeat(FIELDS_BYTES_MAX + 1);
    for sent in [
        Sent { scope: &long[..SCOPE_BYTES_MAX + 1], ..SENT },
        Sent { message: &long[..MESSAGE_BYTES_MAX + 1], ..SENT },
        Sent { fields: &long, ..SENT },
    ] {
        assert_eq!(Admission::new(100).admit(1, 0, &sent), Err(Reject::OverLimit));
    }
}

#[test]
fn test_reject_unknown_levels_control_characters_and_fields_that_are_none() {
    for sent in [
        Sent { level: LEVEL_MAX + 1, ..SENT },
        Sent { scope: "a\n", ..SENT },
        Sent { message: "\u{1b}[2J", ..SENT },
        Sent { fields: "k", ..SENT },
        Sent { fields: "=v", ..SENT },
        Sent { fields: "k=v\n\nl=w", ..SENT },
    ] {
        assert_eq!(Admission::new(100).admit(1, 0, &sent), Err(Reject::InvalidArgs), "{sent:?}");
    }
}

#[test]
fn test_reject_fields_that_say_who_somebody_is() {
    for key in ["sender_service_id", "service_id", "requester_id", "service"] {
        let fields = format!("a=1\n{key}=policyd");
        assert_eq!(
            Admission::new(100).admit(1, 0, &Sent { fields: &fields, ..SENT }),
            Err(Reject::InvalidArgs)
        );
    }
}

#[test]
fn test_reject_a_sender_that_sends_too_much_and_no_other() {
    let mut admission = Admission::new(100);
    for _ in 0..RATE_MAX {
        assert_eq!(admission.admit(1, 50, &SENT), Ok(()));
    }
    assert_eq!(admission.admit(1, 99, &SENT), Err(Reject::RateLimited));
    assert_eq!(admission.admit(2, 99, &SENT), Ok(()));
    assert_eq!(admission.admit(1, 100, &SENT), Ok(()), "the next second");
}

#[test]
fn test_reject_senders_beyond_those_that_are_counted() {
    let mut admission = Admission::new(100);
    for sender in 0..SENDERS_MAX as u64 {
        assert_eq!(admission.admit(sender, 0, &SENT), Ok(()));
    }
    assert_eq!(admission.admit(u64::MAX, 0, &SENT), Err(Reject::RateLimited));
}

#[test]
fn refusals_are_all_counted_and_told_once_an_interval() {
    let mut admission = Admission::new(100);
    let told = [0, 1, 999, 1000, 1001].map(|now| admission.reject(Reject::OverLimit, now));
    assert_eq!(told, [true, false, false, true, false]);
    assert!(admission.reject(Reject::InvalidArgs, 1001), "each class by itself");
    assert_eq!(admission.rejected(), [1, 5, 0]);
}

#[test]
fn texts_are_made_safe_and_fields_sorted() {
    assert_eq!(clean(b"a\x1b\xff\xc3\xa4", 99), "a\\x1b\\xff\u{e4}");
    assert_eq!(clean("aä".as_bytes(), 2), "a");
    let pairs: [(&[u8], Vec<u8>); 3] =
        [(b"b", b"1\n".to_vec()), (b"a", b"2".to_vec()), (b"c", vec![b'x'; 600])];
    assert_eq!(fields(pairs.into_iter(), FIELDS_BYTES_MAX), "a=2\nb=1\\x0a");
}

proptest! {
    #[test]
    fn every_decision_is_kept_or_counted(subjects in prop::collection::vec(0u64..100, 0..3000)) {
        let mut journal = Journal::default();
        for subject in &subjects {
            journal.push(decision(*subject));
        }
        let kept = ids(&journal, &Question { audit: true, ..ALL }).len() as u64;
        prop_assert_eq!(kept + journal.figures().decisions_evicted, subjects.len() as u64);
        prop_assert!(kept <= ((SUBJECTS_MAX + 1) * SHARE_RECORDS_MAX) as u64);
    }

    #[test]
    fn any_question_is_answered_within_its_room_in_order(
        messages in prop::collection::vec(("\\PC{0,40}", 0u64..4, any::<u64>(), 0u8..6, prop::option::of(0u64..4)), 0..60),
        (after, last, level, service_id, since, audit) in
            (0u64..70, 0usize..70, any::<u8>(), prop::option::of(0u64..5), any::<u64>(), any::<bool>()),
        text in "\\PC{0,2}",
        room in 0usize..2000,
    ) {
        let mut journal = Journal::default();
        for (message, service_id, ticks, level, subject) in &messages {
            journal.push(Record { subject: *subject, ..record(*service_id, *ticks, *level, message) });
        }
        let question = Question { after, last, level, service_id, since, text: &text, audit, earlier: false };
        let (found, has_more) = journal.answer(&question, room, 10);
        prop_assert!(found.is_sorted_by_key(|record| record.id));
        prop_assert!(found.iter().all(|record| question.asks_for(record)));
        prop_assert!(found.iter().map(|record| record.message.len() + 10).sum::<usize>() <= room);
        prop_assert!(!has_more || last == 0);
    }

    #[test]
    fn any_bytes_make_a_bounded_line_without_control_characters(bytes in any::<Vec<u8>>(), most in 0usize..99) {
        let text = clean(&bytes, most);
        prop_assert!(text.len() <= most && !text.chars().any(char::is_control));
    }

    #[test]
    fn anything_sent_is_admitted_or_refused_and_never_panics(
        level in any::<u8>(), scope in "\\PC{0,80}", message in "\\PC{0,300}", fields in "(\\PC|\n){0,600}",
    ) {
        let _ = Admission::new(0).admit(1, u64::MAX, &Sent { level, scope: &scope, message: &message, fields: &fields });
    }
}

/// A ring's record could once say who somebody is, which a message may not.
#[test]
fn test_reject_identity_in_the_fields_of_a_ring() {
    let pairs =
        [("service_id", "7"), ("service", "rngd"), ("service_id=7 x", "y"), ("", "empty"), ("block", "1")];
    let pairs = pairs.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes().to_vec()));
    assert_eq!(fields(pairs, FIELDS_BYTES_MAX), "block=1");
}

#[test]
fn decisions_that_are_told_of_together_all_count() {
    let mut journal = Journal::default();
    journal.push(decision(1));
    journal.count_merged(41);
    assert_eq!((journal.figures().decisions, journal.kept().0), (42, 1));
}
