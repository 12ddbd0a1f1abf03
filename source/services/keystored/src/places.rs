//! Where the identity is stored on the device: the record in the store, its anchor on `bootctl`; random bytes from `rngd`.

use crate::bootctl::Bootctl;
use crate::decisions::{CREATE, Decisions};
use core::time::Duration;
use identity::{ANCHOR_BYTES, Copies, Kept, Places, RECORD_BYTES, RECORD_KEY};
use nexus_abi::service_id;
use nexus_ipc::{CallError, Clock, Deadline};
use nexus_proto::keystore::NoIdentity;
use nexus_proto::{block, rng};
use nexus_rt::{Environment, SetupError};
use nexus_state::{Refusal, State, StateFailure};
use zeroize::Zeroizing;

/// Time that the store may take for a read or a change, its restart included.
const STATE_PATIENCE: Duration = Duration::from_secs(10);
/// Time that random bytes may take.
const RANDOM_PATIENCE: Duration = Duration::from_secs(5);

/// The places of this machine.
pub struct DevicePlaces {
    state: State,
    bootctl: Bootctl,
    source: rng::Client,
    clock: Clock,
    /// What is decided about the identity.
    pub decisions: Decisions,
    /// The service id of this service.
    own: u64,
}

impl DevicePlaces {
    /// The places that the recipe lets this service reach.
    pub fn open(environment: &Environment) -> Result<Self, SetupError> {
        let clock = environment.clock();
        let driver = block::Client::new(environment.to_call(block::REFERENCE.endpoint)?);
        Ok(DevicePlaces {
            state: State::open(environment)?,
            bootctl: Bootctl::new(driver, environment.clock()),
            source: rng::Client::new(environment.to_call(rng::REFERENCE.endpoint)?),
            clock,
            decisions: Decisions::open(environment)?,
            own: service_id(environment.name()),
        })
    }

    fn due(&self) -> Deadline {
        Deadline::after(&self.clock, STATE_PATIENCE)
    }
}

impl Places for DevicePlaces {
    type Error = NoIdentity;

    fn random<const BYTES: usize>(&mut self) -> Result<Zeroizing<[u8; BYTES]>, NoIdentity> {
        let request = rng::Request { bytes: BYTES as u64 };
        let drawn = self.source.entropy(&request, Deadline::after(&self.clock, RANDOM_PATIENCE));
        let drawn = Zeroizing::new(drawn.map_err(|_| NoIdentity::NoEntropy)?.0);
        let bytes = drawn.as_slice().try_into().map_err(|_| NoIdentity::NoEntropy)?;
        Ok(Zeroizing::new(bytes))
    }

    fn record(&mut self) -> Result<Kept, NoIdentity> {
        match self.state.get(RECORD_KEY, self.due()) {
            Ok((bytes, _)) => Ok(Kept::Bytes(Zeroizing::new(bytes))),
            Err(CallError::Service(Refusal::NotFound)) => Ok(Kept::Absent),
            Err(CallError::Service(Refusal::Corrupt | Refusal::Uncertain)) => Ok(Kept::Damaged),
            Err(failure) => Err(reason(&failure)),
        }
    }

    fn keep_record(&mut self, record: &[u8; RECORD_BYTES]) -> Result<(), NoIdentity> {
        self.decisions.write(CREATE, self.own)?;
        let due = self.due();
        // A copy, for what is lent stands on the heap; wiped as the record itself.
        let record = Zeroizing::new(record.to_vec());
        // Only where there is none: whatever came in between stays.
        self.state.put(RECORD_KEY, &record, Some(0), due).map(drop).map_err(|failure| reason(&failure))
    }

    fn forget_record(&mut self) -> Result<(), NoIdentity> {
        let due = self.due();
        match self.state.delete(RECORD_KEY, None, due) {
            Ok(_) | Err(CallError::Service(Refusal::NotFound)) => Ok(()),
            Err(failure) => Err(reason(&failure)),
        }
    }

    fn anchors(&mut self) -> Result<Copies, NoIdentity> {
        self.bootctl.anchors()
    }

    fn keep_anchor(&mut self, copy: usize, anchor: &[u8; ANCHOR_BYTES]) -> Result<(), NoIdentity> {
        self.bootctl.keep_anchor(copy, anchor)
    }
}

fn reason(failure: &StateFailure) -> NoIdentity {
    match failure {
        CallError::Service(Refusal::NoStore(reason)) => NoIdentity::NoStore(*reason),
        _ => NoIdentity::Unavailable,
    }
}
