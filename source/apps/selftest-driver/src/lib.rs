//! A driver of a second entropy device that stalls, hangs and faults when it is told to, to see that nobody else
//! suffers for it and that it comes back.
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::convert::Infallible;
use core::time::Duration;
use driver_kit::{DeviceMemory, Line, Look};
use nexus_abi::{Error, Handle, system};
use nexus_ipc::{Caller, Deadline, Event};
use nexus_proto::drill::{Bytes, DrillError, MAX_BYTES, REFERENCE, Server, dispatch};
use nexus_rt::{Environment, error};
use virtio_rng::{BUFFER_BYTES, DEVICE, DMA_PAGES, DeviceError, EntropyDevice};

/// The bit that the device sets.
const DEVICE_BIT: u64 = 1;
/// Time in which the device answers.
const DEVICE_PATIENCE: Duration = Duration::from_secs(4);
/// Time that who hangs waits for, again and again.
const LONG: Duration = Duration::from_secs(3600);

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("selftest-driver: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, String> {
    let told = |error: Error| format!("{error}");
    let served = environment.to_serve(REFERENCE.endpoint, MAX_BYTES);
    let mut receiver = served.map_err(|error| format!("{error}"))?;
    let opened = driver_kit::open(environment, "rng", DEVICE, DMA_PAGES);
    let (transport, line) = opened.map_err(|error| format!("{error}"))?;
    let device = EntropyDevice::open(transport).map_err(|error| format!("{error}"))?;
    let events = system::notification_create().map_err(told)?;
    line.bind(events, DEVICE_BIT).map_err(told)?;
    let mut driver = Driver { environment, device: Source { device, came: 0 }, line, events };
    environment.ready();
    loop {
        if let Event::Call(call) = receiver.next(Deadline::NEVER).map_err(told)? {
            dispatch(&mut driver, call);
        }
    }
}

struct Driver<'a> {
    environment: &'a Environment,
    device: Source,
    line: Line,
    events: Handle,
}

struct Source {
    device: EntropyDevice<DeviceMemory>,
    /// Bytes that came with the last look.
    came: usize,
}

/// Why it cannot go on: what happened is in the log.
struct Failure;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error!("selftest-driver: {error}");
        Failure
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        error!("selftest-driver: {error}");
        Failure
    }
}

impl Look for Source {
    type Failure = Failure;

    fn clear_cause(&mut self) {
        self.device.clear_cause();
    }

    fn look(&mut self) -> Result<(), Failure> {
        self.came = self.device.take(&mut [0; BUFFER_BYTES])?.unwrap_or(0);
        Ok(())
    }
}

impl Driver<'_> {
    /// Asks the device and waits for its interrupt, which stays as it came.
    fn until_interrupt(&mut self) -> Result<(), Failure> {
        self.device.device.ask()?;
        let due = self.environment.deadline(DEVICE_PATIENCE).ticks();
        Ok(system::notification_wait(self.events, DEVICE_BIT, due).map(drop)?)
    }
}

impl Server for Driver<'_> {
    fn stall(&mut self, _caller: Caller, (): ()) -> Result<(), DrillError> {
        self.until_interrupt().map_err(|Failure| DrillError::Device)
    }

    fn resume(&mut self, _caller: Caller, (): ()) -> Result<Bytes, DrillError> {
        self.line.answer(&mut self.device).map_err(|Failure| DrillError::Device)?;
        Ok(Bytes { count: self.device.came as u64 })
    }

    fn hang(&mut self, _caller: Caller, (): ()) -> Result<(), DrillError> {
        // With its device under way.
        self.device.device.ask().map_err(|_| DrillError::Device)?;
        loop {
            self.environment.sleep(LONG);
        }
    }

    fn fault(&mut self, _caller: Caller, (): ()) -> Result<(), DrillError> {
        self.device.device.ask().map_err(|_| DrillError::Device)?;
        panic!("told to fault")
    }
}
