//! An opening writes nothing until something has to be certain, and answers nothing that is not.

use statefs::{
    BlockDevice, DeviceError, Error, Fault, FaultDevice, Geometry, MemoryDevice, Options, SECTOR, Store,
};
use statefs_proofs::random::Random;

const SMALL: Geometry = Geometry { unit: 4096, segment_units: 8, segments: 32 };

fn open(device: MemoryDevice) -> Store<FaultDevice<MemoryDevice>> {
    Store::open(FaultDevice::new(device), Options::new(Random::new(5).entropy())).expect("opens")
}

/// A device on which `/state/old` is proven and the group that `last` writes is not.
fn device(last: impl FnOnce(&mut Store<FaultDevice<MemoryDevice>>)) -> MemoryDevice {
    let mut device = MemoryDevice::new(SMALL.device_bytes() as usize);
    Store::format(&mut device, SMALL, Random::new(1).entropy()).expect("a legal geometry");
    let mut store = open(device);
    store.put(b"/state/old", b"1").expect("room");
    store.put(b"/state/gone", b"1").expect("room");
    last(&mut store);
    store.into_device().inner_mut().clone()
}

fn put_new(store: &mut Store<FaultDevice<MemoryDevice>>) {
    store.put(b"/state/new", b"2").expect("room");
}

fn written(store: &mut Store<FaultDevice<MemoryDevice>>) -> (u64, u64) {
    (store.device_mut().writes, store.device_mut().flushes)
}

#[test]
fn what_is_proven_is_answered_without_a_write_or_a_flush() {
    let mut store = open(device(put_new));
    assert_eq!(store.get(b"/state/old").as_deref(), Ok(&b"1"[..]));
    assert_eq!(store.get(b"/state/never"), Err(Error::NotFound));
    assert!(store.stat(b"/state/gone").is_ok());
    assert_eq!(written(&mut store), (0, 0));
}

#[test]
fn what_rests_on_an_unproven_group_is_answered_after_a_flush() {
    let reads: [fn(&mut Store<FaultDevice<MemoryDevice>>); 4] = [
        |store| assert_eq!(store.get(b"/state/new").as_deref(), Ok(&b"2"[..])),
        |store| assert_eq!(store.stat(b"/state/new").map(|stat| stat.length), Ok(1)),
        |store| assert_eq!(store.list(b"/state/", None, 9).keys.len(), 3),
        |store| store.seal().expect("room"),
    ];
    for (which, read) in reads.into_iter().enumerate() {
        let mut store = open(device(put_new));
        read(&mut store);
        assert_eq!(written(&mut store), (1, 1), "read {which}");
        read(&mut store);
        assert_eq!(written(&mut store), (1, 1), "read {which}, certain from then on");
        // The proof is on the medium: damage to the group is damage, and no torn tail.
        let mut medium = store.into_device().inner_mut().clone();
        let value = medium.bytes().windows(10).position(|bytes| bytes == b"/state/new").expect("a record");
        let block = value / 4096 * 4096;
        medium.bytes_mut()[block..block + SECTOR].fill(0xA5);
        assert_eq!(open(medium).get(b"/state/new"), Err(Error::Corrupt), "read {which}");
    }
}

#[test]
fn test_reject_reading_an_unproven_group_when_the_device_fails() {
    for fault in [Fault::WriteRefused(0), Fault::Flush(0)] {
        let mut store = open(device(put_new));
        store.device_mut().arm(fault);
        assert_eq!(store.get(b"/state/new"), Err(Error::Device(DeviceError::Io)), "{fault:?}");
        assert_eq!(store.get(b"/state/old").as_deref(), Ok(&b"1"[..]), "{fault:?}: others are served");
        assert_eq!(store.get(b"/state/new").as_deref(), Ok(&b"2"[..]), "{fault:?}: the next try replays");
        let mut store = open(device(put_new));
        store.device_mut().arm(fault);
        let page = store.list(b"/state/new", None, 9);
        assert_eq!(page.keys[0].stat, Err(Error::OutcomeUnknown), "{fault:?}");
    }
}

#[test]
fn an_unproven_deletion_or_a_dropped_tail_is_settled_by_the_opening_itself() {
    let deleted = device(|store| drop(store.delete(b"/state/gone").expect("there")));
    let mut store = open(deleted.clone());
    assert_eq!(written(&mut store), (1, 1));
    assert_eq!(store.get(b"/state/gone"), Err(Error::NotFound));
    let mut torn = device(put_new);
    let record = torn.bytes().windows(10).position(|bytes| bytes == b"/state/new").expect("a record");
    torn.bytes_mut()[record / 4096 * 4096..][..4096].fill(0);
    let mut store = open(torn);
    assert_eq!(written(&mut store), (1, 1));
    assert_eq!(store.get(b"/state/new"), Err(Error::NotFound));
}

#[test]
fn the_first_change_begins_the_incarnation_before_it_is_acknowledged() {
    let mut store = open(device(put_new));
    let before = store.epoch();
    store.put(b"/state/later", b"3").expect("room");
    assert_eq!(written(&mut store), (2, 2), "the group that begins the incarnation, then the change");
    assert_eq!(store.epoch(), before + 3, "an epoch is skipped between incarnations");
}

/// The superblock that an opening finds may be in a cache alone, when the process that wrote it died: a segment that
/// the superblock before needs must not be written to in the same window.
#[test]
fn what_was_found_is_durable_before_a_segment_is_taken() {
    let mut device = MemoryDevice::new(SMALL.device_bytes() as usize);
    Store::format(&mut device, SMALL, Random::new(1).entropy()).expect("a legal geometry");
    let mut store = open(device);
    store.device_mut().arm(Fault::Flush(0));
    assert_eq!(store.put(b"/state/first", b"1"), Err(Error::Device(DeviceError::Io)));
    assert_eq!(written(&mut store), (0, 1));
    store.put(b"/state/first", b"1").expect("the next try replays");
}

#[test]
fn sealing_a_store_in_which_everything_is_proven_writes_nothing() {
    let sealed = device(|store| store.seal().expect("room"));
    // The seal itself is the newest group, and holds nothing that could be lost.
    let mut store = open(sealed);
    assert_eq!(store.list(b"/state/", None, 9).keys.len(), 2);
    store.seal().expect("nothing to do");
    assert_eq!(written(&mut store), (0, 0));
    let length = store.device_mut().length();
    assert_eq!(length, SMALL.device_bytes());
}
