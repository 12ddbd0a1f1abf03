//! Two threads of one process answer the same call at the same moment: exactly one may succeed.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use nexus_abi::{Error, Handle, Result, system};
use nexus_rt::error;

/// Nobody races.
const FREE: u64 = 0;
/// A worker has a call for two.
const OFFERED: u64 = 1;
/// The second thread is there.
const ACCEPTED: u64 = 2;
/// Both answer.
const GOING: u64 = 3;
/// Looks at the other side before the race is called off.
const LOOKS_MAX: u32 = 2_000;

/// What became of an attempt, as a number that is added up: how often in the lowest byte, then how often each.
const SUCCEEDED: u64 = 1 | 1 << 8;
const STALE: u64 = 1 | 1 << 16;
const CALLER_GONE: u64 = 1 | 1 << 24;

/// One race at a time.
pub struct Race {
    state: AtomicU64,
    reply: AtomicU64,
    number: AtomicU64,
    outcomes: AtomicU64,
    bell: Handle,
}

impl Race {
    /// With the bell that the second thread waits for.
    pub fn new() -> Result<Self> {
        let [state, reply, number, outcomes] = [const { AtomicU64::new(0) }; 4];
        Ok(Race { state, reply, number, outcomes, bell: system::notification_create()? })
    }

    /// Offers a call to the second thread. Whether it takes part: then both answer now.
    pub fn offer(&self, reply: Handle, number: u64) -> bool {
        if self.state.compare_exchange(FREE, OFFERED, AcqRel, Relaxed).is_err() {
            return false;
        }
        self.reply.store(reply.0, Relaxed);
        self.number.store(number, Relaxed);
        self.outcomes.store(0, Relaxed);
        let rung = system::notification_signal(self.bell, 1);
        for _ in 0..if rung.is_ok() { LOOKS_MAX } else { 0 } {
            if self.state.load(Acquire) == ACCEPTED {
                self.state.store(GOING, Release);
                return true;
            }
            core::hint::spin_loop();
        }
        // It may have come at the last moment.
        let is_off = self.state.compare_exchange(OFFERED, FREE, AcqRel, Acquire).is_ok();
        if !is_off {
            self.state.store(GOING, Release);
        }
        !is_off
    }

    /// Waits for a call that is offered; yields the Reply and the call's number at the moment to answer.
    pub fn accept(&self) -> Result<(Handle, u64)> {
        loop {
            system::notification_wait(self.bell, 1, nexus_abi::limits::FOREVER)?;
            if self.state.compare_exchange(OFFERED, ACCEPTED, AcqRel, Acquire).is_ok() {
                break;
            }
        }
        while self.state.load(Acquire) != GOING {
            core::hint::spin_loop();
        }
        Ok((Handle(self.reply.load(Relaxed)), self.number.load(Relaxed)))
    }

    /// Takes note of what one of the two was told. `false`: the second to come sees that both were told the same, or
    /// something else than they may be.
    pub fn ended(&self, outcome: core::result::Result<(), Error>) -> bool {
        let told = match outcome {
            Ok(()) => SUCCEEDED,
            Err(Error::StaleHandle) => STALE,
            Err(Error::PeerGone) => CALLER_GONE,
            Err(error) => {
                error!("soak: FAIL one of two that answer a call was told: {error}");
                return false;
            }
        };
        let all = self.outcomes.fetch_add(told, AcqRel) + told;
        if all & 0xff < 2 {
            return true;
        }
        self.state.store(FREE, Release);
        let is_well = all == SUCCEEDED + STALE || all == CALLER_GONE + STALE;
        if !is_well {
            error!(
                "soak: FAIL two answered a call, and {} succeeded, {} found it stale, {} its caller gone",
                all >> 8 & 0xff,
                all >> 16 & 0xff,
                all >> 24 & 0xff
            );
        }
        is_well
    }
}
