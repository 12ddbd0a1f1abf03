//! The identity of a device through its life: made while everything dies, kept, taken to another machine, lost; on every
//! other board wrapped with its secret.

use crate::invariants::Rest;
use crate::run::Run;
use ::identity::{Identity, RECORD_KEY, ROOT_SECRET_BYTES, RootSecret};
use anyhow::{Context, Result, ensure};
use statefs::Error;
use zeroize::Zeroizing;

/// The boot arguments of the machine that the disk belongs to, and of another one.
pub const HERE: &str = "machine=here";
const ELSEWHERE: &str = "machine=elsewhere";
/// What keystored says before the name of its key.
const KEY: &str = "keystored: device key ";
/// Boots whose power fails at any moment.
const CUTS: usize = 4;
/// The secret of a board that has one, and of another.
const SECRET: [u8; ROOT_SECRET_BYTES] = [1; ROOT_SECRET_BYTES];
const OTHER_SECRET: [u8; ROOT_SECRET_BYTES] = [2; ROOT_SECRET_BYTES];
/// Who dies while an identity is made.
const VICTIMS: [&str; 5] = ["keystored", "statefsd", "virtioblkd", "rngd", "policyd"];

/// Tells it.
pub fn tell(run: &mut Run<'_>, _before: &Rest) -> Result<()> {
    let mut key = None;
    if run.draw(2) == 1 {
        // Nothing has run yet; the machine is switched on anew with it.
        run.setup.secret = Some(SECRET);
        run.boot_again()?;
    }
    for _ in 0..CUTS {
        run.restless();
        let turns = run.draw(1_500);
        run.turns(turns)?;
        for _ in 0..run.draw(4) {
            let victim = VICTIMS[run.draw(VICTIMS.len() as u64) as usize];
            run.system().kill(victim);
            let turns = run.draw(1_000);
            run.turns(turns)?;
        }
        key = shown(run, key)?;
        run.boot_again()?;
    }
    run.restless();
    run.until_shown("keystored: ready")?;
    run.settle()?;
    let key = shown(run, key)?.context("no key was shown")?;
    ensure!(stored(run)?.as_ref() == Some(&key), "what is stored is not the key that was shown");
    goes_elsewhere_and_comes_back(run, &key)?;
    stays_with_its_boards_secret(run, &key)?;
    is_lost_and_made_anew(run, &key)
}

/// Every key that was shown in this boot, and before, is one.
fn shown(run: &Run<'_>, before: Option<String>) -> Result<Option<String>> {
    let text = run.console();
    let keys = text.lines().filter_map(|line| Some(line.split_once(KEY)?.1.trim().to_string()));
    // The last line may be cut in the middle.
    let mut keys = before.into_iter().chain(keys.filter(|key| key.len() == 64));
    let Some(first) = keys.next() else { return Ok(None) };
    let other = keys.find(|key| *key != first);
    ensure!(other.is_none(), "the key was {first} and is {}", other.unwrap_or_default());
    Ok(Some(first))
}

/// The name of the key that is stored, looked at from outside.
fn stored(run: &Run<'_>) -> Result<Option<String>> {
    let stored = run.setup.disk.0.borrow().stored()?;
    let Some(record) = stored.get(RECORD_KEY) else { return Ok(None) };
    let root = run.setup.secret.map(|secret| RootSecret::new(Zeroizing::new(secret)));
    let identity = Identity::from_record(record, root.as_ref());
    let identity = identity.ok().context("what is stored is no record of this board")?;
    Ok(Some(identity.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Another machine refuses the identity and leaves it as it is.
fn goes_elsewhere_and_comes_back(run: &mut Run<'_>, key: &str) -> Result<()> {
    run.setup.arguments = ELSEWHERE.into();
    run.boot_again()?;
    run.until_shown("keystored: there is no device key: IdentityForeign")?;
    run.until_prompt()?;
    ensure!(!run.console().contains(KEY), "another machine showed a key");
    run.setup.arguments = HERE.into();
    run.boot_again()?;
    run.until_shown("keystored: ready")?;
    run.settle()?;
    shown(run, Some(key.to_string())).map(drop)
}

/// With any other secret than the one that it was made with, or with none, the identity is refused and left as it is.
fn stays_with_its_boards_secret(run: &mut Run<'_>, key: &str) -> Result<()> {
    let own = run.setup.secret;
    let root = if own.is_some() { "root: board" } else { "root: none" };
    ensure!(run.console().contains(root), "keystored does not say `{root}`");
    for secret in [None, Some(SECRET), Some(OTHER_SECRET)].into_iter().filter(|secret| *secret != own) {
        run.setup.secret = secret;
        run.boot_again()?;
        run.until_shown("keystored: there is no device key: IdentityDamaged")?;
        run.until_prompt()?;
        ensure!(!run.console().contains(KEY), "a board with another secret showed a key");
    }
    run.setup.secret = own;
    run.boot_again()?;
    run.until_shown("keystored: ready")?;
    run.settle()?;
    shown(run, Some(key.to_string())).map(drop)
}

/// Without its record the identity is refused, also by who looks again, until a person gives it up.
fn is_lost_and_made_anew(run: &mut Run<'_>, key: &str) -> Result<()> {
    run.setup.disk.0.borrow_mut().format_state().map_err(|error: Error| anyhow::anyhow!("{error}"))?;
    run.boot_again()?;
    run.until_shown("keystored: there is no device key: IdentityLost")?;
    run.until_prompt()?;
    run.system().kill("keystored");
    run.until_shown("keystored: there is no device key: IdentityLost")?;
    run.settle()?;
    ensure!(stored(run)?.is_none(), "a key was made in the place of one that is lost");
    run.types("identity reset");
    run.until_shown("a new identity was made: ")?;
    run.settle()?;
    let made = stored(run)?.context("no key is stored")?;
    ensure!(made != key, "the lost key is back");
    run.boot_again()?;
    run.until_shown("keystored: ready")?;
    run.settle()?;
    shown(run, Some(made.clone()))?;
    is_held_without_a_store(run, &made)?;
    run.nobody_waits_too_long()
}

/// The key is held in memory when the store is gone for good.
fn is_held_without_a_store(run: &mut Run<'_>, key: &str) -> Result<()> {
    let mut lives = 0;
    while !run.console().contains("init: gave up statefsd") {
        lives += u32::from(run.system().kill("statefsd"));
        ensure!(lives < 100, "statefsd was started {lives} times and is not given up");
        run.turns(20)?;
    }
    run.settle()?;
    run.types("identity");
    run.until_shown(key)?;
    run.until_shown("root")?;
    run.settle()
}
