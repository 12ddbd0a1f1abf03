//! The pool of frames against a set of frame numbers.

use neuron::memory::frame::Row;
use neuron::memory::{FrameKind, FrameNumber, Memory};
use neuron::testing::{PAGE, RAM_BASE, memory};
use nexus_abi::Error;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

const FRAMES: u32 = 64;
const WORDS: usize = PAGE as usize / 8;

#[derive(Clone, Debug)]
enum Step {
    Take,
    /// Gives back one of the frames in use, chosen by this number.
    Release(usize),
    Clean,
    /// Gathers so many neighbours, to the end.
    Row(u32),
    /// One step towards so many neighbours, which then go back.
    HalfARow(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Take),
        6 => any::<usize>().prop_map(Step::Release),
        2 => Just(Step::Clean),
        1 => (1..9u32).prop_map(Step::Row),
        1 => (1..9u32).prop_map(Step::HalfARow),
    ]
}

/// Whether so many of these are neighbours somewhere.
fn has_row(free: &BTreeSet<FrameNumber>, count: u32) -> bool {
    free.iter().any(|&first| (first..first + count).all(|frame| free.contains(&frame)))
}

/// Leaves traces all over a frame.
fn stain(memory: &Memory, frame: FrameNumber) {
    (0..WORDS).for_each(|word| memory.word(frame, word).store(u64::MAX, Relaxed));
}

fn is_zero(memory: &Memory, frame: FrameNumber) -> bool {
    (0..WORDS).all(|word| memory.word(frame, word).load(Relaxed) == 0)
}

proptest! {
    #[test]
    fn a_copy_moves_its_bytes_and_no_others(
        content in prop::collection::vec(any::<u8>(), PAGE as usize),
        (source, target, bytes) in (0..PAGE as usize, 0..PAGE as usize)
            .prop_flat_map(|(from, to)| (Just(from), Just(to), 0..=PAGE as usize - from.max(to))),
    ) {
        let memory = memory(4);
        let stained = [0xa5; PAGE as usize];
        memory.write(1, 0, &content);
        (2..4).for_each(|frame| memory.write(frame, 0, &stained));
        memory.copy((1, source), (2, target), bytes);
        let mut seen = [0; PAGE as usize];
        memory.read(2, 0, &mut seen);
        prop_assert_eq!(&seen[target..target + bytes], &content[source..source + bytes]);
        prop_assert_eq!(&seen[..target], &stained[..target]);
        prop_assert_eq!(&seen[target + bytes..], &stained[target + bytes..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_frame_is_handed_out_once_and_zeroed(steps in prop::collection::vec(step(), 1..300)) {
        let memory = memory(FRAMES as usize);
        for frame in 1..FRAMES {
            stain(&memory, frame);
            memory.release(frame);
        }
        let mut free: BTreeSet<FrameNumber> = (1..FRAMES).collect();
        let mut in_use = Vec::new();
        let mut dirty: BTreeSet<FrameNumber> = free.clone();
        for step in steps {
            match step {
                Step::Take => match memory.take(FrameKind::Data as u8) {
                    None => prop_assert!(free.is_empty()),
                    Some(frame) => {
                        prop_assert!(free.remove(&frame), "frame {} was not free", frame);
                        dirty.remove(&frame);
                        prop_assert_eq!(memory.info(frame).kind(), FrameKind::Data as u8);
                        prop_assert!(is_zero(&memory, frame));
                        stain(&memory, frame);
                        in_use.push(frame);
                    }
                },
                Step::Release(choice) if !in_use.is_empty() => {
                    let frame = in_use.swap_remove(choice % in_use.len());
                    memory.release(frame);
                    free.insert(frame);
                    dirty.insert(frame);
                }
                Step::Release(_) => {}
                Step::Clean => {
                    let cleaned = memory.clean_one();
                    prop_assert_eq!(cleaned, !dirty.is_empty());
                    let found = dirty.iter().copied().find(|&frame| is_zero(&memory, frame));
                    prop_assert_eq!(found.is_some(), cleaned, "what was cleaned is zero");
                    found.map(|frame| dirty.remove(&frame));
                }
                Step::Row(count) => {
                    let mut row = Row::default();
                    let gathered = loop {
                        match memory.extend_row(&mut row, count, FrameKind::Data as u8) {
                            Ok(None) => prop_assert!(row.count < count, "a step goes on where one ended"),
                            Ok(Some(first)) => break Some(first),
                            Err(error) => {
                                prop_assert_eq!(error, Error::NoMemory);
                                break None;
                            }
                        }
                    };
                    prop_assert_eq!(gathered.is_some(), has_row(&free, count));
                    prop_assert_eq!(row, Row::default());
                    for frame in gathered.into_iter().flat_map(|first| first..first + count) {
                        prop_assert!(free.remove(&frame), "frame {} was not free", frame);
                        prop_assert!(is_zero(&memory, frame));
                        prop_assert_eq!(memory.info(frame).kind(), FrameKind::Data as u8);
                        stain(&memory, frame);
                        in_use.push(frame);
                    }
                    // What was looked at on the way was zeroed.
                    dirty.retain(|&frame| free.contains(&frame) && !is_zero(&memory, frame));
                }
                Step::HalfARow(count) => {
                    let mut row = Row::default();
                    if let Ok(Some(first)) = memory.extend_row(&mut row, count, FrameKind::Data as u8) {
                        row = Row { first, count };
                    }
                    memory.release_row(&mut row);
                    dirty.retain(|&frame| !is_zero(&memory, frame));
                }
            }
            prop_assert_eq!(memory.free_count() as usize, free.len());
        }
    }

    #[test]
    fn addresses_and_frames_are_each_others_inverse(frame in 0..FRAMES, offset in 0..PAGE) {
        let memory = memory(FRAMES as usize);
        let address = memory.address(frame);
        prop_assert_eq!(memory.frame(neuron::memory::PhysicalAddress(address.0 + offset)), Some(frame));
        let beyond = RAM_BASE + u64::from(FRAMES) * PAGE + offset;
        prop_assert_eq!(memory.frame(neuron::memory::PhysicalAddress(beyond)), None);
        prop_assert_eq!(memory.frame(neuron::memory::PhysicalAddress(RAM_BASE - 1 - offset)), None);
    }
}

#[test]
#[should_panic(expected = "released twice")]
fn test_reject_a_frame_that_is_released_twice() {
    let memory = memory(4);
    memory.release(1);
    memory.release(1);
}
