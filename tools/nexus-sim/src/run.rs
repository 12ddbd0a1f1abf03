//! A run of a scenario: type, wait for what must be shown, do harm, and look whether all is as it must be.
//!
//! Every wait is bounded, in virtual time and in turns; reaching a bound is a failure that says what was
//! waited for.

use crate::faults::Faults;
use crate::image::Built;
use crate::invariants::{self, Rest};
use crate::machine::TICKS_PER_SECOND;
use crate::random::Random;
use crate::system::{Setup, System, Turn};
use anyhow::{Result, bail, ensure};
use std::time::Duration;

/// Virtual time within which anything must have happened: longer than any program waits for a call, 60 s.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// A system is at rest when nothing will happen for so long in virtual time.
const REST: Duration = Duration::from_secs(60);
/// Turns within which anything must have happened: whoever spins gets here first.
const TURNS_MAX: u64 = 300_000;
/// Bytes of the terminal that a failure shows.
const EXCERPT_BYTES: usize = 1500;

/// What is run.
pub struct Run<'a> {
    built: &'a Built,
    /// What happens in every boot of this run.
    pub setup: Setup,
    chance: Random,
    system: System,
    /// How far the terminal was read.
    read: usize,
    digest: u64,
}

impl<'a> Run<'a> {
    /// Switches a machine on.
    pub fn boot(built: &'a Built, setup: Setup) -> Result<Self> {
        let system = System::boot(built, &setup)?;
        let chance = Random::new(!setup.seed);
        Ok(Run { built, setup, chance, system, read: 0, digest: 0 })
    }

    /// The system as it is.
    pub fn system(&mut self) -> &mut System {
        &mut self.system
    }

    /// A number that two runs share only if they went the same way.
    pub fn digest(&self) -> u64 {
        self.digest ^ self.system.digest()
    }

    /// Cuts the power, or resets: nothing is left but what a disk keeps. Then the machine is switched on.
    pub fn boot_again(&mut self) -> Result<()> {
        self.digest ^= self.system.digest().rotate_left(1);
        self.setup.seed = self.chance.number();
        self.setup.disk.0.borrow_mut().lose_power(&mut self.chance);
        self.system = System::boot(self.built, &self.setup)?;
        self.read = 0;
        Ok(())
    }

    /// Boots up to the prompt, with nothing going wrong.
    pub fn until_prompt(&mut self) -> Result<()> {
        self.until_shown("init: ready")?;
        self.settle()
    }

    /// Waits until this stands on the terminal, behind whatever was waited for before.
    pub fn until_shown(&mut self, text: &str) -> Result<()> {
        self.until_shown_within(text, PATIENCE)
    }

    /// As [`Run::until_shown`], for what may take longer in virtual time than anything else.
    pub fn until_shown_within(&mut self, text: &str, patience: Duration) -> Result<()> {
        let mut limit = Limit::new(&self.system, format!("`{text}`"), patience.max(PATIENCE));
        let mut looked = self.read;
        loop {
            let turn = self.system.step()?;
            let shown = self.system.console_bytes();
            if shown.len() > looked {
                let rest = &shown[looked.saturating_sub(text.len()).max(self.read)..];
                if let Some(place) = rest.windows(text.len()).position(|part| part == text.as_bytes()) {
                    self.read = shown.len() - rest.len() + place + text.len();
                    return Ok(());
                }
                looked = shown.len();
            }
            limit.pass(&mut self.system, turn)?;
        }
    }

    /// Everything that stands on the terminal.
    pub fn console(&self) -> String {
        self.system.console()
    }

    /// Types a line, in place of whatever stands at the prompt.
    pub fn types(&mut self, line: &str) {
        self.system.type_bytes(format!("\x15{line}\r").as_bytes());
    }

    /// So many turns pass, or fewer if the system comes to rest.
    pub fn turns(&mut self, count: u64) -> Result<()> {
        let mut limit = Limit::new(&self.system, "turns".into(), PATIENCE);
        for _ in 0..count {
            let turn = self.system.step()?;
            if rests(&self.system, turn) {
                break;
            }
            limit.pass(&mut self.system, turn)?;
        }
        Ok(())
    }

    /// Waits until nothing will happen any more by itself for long.
    pub fn settle(&mut self) -> Result<()> {
        let mut limit = Limit::new(&self.system, "rest".into(), PATIENCE);
        loop {
            let turn = self.system.step()?;
            if rests(&self.system, turn) {
                self.read = self.system.console_bytes().len();
                return Ok(());
            }
            limit.pass(&mut self.system, turn)?;
        }
    }

    /// Waits until the machine is reset; yields whether it is to start again.
    pub fn until_reset(&mut self) -> Result<bool> {
        let mut limit = Limit::new(&self.system, "a reset".into(), PATIENCE);
        loop {
            match self.system.step()? {
                Turn::Reset(reboot) => return Ok(reboot),
                turn => limit.pass(&mut self.system, turn)?,
            }
        }
    }

    /// A number below a bound, which is not 0, as the seed says.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    /// Turns fall as they may from here on, and nothing worse.
    pub fn restless(&mut self) {
        self.system.faults = Faults::restless(&mut self.chance);
    }

    /// Things go wrong from here on.
    pub fn storm(&mut self) {
        self.system.faults = Faults::storm(&mut self.chance);
    }

    /// Nothing goes wrong any more.
    pub fn calm(&mut self) {
        self.system.faults = Faults::none();
    }

    /// The system answers, stores, and is at rest as it was before: the invariants.
    pub fn is_well(&mut self, before: &Rest) -> Result<()> {
        self.answers()?;
        self.stores()?;
        let rest = invariants::look(&mut self.system, &self.built.manifest)?;
        rest.compare(before).map_err(|finding| anyhow::anyhow!("{finding}{}", excerpt(&self.system)))
    }

    /// No call waits past its deadline.
    pub fn nobody_waits_too_long(&mut self) -> Result<()> {
        invariants::nobody_waits_too_long(&mut self.system)
    }

    /// A typed `ping` is answered.
    pub fn answers(&mut self) -> Result<()> {
        self.is_answered("ping", "pong answered")
    }

    /// What is typed to be stored is stored.
    fn stores(&mut self) -> Result<()> {
        self.is_answered("state put /state/user/well yes", "stored, version")
    }

    fn is_answered(&mut self, command: &str, answer: &str) -> Result<()> {
        self.settle()?;
        self.types(command);
        self.until_shown(answer)?;
        self.settle()
    }

    /// The system at rest, when it answered and stored something.
    pub fn rest(&mut self) -> Result<Rest> {
        self.answers()?;
        self.stores()?;
        invariants::look(&mut self.system, &self.built.manifest)
    }
}

/// Whether nothing will happen for long unless somebody types.
fn rests(system: &System, turn: Turn) -> bool {
    match turn {
        Turn::Sleeps(None) => true,
        Turn::Sleeps(Some(event)) => event > system.now() + ticks(REST),
        _ => false,
    }
}

fn ticks(duration: Duration) -> u64 {
    duration.as_secs() * TICKS_PER_SECOND
}

/// The bounds of one wait.
struct Limit {
    what: String,
    turns: u64,
    patience: Duration,
    end: u64,
}

impl Limit {
    fn new(system: &System, what: String, patience: Duration) -> Self {
        Limit { what, turns: TURNS_MAX, patience, end: system.now() + ticks(patience) }
    }

    /// Goes on after a turn, to the next event if everybody sleeps, or says that it was too much.
    fn pass(&mut self, system: &mut System, turn: Turn) -> Result<()> {
        self.turns = self.turns.saturating_sub(1);
        let what = &self.what;
        ensure!(self.turns > 0, "{what} was waited for through {TURNS_MAX} turns{}", excerpt(system));
        match turn {
            Turn::Went => {}
            Turn::Reset(_) => bail!("the machine was reset while {what} was waited for{}", excerpt(system)),
            Turn::Sleeps(Some(event)) if event < self.end => system.sleep(),
            Turn::Sleeps(Some(_)) => {
                bail!("{what} was waited for longer than {} s{}", self.patience.as_secs(), excerpt(system))
            }
            Turn::Sleeps(None) => {
                bail!("{what} was waited for, and nothing happens any more{}", excerpt(system))
            }
        }
        Ok(())
    }
}

/// The last of what stands on the terminal.
fn excerpt(system: &System) -> String {
    let shown = system.console();
    let mut start = shown.len().saturating_sub(EXCERPT_BYTES);
    while !shown.is_char_boundary(start) {
        start += 1;
    }
    format!("; the terminal ends with:\n{}", &shown[start..])
}
