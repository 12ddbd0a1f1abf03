//! `nexus-init`: what the supervisor answers.

use alloc::string::String;
use alloc::vec::Vec;
use nexus_ipc::{postcard_message, register_message};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the largest request.
pub const REQUEST_BYTES_MAX: usize = 512;
/// Bytes of the list of every service.
pub const LIST_BYTES_MAX: usize = 16 * 1024;

/// What a service does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
    /// It was not started, or has ended and stays so.
    Stopped,
    /// It starts as soon as those whom it calls are up.
    Waiting,
    /// It was started and has not yet said that it is ready.
    Starting,
    /// It has said so.
    Up,
    /// It died and is started again shortly.
    Restarting,
    /// It died too often: it stays ended and its endpoints are sealed.
    GivenUp,
    /// The machine lacks its device and may: it is never started and its endpoints are sealed.
    NoDevice,
    /// The policy does not give it its device: it is not started and its endpoints are sealed.
    Refused,
}

impl ServiceState {
    /// Whether it is still on its way up.
    pub fn is_under_way(self) -> bool {
        matches!(self, ServiceState::Waiting | ServiceState::Starting | ServiceState::Restarting)
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// Its name.
    pub name: String,
    /// Its service id.
    pub service_id: u64,
    /// Its process; 0 while there is none.
    pub process_id: u64,
    /// What it does.
    pub state: ServiceState,
    /// How often it was started again in this boot.
    pub restarts: u32,
    /// How its last process ended, if one did: a few words.
    pub last_end: String,
}

/// Every service, in the order of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The services.
    pub entries: Vec<ServiceEntry>,
}

/// A service or a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The service with this name.
    Name(String),
    /// The process with this number.
    Process(u64),
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Name of a service that is started on demand.
    pub name: String,
    /// Its arguments.
    pub arguments: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ended {
    /// The process.
    pub process_id: u64,
    /// One of the ABI's `STATE_` constants.
    pub state: u64,
    /// What it gave to `process_exit`, or its killer to `process_kill`.
    pub exit_code: u64,
    /// Number of the ABI's `FaultCause`; 0 when no fault ended it.
    pub cause: u64,
    /// The address that it touched.
    pub address: u64,
    /// The instruction that faulted.
    pub program_counter: u64,
    /// Return addresses in its report.
    pub frames: u64,
}

/// Why a process could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// Init has too little memory left for the service's quota.
    OutOfMemory,
    /// A table is full: init's, the service's own, or the kernel's of address spaces or threads.
    TableFull,
    /// The service's own quota does not hold what it begins with.
    Quota,
    /// A piece of its memory could not be mapped.
    MappingFailed,
    /// Its program is missing or is none.
    InvalidImage,
    /// The kernel gives init no such process: its identity is taken, or its rank or class is too high.
    NotPermitted,
    /// Its device does not let itself be reset.
    DeviceFailed,
    /// The policy does not give it its device.
    DeniedByPolicy,
    /// The policy gives no answer about its device.
    NoPolicy,
}

impl core::fmt::Display for StartFailure {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            StartFailure::OutOfMemory => "out of memory",
            StartFailure::TableFull => "a table is full",
            StartFailure::Quota => "its quota is too small",
            StartFailure::MappingFailed => "its memory cannot be mapped",
            StartFailure::InvalidImage => "its program is missing or damaged",
            StartFailure::NotPermitted => "it is not permitted",
            StartFailure::DeviceFailed => "its device cannot be reset",
            StartFailure::DeniedByPolicy => "the policy does not allow its device",
            StartFailure::NoPolicy => "the policy gives no answer about its device",
        })
    }
}

/// Why init refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitError {
    /// No service has this name and no process of a service this number.
    Unknown,
    /// It is started by the system, not on demand.
    NotOnDemand,
    /// It runs already.
    Running,
    /// It does not run.
    NotRunning,
    /// It could not be started.
    CouldNotStart(StartFailure),
    /// Somebody who starts by themselves will not come up; the log says who.
    Incomplete,
    /// More callers wait already than init keeps waiting.
    TooManyWait,
    /// The policy does not let the caller do that.
    DeniedByPolicy,
    /// The policy gives no answer, and that is no.
    NoPolicy,
}

impl core::fmt::Display for InitError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            InitError::Unknown => "there is no such service or process",
            InitError::NotOnDemand => "it is started by the system, not on demand",
            InitError::Running => "it runs already",
            InitError::NotRunning => "it does not run",
            InitError::CouldNotStart(failure) => {
                return write!(formatter, "it could not be started: {failure}");
            }
            InitError::Incomplete => "a service did not come up; `log` tells which",
            InitError::TooManyWait => "too many callers wait already",
            InitError::DeniedByPolicy => "the policy does not allow it",
            InitError::NoPolicy => "the policy gives no answer",
        })
    }
}

postcard_message!(Services, LIST_BYTES_MAX);
postcard_message!(Target, REQUEST_BYTES_MAX);
postcard_message!(Run, REQUEST_BYTES_MAX);
postcard_message!(InitError, 8);
register_message!(Ended);

nexus_ipc::service! {
    /// The supervisor: who runs, and ending or running something.
    endpoint "init", max_bytes REQUEST_BYTES_MAX, error InitError;
    /// Tells every service.
    immediate idempotent list(()) -> Services = 1;
    /// Ends a service's process; one that is to be restarted comes back.
    deferred once kill(Target) -> () = 2;
    /// Starts a service that runs on demand and answers when it has ended.
    deferred once run(Run) -> Ended = 3;
    /// Answers as soon as everybody who starts by themselves is up.
    deferred idempotent ready(()) -> () = 4;
}
