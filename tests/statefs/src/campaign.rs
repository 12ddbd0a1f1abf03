//! Power cuts: every image that a cut can leave is opened, and must hold what was promised.

use crate::medium::{Event, Fate, Medium, Unit};
use crate::random::Random;
use crate::scenario::{self, Driver, Model, Phase, Run};
use statefs::{Damage, LIST_KEYS_MAX, Mutant, Store};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// How thoroughly windows are sampled.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Windows with at most so many unit writes are cut in every way.
    pub exhaustive_writes: usize,
    /// Samples of larger windows.
    pub samples: usize,
    /// Samples with mixed and unreadable units, for each window.
    pub torn: usize,
    /// One image in so many goes on: recovery is cut too, and what follows it.
    pub second_cut_one_in: usize,
}

/// What a bounded test run does.
pub const TEST: Effort = Effort { exhaustive_writes: 8, samples: 24, torn: 6, second_cut_one_in: 300 };
/// What a long run does.
pub const SOAK: Effort = Effort { exhaustive_writes: 8, samples: 120, torn: 40, second_cut_one_in: 30 };

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Fingerprints of all images that were opened.
    pub images: HashSet<u64>,
    /// Distinct images by phase; those of second cuts apart.
    pub by_phase: BTreeMap<(Phase, bool), u64>,
    /// Images in which the group in flight was found whole and applied.
    pub in_flight_applied: u64,
    /// Images in which a tail was dropped and reported.
    pub tails_dropped: u64,
    /// Scenarios run.
    pub scenarios: u64,
}

/// A promise that was broken.
#[derive(Debug)]
pub struct Failure {
    /// Of the scenario.
    pub seed: u64,
    /// Length of the trace at the start of the window.
    pub window: usize,
    /// What happened.
    pub what: String,
}

/// The part of a trace between two flushes.
struct Window<'a> {
    start: usize,
    end: usize,
    writes: Vec<(usize, &'a Unit)>,
}

fn windows(trace: &[Event]) -> Vec<Window<'_>> {
    let mut windows = vec![Window { start: 0, end: 0, writes: Vec::new() }];
    for (at, event) in trace.iter().enumerate() {
        match event {
            Event::Write(unit, data) => windows.last_mut().expect("one").writes.push((*unit, data)),
            Event::Flush => {
                windows.last_mut().expect("one").end = at;
                windows.push(Window { start: at + 1, end: trace.len(), writes: Vec::new() });
            }
        }
    }
    windows
}

/// The states that a cut inside this window may leave.
fn allowed(run: &Run, window: &Window<'_>) -> Vec<Rc<Model>> {
    let acknowledged = run.commits.iter().rev().find(|commit| commit.acknowledged <= window.end);
    let mut states =
        acknowledged.map_or_else(|| run.initial.clone(), |commit| vec![Rc::clone(&commit.after)]);
    let in_flight =
        run.commits.iter().find(|commit| commit.first <= window.end && commit.acknowledged > window.end);
    states.extend(in_flight.map(|commit| Rc::clone(&commit.after)));
    states
}

/// Opens an image as the device would after a power cut.
fn open(image: Medium, random: &mut Random, mutant: Mutant) -> Result<Store<Medium>, String> {
    let of_openings = [Mutant::TombstoneDroppedEarly, Mutant::OpenedUnsettled].contains(&mutant);
    let engine = if of_openings { mutant } else { Mutant::None };
    let store =
        Store::open(image, scenario::options(random, engine)).map_err(|error| format!("open: {error}"))?;
    if store.is_read_only() {
        return Err(format!("opens read-only: {:?}", store.damage().reports()));
    }
    let expected = |damage: &Damage| {
        matches!(
            damage,
            Damage::TailDropped { .. }
                | Damage::SuperblockDamaged { .. }
                | Damage::SegmentHeadDamaged { .. }
                | Damage::CommitCopyLost { .. }
                | Damage::ReplayOverBound { .. }
        )
    };
    match store.damage().reports().iter().find(|damage| !expected(damage)) {
        Some(damage) => Err(format!("reports {damage:?}")),
        None => Ok(store),
    }
}

/// Everything a store holds.
pub fn contents(store: &mut Store<Medium>) -> Result<Model, String> {
    let mut model = Model::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.list(b"/state/", after.as_deref(), LIST_KEYS_MAX);
        for listed in &page.keys {
            let stat = listed.stat.map_err(|error| format!("{:?}: {error}", listed.key))?;
            let value = store.get(&listed.key).map_err(|error| format!("{:?}: {error}", listed.key))?;
            model.insert(listed.key.to_vec(), (stat.version, value));
        }
        after = page.keys.last().map(|listed| listed.key.to_vec());
        if !page.more {
            return Ok(model);
        }
    }
}

fn difference(found: &Model, wanted: &Model) -> String {
    let keys = found.keys().chain(wanted.keys());
    let differing = keys.filter(|key| found.get(*key) != wanted.get(*key)).map(|key| {
        let side = |model: &Model| model.get(key).map(|(version, value)| (*version, value.len()));
        format!("{} found {:?} wanted {:?}", String::from_utf8_lossy(key), side(found), side(wanted))
    });
    differing.take(4).collect::<Vec<_>>().join("; ")
}

/// The campaign against one engine.
pub struct Campaign<'a> {
    /// What was seen, in all scenarios.
    pub seen: &'a mut Seen,
    /// How thoroughly.
    pub effort: Effort,
    /// The engine's deliberate fault.
    pub mutant: Mutant,
}

impl Campaign<'_> {
    /// Runs a scenario and cuts it everywhere.
    pub fn scenario(&mut self, seed: u64) -> Result<(), Failure> {
        let fail = |what: String| Failure { seed, window: 0, what };
        let run =
            scenario::run(seed, self.mutant).map_err(|error| fail(format!("the run itself: {error}")))?;
        self.seen.scenarios += 1;
        self.cut_everywhere(&run, seed, false)
    }

    /// The same with processes that die while the power stays, before it goes.
    pub fn scenario_with_deaths(&mut self, seed: u64) -> Result<(), Failure> {
        let run = scenario::run_with_deaths(seed, self.mutant, contents).map_err(|what| Failure {
            seed,
            window: 0,
            what,
        })?;
        self.seen.scenarios += 1;
        self.cut_everywhere(&run, seed, false)
    }

    fn cut_everywhere(&mut self, run: &Run, seed: u64, second: bool) -> Result<(), Failure> {
        let mut durable = run.start.clone();
        let mut random = Random::new(seed ^ 0xC07);
        for window in windows(&run.trace) {
            let states = allowed(run, &window);
            let phase = run.phases.iter().rev().find(|(from, _)| *from <= window.start);
            let phase = (phase.map_or(Phase::Recovery, |(_, phase)| *phase), second);
            for fates in self.choices(window.writes.len(), &mut random) {
                let mut image = durable.clone();
                for ((at, unit), fate) in window.writes.iter().zip(&fates) {
                    image.land(*at, unit, *fate);
                }
                self.check(image, &states, phase, seed).map_err(|what| Failure {
                    seed,
                    window: window.start,
                    what: format!("{what} (fates {fates:?})"),
                })?;
            }
            for (at, unit) in &window.writes {
                durable.land(*at, unit, Fate::New);
            }
        }
        Ok(())
    }

    /// The ways in which a window of so many unit writes is cut.
    fn choices(&self, writes: usize, random: &mut Random) -> Vec<Vec<Fate>> {
        let whole = |bits: u64| {
            (0..writes).map(|at| if bits >> (at % 64) & 1 == 1 { Fate::New } else { Fate::Old }).collect()
        };
        let mut choices: Vec<Vec<Fate>> = if writes <= self.effort.exhaustive_writes {
            (0..1u64 << writes).map(whole).collect()
        } else {
            [0, u64::MAX]
                .into_iter()
                .chain((0..self.effort.samples).map(|_| random.bits()))
                .map(whole)
                .collect()
        };
        if writes > 0 {
            choices
                .extend((0..self.effort.torn).map(|_| (0..writes).map(|_| fate(random)).collect::<Vec<_>>()));
        }
        choices
    }

    fn check(
        &mut self,
        image: Medium,
        states: &[Rc<Model>],
        phase: (Phase, bool),
        seed: u64,
    ) -> Result<(), String> {
        let fingerprint = image.fingerprint();
        if !self.seen.images.insert(fingerprint) {
            return Ok(());
        }
        *self.seen.by_phase.entry(phase).or_default() += 1;
        let mut random = Random::new(fingerprint);
        let mut store = open(image.clone(), &mut random, self.mutant)?;
        let found = contents(&mut store)?;
        let Some(which) = states.iter().position(|state| **state == found) else {
            return Err(difference(&found, &states[0]));
        };
        self.seen.in_flight_applied += u64::from(which > 0);
        let dropped = |damage: &Damage| matches!(damage, Damage::TailDropped { .. });
        self.seen.tails_dropped += u64::from(store.damage().reports().iter().any(dropped));
        if !phase.1 && random.one_in(self.effort.second_cut_one_in) {
            self.go_on(image, states, &mut random, seed)
                .map_err(|what| format!("after a second cut: {what}"))?;
        }
        Ok(())
    }

    /// Records the recovery of an image and some work after it, and cuts that as well. What was unreadable
    /// may come back meanwhile: a recovery that is done stays as it decided.
    fn go_on(
        &mut self,
        image: Medium,
        states: &[Rc<Model>],
        random: &mut Random,
        seed: u64,
    ) -> Result<(), String> {
        let store = open(image.clone().record(), random, self.mutant)?;
        let mut reader = open(store.into_device(), random, self.mutant)?;
        let found = Rc::new(contents(&mut reader)?);
        let mut medium = reader.into_device();
        let recovered = medium.trace.len();
        medium.heal();
        let mut store = open(medium, random, self.mutant)?;
        let after = contents(&mut store)?;
        if after != *found {
            return Err(format!("what was seen is not seen again: {}", difference(&after, &found)));
        }
        let mut driver = Driver::new(store, Rc::clone(&found), random.clone(), Mutant::None);
        for _ in 0..4 {
            driver.step().map_err(|error| format!("work after recovery: {error}"))?;
        }
        let mut run = driver.finish(image, states.to_vec());
        run.commits.insert(0, scenario::Commit { first: 0, acknowledged: recovered, after: found });
        run.phases.insert(0, (0, Phase::Recovery));
        self.cut_everywhere(&run, seed, true).map_err(|failure| failure.what)
    }
}

fn fate(random: &mut Random) -> Fate {
    match random.below(6) {
        0 | 1 => Fate::New,
        2 => Fate::Old,
        3 | 4 => Fate::Mixed(random.bits() as u8),
        _ => Fate::Unreadable,
    }
}

/// Runs so many scenarios; returns in how many of them a promise broke, and in which first.
pub fn runs_until_found(mutant: Mutant, scenarios: u64) -> (u64, Option<u64>) {
    let (mut found, mut first) = (0, None);
    for seed in 0..scenarios {
        let mut seen = Seen::default();
        let mut campaign = Campaign { seen: &mut seen, effort: TEST, mutant };
        // Only a death of the process shows this one.
        let outcome = match mutant {
            Mutant::OpenedWithoutFlush => campaign.scenario_with_deaths(seed),
            _ => campaign.scenario(seed),
        };
        if outcome.is_err() {
            found += 1;
            first = first.or(Some(seed + 1));
        }
    }
    (found, first)
}

/// Runs one scenario again, as a failure names it.
pub fn replay(seed: u64, effort: Effort) -> Result<(), Failure> {
    Campaign { seen: &mut Seen::default(), effort, mutant: Mutant::None }.scenario(seed)
}
