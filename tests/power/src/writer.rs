//! The writer: opens the store on the served disk, changes it, and says on standard output what it tries and what
//! it was told.
//!
//! Lines: `put KEY SEED LENGTH` and `delete KEY` stage a change, `commit` tries all of them at once, `ok` tells that
//! they were acknowledged. The value of a put is [`value`] of its seed and length.

use crate::Mutant;
use nx_disk::Client;
use statefs::{Batch, Error, Options, Store, Write};
use statefs_proofs::random::Random;
use std::io::{self, Write as _};
use std::path::Path;

/// Keys that writers use.
const KEYS: usize = 24;
/// Commits of a writer whose power is not cut.
const COMMITS: usize = 200;

/// The bytes of a value.
pub fn value(seed: u64, length: usize) -> Vec<u8> {
    Random::new(seed).bytes(length)
}

/// Works until the disk is gone, or all is done; either is success.
pub fn run(socket: &Path, seed: u64, mutant: Mutant) -> anyhow::Result<()> {
    let mut random = Random::new(seed);
    let options = Options {
        mutant: match mutant {
            Mutant::AcknowledgedBeforeFlush => statefs::Mutant::AcknowledgedBeforeFlush,
            Mutant::None | Mutant::FlushDoesNothing => statefs::Mutant::None,
        },
        ..Options::new(random.entropy())
    };
    let mut store = match Store::open(Client::connect(socket)?, options) {
        Ok(store) => store,
        Err(Error::Device(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for _ in 0..COMMITS {
        if !commit(&mut store, &mut random)? {
            break;
        }
        if random.one_in(12) && store.seal().is_err() {
            break;
        }
    }
    Ok(())
}

/// Tries one group of changes; false when the disk is gone.
fn commit(store: &mut Store<Client>, random: &mut Random) -> anyhow::Result<bool> {
    let mut told = io::stdout().lock();
    let mut changes = std::collections::BTreeMap::new();
    for _ in 0..=random.below(3) {
        let key = format!("/state/key/{:02}", random.below(KEYS));
        let exists = store.stat(key.as_bytes()).is_ok();
        let puts = !exists || !random.one_in(4);
        let length = if random.one_in(6) { random.below(20_000) } else { random.below(300) };
        changes.insert(key, puts.then(|| (random.bits(), length)));
    }
    for (key, change) in &changes {
        match change {
            Some((seed, length)) => writeln!(told, "put {key} {seed} {length}")?,
            None => writeln!(told, "delete {key}")?,
        }
    }
    writeln!(told, "commit")?;
    told.flush()?;
    let values: Vec<_> =
        changes.iter().map(|(key, change)| (key, change.map(|(seed, length)| value(seed, length)))).collect();
    let writes: Vec<Write<'_>> = values
        .iter()
        .map(|(key, value)| Write { key: key.as_bytes(), value: value.as_deref(), expect: None })
        .collect();
    let answer = store.apply_batch(&Batch { writes: &writes, operation: None });
    if answer.is_ok() {
        writeln!(told, "ok")?;
        told.flush()?;
    }
    match answer {
        Ok(_) => Ok(true),
        Err(Error::OutcomeUnknown | Error::Device(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
