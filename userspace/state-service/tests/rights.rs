//! The policy that ships, asked as the service asks it.

use policy::{PolicyFile, Table, compile};
use state_service::{Part, resource};
use system_manifest::Manifest;

fn shipped() -> (Manifest, Table) {
    let recipe = include_str!("../../../recipes/system.toml");
    let bytes = system_manifest::compile(recipe, "recipes/system.toml").unwrap();
    let manifest = system_manifest::decode(&bytes).unwrap();
    let files = [
        ("base.toml", include_str!("../../../recipes/policy/base.toml")),
        ("selftest.toml", include_str!("../../../recipes/policy/selftest.toml")),
    ];
    let files = files.map(|(name, text)| PolicyFile { name: name.into(), text: text.into() });
    let subjects: Vec<(String, u64)> = manifest
        .services
        .iter()
        .map(|service| service.name.clone())
        .chain(["nexus-init".into()])
        .zip(1..)
        .collect();
    (manifest, compile(&files, &subjects).unwrap())
}

/// Who may read or write this key.
fn allowed(key: &str, writes: bool) -> Vec<String> {
    let (manifest, table) = shipped();
    let action = Part::of(key.as_bytes()).action(writes);
    let names = manifest.services.iter().map(|service| service.name.clone()).zip(1..);
    let may = |id: u64| table.decide(id, action, resource(key)).is_allowed();
    names.filter(|&(_, id)| may(id)).map(|(name, _)| name).collect()
}

#[test]
fn test_reject_unauthorized_keystore_access() {
    let keys =
        ["/state/keystore/device.signing2", "/state/keystore/", "/state/keystore/x", "/state/boot/bootctl.a"];
    for writes in [false, true] {
        for key in keys {
            let nobody: [&str; 0] = [];
            assert_eq!(allowed(key, writes), nobody, "{key}, writes: {writes}");
        }
        assert_eq!(allowed("/state/keystore/device.signing", writes), ["keystored"], "writes: {writes}");
    }
}

#[test]
fn a_person_sees_what_is_stored_and_writes_what_is_theirs() {
    assert_eq!(allowed("/state/user/note", false), ["nexus-shell"]);
    assert_eq!(allowed("/state/user/note", true), ["nexus-shell"]);
}

#[test]
fn what_of_the_journal_outlives_it_is_written_by_it_alone() {
    assert_eq!(allowed("/state/log/00", false), ["logd", "nexus-shell"]);
    assert_eq!(allowed("/state/log/00", true), ["logd"]);
}
