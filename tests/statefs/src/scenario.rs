//! Seeded scenarios: what clients do, what the engine writes, and what is acknowledged when.

use crate::medium::{Event, Medium, UNIT};
use crate::random::Random;
use statefs::{BATCH_RECORDS_MAX, Batch, Error, Geometry, Mutant, OperationId, Options, Store, Write};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What the store must hold: key to version and value.
pub type Model = BTreeMap<Vec<u8>, (u64, Vec<u8>)>;

/// What the engine was doing when it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Groups of clients.
    Commit,
    /// A checkpoint that moved nothing.
    Checkpoint,
    /// A checkpoint that moved values.
    Compaction,
    /// An opening.
    Recovery,
}

/// A stretch of the trace that turns one model into the next.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Length of the trace when it was submitted.
    pub first: usize,
    /// Length of the trace when it was acknowledged.
    pub acknowledged: usize,
    /// The state after it.
    pub after: Rc<Model>,
}

/// A run: where it began, what was written, what was promised.
pub struct Run {
    /// The medium before the first event.
    pub start: Medium,
    /// Writes and flushes.
    pub trace: Vec<Event>,
    /// States that are allowed before the first commit is acknowledged.
    pub initial: Vec<Rc<Model>>,
    /// In order.
    pub commits: Vec<Commit>,
    /// From which length of the trace on which phase.
    pub phases: Vec<(usize, Phase)>,
    /// The medium after the last event.
    pub end: Medium,
    /// Whether the last group is proven by a seal.
    pub sealed: bool,
}

/// The geometry of a scenario.
pub fn geometry(seed: u64) -> Geometry {
    let (segment_units, segments) = if seed % 4 == 3 { (16, 20) } else { (8, 32) };
    Geometry { unit: UNIT as u32, segment_units, segments }
}

/// An empty store.
pub fn formatted(seed: u64) -> Medium {
    let geometry = geometry(seed);
    let mut medium = Medium::new((geometry.device_bytes() / UNIT as u64) as usize);
    Store::format(&mut medium, geometry, Random::new(seed).entropy()).expect("a legal geometry");
    medium
}

/// Options for an opening in these proofs.
pub fn options(random: &mut Random, mutant: Mutant) -> Options {
    Options { mutant, ..Options::new(random.entropy()) }
}

/// The `number`-th key of the universe that scenarios use.
pub fn key(number: usize) -> Vec<u8> {
    let folder = ["/state/app", "/state/keystore", "/state/boot"][number % 3];
    format!("{folder}/key-{number:02}").into_bytes()
}

/// A process that dies does so within so many writes of units and flushes.
const DEATH_WITHIN: usize = 24;

/// Keys in the universe.
pub const KEYS: usize = 28;

fn value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(10) {
        0 => 0,
        1..6 => random.below(200),
        6..9 => random.below(3000),
        _ => random.below(9000),
    };
    random.bytes(length)
}

/// A store that is driven and watched.
pub struct Driver {
    store: Option<Store<Medium>>,
    random: Random,
    mutant: Mutant,
    model: Rc<Model>,
    commits: Vec<Commit>,
    phases: Vec<(usize, Phase)>,
    moved: u64,
    checkpoints: u64,
    sealed: bool,
}

type Change = (Vec<u8>, Option<Vec<u8>>);

/// Tells everything that a store holds.
type See = fn(&mut Store<Medium>) -> Result<Model, String>;

impl Driver {
    /// Drives an open store that holds this model.
    pub fn new(store: Store<Medium>, model: Rc<Model>, random: Random, mutant: Mutant) -> Driver {
        Driver {
            store: Some(store),
            random,
            mutant,
            model,
            commits: Vec::new(),
            phases: Vec::new(),
            moved: 0,
            checkpoints: 0,
            sealed: false,
        }
    }

    fn store(&mut self) -> &mut Store<Medium> {
        self.store.as_mut().expect("the store is only away during a reopening")
    }

    fn trace_length(&mut self) -> usize {
        self.store().device_mut().trace.len()
    }

    /// One random step; an error is the engine's, and a failure of the run.
    pub fn step(&mut self) -> Result<(), Error> {
        let before = self.trace_length();
        let outcome = match self.random.below(40) {
            0..16 => self.changes(1, 1),
            16..22 => self.changes(1, 6),
            22..30 => self.changes(4, 2),
            30..33 => self.store().seal().inspect(|()| self.sealed = true),
            33..36 => self.store().maintain().map(|_| ()),
            36 => self.store().checkpoint_now(),
            37 => self.oversized(),
            _ => return self.reopen(),
        };
        let counters = self.store().counters();
        let phase = if counters.bytes_moved > self.moved {
            Phase::Compaction
        } else if counters.checkpoints > self.checkpoints {
            Phase::Checkpoint
        } else {
            Phase::Commit
        };
        (self.moved, self.checkpoints) = (counters.bytes_moved, counters.checkpoints);
        self.phases.push((before, phase));
        outcome
    }

    /// Up to `batches` batches of up to `records` changes, in one group.
    fn changes(&mut self, batches: usize, records: usize) -> Result<(), Error> {
        let first = self.trace_length();
        let mut staged: Vec<Vec<Change>> = Vec::new();
        for _ in 0..=self.random.below(batches) {
            let changes = self.random_changes(records);
            match self.stage(&changes) {
                Ok(_) => staged.push(changes),
                Err(Error::GroupFull) => break,
                Err(Error::CheckpointNeeded | Error::NoSpace) if !staged.is_empty() => break,
                Err(Error::CheckpointNeeded) => return self.store().maintain().map(|_| ()),
                Err(Error::NoSpace | Error::ValueTooLarge | Error::BatchTooLarge) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let answers = self.store().commit();
        assert_eq!(answers.len(), staged.len(), "an answer for each batch");
        let mut model = (*self.model).clone();
        for (answer, changes) in answers.iter().zip(&staged) {
            match answer {
                Ok(version) => apply(&mut model, changes, *version),
                Err(Error::NotFound) => {}
                Err(error) => return Err(*error),
            }
        }
        self.model = Rc::new(model);
        let acknowledged = self.trace_length();
        self.sealed = false;
        self.commits.push(Commit { first, acknowledged, after: Rc::clone(&self.model) });
        Ok(())
    }

    fn random_changes(&mut self, records: usize) -> Vec<Change> {
        let count = 1 + self.random.below(records);
        let first = self.random.below(KEYS);
        let mut changes = Vec::new();
        for at in 0..count {
            let key = key((first + at * 5) % KEYS);
            let deletes = self.random.one_in(4) && self.model.contains_key(&key);
            changes.push((key, (!deletes).then(|| value(&mut self.random))));
        }
        changes
    }

    fn stage(&mut self, changes: &[Change]) -> Result<usize, Error> {
        let operation =
            self.random.one_in(3).then(|| OperationId { client: 7, operation: self.random.bits() });
        let writes: Vec<Write<'_>> =
            changes.iter().map(|(key, value)| Write { key, value: value.as_deref(), expect: None }).collect();
        self.store().stage(&Batch { writes: &writes, operation })
    }

    /// What is refused changes nothing.
    fn oversized(&mut self) -> Result<(), Error> {
        let keys: Vec<Vec<u8>> =
            (0..=BATCH_RECORDS_MAX).map(|at| format!("/state/x/{at}").into_bytes()).collect();
        let writes: Vec<Write<'_>> =
            keys.iter().map(|key| Write { key, value: Some(b"x"), expect: None }).collect();
        match self.store().stage(&Batch { writes: &writes, operation: None }) {
            Err(Error::BatchTooManyRecords) => Ok(()),
            other => panic!("a batch of {} records: {other:?}", writes.len()),
        }
    }

    /// The process dies in the middle of a step, or of an opening, and the power stays: the next process opens
    /// what it sees, be it durable or not, and goes on with that.
    pub fn die(&mut self, see: See) -> Result<(), String> {
        let first = self.trace_length();
        let (life, kind) = (self.random.below(DEATH_WITHIN), self.random.below(3));
        self.store().device_mut().die_after(life);
        let _died = match kind {
            0 => self.changes(4, 2),
            1 => self.store().checkpoint_now(),
            _ => {
                let options = options(&mut self.random, self.mutant);
                Store::open(self.store().device_mut(), options).map(drop)
            }
        };
        self.store().device_mut().revive();
        self.reopen().map_err(|error| format!("the opening after a death: {error}"))?;
        self.model = Rc::new(see(self.store())?);
        let acknowledged = self.trace_length();
        self.commits.push(Commit { first, acknowledged, after: Rc::clone(&self.model) });
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Error> {
        let before = self.trace_length();
        let medium = self.store.take().expect("open").into_device();
        let options = options(&mut self.random, self.mutant);
        self.store = Some(Store::open(medium, options)?);
        self.phases.push((before, Phase::Recovery));
        (self.moved, self.checkpoints, self.sealed) = (0, 0, false);
        Ok(())
    }

    /// The run, as it went.
    pub fn finish(self, start: Medium, initial: Vec<Rc<Model>>) -> Run {
        let mut end = self.store.expect("open").into_device();
        let trace = std::mem::take(&mut end.trace);
        Run { start, trace, initial, commits: self.commits, phases: self.phases, end, sealed: self.sealed }
    }
}

/// Applies a batch whose last change got this version.
fn apply(model: &mut Model, changes: &[Change], last_version: u64) {
    for (at, (key, value)) in changes.iter().enumerate() {
        let version = last_version - (changes.len() - 1 - at) as u64;
        match value {
            Some(value) => model.insert(key.clone(), (version, value.clone())),
            None => model.remove(key),
        };
    }
}

/// Runs a scenario on an engine, faulty or not.
pub fn run(seed: u64, mutant: Mutant) -> Result<Run, Error> {
    let (mut driver, start, steps) = begin(seed, mutant)?;
    for _ in 0..steps {
        driver.step()?;
    }
    Ok(driver.finish(start, vec![Rc::new(Model::new())]))
}

/// Runs a scenario in which every fourth step is a death of the process; see [`Driver::die`].
pub fn run_with_deaths(seed: u64, mutant: Mutant, see: See) -> Result<Run, String> {
    let (mut driver, start, steps) = begin(seed, mutant).map_err(|error| format!("begin: {error}"))?;
    for step in 0..steps {
        if step % 4 == 3 {
            driver.die(see)?;
        } else {
            driver.step().map_err(|error| format!("step {step}: {error}"))?;
        }
    }
    Ok(driver.finish(start, vec![Rc::new(Model::new())]))
}

/// A driver of a new store, the medium before it, and the steps to take.
fn begin(seed: u64, mutant: Mutant) -> Result<(Driver, Medium, usize), Error> {
    let mut random = Random::new(seed);
    let start = formatted(seed);
    let steps = 30 + random.below(60);
    let mut store = Store::open(start.clone().record(), options(&mut random, mutant))?;
    let opened = store.device_mut().trace.len();
    let model = Rc::new(Model::new());
    let mut driver = Driver::new(store, Rc::clone(&model), random, mutant);
    driver.phases.push((0, Phase::Recovery));
    driver.commits.push(Commit { first: 0, acknowledged: opened, after: model });
    Ok((driver, start, steps))
}
