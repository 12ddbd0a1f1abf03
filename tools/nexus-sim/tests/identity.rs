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
    Identity::from_record(&stored[RECORD_KEY], None).unwrap().public_key()
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

/// Turns until each of these is shown.
fn turns_until<const TEXTS: usize>(built: &Built, texts: [&str; TEXTS]) -> [u64; TEXTS] {
    let (mut run, mut turns) = (booted(built, 1), 0);
    texts.map(|text| {
        while !run.console().contains(text) {
            run.turns(1).unwrap();
            turns += 1;
            assert!(turns < 100_000, "`{text}` was not shown");
        }
        turns
    })
}

#[test]
fn whenever_the_power_fails_while_a_key_is_made_one_that_was_stored_stays() {
    /// Moments at which it fails.
    const CUTS: u64 = 60;
    let built = built();
    let [begin, end] = turns_until(&built, ["init: start keystored", "init: up keystored"]);
    let (mut absent, mut kept) = (0, 0);
    for cut in 0..=CUTS {
        let mut run = booted(&built, 1);
        run.turns(begin + (end - begin) * cut / CUTS).unwrap();
        let was_shown = run.console().contains("keystored: device key ");
        run.boot_again().unwrap();
        let stored = run.setup.disk.0.borrow().stored().unwrap();
        let before =
            stored.get(RECORD_KEY).map(|record| Identity::from_record(record, None).unwrap().public_key());
        assert!(before.is_some() || !was_shown, "cut {cut}: a key was shown that is not there");
        let after = key(&mut run);
        assert!(before.is_none_or(|before| before == after), "cut {cut}: the key is another");
        *(if before.is_none() { &mut absent } else { &mut kept }) += 1;
    }
    assert!(absent > CUTS / 20 && kept > CUTS / 20, "{absent} cuts before the record, {kept} after");
    println!("{absent} cuts before the record was durable, {kept} after, through {} turns", end - begin);
}
