//! The one source of random bytes.
//!
//! It owns the virtio entropy device, feeds what comes to the tests and the generator of `entropy`, and answers
//! requests out of that. What it decides is there, the device in `virtio-rng`; here the two meet the system calls.
//! It says that it is ready when the first seed has passed its tests, and never without.
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::vec;
use core::convert::Infallible;
use core::fmt;
use core::time::Duration;
use driver_kit::{DeviceMemory, KitError, Look};
use entropy::{Generator, HealthFailure, Refusal};
use nexus_abi::{Error, system};
use nexus_ipc::{Bytes, Caller, Clock, Deadline, Event};
use nexus_policy::{Denial, Policy};
use nexus_proto::rng::{ENTROPY_BYTES_MAX, MAX_BYTES, REFERENCE, Request, RngError, Server, dispatch};
use nexus_rt::{Environment, SetupError, error, info};
use policy::Action;
use virtio_rng::{BUFFER_BYTES, DEVICE, DMA_PAGES, DeviceError, EntropyDevice};
use zeroize::Zeroizing;

/// The bit that the device sets.
const DEVICE_BIT: u64 = 1;
/// Time in which a device that was asked answers, or counts as stuck.
const DEVICE_PATIENCE: Duration = Duration::from_secs(4);

const _: () = assert!(ENTROPY_BYTES_MAX == entropy::REQUEST_BYTES_MAX);

/// Why it cannot go on. Init starts it again with the device reset.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    Setup(SetupError),
    Kit(KitError),
    Device(DeviceError),
    Stuck,
    Health(HealthFailure),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Setup(error) => write!(formatter, "{error}"),
            Failure::Kit(error) => write!(formatter, "{error}"),
            Failure::Device(error) => write!(formatter, "{error}"),
            Failure::Health(failure) => write!(formatter, "the entropy failed its test: {failure}"),
            Failure::Stuck => formatter.write_str("the device was asked and does not answer"),
        }
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Failure::Setup(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Setup(error.into())
    }
}

impl From<KitError> for Failure {
    fn from(error: KitError) -> Self {
        Failure::Kit(error)
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Failure::Device(error)
    }
}

impl From<HealthFailure> for Failure {
    fn from(failure: HealthFailure) -> Self {
        Failure::Health(failure)
    }
}

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("rngd: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, Failure> {
    let mut receiver = environment.to_serve(REFERENCE.endpoint, MAX_BYTES)?;
    let (transport, line) = driver_kit::open(environment, "rng", DEVICE, DMA_PAGES)?;
    info!("rngd: mmio window mapped ok");
    let device = EntropyDevice::open(transport).map_err(KitError::Device)?;
    let events = system::notification_create()?;
    line.bind(events, DEVICE_BIT)?;
    let policy = Policy::open(environment)?;
    let clock = environment.clock();
    let mut source = Source { device, generator: Generator::new(), policy, clock };
    // Calls wait meanwhile: who asks early is answered late, and never by less than a tested seed.
    while !source.generator.is_ready() {
        source.device.ask()?;
        let due = environment.deadline(DEVICE_PATIENCE);
        match system::notification_wait(events, DEVICE_BIT, due.ticks()) {
            Ok(_) => line.answer(&mut source)?,
            Err(Error::TimedOut) => return Err(Failure::Stuck),
            Err(error) => return Err(error.into()),
        }
    }
    system::notification_bind(events)?;
    info!("rngd: ready");
    environment.ready();
    let mut due = Deadline::NEVER;
    loop {
        if source.generator.wants_entropy() && !source.device.is_asked() {
            source.device.ask()?;
            due = environment.deadline(DEVICE_PATIENCE);
        }
        match receiver.next(due)? {
            Event::Bits(bits) if bits & DEVICE_BIT != 0 => line.answer(&mut source)?,
            Event::Call(call) => dispatch(&mut source, call),
            Event::TimedOut => return Err(Failure::Stuck),
            _ => {}
        }
        // Also while clients never stop asking. What came until now may wait for its interrupt to be heard.
        if due.has_passed() {
            source.look()?;
            if source.device.is_asked() {
                return Err(Failure::Stuck);
            }
        }
        if !source.device.is_asked() {
            due = Deadline::NEVER;
        }
    }
}

/// The device, what comes of it, and who may have it.
struct Source {
    device: EntropyDevice<DeviceMemory>,
    generator: Generator,
    policy: Policy,
    clock: Clock,
}

impl Source {
    /// Whether the policy lets a client draw bytes. No answer is no.
    fn may_draw(&mut self, caller: Caller) -> Result<(), RngError> {
        let deadline = Deadline::after(&self.clock, nexus_policy::PATIENCE);
        self.policy.may(caller.service_id, Action::RngEntropy, "", deadline).map_err(refused)
    }
}

/// What a client is told to whom the policy does not give bytes.
fn refused(denial: Denial) -> RngError {
    match denial {
        Denial::Denied(_) => RngError::Denied,
        Denial::Refused(_) | Denial::NoAnswer => RngError::NoPolicy,
    }
}

/// So many bytes out of the generator, or why there are none.
fn drawn(generator: &mut Generator, bytes: u64) -> Result<Bytes<ENTROPY_BYTES_MAX>, RngError> {
    let length = usize::try_from(bytes).ok().filter(|&length| length <= ENTROPY_BYTES_MAX);
    let mut bytes = vec![0; length.ok_or(RngError::Oversized)?];
    match generator.fill(&mut bytes) {
        Ok(()) => Ok(Bytes(bytes)),
        Err(Refusal::Oversized) => Err(RngError::Oversized),
        Err(Refusal::Empty) => Err(RngError::Empty),
        Err(Refusal::Unavailable) => Err(RngError::Unavailable),
    }
}

impl Look for Source {
    type Failure = Failure;

    fn clear_cause(&mut self) {
        self.device.clear_cause();
    }

    fn look(&mut self) -> Result<(), Failure> {
        let mut raw = Zeroizing::new([0; BUFFER_BYTES]);
        if let Some(length) = self.device.take(&mut raw)? {
            self.generator.feed(raw.get(..length).unwrap_or(&raw[..]))?;
        }
        Ok(())
    }
}

impl Server for Source {
    fn entropy(&mut self, caller: Caller, request: Request) -> Result<Bytes<ENTROPY_BYTES_MAX>, RngError> {
        self.may_draw(caller)?;
        drawn(&mut self.generator, request.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use nexus_proto::policy::{PolicyError, Why};

    /// A generator whose seed has passed its tests.
    fn ready() -> Generator {
        let mut generator = Generator::new();
        let raw: Vec<u8> = (0..4096u32).map(|place| (place.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        generator.feed(&raw).unwrap();
        generator
    }

    #[test]
    fn as_many_bytes_come_as_are_wanted() {
        for bytes in [1, 32, ENTROPY_BYTES_MAX as u64] {
            assert_eq!(drawn(&mut ready(), bytes).map(|drawn| drawn.0.len() as u64), Ok(bytes));
        }
    }

    #[test]
    fn test_reject_more_bytes_than_one_may_ask_for_and_none() {
        for bytes in [ENTROPY_BYTES_MAX as u64 + 1, u64::from(u32::MAX) + 1, u64::MAX] {
            assert_eq!(drawn(&mut ready(), bytes), Err(RngError::Oversized));
        }
        assert_eq!(drawn(&mut ready(), 0), Err(RngError::Empty));
    }

    #[test]
    fn test_reject_drawing_without_entropy_that_passed_its_tests() {
        assert_eq!(drawn(&mut Generator::new(), 1), Err(RngError::Unavailable));
        let mut failed = ready();
        failed.feed(&[0x55; 4096]).unwrap_err();
        assert_eq!(drawn(&mut failed, 1), Err(RngError::Unavailable));
    }

    #[test]
    fn test_reject_whom_the_policy_denies_and_whom_it_says_nothing_about() {
        assert_eq!(refused(Denial::Denied(Some(Why::NoLine))), RngError::Denied);
        assert_eq!(refused(Denial::Denied(None)), RngError::Denied);
        assert_eq!(refused(Denial::Refused(PolicyError::NotDelegated)), RngError::NoPolicy);
        assert_eq!(refused(Denial::NoAnswer), RngError::NoPolicy);
    }
}
