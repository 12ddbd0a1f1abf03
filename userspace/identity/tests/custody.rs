//! What record and anchor come to, and the making of an identity under a power that fails at any moment.

use identity::{
    ANCHOR_BYTES, ANCHOR_COPIES, Anchor, Copies, Failure, Finding, Identity, Kept, MachineId, Places,
    RECORD_BYTES, ROOT_SECRET_BYTES, Refusal, RootSecret, SEED_BYTES, fingerprint, judge, open, reset,
    statement, verify,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

fn machine(text: &str) -> MachineId {
    MachineId::new(text).unwrap()
}

fn sample() -> Identity {
    Identity::new(&[7; SEED_BYTES], machine("here"))
}

fn kept(identity: &Identity) -> Kept {
    Kept::Bytes(Zeroizing::new(identity.to_record().to_vec()))
}

const BLANK: Copies = [Some([0; ANCHOR_BYTES]); ANCHOR_COPIES];

fn both(anchor: Anchor) -> Copies {
    [Some(anchor.to_bytes()); ANCHOR_COPIES]
}

/// What is found, in a word.
fn word(record: &Kept, copies: &Copies, machine: MachineId) -> Result<&'static str, Refusal> {
    judge(record, copies, machine, None).map(|finding| match finding {
        Finding::Whole(_) => "whole",
        Finding::Unanchored(..) => "unanchored",
        Finding::Blank => "blank",
    })
}

/// Places in memory, whose power fails after so many changes: in the middle of the one that it fails in.
struct Memory {
    record: Kept,
    copies: Copies,
    /// Changes until the power fails, and what becomes of a block whose write it cuts.
    left: usize,
    torn: Copies,
    seeds: u8,
}

/// The power failed, or there is nothing to answer with.
#[derive(Debug, PartialEq, Eq)]
struct Dark;

impl Memory {
    fn new() -> Self {
        Memory {
            record: Kept::Absent,
            copies: BLANK,
            left: usize::MAX,
            torn: [None; ANCHOR_COPIES],
            seeds: 0,
        }
    }

    /// Whether the next change is whole.
    fn change(&mut self) -> Result<bool, Dark> {
        match self.left {
            0 => Err(Dark),
            left => {
                self.left = left - 1;
                Ok(self.left > 0)
            }
        }
    }
}

impl Places for Memory {
    type Error = Dark;

    fn random<const BYTES: usize>(&mut self) -> Result<Zeroizing<[u8; BYTES]>, Dark> {
        self.seeds += 1;
        Ok(Zeroizing::new([self.seeds; BYTES]))
    }

    fn record(&mut self) -> Result<Kept, Dark> {
        Ok(self.record.clone())
    }

    // The store is atomic: a change that the power cuts is made or not. Here it is not.
    fn keep_record(&mut self, record: &[u8; RECORD_BYTES]) -> Result<(), Dark> {
        if !self.change()? {
            return Err(Dark);
        }
        assert!(matches!(self.record, Kept::Absent), "a record is never written over");
        self.record = Kept::Bytes(Zeroizing::new(record.to_vec()));
        Ok(())
    }

    fn forget_record(&mut self) -> Result<(), Dark> {
        if !self.change()? {
            return Err(Dark);
        }
        self.record = Kept::Absent;
        Ok(())
    }

    fn anchors(&mut self) -> Result<Copies, Dark> {
        Ok(self.copies)
    }

    fn keep_anchor(&mut self, copy: usize, anchor: &[u8; ANCHOR_BYTES]) -> Result<(), Dark> {
        let is_whole = self.change()?;
        self.copies[copy] = if is_whole { Some(*anchor) } else { self.torn[copy] };
        if is_whole { Ok(()) } else { Err(Dark) }
    }
}

#[test]
fn a_blank_device_makes_one_identity_and_finds_it_again() {
    let mut places = Memory::new();
    let made = open(&mut places, machine("here"), None).unwrap();
    for _ in 0..50 {
        assert_eq!(open(&mut places, machine("here"), None).unwrap().public_key(), made.public_key());
    }
    assert_eq!(places.seeds, 1);
}

#[test]
fn whenever_the_power_fails_while_it_is_made_the_identity_that_was_shown_stays() {
    let secret = RootSecret::new(Zeroizing::new([9; ROOT_SECRET_BYTES]));
    let torn = [None, Some([0; ANCHOR_BYTES]), Some([0xff; ANCHOR_BYTES])];
    for (torn, root) in torn.into_iter().flat_map(|torn| [(torn, None), (torn, Some(&secret))]) {
        for (first, second) in (1..=8).flat_map(|first| (1..=8).map(move |second| (first, second))) {
            let mut places = Memory { torn: [torn; ANCHOR_COPIES], ..Memory::new() };
            let mut shown = BTreeSet::new();
            for cut in [first, second, usize::MAX] {
                places.left = cut;
                let found = open(&mut places, machine("here"), root);
                shown.extend(found.ok().map(|identity| identity.public_key()));
            }
            assert_eq!(shown.len(), 1, "cut at {first}, then at {second}, torn to {torn:?}");
        }
    }
}

#[test]
fn twenty_blank_devices_have_twenty_keys() {
    let keys: BTreeSet<_> = (0..20)
        .map(|seeds| {
            open(&mut Memory { seeds, ..Memory::new() }, machine("here"), None).unwrap().public_key()
        })
        .collect();
    assert_eq!(keys.len(), 20);
}

#[test]
fn a_copy_of_the_anchor_that_is_lost_is_written_again_from_the_other() {
    for lost in 0..ANCHOR_COPIES {
        for damage in [None, Some([0; ANCHOR_BYTES]), Some([0xff; ANCHOR_BYTES])] {
            let mut places = Memory::new();
            let made = open(&mut places, machine("here"), None).unwrap();
            places.copies[lost] = damage;
            assert_eq!(open(&mut places, machine("here"), None).unwrap().public_key(), made.public_key());
            assert_eq!(places.copies, both(made.anchor()));
        }
    }
}

#[test]
fn test_reject_a_lost_key() {
    let anchored = both(sample().anchor());
    assert_eq!(word(&Kept::Absent, &anchored, machine("here")), Err(Refusal::Lost));
    // Another key of this machine is not the one that it had.
    let other = Identity::new(&[8; SEED_BYTES], machine("here"));
    assert_eq!(word(&kept(&other), &anchored, machine("here")), Err(Refusal::Lost));
    // An anchor that cannot be read says that there was something.
    for garbled in [[None; 2], [Some([1; ANCHOR_BYTES]), Some([0; ANCHOR_BYTES])], [None, BLANK[1]]] {
        assert_eq!(word(&Kept::Absent, &garbled, machine("here")), Err(Refusal::Lost));
    }
}

#[test]
fn test_reject_an_identity_of_another_machine() {
    let anchored = both(sample().anchor());
    for elsewhere in [machine("elsewhere"), MachineId::NONE] {
        assert_eq!(word(&kept(&sample()), &anchored, elsewhere), Err(Refusal::Foreign));
        assert_eq!(word(&kept(&sample()), &BLANK, elsewhere), Err(Refusal::Foreign));
        assert_eq!(word(&Kept::Absent, &anchored, elsewhere), Err(Refusal::Foreign));
        let own = Identity::new(&[7; SEED_BYTES], elsewhere);
        assert_eq!(word(&kept(&own), &anchored, elsewhere), Err(Refusal::Foreign));
    }
    assert_eq!(word(&kept(&sample()), &anchored, machine("here")), Ok("whole"));
}

#[test]
fn test_reject_a_key_made_because_one_could_not_be_read() {
    let other = Identity::new(&[8; SEED_BYTES], machine("here")).anchor();
    for copies in [BLANK, both(sample().anchor()), [None; 2]] {
        assert_eq!(word(&Kept::Damaged, &copies, machine("here")), Err(Refusal::Damaged));
        let nonsense = Kept::Bytes(Zeroizing::new(vec![0; RECORD_BYTES]));
        assert_eq!(word(&nonsense, &copies, machine("here")), Err(Refusal::Damaged));
    }
    let two = [Some(sample().anchor().to_bytes()), Some(other.to_bytes())];
    assert_eq!(word(&kept(&sample()), &two, machine("here")), Err(Refusal::Damaged));
    assert_eq!(word(&Kept::Absent, &two, machine("here")), Err(Refusal::Damaged));
}

#[test]
fn test_reject_an_identity_whose_places_do_not_answer() {
    let mut places = Memory { left: 0, ..Memory::new() };
    assert_eq!(open(&mut places, machine("here"), None).map(drop), Err(Failure::Place(Dark)));
    assert!(matches!(places.record, Kept::Absent));
}

#[test]
fn a_reset_gives_up_what_is_refused_and_makes_way_for_another_also_when_it_is_cut() {
    for torn in [None, Some([0; ANCHOR_BYTES]), Some([0xff; ANCHOR_BYTES])] {
        for cut in 1..=4 {
            let mut places = Memory { torn: [torn; ANCHOR_COPIES], ..Memory::new() };
            let first = open(&mut places, machine("elsewhere"), None).unwrap().public_key();
            assert!(matches!(
                open(&mut places, machine("here"), None),
                Err(Failure::Refused(Refusal::Foreign))
            ));
            places.left = cut;
            let outcome = reset(&mut places);
            places.left = usize::MAX;
            if outcome.is_err() {
                // Either nothing is left of the old one, or it is still refused; it is never in order.
                let found = open(&mut places, machine("here"), None);
                assert!(found.is_ok_and(|found| found.public_key() != first) || cut < 4);
                reset(&mut places).unwrap();
            }
            let second = open(&mut places, machine("here"), None).unwrap();
            assert_ne!(second.public_key(), first);
        }
    }
}

#[test]
fn what_a_service_signs_verifies_as_its_statement_and_nobody_elses() {
    let identity = sample();
    let signature = identity.sign(5, b"message");
    let key = identity.public_key();
    assert!(verify(&key, &statement(5, b"message"), &signature));
    assert!(!verify(&key, &statement(6, b"message"), &signature));
    assert!(!verify(&key, &statement(5, b"massage"), &signature));
    assert!(!verify(&key, b"message", &signature));
    let other = Identity::new(&[8; SEED_BYTES], machine("here"));
    assert!(!verify(&other.public_key(), &statement(5, b"message"), &signature));
    assert_eq!(identity.fingerprint(), fingerprint(&key));
}

#[test]
fn nothing_of_the_private_key_is_printed() {
    let (identity, seed) = (sample(), [7u8; SEED_BYTES]);
    let text = format!("{identity:?}");
    assert_eq!(text, "Identity { machine: MachineId(here), .. }");
    assert!(!text.contains(&format!("{seed:?}")));
}

#[test]
fn test_reject_a_record_with_any_flipped_bit() {
    let record = sample().to_record();
    assert!(Identity::from_record(&*record, None).is_ok());
    for bit in 0..RECORD_BYTES * 8 {
        let mut damaged = record.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Identity::from_record(&damaged, None).is_err(), "bit {bit}");
    }
}

#[test]
fn test_reject_an_anchor_with_any_flipped_bit() {
    let anchor = sample().anchor();
    assert_eq!(Anchor::from_bytes(&anchor.to_bytes()), Some(anchor));
    for bit in 0..ANCHOR_BYTES * 8 {
        let mut damaged = anchor.to_bytes();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Anchor::from_bytes(&damaged), None, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn a_record_comes_back_as_it_went(seed in any::<[u8; SEED_BYTES]>(), id in "[a-zA-Z0-9._:-]{1,64}") {
        let identity = Identity::new(&seed, machine(&id));
        let back = Identity::from_record(&*identity.to_record(), None).unwrap();
        prop_assert_eq!(back.public_key(), identity.public_key());
        prop_assert_eq!(back.machine(), identity.machine());
        prop_assert_eq!(back.sign(1, b"x"), identity.sign(1, b"x"));
    }

    #[test]
    fn any_bytes_are_no_record_and_no_anchor_and_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2 * RECORD_BYTES),
        block in prop::collection::vec(any::<u8>(), ANCHOR_BYTES),
    ) {
        prop_assert!(Identity::from_record(&bytes, None).is_err());
        prop_assert!(Anchor::from_bytes(block.first_chunk().unwrap()).is_none());
    }
}
