//! The pool of frames against a set of frame numbers.

use neuron::memory::{FrameKind, FrameNumber, Memory};
use neuron::testing::{PAGE, RAM_BASE, memory};
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
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => Just(Step::Take), 3 => any::<usize>().prop_map(Step::Release), 2 => Just(Step::Clean)]
}

/// Leaves traces all over a frame.
fn stain(memory: &Memory, frame: FrameNumber) {
    (0..WORDS).for_each(|word| memory.word(frame, word).store(u64::MAX, Relaxed));
}

fn is_zero(memory: &Memory, frame: FrameNumber) -> bool {
    (0..WORDS).all(|word| memory.word(frame, word).load(Relaxed) == 0)
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
