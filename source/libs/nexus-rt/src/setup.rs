//! What every service does first: take its endpoint, with the table of who may ask it what.

use crate::environment::{Environment, MapError};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use nexus_abi::limits::TRANSFER_BYTES_MAX;
use nexus_abi::start_page::StartPageError;
use nexus_abi::{Error, Handle, Kind, system};
use nexus_ipc::{Access, Caller, Heartbeat, Receiver, Refused, TELL_INTERVAL};

/// In the memory of a file that init hands out, its length in bytes comes first, then its contents.
pub const FILE_LENGTH_BYTES: usize = size_of::<u64>();

/// Why a program cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// It was not handed this capability.
    Capability(String, StartPageError),
    /// Memory or a device could not be mapped.
    Map(MapError),
    /// The kernel refused.
    Kernel(Error),
}

impl fmt::Display for SetupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Capability(name, error) => write!(formatter, "the capability `{name}`: {error:?}"),
            SetupError::Map(error) => write!(formatter, "mapping: {error}"),
            SetupError::Kernel(error) => write!(formatter, "the kernel refused: {error}"),
        }
    }
}

impl From<MapError> for SetupError {
    fn from(error: MapError) -> Self {
        SetupError::Map(error)
    }
}

impl From<Error> for SetupError {
    fn from(error: Error) -> Self {
        SetupError::Kernel(error)
    }
}

impl Environment {
    /// The capability with this name, which the program cannot do without.
    pub fn needed(&self, name: &str, kind: Kind) -> Result<Handle, SetupError> {
        self.capability(name, kind).map_err(|error| SetupError::Capability(name.into(), error))
    }

    /// The bytes of a file of the initial image, which the program cannot do without.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, SetupError> {
        let memory = self.needed(&format!("file/{name}"), Kind::Vmo)?;
        let mut length = [0; FILE_LENGTH_BYTES];
        system::vmo_read(memory, 0, &mut length)?;
        // No longer than the memory, whatever it says.
        let most = (system::cap_query(memory)?.bytes as usize).saturating_sub(FILE_LENGTH_BYTES);
        let mut contents = vec![0; (u64::from_le_bytes(length) as usize).min(most)];
        for (number, piece) in contents.chunks_mut(TRANSFER_BYTES_MAX).enumerate() {
            system::vmo_read(memory, (FILE_LENGTH_BYTES + number * TRANSFER_BYTES_MAX) as u64, piece)?;
        }
        Ok(contents)
    }

    /// The endpoint of this name, to call.
    pub fn to_call(&self, endpoint: &str) -> Result<Handle, SetupError> {
        self.needed(&format!("call/{endpoint}"), Kind::Endpoint)
    }

    /// A receiver for the endpoint of this name, which lets through only what the system's manifest allows.
    pub fn to_serve(&self, endpoint: &str, max_bytes: usize) -> Result<Receiver, SetupError> {
        let handle = self.needed(&format!("serve/{endpoint}"), Kind::Endpoint)?;
        let table = self.needed(&format!("access/{endpoint}"), Kind::Vmo)?;
        let bytes = system::cap_query(table)?.bytes as usize;
        let mut contents = vec![0; bytes.min(TRANSFER_BYTES_MAX)];
        system::vmo_read(table, 0, &mut contents)?;
        // Only whoever is missed when it hangs was given this.
        let supervisor = self.capability("alive", Kind::Endpoint).ok();
        let heartbeat = supervisor.map(|supervisor| Heartbeat::new(supervisor, &self.clock()));
        let receiver = Receiver::new(handle, max_bytes, Some(Access::from_bytes(&contents)));
        Ok(self.telling(receiver.with_heartbeat(heartbeat)))
    }

    /// The receiver, which tells the log of what it refuses, once for each class in [`TELL_INTERVAL`].
    pub fn telling(&self, receiver: Receiver) -> Receiver {
        let name = self.name();
        let tell = move |refused: Refused, caller: Caller, times: u64| {
            let id = caller.service_id;
            crate::warning!("{name}: reject {refused} message of {id:#x}, {times} since this was last said");
        };
        receiver.telling(self.clock().ticks(TELL_INTERVAL), Box::new(tell))
    }
}
