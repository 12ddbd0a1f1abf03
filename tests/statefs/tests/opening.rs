//! An opening writes only where it had to decide something; what it answers is durable; and a device that goes away
//! meanwhile damages nothing.

use statefs::{
    Damage, DeviceError, Error, Fault, FaultDevice, Geometry, MemoryDevice, Options, SECTOR, Store,
};
use statefs_proofs::random::Random;

const GEOMETRY: Geometry = Geometry { unit: 4096, segment_units: 16, segments: 32 };
/// Of which sixty values of 3 kB are so much that compaction has to move some.
const SMALL: Geometry = Geometry { unit: 4096, segment_units: 8, segments: 32 };

type Device = FaultDevice<MemoryDevice>;

fn options() -> Options {
    Options::new(Random::new(5).entropy())
}

fn open(device: MemoryDevice) -> Store<Device> {
    Store::open(FaultDevice::new(device), options()).expect("opens")
}

fn formatted(geometry: Geometry) -> MemoryDevice {
    let mut device = MemoryDevice::new(geometry.device_bytes() as usize);
    Store::format(&mut device, geometry, Random::new(1).entropy()).expect("a legal geometry");
    device
}

/// The medium of a store in which the newest group is what `last` does.
fn medium(last: impl FnOnce(&mut Store<Device>)) -> MemoryDevice {
    let mut store = open(formatted(GEOMETRY));
    store.put(b"/state/old", b"1").expect("room");
    last(&mut store);
    store.into_device().inner_mut().clone()
}

fn put_new(store: &mut Store<Device>) {
    store.put(b"/state/new", b"2").expect("room");
}

/// Writes and flushes since the opening began.
fn cost(store: &mut Store<Device>) -> (u64, u64) {
    (store.device_mut().writes, store.device_mut().flushes)
}

/// Damages the unit in which the newest group of `/state/new` begins.
fn hit_new(medium: &mut MemoryDevice) {
    let record = medium.bytes().windows(10).position(|bytes| bytes == b"/state/new").expect("a record");
    medium.bytes_mut()[record / 4096 * 4096..][..SECTOR].fill(0xA5);
}

fn drops_a_tail(store: &Store<Device>) -> bool {
    store.damage().reports().iter().any(|damage| matches!(damage, Damage::TailDropped { .. }))
}

#[test]
fn reading_after_an_opening_costs_one_flush_and_no_write() {
    let mut store = open(medium(put_new));
    assert_eq!(store.get(b"/state/new").as_deref(), Ok(&b"2"[..]));
    assert_eq!(store.list(b"/state/", None, 9).keys.len(), 2);
    assert_eq!(store.get(b"/state/never"), Err(Error::NotFound));
    assert!(!store.maintain().expect("nothing is due"));
    assert_eq!(cost(&mut store), (0, 1));
}

#[test]
fn the_first_change_begins_the_incarnation() {
    let mut store = open(medium(put_new));
    let before = store.epoch();
    store.put(b"/state/later", b"3").expect("room");
    assert_eq!(cost(&mut store), (2, 3), "the group that begins the incarnation, then the change");
    assert_eq!(store.epoch(), before + 3, "an epoch is skipped between incarnations");
}

#[test]
fn test_reject_before_the_incarnation_begins_writes_nothing() {
    let mut store = open(medium(put_new));
    assert_eq!(store.delete(b"/state/never"), Err(Error::NotFound));
    assert!(store.put(b"/state/..", b"x").is_err());
    assert_eq!(cost(&mut store), (0, 1));
}

#[test]
fn a_seal_after_an_opening_proves_what_the_dead_process_wrote() {
    let mut store = open(medium(put_new));
    store.seal().expect("room");
    assert_eq!(cost(&mut store), (1, 2));
    let mut sealed = store.into_device().inner_mut().clone();
    hit_new(&mut sealed);
    assert_eq!(open(sealed.clone()).get(b"/state/new"), Err(Error::Corrupt), "damage, and no torn tail");
    let mut again = open(medium(|store| store.seal().expect("room")));
    again.seal().expect("nothing to prove");
    assert_eq!(cost(&mut again), (0, 1));
}

#[test]
fn a_dropped_tail_is_settled_by_the_opening() {
    let mut torn = medium(put_new);
    hit_new(&mut torn);
    let mut store = open(torn);
    assert!(drops_a_tail(&store));
    assert_eq!(store.get(b"/state/new"), Err(Error::NotFound));
    assert_eq!(cost(&mut store).0, 1, "nobody who opens later may decide otherwise");
}

#[test]
fn a_newest_group_that_cannot_be_read_at_all_is_told() {
    let mut device = FaultDevice::new(medium(put_new));
    let bytes = device.inner_mut().bytes();
    let record = bytes.windows(10).position(|bytes| bytes == b"/state/new").expect("a record") as u64;
    let start = record / 4096 * 4096;
    device.arm(Fault::Unreadable { start, end: start + 2 * 4096 });
    let mut store = Store::open(device, options()).expect("opens");
    assert!(drops_a_tail(&store), "{:?}", store.damage().reports());
    assert_eq!(store.get(b"/state/old").as_deref(), Ok(&b"1"[..]));
}

#[test]
fn a_segment_that_was_taken_for_a_lost_group_is_told() {
    let device = formatted(GEOMETRY);
    let empty = device.bytes().to_vec();
    let mut store = open(device);
    store.put(b"/state/old", b"1").expect("room");
    let mut lost = store.into_device().inner_mut().clone();
    let mut sectors = lost.bytes().chunks(SECTOR).zip(empty.chunks(SECTOR));
    let head = sectors.position(|(now, before)| now != before).expect("a segment was taken") * SECTOR;
    lost.bytes_mut()[head + 4096..][..4 * 4096].fill(0);
    assert!(drops_a_tail(&open(lost)));
}

#[test]
fn test_reject_a_change_when_the_incarnation_cannot_begin() {
    for fault in [Fault::WriteRefused(0), Fault::WriteUnknown(0), Fault::Flush(0)] {
        let mut store = open(medium(put_new));
        store.device_mut().arm(fault);
        assert_eq!(store.put(b"/state/later", b"3"), Err(Error::Device(DeviceError::Io)), "{fault:?}");
        assert_eq!(store.get(b"/state/later"), Err(Error::NotFound), "{fault:?}");
        assert_eq!(store.get(b"/state/new").as_deref(), Ok(&b"2"[..]), "{fault:?}");
        store.put(b"/state/later", b"3").expect("the next change replays first");
        assert_eq!(store.get(b"/state/later").as_deref(), Ok(&b"3"[..]), "{fault:?}");
    }
}

#[test]
fn test_reject_an_opening_on_a_device_that_goes_away() {
    let whole = medium(put_new);
    let mut refused = 0;
    for reads in 0.. {
        let mut device = FaultDevice::new(whole.clone());
        device.arm(Fault::GoneForReads(reads));
        match Store::open(&mut device, options()) {
            Ok(_) => break,
            Err(error) => assert_eq!(error, Error::Device(DeviceError::Gone), "after {reads} reads"),
        }
        refused += 1;
        assert_eq!(device.writes, 0, "nothing was concluded, and nothing written");
        device.arm(Fault::None);
        let mut store = Store::open(device, options()).expect("the device is back");
        assert_eq!(store.get(b"/state/new").as_deref(), Ok(&b"2"[..]));
        assert_eq!(store.damage().count(), 0);
    }
    assert!(refused > 30, "an opening reads more than {refused} times");
}

#[test]
fn test_reject_a_read_on_a_device_that_is_gone() {
    let mut store = open(medium(put_new));
    store.device_mut().arm(Fault::GoneForReads(0));
    assert_eq!(store.get(b"/state/new"), Err(Error::Device(DeviceError::Gone)));
    store.device_mut().arm(Fault::None);
    assert_eq!(store.get(b"/state/new").as_deref(), Ok(&b"2"[..]), "nothing was marked as damaged");
}

#[test]
fn compaction_on_a_device_that_goes_away_damages_nothing() {
    let mut store = open(formatted(SMALL));
    let value = |at: u32| vec![at as u8; 3_000];
    let key = |at: u32| format!("/state/value/{at}").into_bytes();
    for at in 0..60 {
        store.put(&key(at), &value(at)).expect("room");
    }
    let mut interrupted = 0;
    for round in 0..400 {
        store.device_mut().arm(Fault::GoneForReads(u64::from(round % 7)));
        let outcome = store.put(&key(round % 60), &value(round % 60));
        interrupted += u32::from(outcome.is_err());
        store.device_mut().arm(Fault::None);
    }
    assert!(interrupted > 5 && store.counters().bytes_moved > 0, "{interrupted} puts met the fault");
    for at in 0..60 {
        assert_eq!(store.get(&key(at)), Ok(value(at)));
    }
    assert_eq!(store.damage().count(), 0);
}

/// A store with a hole, on a device that refuses writes.
#[test]
fn damage_that_cannot_be_accepted_durably_stays() {
    let mut broken = medium(|store| {
        put_new(store);
        store.put(b"/state/later", b"3").expect("room");
    });
    let record = broken.bytes().windows(10).position(|bytes| bytes == b"/state/new").expect("a record");
    broken.bytes_mut()[record / 4096 * 4096..][..2 * 4096].fill(0);
    let mut store = open(broken);
    assert!(store.is_read_only());
    for fault in [Fault::WriteRefused(0), Fault::Flush(0), Fault::WriteRefused(1)] {
        store.device_mut().arm(fault);
        assert!(store.accept_damage(&mut |_, _| {}).is_err(), "{fault:?}");
        store.device_mut().arm(Fault::None);
        assert_eq!(store.get(b"/state/old"), Err(Error::Uncertain), "{fault:?}");
    }
    store.accept_damage(&mut |_, _| {}).expect("the device works again");
    assert_eq!(store.get(b"/state/old").as_deref(), Ok(&b"1"[..]));
    assert!(!open(store.into_device().inner_mut().clone()).is_read_only());
}
