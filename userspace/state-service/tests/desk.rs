//! The desk, over a device in memory that fails when it is told to.

use state_service::{Desk, WAITING_MAX, quotas};
use statefs::{
    Batch, BlockDevice, Entropy, Error, Fault, FaultDevice, Geometry, MemoryDevice, OperationId, Options,
    Store, Write,
};

type Device = FaultDevice<MemoryDevice>;

/// Ticks of rest.
const IDLE: u64 = 100;

fn device() -> Device {
    let mut device = MemoryDevice::new(4 << 20);
    let geometry = Geometry::for_device(device.length(), 4096).unwrap();
    Store::format(&mut device, geometry, Entropy([1, 2, 3, 4])).unwrap();
    FaultDevice::new(device)
}

fn desk_on(device: Device) -> Desk<Device, u32> {
    let options = Options { quotas: quotas(), ..Options::new(Entropy([5, 6, 7, 8])) };
    Desk::new(Store::open(device, options).unwrap(), IDLE)
}

fn desk() -> Desk<Device, u32> {
    desk_on(device())
}

fn put(desk: &mut Desk<Device, u32>, key: &str, value: &[u8], client: u32) {
    let writes = [Write { key: key.as_bytes(), value: Some(value), expect: None }];
    desk.change(&Batch { writes: &writes, operation: None }, client);
}

fn answers(desk: &mut Desk<Device, u32>) -> Vec<(u32, Result<u64, Error>)> {
    desk.answers().collect()
}

#[test]
fn changes_of_several_clients_share_one_flush_and_are_answered_behind_it() {
    let mut desk = desk();
    let before = desk.store().counters().flushes;
    for client in 0..9 {
        put(&mut desk, &format!("/state/app/{client}"), b"value", client);
    }
    assert!(desk.has_waiting() && answers(&mut desk).is_empty(), "nothing is durable yet");
    assert_eq!(desk.store().get(b"/state/app/0"), Err(Error::NotFound), "reads see what is durable");
    desk.commit();
    let told = answers(&mut desk);
    assert_eq!(told.iter().map(|(client, _)| *client).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert!(told.iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(desk.store().counters().flushes, before + 1);
    assert_eq!((desk.changes(), desk.has_waiting()), (9, false));
}

#[test]
fn what_waits_is_bounded() {
    let mut desk = desk();
    for client in 0..=WAITING_MAX as u32 {
        put(&mut desk, "/state/app/a", &client.to_le_bytes(), client);
    }
    assert_eq!(answers(&mut desk).len(), WAITING_MAX);
    desk.commit();
    assert_eq!(answers(&mut desk).len(), 1);
    assert_eq!(desk.store().get(b"/state/app/a").unwrap(), (WAITING_MAX as u32).to_le_bytes());
}

#[test]
fn a_full_group_is_made_durable_before_the_next_is_begun() {
    let mut desk = desk();
    let value = vec![7; 40_000];
    for client in 0..20 {
        put(&mut desk, &format!("/state/app/{client}"), &value, client);
    }
    desk.commit();
    let told = answers(&mut desk);
    assert_eq!(told.len(), 20);
    assert!(told.iter().all(|(_, outcome)| outcome.is_ok()), "{told:?}");
}

#[test]
fn test_reject_at_once_what_breaks_a_rule_and_nobody_else_waits_for_it() {
    let mut desk = desk();
    put(&mut desk, "/state/app/good", b"value", 1);
    put(&mut desk, "/state/../bad", b"value", 2);
    let told = answers(&mut desk);
    assert!(matches!(told[..], [(2, Err(Error::KeyInvalid(_)))]), "{told:?}");
    desk.commit();
    assert!(matches!(answers(&mut desk)[..], [(1, Ok(_))]));
}

#[test]
fn test_reject_more_than_a_part_may_use() {
    let mut desk = desk();
    let value = vec![0; 60_000];
    let mut refused = 0;
    for client in 0..20 {
        put(&mut desk, &format!("/state/selftest/{client}"), &value, client);
        desk.commit();
        refused += answers(&mut desk).iter().filter(|(_, told)| *told == Err(Error::QuotaBytes)).count();
    }
    assert_eq!(refused, 3, "17 values of 60,000 bytes are what 1 MiB has room for");
    put(&mut desk, "/state/app/other", &value, 0);
    desk.commit();
    assert!(answers(&mut desk)[0].1.is_ok(), "another part is not starved");
}

#[test]
fn a_device_that_fails_leaves_all_who_wait_in_doubt_and_a_repetition_happens_once() {
    let mut desk = desk();
    let operation = Some(OperationId { client: 1, operation: 77 });
    let writes = [Write { key: b"/state/app/a", value: Some(b"value"), expect: None }];
    desk.store().device_mut().arm(Fault::Flush(0));
    desk.change(&Batch { writes: &writes, operation }, 1);
    put(&mut desk, "/state/app/b", b"value", 2);
    desk.commit();
    let told = answers(&mut desk);
    assert!(told.iter().all(|(_, outcome)| *outcome == Err(Error::OutcomeUnknown)), "{told:?}");
    let mut versions = Vec::new();
    for _ in 0..2 {
        desk.change(&Batch { writes: &writes, operation }, 1);
        desk.commit();
        versions.extend(answers(&mut desk).into_iter().map(|(_, outcome)| outcome.unwrap()));
    }
    assert_eq!(versions[0], versions[1]);
}

#[test]
fn after_a_time_without_changes_the_last_is_sealed_and_then_nothing_is_due() {
    let mut desk = desk();
    assert_eq!(desk.due(), None);
    put(&mut desk, "/state/app/a", b"value", 1);
    desk.commit();
    desk.stir(1000);
    assert_eq!(desk.due(), Some(1000 + IDLE));
    let before = desk.store().counters().groups;
    while desk.idle() {}
    assert_eq!((desk.due(), desk.store().counters().groups), (None, before + 1));
}

#[test]
fn a_listing_shows_no_key_of_a_part_that_has_a_right_of_its_own() {
    let mut desk = desk();
    let keys = ["app/a", "boot/a", "boot/b", "c", "keystore/a", "keystores", "user/a"];
    for key in keys {
        put(&mut desk, &format!("/state/{key}"), b"value", 0);
    }
    desk.commit();
    let listed = |prefix: &str, after: Option<&str>, limit| {
        let page = desk.list(prefix, after, limit);
        let keys = page.keys.iter().map(|listed| String::from_utf8_lossy(&listed.key).into_owned());
        (keys.collect::<Vec<_>>(), page.more)
    };
    let shown = ["/state/app/a", "/state/c", "/state/keystores", "/state/user/a"];
    for limit in 1..6 {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let (keys, more) = listed("/state/", after.as_deref(), limit);
            all.extend(keys.clone());
            after = keys.last().cloned();
            if !more || keys.is_empty() {
                break;
            }
        }
        assert_eq!(all, shown, "pages of {limit}");
    }
    assert_eq!(listed("/state/key", None, 9).0, ["/state/keystores"]);
    assert_eq!(listed("/state/keystore/", None, 9).0, ["/state/keystore/a"]);
    assert_eq!(listed("/state/boot/", None, 9).0, ["/state/boot/a", "/state/boot/b"]);
}

#[test]
fn damage_is_told_once() {
    let mut device = device();
    {
        let mut desk = desk_on(device.clone());
        put(&mut desk, "/state/app/a", b"a value that is looked for", 1);
        desk.commit();
        assert!(desk.new_damage().is_empty());
        while desk.idle() {}
        device = desk.store().device_mut().clone();
    }
    let bytes = device.inner_mut().bytes_mut();
    let at = bytes.windows(10).position(|bytes| bytes == b"a value th").unwrap();
    bytes[at] ^= 1;
    let mut desk = desk_on(device);
    let lines = desk.new_damage();
    assert!(lines.iter().any(|line| line.starts_with("crc mismatch: ")), "{lines:?}");
    assert!(desk.new_damage().is_empty());
    assert_eq!(desk.store().get(b"/state/app/a"), Err(Error::Corrupt));
}
