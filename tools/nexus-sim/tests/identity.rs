//! Identities of many machines, and of one machine through many boots.

use identity::{Identity, RECORD_KEY};
use nexus_sim::campaign::RECIPE_FILE;
use nexus_sim::image::{Built, build};
use nexus_sim::run::Run;
use nexus_sim::system::Setup;
use std::collections::BTreeSet;
use std::path::Path;

fn built() -> Built {
    build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), RECIPE_FILE).unwrap()
}

fn booted(built: &Built, seed: u64) -> Run<'_> {
    let setup = Setup { arguments: "machine=here".into(), seed, ..Setup::default() };
    Run::boot(built, setup).unwrap()
}

/// The public key that stands on the disk, when keystored has said that it is ready.
fn key(run: &mut Run<'_>) -> [u8; 32] {
    run.until_shown("keystored: ready").unwrap();
    let stored = run.setup.disk.0.borrow().stored().unwrap();
    Identity::from_record(&stored[RECORD_KEY]).unwrap().public_key()
}

#[test]
fn twenty_new_disks_have_twenty_keys() {
    let built = built();
    let keys: BTreeSet<_> = (0..20).map(|seed| key(&mut booted(&built, seed))).collect();
    assert_eq!(keys.len(), 20);
}

#[test]
fn one_machine_has_one_key_through_fifty_boots() {
    let built = built();
    let mut run = booted(&built, 1);
    let first = key(&mut run);
    for boot in 1..50 {
        run.boot_again().unwrap();
        assert_eq!(key(&mut run), first, "boot {boot}");
        assert!(!run.console().contains("IdentityLost"));
    }
}
