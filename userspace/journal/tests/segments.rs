//! What of the journal outlives it, and what of it is refused.

use journal::segment::{ALL_PLACES, SEGMENT_BYTES_MAX, decode, decode_index, key};
use journal::{
    Batch, Before, FIELDS_BYTES_MAX, Journal, LEVEL_MAX, MESSAGE_BYTES_MAX, Owner, PLACES_MAX, Question,
    Record, SCOPE_BYTES_MAX, SHARE_ERRORS_MAX, SHARE_RECORDS_MAX, SUBJECTS_MAX, Segment, SegmentError,
    Stored, Whereabouts,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const OWN: u64 = 99;
const OF_THIS_BOOT: Question<'static> = Question {
    after: 0,
    last: 0,
    level: LEVEL_MAX,
    service_id: None,
    since: 0,
    text: "",
    audit: false,
    earlier: false,
};
const OF_EARLIER: Question<'static> = Question { earlier: true, ..OF_THIS_BOOT };

fn decision(subject: u64) -> Record {
    let fields = "action=proc.kill\ndecision=allow".into();
    Record {
        subject: Some(subject),
        level: 2,
        service_id: 7,
        message: "allow".into(),
        fields,
        ..Record::default()
    }
}

fn error(service_id: u64) -> Record {
    Record { level: 0, service_id, message: "it broke".into(), ..Record::default() }
}

/// The store: a value for each place, and the index.
#[derive(Clone, Debug, Default)]
struct Disk(BTreeMap<usize, Vec<u8>>, Vec<u8>);

impl Disk {
    fn take(&mut self, batch: &Batch) {
        self.0.extend(batch.segments().map(|(place, bytes)| (place, bytes.to_vec())));
        self.1 = batch.index().map_or(core::mem::take(&mut self.1), <[u8]>::to_vec);
    }

    fn stored(&self) -> Stored {
        let index = if self.1.is_empty() { 0 } else { decode_index(&self.1).unwrap() };
        let mut stored = Stored { index, ..Stored::default() };
        for (place, bytes) in self.0.iter().filter(|(place, _)| index & 1 << **place != 0) {
            match decode(*place, bytes) {
                Ok(segment) => stored.segments.push((*place, segment)),
                Err(_) => stored.refused += 1,
            }
        }
        stored
    }
}

/// A journal of a new boot, or of this one again.
fn begun(disk: &Disk, before: Before) -> Journal {
    let mut journal = Journal::new(OWN, before);
    journal.restore(disk.stored());
    journal
}

fn write_all(journal: &mut Journal, disk: &mut Disk) {
    while let Some(batch) = journal.batch(SEGMENT_BYTES_MAX) {
        disk.take(&batch);
        journal.written(&batch);
    }
}

fn found(journal: &Journal, question: &Question<'_>) -> Vec<(u64, u64)> {
    journal.answer(question, usize::MAX, 0).0.iter().map(|record| (record.boot, record.id)).collect()
}

#[test]
fn what_was_written_is_found_in_the_next_boot_under_its_number_and_numbers_go_on() {
    let mut disk = Disk::default();
    let mut first = begun(&disk, Before::default());
    first.push(decision(1));
    first.push(Record { level: 2, ..error(5) });
    first.push(error(5));
    write_all(&mut first, &mut disk);
    assert_eq!((first.boot(), first.unwritten(), first.wants_writing(0)), (1, 0, false));
    let mut second = begun(&disk, Before::default());
    assert_eq!(second.push(decision(1)), 4);
    assert_eq!(found(&second, &OF_EARLIER), [(1, 1), (1, 3)], "ordinary lines are not kept");
    assert_eq!(found(&second, &OF_THIS_BOOT), [(2, 4)]);
    assert_eq!(found(&second, &Question { audit: true, ..OF_EARLIER }), [(1, 1)]);
}

#[test]
fn what_came_before_the_store_was_read_is_numbered_behind_what_was_in_it() {
    let mut disk = Disk::default();
    let mut first = begun(&disk, Before::default());
    first.push(decision(1));
    write_all(&mut first, &mut disk);
    let mut second = Journal::new(OWN, Before::default());
    let early = second.push(decision(1));
    second.push(Record { level: 2, ..error(5) });
    assert_eq!(early, 1);
    second.restore(disk.stored());
    assert_eq!(found(&second, &OF_THIS_BOOT), [(2, 2), (2, 3)]);
    assert_eq!(
        (second.last(), second.whereabouts(2), second.whereabouts(1)),
        (3, Whereabouts::Waiting, Whereabouts::Stored)
    );
}

#[test]
fn a_journal_that_died_is_followed_by_one_of_the_same_boot() {
    let mut disk = Disk::default();
    let mut died = begun(&disk, Before::default());
    died.push(decision(1));
    write_all(&mut died, &mut disk);
    died.push(decision(2));
    let before =
        Before { boot: died.boot(), last: died.last(), unwritten: died.unwritten(), ..Before::default() };
    let mut next = begun(&disk, before);
    assert_eq!(found(&next, &OF_THIS_BOOT), [(1, 1)]);
    assert_eq!(next.figures().never_written, 1, "the one that died with it is counted");
    assert_eq!((next.push(decision(3)), next.boot()), (3, 1));
}

/// Each journal reads the kernel's ring from its beginning, and once kept what stands there anew.
#[test]
fn what_is_read_again_by_a_successor_is_kept_once() {
    let mut disk = Disk::default();
    let mut died = begun(&disk, Before::default());
    died.push(Record { ticks: 5, ..error(0) });
    write_all(&mut died, &mut disk);
    let before = Before { boot: died.boot(), last: died.last(), ..Before::default() };
    let mut next = Journal::new(OWN, before);
    next.push(Record { ticks: 5, ..error(0) });
    next.push(Record { ticks: 6, ..error(0) });
    next.restore(disk.stored());
    assert_eq!(found(&next, &OF_THIS_BOOT), [(1, 1), (1, 3)]);
}

#[test]
fn nobody_evicts_what_is_kept_of_another() {
    let mut disk = Disk::default();
    let mut journal = begun(&disk, Before::default());
    journal.push(decision(1));
    journal.push(error(1));
    for _ in 0..3 * SHARE_RECORDS_MAX {
        journal.push(decision(2));
        journal.push(error(2));
    }
    write_all(&mut journal, &mut disk);
    let next = begun(&disk, Before::default());
    let of = |id| found(&next, &Question { service_id: Some(id), ..OF_EARLIER }).len();
    assert_eq!((of(1), of(2)), (2, SHARE_RECORDS_MAX + SHARE_ERRORS_MAX));
    assert_eq!(next.made_room() as usize, 5 * SHARE_RECORDS_MAX - SHARE_ERRORS_MAX);
}

#[test]
fn what_makes_room_before_it_was_written_is_counted() {
    let mut journal = begun(&Disk::default(), Before::default());
    let first = journal.push(decision(1));
    for _ in 0..SHARE_RECORDS_MAX {
        journal.push(decision(1));
    }
    assert_eq!((journal.whereabouts(first), journal.figures().never_written), (Whereabouts::Gone, 1));
}

/// A store that refuses the journal has that recorded, which once would have been written to it.
#[test]
fn what_is_of_or_about_the_journal_is_not_written_for_its_own_sake() {
    let mut journal = begun(&Disk::default(), Before::default());
    journal.push(decision(OWN));
    journal.push(error(OWN));
    assert!(!journal.wants_writing(0));
    journal.push(decision(1));
    assert!(journal.wants_writing(0));
    let batch = journal.batch(PLACES_MAX * SEGMENT_BYTES_MAX).unwrap();
    assert_eq!(batch.segments().count(), 3, "but along with others");
}

#[test]
fn a_batch_is_bounded_and_begins_with_what_waits_longest() {
    let mut journal = begun(&Disk::default(), Before::default());
    let mut disk = Disk::default();
    (1..=40).for_each(|subject| _ = journal.push(decision(subject)));
    let batch = journal.batch(SEGMENT_BYTES_MAX).unwrap();
    assert!(batch.segments().map(|(_, bytes)| bytes.len()).sum::<usize>() <= SEGMENT_BYTES_MAX);
    disk.take(&batch);
    journal.written(&batch);
    assert_eq!(journal.whereabouts(1), Whereabouts::Stored);
    write_all(&mut journal, &mut disk);
    assert_eq!((disk.0.len(), journal.unwritten()), (SUBJECTS_MAX + 1, 0));
}

#[test]
fn the_longest_share_fits_a_segment() {
    let mut journal = begun(&Disk::default(), Before { last: u64::MAX / 2, ..Before::default() });
    let long = Record {
        boot: u64::MAX,
        ticks: u64::MAX,
        service_id: u64::MAX,
        subject: Some(u64::MAX),
        scope: "x".repeat(SCOPE_BYTES_MAX),
        message: "x".repeat(MESSAGE_BYTES_MAX),
        fields: format!("k={}", "x".repeat(FIELDS_BYTES_MAX - 2)),
        ..decision(0)
    };
    (0..SHARE_RECORDS_MAX).for_each(|_| _ = journal.push(long.clone()));
    let batch = journal.batch(SEGMENT_BYTES_MAX).unwrap();
    let (place, bytes) = batch.segments().next().unwrap();
    assert_eq!(decode(place, bytes).unwrap().records.len(), SHARE_RECORDS_MAX);
}

/// A segment of one place.
fn segment() -> (usize, Vec<u8>) {
    let mut journal = begun(&Disk::default(), Before::default());
    (0..3).for_each(|_| _ = journal.push(decision(1)));
    let batch = journal.batch(SEGMENT_BYTES_MAX).unwrap();
    let (place, bytes) = batch.segments().next().unwrap();
    (place, bytes.to_vec())
}

#[test]
fn test_reject_a_segment_with_any_bit_flipped() {
    let (place, bytes) = segment();
    for bit in 0..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(place, &damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn test_reject_a_segment_that_is_cut_or_followed_by_more() {
    let (place, bytes) = segment();
    for length in 0..bytes.len() {
        assert!(decode(place, &bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(decode(place, &[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn test_reject_what_is_no_segment_or_a_newer_one() {
    let (place, mut bytes) = segment();
    assert_eq!(decode(place, b""), Err(SegmentError::Foreign));
    assert_eq!(decode(place, b"a note of somebody"), Err(SegmentError::Foreign));
    bytes[5] = 2;
    assert_eq!(decode(place, &bytes), Err(SegmentError::NewerVersion));
}

#[test]
fn test_reject_a_segment_at_a_place_that_is_not_its_own() {
    let (place, bytes) = segment();
    assert!(decode(place + 1, &bytes).is_ok(), "any place of its kind is one");
    for other in [SUBJECTS_MAX, SUBJECTS_MAX + 1, PLACES_MAX - 1, PLACES_MAX, usize::MAX] {
        assert_eq!(decode(other, &bytes), Err(SegmentError::OtherShare), "{other}");
    }
}

/// The same share twice would be two truths about it.
#[test]
fn test_reject_a_second_segment_of_the_same_owner() {
    let (place, bytes) = segment();
    let segments = [place, place + 1].map(|place| (place, decode(place, &bytes).unwrap()));
    let mut journal = Journal::new(OWN, Before::default());
    journal.restore(Stored { index: 0b11, segments: segments.into(), ..Stored::default() });
    assert_eq!((journal.figures().segments_refused, found(&journal, &OF_EARLIER).len()), (1, 3));
}

#[test]
fn a_damaged_segment_is_counted_and_all_others_are_read() {
    let mut disk = Disk::default();
    let mut journal = begun(&disk, Before::default());
    (1..=3).for_each(|subject| _ = journal.push(decision(subject)));
    write_all(&mut journal, &mut disk);
    disk.0.get_mut(&1).unwrap()[20] ^= 1;
    let next = begun(&disk, Before::default());
    assert_eq!((next.figures().segments_refused, found(&next, &OF_EARLIER).len()), (1, 2));
}

#[test]
fn test_reject_an_index_that_is_damaged_or_of_more_places_than_there_are() {
    let mut journal = begun(&Disk::default(), Before::default());
    journal.push(decision(1));
    let batch = journal.batch(SEGMENT_BYTES_MAX).unwrap();
    let index = batch.index().unwrap();
    assert_eq!(decode_index(index), Ok(1));
    for bit in 0..8 * index.len() {
        let mut damaged = index.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_index(&damaged).is_err(), "bit {bit}");
    }
    assert_eq!(decode_index(&segment().1), Err(SegmentError::Malformed), "a segment is no index");
    assert!(decode(0, index).is_err(), "nor an index a segment");
    assert_eq!(ALL_PLACES.count_ones() as usize, PLACES_MAX);
}

#[test]
fn the_index_is_written_with_the_first_segment_of_a_place_alone() {
    let mut journal = begun(&Disk::default(), Before::default());
    for (subject, is_new) in [(1, true), (1, false), (2, true)] {
        journal.push(decision(subject));
        let batch = journal.batch(SEGMENT_BYTES_MAX).unwrap();
        assert_eq!(batch.index().is_some(), is_new);
        journal.written(&batch);
    }
}

#[test]
fn an_index_that_was_refused_is_written_anew_and_counted() {
    let mut journal = Journal::new(OWN, Before::default());
    journal.restore(Stored { index: ALL_PLACES, is_index_lost: true, ..Stored::default() });
    assert_eq!(journal.figures().segments_refused, 1);
    journal.push(decision(1));
    let batch = journal.batch(SEGMENT_BYTES_MAX).unwrap();
    assert_eq!(decode_index(batch.index().unwrap()), Ok(ALL_PLACES));
    journal.written(&batch);
    journal.push(decision(1));
    assert!(journal.batch(SEGMENT_BYTES_MAX).unwrap().index().is_none());
}

#[test]
fn each_place_has_a_key_of_its_own() {
    assert_eq!((key(0), key(PLACES_MAX - 1)), ("/state/log/00".into(), "/state/log/65".into()));
}

/// What a boot does.
#[derive(Clone, Debug)]
enum Step {
    Decide(u64),
    Fail(u64),
    /// Writes a batch; `false`: the power fails before it is told so.
    Write(bool),
    /// The journal dies alone.
    Die,
    /// The power fails.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..40).prop_map(Step::Decide),
        3 => (0u64..40).prop_map(Step::Fail),
        4 => any::<bool>().prop_map(Step::Write),
        1 => Just(Step::Die),
        1 => Just(Step::Cut),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let texts = ("[^\\pC]{0,16}", "[^\\pC]{0,64}", prop::collection::vec("[a-d]{1,4}=[^\\pC]{0,20}", 0..4));
    let numbers = (any::<u64>(), 0..=LEVEL_MAX, any::<u64>(), prop::option::of(any::<u64>()));
    (texts, numbers).prop_map(|((scope, message, fields), (ticks, level, service_id, subject))| Record {
        ticks,
        level,
        service_id,
        subject,
        scope,
        message,
        fields: fields.join("\n"),
        ..Record::default()
    })
}

proptest! {
    #[test]
    fn any_records_come_back_as_they_were_written(records in prop::collection::vec(record(), 0..200)) {
        let mut journal = begun(&Disk::default(), Before::default());
        let mut disk = Disk::default();
        for record in records {
            journal.push(record);
        }
        write_all(&mut journal, &mut disk);
        let stored = disk.stored();
        prop_assert_eq!(stored.refused, 0);
        let mut read: Vec<Record> = stored.segments.into_iter().flat_map(|(_, segment)| segment.records).collect();
        read.sort_by_key(|record| record.id);
        let (kept, _) = journal.answer(&OF_THIS_BOOT, usize::MAX, 0);
        let kept: Vec<Record> = kept.into_iter().filter(|record| Owner::of(record).is_some()).cloned().collect();
        prop_assert_eq!(read, kept);
    }

    #[test]
    fn any_bytes_are_a_segment_or_refused(place in 0usize..70, bytes in any::<Vec<u8>>(), with_head in any::<bool>()) {
        let bytes = if with_head { [b"nxlog\x01\0\0".as_slice(), &bytes].concat() } else { bytes };
        prop_assert!(decode(place, &bytes).is_err());
    }

    /// Every decision and error that was told as written is there after any course of deaths and cuts, or counted as
    /// having made room; numbers of what is written are never given twice.
    #[test]
    fn what_was_written_is_there_or_counted(steps in prop::collection::vec(step(), 0..300)) {
        let mut disk = Disk::default();
        let mut journal = begun(&disk, Before::default());
        let mut told: BTreeMap<u64, u64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Decide(subject) => _ = journal.push(decision(subject)),
                Step::Fail(author) => _ = journal.push(error(author)),
                Step::Write(is_told) => if let Some(batch) = journal.batch(2 * SEGMENT_BYTES_MAX) {
                    disk.take(&batch);
                    if is_told {
                        journal.written(&batch);
                        let all = [OF_THIS_BOOT, OF_EARLIER].map(|question| found(&journal, &question));
                        let stored = all.iter().flatten().filter(|(_, id)| journal.whereabouts(*id) == Whereabouts::Stored);
                        for (boot, id) in stored {
                            prop_assert!(*told.entry(*id).or_insert(*boot) == *boot, "{} was given twice", id);
                        }
                    }
                },
                Step::Die => {
                    let (boot, last, unwritten) = (journal.boot(), journal.last(), journal.unwritten());
                    journal = begun(&disk, Before { boot, last, unwritten, decisions: 0 });
                }
                Step::Cut => journal = begun(&disk, Before::default()),
            }
        }
        let end = begun(&disk, Before::default());
        let there = found(&end, &OF_EARLIER);
        prop_assert_eq!(end.figures().segments_refused, 0);
        let missing = told.keys().filter(|id| !there.iter().any(|(_, other)| other == *id)).count() as u64;
        prop_assert!(missing <= end.made_room(), "{} are missing, {} made room", missing, end.made_room());
    }
}

#[test]
fn a_segment_tells_all_that_its_share_was() {
    let (place, bytes) = segment();
    let Segment { owner, boot, end, made_room, records } = decode(place, &bytes).unwrap();
    assert_eq!((owner, boot, end, made_room, records.len()), (Owner::Decisions(Some(1)), 1, 3, 0, 3));
}
