//! The kernel's ring of records against a queue of everything that was ever appended.

use neuron::ring::{RING_BYTES, ReadError, Ring};
use nexus_abi::limits::RING_TEXT_MAX;
use nexus_abi::records::{RingLevel, RingRecord};
use proptest::prelude::*;
use std::collections::VecDeque;
use zerocopy::FromBytes;

const HEAD: usize = size_of::<RingRecord>();

#[derive(Clone, Debug)]
enum Step {
    /// Appends so many records of this text.
    Append(String, usize),
    /// Reads into so many bytes, from this many records before the newest.
    Read(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof!["[a-zé€]{0,40}", "x{900,1100}", "€{330,360}"];
    prop_oneof![
        2 => (text, 1..20usize).prop_map(|(text, times)| Step::Append(text, times)),
        1 => (0..RING_BYTES, 0..900u64).prop_map(|(bytes, back)| Step::Read(bytes, back)),
        1 => (0..200usize, 0..4u64).prop_map(|(bytes, back)| Step::Read(bytes, back)),
    ]
}

/// The part of a text that a record keeps.
fn kept(text: &str) -> &str {
    let fits = text.char_indices().map(|(at, character)| at + character.len_utf8());
    &text[..fits.take_while(|&end| end <= RING_TEXT_MAX).last().unwrap_or(0)]
}

/// Bytes that a record with so many bytes of text takes.
fn size_of_record(text_bytes: usize) -> usize {
    (HEAD + text_bytes).next_multiple_of(8)
}

/// Takes what a read yielded apart: sequence and text of each record. Padding must be zero.
fn records(mut bytes: &[u8]) -> Vec<(u64, String)> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = RingRecord::read_from_prefix(bytes).expect("a whole head");
        let (body, rest) = rest.split_at(size_of_record(head.text_bytes as usize) - HEAD);
        let (text, padding) = body.split_at(head.text_bytes as usize);
        assert!(padding.iter().all(|&byte| byte == 0));
        assert_eq!((head.ticks, head.service_id), (head.sequence * 3, head.sequence * 5));
        records.push((head.sequence, String::from_utf8(text.to_vec()).expect("cut at a character")));
        bytes = rest;
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn readers_see_every_record_whole_and_in_order(steps in prop::collection::vec(step(), 1..60)) {
        let mut ring = Ring::new(Box::leak(Box::new([0; RING_BYTES])));
        // All records that may still be there, newest last.
        let mut model: VecDeque<(u64, String)> = VecDeque::new();
        let mut newest = 0;
        for step in steps {
            match step {
                Step::Append(text, times) => for _ in 0..times {
                    newest += 1;
                    ring.append(newest * 3, newest * 5, RingLevel::Info, &text);
                    model.push_back((newest, kept(&text).to_owned()));
                    let held: usize = model.iter().map(|(_, text)| size_of_record(text.len())).sum();
                    if held > RING_BYTES + 2 * (HEAD + RING_TEXT_MAX) {
                        model.pop_front();
                    }
                    prop_assert_eq!(ring.newest(), newest);
                },
                Step::Read(bytes, back) => {
                    let after = newest.saturating_sub(back);
                    let mut to = vec![0xaa; bytes];
                    match ring.read(after, &mut to) {
                        Err(ReadError::Nothing) => prop_assert_eq!(after, newest),
                        Err(ReadError::TooSmall) => {
                            prop_assert!(after < newest && bytes < HEAD + RING_TEXT_MAX);
                        }
                        Ok((written, last)) => {
                            prop_assert!(to[written..].iter().all(|&byte| byte == 0xaa));
                            let found = records(&to[..written]);
                            check(&model, after, last, &found)?;
                            if last < newest {
                                let next = &model[model.len() - (newest - last) as usize].1;
                                prop_assert!(written + size_of_record(next.len()) > bytes, "one more would fit");
                            }
                        }
                    }
                }
            }
            if newest > 0 {
                let mut all = vec![0; RING_BYTES];
                let (written, last) = ring.read(0, &mut all).expect("the newest is always there");
                prop_assert_eq!(last, newest);
                let found = records(&all[..written]);
                check(&model, 0, last, &found)?;
                // A record is lost only when the ring is full, but for what is left before the wrap.
                let room = RING_BYTES - written;
                prop_assert!(found[0].0 == 1 || room < 3 * (HEAD + RING_TEXT_MAX), "{} bytes unused", room);
            }
        }
    }
}

/// What was read is a run of the model's records that ends with `last`.
fn check(
    model: &VecDeque<(u64, String)>,
    after: u64,
    last: u64,
    found: &[(u64, String)],
) -> Result<(), TestCaseError> {
    let first = found.first().expect("a read that yields bytes yields a record").0;
    prop_assert!(first > after);
    prop_assert_eq!(found.len() as u64, last - first + 1);
    let begin = model.iter().position(|(sequence, _)| *sequence == first);
    let expected = begin.into_iter().flat_map(|begin| model.range(begin..begin + found.len()));
    prop_assert!(expected.eq(found.iter()), "records from {} on differ", first);
    Ok(())
}
