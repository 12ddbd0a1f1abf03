//! What every service does first: take its endpoint, with the table of who may ask it what.

use crate::environment::{Environment, MapError};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::fmt;
use nexus_abi::limits::TRANSFER_BYTES_MAX;
use nexus_abi::start_page::StartPageError;
use nexus_abi::{Error, Handle, Kind, system};
use nexus_ipc::{Access, Heartbeat, Receiver};

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
        Ok(receiver.with_heartbeat(heartbeat))
    }
}
