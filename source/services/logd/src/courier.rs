//! Calling the store without ever waiting for it.
//!
//! The journal's own thread calls nobody. It hands an errand to a second thread, which calls `statefsd` with a deadline
//! and rings the journal's doorbell when it is back. The second thread allocates nothing: it and the first share a heap
//! behind a lock that spins.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;
use journal::segment::{INDEX_BYTES, SEGMENT_BYTES_MAX};
use nexus_abi::limits::FOREVER;
use nexus_abi::{Handle, system};
use nexus_ipc::{CallError, Clock, Deadline, Lent, Message, MessageError, Retry, call_lending};
use nexus_proto::state::{
    Batch, Change, Changes, Done, Found, Key, REFERENCE, REQUEST_BYTES_MAX, StateError,
};
use nexus_rt::{Environment, SetupError, error};
use spin::Mutex;

/// Bytes of the segments that are written together: two of the longest at the least.
pub const BATCH_BYTES_MAX: usize = 48 * 1024;
/// The bit of the doorbell by which the second thread says that it is back; the rings have the one below it.
const BACK_BIT: u64 = 2;
/// The bit by which the second thread hears of an errand.
const ERRAND_BIT: u64 = 1;
/// Time that the store has for one call.
const PATIENCE: Duration = Duration::from_secs(5);

const _: () = assert!(2 * SEGMENT_BYTES_MAX + INDEX_BYTES <= BATCH_BYTES_MAX);

/// Why the store did not do it.
pub type Failure = CallError<StateError>;

/// Where the one errand is.
const AT_REST: u8 = 0;
const AWAY: u8 = 1;
const BACK: u8 = 2;

/// A request that is encoded already, so that sending it takes no memory.
struct Encoded(Vec<u8>);

impl Message for Encoded {
    /// Bytes of any request to the store.
    const BYTES_MAX: usize = REQUEST_BYTES_MAX;

    fn encode(&self, to: &mut [u8]) -> Result<usize, MessageError> {
        let room = to.get_mut(..self.0.len()).ok_or(MessageError::TooLarge)?;
        room.copy_from_slice(&self.0);
        Ok(self.0.len())
    }

    fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        Ok(Encoded(bytes.to_vec()))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
}

/// One call.
struct Errand {
    operation: u16,
    request: Encoded,
    /// What is written, or where what is read comes to.
    lent: Vec<u8>,
    is_read: bool,
    /// Bytes that were read.
    outcome: Result<u64, Failure>,
}

/// Both threads' side of it.
struct Desk {
    endpoint: Handle,
    clock: Clock,
    asked: Handle,
    doorbell: Handle,
    state: AtomicU8,
    /// In the hands of the second thread while the state is [`AWAY`], otherwise in those of the first.
    errand: Mutex<Errand>,
}

impl Desk {
    /// The second thread, for ever.
    fn run_errands(&self) {
        loop {
            if let Err(error) = system::notification_wait(self.asked, ERRAND_BIT, FOREVER) {
                error!("logd: errands to the store cannot be waited for: {error}");
                return;
            }
            if self.state.load(Ordering::Acquire) != AWAY {
                continue;
            }
            if let Some(mut errand) = self.errand.try_lock() {
                errand.outcome = self.call(&mut errand);
            }
            self.state.store(BACK, Ordering::Release);
            if let Err(error) = system::notification_signal(self.doorbell, BACK_BIT) {
                error!("logd: the end of an errand cannot be told: {error}");
            }
        }
    }

    fn call(&self, errand: &mut Errand) -> Result<u64, Failure> {
        let deadline = Deadline::after(&self.clock, PATIENCE);
        let Errand { operation, request, lent, is_read, .. } = errand;
        // Writing the same again changes nothing, so either may be repeated.
        let retry = Retry::Idempotent;
        if *is_read {
            let lent = [Lent::write(lent)];
            call_lending::<_, Found, _>(self.endpoint, *operation, retry, request, &lent, deadline)
                .map(|found| found.bytes)
        } else {
            let lent = [Lent::read(lent)];
            call_lending::<_, Done, _>(self.endpoint, *operation, retry, request, &lent, deadline).map(|_| 0)
        }
    }
}

/// The first thread's side.
pub struct Courier {
    desk: &'static Desk,
    get: u16,
    batch: u16,
}

/// The number of an operation of the store.
fn operation(name: &str) -> u16 {
    REFERENCE.operations.iter().find(|operation| operation.name == name).map_or(0, |found| found.number)
}

impl Courier {
    /// Starts the second thread. `doorbell` wakes the first.
    pub fn open(environment: &Environment, doorbell: Handle) -> Result<Self, SetupError> {
        // Where the recipe gives no store there is a journal all the same: its errands come back at once.
        let endpoint = environment.to_call(REFERENCE.endpoint).unwrap_or(Handle::NONE);
        let asked = system::notification_create()?;
        let errand = Errand {
            operation: 0,
            request: Encoded(Vec::new()),
            lent: vec![0; SEGMENT_BYTES_MAX],
            is_read: true,
            outcome: Ok(0),
        };
        let (state, errand) = (AtomicU8::new(AT_REST), Mutex::new(errand));
        let clock = environment.clock();
        let desk: &'static Desk =
            Box::leak(Box::new(Desk { endpoint, clock, asked, doorbell, state, errand }));
        nexus_rt::thread::spawn(environment, Box::leak(Box::new(|| desk.run_errands())))?;
        Ok(Courier { desk, get: operation("get"), batch: operation("batch") })
    }

    /// Whether an errand is under way.
    pub fn is_away(&self) -> bool {
        self.desk.state.load(Ordering::Acquire) == AWAY
    }

    /// Goes to read a key.
    pub fn read(&mut self, key: &str) {
        self.send(self.get, &Key { key: key.into() }, |lent| {
            lent.clear();
            lent.resize(SEGMENT_BYTES_MAX, 0);
        });
    }

    /// Goes to write segments, all or none, each under its key.
    pub fn write(&mut self, segments: &[(alloc::string::String, &[u8])]) {
        let change = |(key, value)| Change { key, value: Some(value), expect: None };
        let changes = segments.iter().map(|(key, value)| change((key.as_str(), *value))).collect();
        // It is far below what a batch may have; the store would refuse nothing.
        let bytes = Changes { changes }.to_bytes().unwrap_or_default();
        let request = Batch { bytes: bytes.len() as u32, operation: None };
        self.send(self.batch, &request, |lent| *lent = bytes);
    }

    fn send(&mut self, operation: u16, request: &impl Message, fill: impl FnOnce(&mut Vec<u8>)) {
        let Some(mut errand) = self.desk.errand.try_lock().filter(|_| !self.is_away()) else { return };
        // What does not fit a request is none, which the store says.
        let _ = request.fill(&mut errand.request.0);
        fill(&mut errand.lent);
        (errand.operation, errand.is_read) = (operation, operation == self.get);
        drop(errand);
        self.desk.state.store(AWAY, Ordering::Release);
        if let Err(error) = system::notification_signal(self.desk.asked, ERRAND_BIT) {
            error!("logd: an errand to the store cannot be told: {error}");
        }
    }

    /// What came of the errand that is back: `taken` is shown what was read.
    pub fn back<T>(&mut self, taken: impl FnOnce(Result<&[u8], &Failure>) -> T) -> Option<T> {
        if self.desk.state.load(Ordering::Acquire) != BACK {
            return None;
        }
        self.desk.state.store(AT_REST, Ordering::Release);
        let errand = self.desk.errand.try_lock()?;
        let read = |bytes: u64| errand.lent.get(..usize::try_from(bytes).ok()?);
        Some(taken(match &errand.outcome {
            Ok(bytes) => Ok(read(*bytes).unwrap_or(&[])),
            Err(failure) => Err(failure),
        }))
    }
}
