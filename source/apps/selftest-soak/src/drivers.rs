//! A driver that is killed again and again, at any moment of its life and of its device's work, while another
//! process (`soak-child` with the argument `draw`) never stops asking it.

use crate::chance::Chance;
use crate::{PATIENCE, endless, kill};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use nexus_abi::{Error, Handle, system};
use nexus_ipc::{Bytes, CallError};
use nexus_proto::drill::Client as Drill;
use nexus_proto::init::{Client as Init, Run};
use nexus_proto::rng::{Client as Rng, ENTROPY_BYTES_MAX, Request, RngError};
use nexus_rt::{Environment, error};

const DRIVER: &str = "rngd";
const CHILD: &str = "soak-child";
/// A killed driver starts again after 50 ms at the earliest, so there is nobody to kill any sooner.
const APART_MIN: Duration = Duration::from_millis(45);
/// Kills are up to so much apart, so that they meet it during and after its start.
const APART_MAX: Duration = Duration::from_millis(90);
/// In one of so many rounds a client waits for bytes.
const ASK_EVERY: u64 = 4;
/// Requests in a row: enough for the driver to want fresh entropy, so that its device is under way at the next kill.
const REQUESTS: u64 = 257;

/// Asks without end. A call that its server's death ended, also when it was repeated, is made again.
pub fn draw_without_end(environment: &Environment) -> u64 {
    let rng = match environment.to_call("rng") {
        Ok(endpoint) => Rng::new(endpoint),
        Err(reason) => {
            error!("soak: FAIL the child: {reason}");
            return 1;
        }
    };
    loop {
        match draw(environment, &rng) {
            Ok(bytes) if bytes.0.len() == ENTROPY_BYTES_MAX => {}
            Err(CallError::Kernel(Error::PeerGone)) => {}
            other => {
                error!("soak: FAIL the child was answered {other:?}");
                return 1;
            }
        }
    }
}

/// Draws as many bytes as one may. On a computer that is too busy the policy's answer may be late, and late is no: then
/// they are drawn again, for it proves nothing here.
fn draw(environment: &Environment, rng: &Rng) -> Result<Bytes<ENTROPY_BYTES_MAX>, CallError<RngError>> {
    let request = Request { bytes: ENTROPY_BYTES_MAX as u64 };
    let end = environment.deadline(PATIENCE);
    loop {
        match rng.entropy(&request, environment.deadline(PATIENCE)) {
            Err(CallError::Service(RngError::NoPolicy)) if !end.has_passed() => {}
            outcome => return outcome,
        }
    }
}

/// The driver, and who asks it.
pub struct Drivers<'a> {
    environment: &'a Environment,
    control: Handle,
    init: Init,
    rng: Rng,
    drill: Drill,
    chance: Chance,
    last: Vec<u8>,
}

impl<'a> Drivers<'a> {
    /// Takes what the recipe gives.
    ///
    /// `seed` chooses the moments of the kills.
    pub fn new(environment: &'a Environment, control: Handle, init: Init, seed: u64) -> Result<Self, String> {
        let rng = Rng::new(environment.to_call("rng").map_err(|error| format!("{error}"))?);
        let drill = Drill::new(environment.to_call("drill").map_err(|error| format!("{error}"))?);
        Ok(Drivers { environment, control, init, rng, drill, chance: Chance::new(seed), last: Vec::new() })
    }

    /// Kills the driver so many times. Whoever asks is answered by a successor, and then its device's memory is in
    /// use again and nothing of it in quarantine.
    pub fn rounds(&mut self, count: u64) -> Result<(), String> {
        let load = Run { name: CHILD.into(), arguments: "draw".into() };
        endless::start(self.environment, &self.init, &load)?;
        let mut round = 0;
        while round < count {
            if !self.kill().map_err(|reason| format!("kill {round}: {reason}"))? {
                continue;
            }
            round += 1;
            if round.is_multiple_of(ASK_EVERY) {
                self.ask().map_err(|reason| format!("asking after kill {round}: {reason}"))?;
            }
        }
        self.ask()?;
        // It is there to be killed, so nothing ended it before.
        match kill(self.environment, &self.init, CHILD)? {
            true => Ok(()),
            false => Err("the child that asked without end is gone".into()),
        }
    }

    /// Kills a driver and has it fault so many times each, and has it hang so many times, always with its device under
    /// way. Its caller is told each time, and its successor has the device, which was reset.
    pub fn failures(&mut self, count: u64, hangs: u64) -> Result<(), String> {
        let kinds = [
            ("kill", Self::kill_at_work as fn(&Self) -> _, count),
            ("fault", Self::fault, count),
            ("hang", Self::hang, hangs),
        ];
        for (what, fail, count) in kinds {
            for round in 0..count {
                let outcome = fail(self).and_then(|()| self.works());
                outcome.map_err(|reason| format!("{what} {round}: {reason}"))?;
            }
        }
        Ok(())
    }

    fn kill_at_work(&self) -> Result<(), String> {
        let deadline = || self.environment.deadline(PATIENCE);
        self.drill.stall(&(), deadline()).map_err(|error| format!("stalling: {error}"))?;
        match kill(self.environment, &self.init, "selftest-driver")? {
            true => Ok(()),
            false => Err("it is gone".into()),
        }
    }

    fn fault(&self) -> Result<(), String> {
        is_gone(self.drill.fault(&(), self.environment.deadline(PATIENCE)))
    }

    fn hang(&self) -> Result<(), String> {
        is_gone(self.drill.hang(&(), self.environment.deadline(PATIENCE)))
    }

    /// The driver's device interrupts and gives bytes, and nothing of it is in quarantine.
    fn works(&self) -> Result<(), String> {
        let deadline = || self.environment.deadline(PATIENCE);
        self.drill.stall(&(), deadline()).map_err(|error| format!("its successor: {error}"))?;
        let came = self.drill.resume(&(), deadline()).map_err(|error| format!("its successor: {error}"))?;
        if came.count == 0 {
            return Err("no bytes came".into());
        }
        self.nothing_in_quarantine()
    }

    /// Yields whether there was somebody to kill.
    fn kill(&mut self) -> Result<bool, String> {
        let clock = self.environment.clock();
        let pause = APART_MIN + clock.duration(self.chance.below(clock.ticks(APART_MAX - APART_MIN)));
        self.environment.sleep(pause);
        kill(self.environment, &self.init, DRIVER)
    }

    fn ask(&mut self) -> Result<(), String> {
        for _ in 0..REQUESTS {
            let bytes = draw(self.environment, &self.rng).map_err(|error| format!("{error}"))?.0;
            if bytes.len() != ENTROPY_BYTES_MAX || bytes == self.last {
                return Err(format!("{} bytes came, or the same as before", bytes.len()));
            }
            self.last = bytes;
        }
        self.nothing_in_quarantine()
    }

    fn nothing_in_quarantine(&self) -> Result<(), String> {
        let info =
            system::system_info(self.control).map_err(|error| format!("the machine's figures: {error}"))?;
        match info.quarantined_pages {
            0 => Ok(()),
            pages => Err(format!("{pages} pages are in quarantine while the driver runs")),
        }
    }
}

/// The call was ended by its server's death.
fn is_gone<E: core::fmt::Debug>(outcome: Result<(), CallError<E>>) -> Result<(), String> {
    match outcome {
        Err(CallError::Kernel(Error::PeerGone)) => Ok(()),
        other => Err(format!("its caller was answered {other:?}")),
    }
}
