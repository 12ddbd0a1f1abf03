//! Damage: after flips and lost units each key answers the model's value, `Corrupt` or `Uncertain`.

use crate::medium::{Event, Fate, Medium};
use crate::random::Random;
use crate::scenario::{self, KEYS, Model, Run};
use statefs::{Error, Mutant, Store};
use std::collections::BTreeMap;

/// What damaged images answered.
#[derive(Debug, Default)]
pub struct Seen {
    /// Distinct damaged images.
    pub images: std::collections::HashSet<u64>,
    /// Answers, by kind.
    pub answers: BTreeMap<&'static str, u64>,
    /// Images whose newest epoch was not proven, and was dropped: nobody can tell it from a torn write.
    pub undecidable: u64,
    /// Images that did not open at all, both superblocks being damaged.
    pub lost: u64,
    /// Images that opened read-only.
    pub read_only: u64,
}

/// What the damage of one image may reach.
struct Case<'a> {
    model: &'a Model,
    /// The state before the last group, where the newest epoch is not proven any more.
    before: Option<&'a Model>,
}

/// Damages the end of a scenario in so many ways; a message names the first wrong answer.
pub fn scenario(seed: u64, images: usize, seen: &mut Seen) -> Result<(), String> {
    let run = scenario::run(seed, Mutant::None).map_err(|error| error.to_string())?;
    let mut random = Random::new(seed ^ 0xDA);
    let used: Vec<usize> = (0..run.end.len()).filter(|at| run.end.is_used(*at)).collect();
    for _ in 0..images {
        let mut image = run.end.clone();
        let hits: Vec<usize> = (0..=random.below(3)).map(|_| used[random.below(used.len())]).collect();
        for at in &hits {
            image.damage(*at, &mut random);
        }
        if !seen.images.insert(image.fingerprint()) {
            continue;
        }
        check(image, &run, &hits, &mut random, seen)
            .map_err(|what| format!("seed {seed}, damaged units {hits:?}: {what}"))?;
    }
    Ok(())
}

/// Units of the last group that was written.
fn newest_units(run: &Run) -> Vec<usize> {
    let windows = run.trace.rsplit(|event| matches!(event, Event::Flush));
    let group = windows.map(|window| {
        window.iter().filter_map(|event| match event {
            Event::Write(at, _) if *at > 1 => Some(*at),
            _ => None,
        })
    });
    group.map(Iterator::collect).find(|units: &Vec<usize>| !units.is_empty()).unwrap_or_default()
}

fn check(
    image: Medium,
    run: &Run,
    hits: &[usize],
    random: &mut Random,
    seen: &mut Seen,
) -> Result<(), String> {
    let options = scenario::options(random, Mutant::None);
    let mut store = match Store::open(image, options) {
        Ok(store) => store,
        Err(Error::SuperblockLost | Error::Foreign) if hits.contains(&0) && hits.contains(&1) => {
            seen.lost += 1;
            return Ok(());
        }
        Err(error) => return Err(format!("open: {error}")),
    };
    seen.read_only += u64::from(store.is_read_only());
    let newest = newest_units(run);
    let proof_is_hit = hits.iter().any(|hit| newest.contains(hit) || *hit < 2);
    let models: Vec<&Model> = run.commits.iter().rev().map(|commit| &*commit.after).collect();
    let Some(model) = models.first() else { return Ok(()) };
    let before = models.iter().find(|older| older != &model).filter(|_| proof_is_hit).copied();
    let case = Case { model, before };
    let undecidable = answers(&mut store, &case, seen)?;
    seen.undecidable += u64::from(undecidable);
    if undecidable || store.is_read_only() {
        return Ok(());
    }
    // Marks survive a checkpoint, compaction and an opening.
    store.put(b"/state/after", b"damage").map_err(|error| format!("put after damage: {error}"))?;
    store.checkpoint_now().map_err(|error| format!("checkpoint after damage: {error}"))?;
    let medium = store.into_device();
    let mut again =
        Store::open(medium, scenario::options(random, Mutant::None)).map_err(|error| error.to_string())?;
    answers(&mut again, &case, seen).map(|_| ())
}

/// Checks every key of the universe; true when the answers are those of the state before the last group.
fn answers(store: &mut Store<Medium>, case: &Case<'_>, seen: &mut Seen) -> Result<bool, String> {
    let mut stepped_back = false;
    for key in (0..KEYS).map(scenario::key) {
        let answer = store.get(&key);
        let name = String::from_utf8_lossy(&key).into_owned();
        let as_value = answer
            .as_ref()
            .ok()
            .map(|value| (store.stat(&key).map_or(0, |stat| stat.version), value.clone()));
        let kind = match &answer {
            Ok(_) if as_value.as_ref() == case.model.get(&key) => "value",
            Err(Error::NotFound) if !case.model.contains_key(&key) => "absent",
            Err(Error::Corrupt) => "corrupt",
            Err(Error::Uncertain) => "uncertain",
            Ok(_) | Err(Error::NotFound)
                if case.before.is_some_and(|before| before.get(&key) == as_value.as_ref()) =>
            {
                stepped_back = true;
                "undecidable"
            }
            other => return Err(format!("{name} answers {:?}", other.as_ref().map(Vec::len))),
        };
        *seen.answers.entry(kind).or_default() += 1;
    }
    Ok(stepped_back)
}

/// Loses the newest superblock of a store after each commit of a scenario, in turn: the fewest keys that then still
/// answer what the model holds, absence included, and of how many.
pub fn without_newest_superblock(seed: u64, mutant: Mutant) -> Result<(usize, usize), String> {
    let run = scenario::run(seed, mutant).map_err(|error| error.to_string())?;
    let (mut medium, mut done, mut newest, mut fewest) = (run.start.clone(), 0, None, KEYS);
    for commit in &run.commits {
        for event in &run.trace[done..commit.acknowledged] {
            let Event::Write(at, data) = event else { continue };
            medium.land(*at, data, Fate::New);
            if *at < 2 {
                newest = Some(*at);
            }
        }
        done = commit.acknowledged;
        let Some(newest) = newest else { continue };
        let mut image = medium.clone();
        image.lose(newest);
        let mut store = Store::open(image, scenario::options(&mut Random::new(seed), Mutant::None))
            .map_err(|error| error.to_string())?;
        let wanted =
            |key: &Vec<u8>| commit.after.get(key).map(|(_, value)| value.clone()).ok_or(Error::NotFound);
        let good = (0..KEYS).map(scenario::key).filter(|key| store.get(key) == wanted(key)).count();
        fewest = fewest.min(good);
    }
    Ok((fewest, KEYS))
}
