//! The record that is wrapped with the secret of a board: who has not that secret, has nothing.

use identity::{
    ANCHOR_BYTES, ANCHOR_COPIES, Copies, Finding, Identity, Kept, MachineId, NONCE_BYTES, NotOpened,
    RECORD_BYTES, ROOT_ITEM_BYTES, ROOT_ITEM_MAGIC, ROOT_SECRET_BYTES, RecordHead, Refusal, RootSecret,
    SEED_BYTES, judge,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const BLANK: Copies = [Some([0; ANCHOR_BYTES]); ANCHOR_COPIES];

fn machine(text: &str) -> MachineId {
    MachineId::new(text).unwrap()
}

fn secret(byte: u8) -> RootSecret {
    RootSecret::new(Zeroizing::new([byte; ROOT_SECRET_BYTES]))
}

fn sample() -> Identity {
    Identity::new(&[7; SEED_BYTES], machine("here"))
}

fn wrapped(identity: &Identity, root: &RootSecret) -> Zeroizing<[u8; RECORD_BYTES]> {
    identity.to_wrapped_record(root, &[5; NONCE_BYTES]).unwrap()
}

/// Why a record is refused on a board with this secret.
fn refusal(record: &[u8], root: Option<&RootSecret>) -> Option<NotOpened> {
    Identity::from_record(record, root).err()
}

/// What a machine comes to that finds this record, and anchors that are its own.
fn judged(record: &[u8], id: &str, root: Option<&RootSecret>) -> Result<Finding, Refusal> {
    let copies = [Some(sample().anchor().to_bytes()); ANCHOR_COPIES];
    judge(&Kept::Bytes(Zeroizing::new(record.to_vec())), &copies, machine(id), root)
}

#[test]
fn a_record_is_wrapped_as_any_other_program_would_do_it() {
    // HKDF-SHA-256 and XChaCha20-Poly1305, computed by another implementation of both.
    let seed = b"\xe3\xe5\x2b\xbe\x81\x6a\xe7\x41\x00\xcc\xb5\x0d\x09\x1b\x90\x2d\xa1\x0c\x14\xbc\x84\xea\xff\x02\xa0\x91\x20\xde\xac\xa7\x45\xed";
    let tag = b"\x65\xb8\x27\x31\x24\x09\x2f\x76\xa2\x70\xd9\x15\x42\xaa\xd6\x89";
    let record = wrapped(&sample(), &secret(9));
    assert_eq!(&record[..9], b"NXIDENT\x01\x01");
    assert_eq!(&record[112..], [&[5; NONCE_BYTES][..], seed, tag, &[0; 24]].concat());
}

#[test]
fn test_reject_an_item_that_is_no_secret() {
    let secret = [9; ROOT_SECRET_BYTES];
    let mut item = Zeroizing::new([0; ROOT_ITEM_BYTES]);
    item.copy_from_slice(&[&ROOT_ITEM_MAGIC[..], &secret].concat());
    let record = wrapped(&sample(), &RootSecret::from_item(&item).unwrap());
    assert_eq!(refusal(&*record, Some(&RootSecret::new(Zeroizing::new(secret)))), None);
    for place in 0..ROOT_ITEM_MAGIC.len() {
        let mut other = item.clone();
        other[place] ^= 1;
        assert!(RootSecret::from_item(&other).is_none());
    }
}

#[test]
fn a_board_with_its_secret_finds_its_identity() {
    let record = wrapped(&sample(), &secret(9));
    assert!(matches!(judged(&*record, "here", Some(&secret(9))), Ok(Finding::Whole(_))));
    let head = RecordHead::of(&*record).unwrap();
    assert_eq!((head.machine, head.public_key), (machine("here"), sample().public_key()));
    assert!(head.is_wrapped && !RecordHead::of(&*sample().to_record()).unwrap().is_wrapped);
}

#[test]
fn test_reject_a_wrapped_record_on_a_board_without_a_secret_and_with_another() {
    let record = wrapped(&sample(), &secret(9));
    let other = secret(8);
    for root in [None, Some(&other)] {
        assert_eq!(refusal(&*record, root), Some(NotOpened::OtherRoot(machine("here"))));
        assert_eq!(judged(&*record, "here", root).err(), Some(Refusal::OtherRoot));
        // Nor is a key made in its place where no anchor says that there was one.
        let kept = Kept::Bytes(Zeroizing::new(record.to_vec()));
        assert_eq!(judge(&kept, &BLANK, machine("here"), root).err(), Some(Refusal::OtherRoot));
        assert_eq!(judged(&*record, "elsewhere", root).err(), Some(Refusal::Foreign));
    }
}

#[test]
fn test_reject_a_record_that_is_not_wrapped_on_a_board_with_a_secret() {
    let (record, root) = (sample().to_record(), secret(9));
    assert_eq!(judged(&*record, "here", Some(&root)).err(), Some(Refusal::OtherRoot));
    assert_eq!(judged(&*record, "elsewhere", Some(&root)).err(), Some(Refusal::Foreign));
    let mut damaged = record;
    damaged[RECORD_BYTES - 1] ^= 1;
    assert_eq!(judged(&*damaged, "here", Some(&root)).err(), Some(Refusal::Damaged));
}

#[test]
fn test_reject_a_wrapped_record_with_any_flipped_bit() {
    let (record, root) = (wrapped(&sample(), &secret(9)), secret(9));
    assert_eq!(refusal(&*record, Some(&root)), None);
    for bit in 0..RECORD_BYTES * 8 {
        let mut damaged = record.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(refusal(&damaged, Some(&root)).is_some(), "bit {bit}");
        assert!(refusal(&damaged, None).is_some(), "bit {bit}, no secret");
    }
}

#[test]
fn test_reject_a_wrapped_record_that_says_another_machine_or_another_key() {
    let root = secret(9);
    let record = wrapped(&sample(), &root);
    let others = [
        Identity::new(&[7; SEED_BYTES], machine("elsewhere")),
        Identity::new(&[8; SEED_BYTES], machine("here")),
    ];
    for other in others {
        // The head of one, and what is wrapped of the other.
        let mixed = [&wrapped(&other, &root)[..112], &record[112..]].concat();
        assert_eq!(refusal(&mixed, Some(&root)), Some(NotOpened::OtherRoot(other.machine())));
    }
}

proptest! {
    #[test]
    fn a_wrapped_record_comes_back_as_it_went_and_holds_nothing_of_the_seed(
        seed in any::<[u8; SEED_BYTES]>(),
        root in any::<[u8; ROOT_SECRET_BYTES]>(),
        nonce in any::<[u8; NONCE_BYTES]>(),
        id in "[a-zA-Z0-9._:-]{1,64}",
    ) {
        let (identity, root) = (Identity::new(&seed, machine(&id)), RootSecret::new(Zeroizing::new(root)));
        let record = identity.to_wrapped_record(&root, &nonce).unwrap();
        let back = Identity::from_record(&*record, Some(&root)).unwrap();
        prop_assert_eq!(back.sign(1, b"x"), identity.sign(1, b"x"));
        prop_assert_eq!(back.machine(), identity.machine());
        // Not even eight bytes of it, anywhere.
        let parts: Vec<&[u8]> = seed.windows(8).collect();
        prop_assume!(!id.as_bytes().windows(8).chain(nonce.windows(8)).any(|part| parts.contains(&part)));
        prop_assert!(!record.windows(8).any(|part| part != [0; 8] && parts.contains(&part)));
    }

    #[test]
    fn any_bytes_behind_a_good_head_are_refused_and_never_panic(
        body in prop::collection::vec(any::<u8>(), 96),
        secret_byte in any::<u8>(),
    ) {
        let root = secret(secret_byte);
        let bytes = [&wrapped(&sample(), &root)[..112], &body].concat();
        prop_assert!(refusal(&bytes, Some(&root)).is_some());
        prop_assert!(refusal(&bytes, None).is_some());
    }
}
