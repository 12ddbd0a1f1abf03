//! Every error and every finding has a test that sees it; those of damage that no other file tells are here.

use statefs::{
    BlockDevice, Damage, Error, Fault, FaultDevice, Geometry, KeyFault, MemoryDevice, Options, Store,
};
use statefs_proofs::random::Random;

const SMALL: Geometry = Geometry { unit: 4096, segment_units: 8, segments: 32 };
const UNIT: usize = 4096;

fn open(device: MemoryDevice) -> Store<MemoryDevice> {
    Store::open(device, Options::new(Random::new(9).entropy())).expect("opens")
}

fn store() -> Store<MemoryDevice> {
    let mut device = MemoryDevice::new(SMALL.device_bytes() as usize);
    Store::format(&mut device, SMALL, Random::new(1).entropy()).expect("a legal geometry");
    open(device)
}

fn reports(store: &Store<impl BlockDevice>, found: fn(&Damage) -> bool) -> bool {
    store.damage().reports().iter().any(found)
}

/// The slot of the newest superblock.
fn newest_superblock(image: &[u8]) -> usize {
    let generation = |slot: usize| {
        image[slot * UNIT + 48..][..8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    usize::from(generation(1) > generation(0))
}

#[test]
fn a_lost_superblock_that_a_group_names_is_told_and_read_only_until_accepted() {
    let mut store = store();
    store.put(b"/state/a", b"1").expect("room");
    store.checkpoint_now().expect("room");
    store.put(b"/state/b", b"2").expect("room");
    let mut image = store.into_device();
    let lost = newest_superblock(image.bytes());
    image.bytes_mut()[lost * UNIT..][..UNIT].fill(0);
    let mut store = open(image);
    assert!(reports(&store, |damage| matches!(damage, Damage::SuperblockLost { .. })));
    assert_eq!(store.put(b"/state/c", b"3"), Err(Error::ReadOnly));
    assert_eq!(store.get(b"/state/a").as_deref(), Ok(&b"1"[..]));
    assert_eq!(store.get(b"/state/b").as_deref(), Ok(&b"2"[..]));
    assert_eq!(store.get(b"/state/c"), Err(Error::NotFound), "absence is certain");
    let found = store.accept_damage(&mut |_, _| {}).expect("room");
    assert!(found.keys_bad.is_empty());
    store.put(b"/state/c", b"3").expect("accepted");
    let mut store = open(store.into_device());
    assert!(!store.is_read_only() && store.damage().count() == 0);
    assert_eq!(store.get(b"/state/b").as_deref(), Ok(&b"2"[..]));
}

#[test]
fn a_damaged_superblock_that_nothing_names_is_told_and_costs_nothing() {
    let mut store = store();
    store.put(b"/state/a", b"1").expect("room");
    store.checkpoint_now().expect("room");
    let mut image = store.into_device();
    let hit = newest_superblock(image.bytes());
    image.bytes_mut()[hit * UNIT + 200] ^= 1;
    let mut store = open(image);
    assert!(reports(&store, |damage| matches!(damage, Damage::SuperblockDamaged { .. })));
    assert_eq!(store.get(b"/state/a").as_deref(), Ok(&b"1"[..]));
    store.put(b"/state/b", b"2").expect("not read-only");
}

#[test]
fn a_damaged_value_is_told_when_it_is_read() {
    let mut store = store();
    store.put(b"/state/a", b"a value of its own").expect("room");
    store.checkpoint_now().expect("room");
    let mut store = open(store.into_device());
    let bytes = store.device_mut().bytes_mut();
    let at = bytes.windows(18).position(|bytes| bytes == b"a value of its own").expect("there");
    bytes[at] ^= 1;
    assert_eq!(store.get(b"/state/a"), Err(Error::Corrupt));
    assert!(reports(&store, |damage| matches!(damage, Damage::PayloadCorrupt { .. })));
    assert_eq!(store.counters().corrupt, 1);
}

#[test]
fn a_hole_is_told() {
    let mut store = store();
    store.put(b"/state/a", b"1").expect("room");
    store.put(b"/state/lost", b"2").expect("room");
    store.put(b"/state/b", b"3").expect("room");
    let mut image = store.into_device();
    let record = image.bytes().windows(11).position(|bytes| bytes == b"/state/lost").expect("a record");
    image.bytes_mut()[record / UNIT * UNIT..][..2 * UNIT].fill(0);
    assert!(reports(&open(image), |damage| matches!(damage, Damage::Hole { .. })));
}

/// Both superblocks are older than they can be: every segment taken since belongs to the log.
#[test]
fn a_log_beyond_its_bound_opens_and_is_told() {
    let mut store = store();
    let old = store.device_mut().bytes()[..2 * UNIT].to_vec();
    for at in 0..120u8 {
        store.put(format!("/state/{}", at % 8).as_bytes(), &[at; 1_000]).expect("room");
    }
    let mut image = store.into_device();
    image.bytes_mut()[..2 * UNIT].copy_from_slice(&old);
    let store = open(image);
    assert!(reports(&store, |damage| matches!(damage, Damage::ReplayOverBound { .. })));
    assert!(store.is_read_only(), "the log names superblocks that are lost");
}

/// A machine that fails in the middle of every checkpoint, life after life, has no segment left in the end: it
/// serves everything and refuses changes.
#[test]
fn a_store_without_room_to_begin_is_read_only_and_told() {
    let mut store = store();
    let keys = (0..).map(|at| format!("/state/{at:03}").into_bytes());
    let keys: Vec<Vec<u8>> = keys.take_while(|key| store.put(key, &[1; 1_500]).is_ok()).collect();
    let mut device = FaultDevice::new(store.into_device());
    let mut random = Random::new(3);
    for life in 0..20_000 {
        let writes = random.below(5) as u64;
        device.arm(Fault::WriteRefused(writes));
        let options = Options::new(random.entropy());
        if let Ok(mut store) = Store::open(&mut device, options) {
            if reports(&store, |damage| matches!(damage, Damage::NoRoomToOpen)) {
                assert!(store.is_read_only(), "in life {life}");
                assert_eq!(store.put(&keys[0], b"x"), Err(Error::ReadOnly));
                assert!(keys.iter().all(|key| store.stat(key).is_ok()), "everything is served");
                return;
            }
            // Whether it fails or not, the next life finds what it left.
            let _ = store.put(&keys[life % keys.len()], &[2; 1_500]);
        }
    }
    panic!("there was always room");
}

/// The test that sees an error.
fn test_of(error: Error) -> (&'static str, &'static str) {
    match error {
        Error::NotFound => ("refusals", "test_delete_nonexistent"),
        Error::Corrupt => ("named", "test_reject_corrupted_journal"),
        Error::Uncertain => ("named", "a_hole_is_read_only_until_it_is_accepted"),
        Error::VersionMismatch { .. } => ("refusals", "test_reject_wrong_version"),
        Error::KeyInvalid(fault) => match fault {
            KeyFault::Prefix
            | KeyFault::EmptyPart
            | KeyFault::DotPart
            | KeyFault::NotUtf8
            | KeyFault::Control => ("refusals", "test_reject_bad_keys_in_every_operation"),
        },
        Error::KeyTooLong => ("refusals", "test_reject_bad_keys_in_every_operation"),
        Error::ValueTooLarge => ("refusals", "test_reject_value_oversized"),
        Error::BatchTooManyRecords | Error::BatchTooLarge | Error::BatchEmpty | Error::DuplicateKey => {
            ("refusals", "test_reject_batches_beyond_their_bounds")
        }
        Error::GroupFull => ("refusals", "test_reject_into_a_full_group"),
        Error::NoSpace => ("refusals", "a_full_store_reads_deletes_and_keeps_the_reserve"),
        Error::TooManyKeys => ("refusals", "test_reject_keys_beyond_the_bound"),
        Error::QuotaBytes | Error::QuotaKeys => ("refusals", "test_reject_beyond_a_quota_of_bytes_or_keys"),
        Error::CheckpointNeeded => {
            ("refusals", "test_reject_when_a_checkpoint_is_needed_and_maintenance_mends_it")
        }
        Error::ReadOnly => ("refusals", "test_reject_writes_when_read_only"),
        Error::OutcomeUnknown => {
            ("refusals", "after_a_failed_write_or_flush_the_outcome_is_unknown_and_the_engine_replays")
        }
        Error::Device(_) => ("opening", "test_reject_an_opening_on_a_device_that_goes_away"),
        Error::Foreign | Error::NewerFormat { .. } | Error::Truncated | Error::SuperblockLost => {
            ("refusals", "test_reject_foreign_newer_truncated_and_lost")
        }
        Error::UnitTooSmall => ("refusals", "test_reject_device_with_blocks_larger_than_the_unit"),
        Error::Geometry => ("refusals", "test_reject_device_that_is_too_small"),
    }
}

/// A new error does not compile above until a test is named for it; the test must name the error.
#[test]
fn every_error_has_a_test_that_names_it() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let device = Error::Device(statefs::DeviceError::Gone);
    for error in [
        Error::NotFound,
        Error::Corrupt,
        Error::Uncertain,
        Error::VersionMismatch { actual: 0 },
        Error::KeyInvalid(KeyFault::Prefix),
        Error::KeyInvalid(KeyFault::EmptyPart),
        Error::KeyInvalid(KeyFault::DotPart),
        Error::KeyInvalid(KeyFault::NotUtf8),
        Error::KeyInvalid(KeyFault::Control),
        Error::KeyTooLong,
        Error::ValueTooLarge,
        Error::BatchTooManyRecords,
        Error::BatchTooLarge,
        Error::BatchEmpty,
        Error::DuplicateKey,
        Error::GroupFull,
        Error::NoSpace,
        Error::TooManyKeys,
        Error::QuotaBytes,
        Error::QuotaKeys,
        Error::CheckpointNeeded,
        Error::ReadOnly,
        Error::OutcomeUnknown,
        device,
        Error::Foreign,
        Error::NewerFormat { version: 2 },
        Error::Truncated,
        Error::SuperblockLost,
        Error::UnitTooSmall,
        Error::Geometry,
    ] {
        let (file, test) = test_of(error);
        let source = std::fs::read_to_string(folder.join(format!("{file}.rs"))).expect("the file");
        let body = source.split(&format!("fn {test}()")).nth(1).expect("the test");
        let body = body.split("\n}\n").next().unwrap_or(body);
        let debug = format!("{error:?}");
        let innermost = debug.split(['(', ')', ' ', '{']).filter(|word| !word.is_empty()).nth(1);
        let name = match error {
            Error::KeyInvalid(_) => innermost.unwrap_or(&debug),
            _ => debug.split(['(', ' ']).next().unwrap_or(&debug),
        };
        assert!(body.contains(&format!("::{name}")), "{file}.rs, {test} does not name {name}");
    }
}
