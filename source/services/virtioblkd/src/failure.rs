//! Why the driver cannot go on. Init starts it again with the device reset.

use core::fmt;
use driver_kit::KitError;
use nexus_abi::Error;
use nexus_rt::SetupError;
use virtio_blk::DeviceError;

/// Why it cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A capability is missing, or the kernel refused.
    Setup(SetupError),
    /// Window, interrupt or memory could not be had.
    Kit(KitError),
    /// The device does what it may not.
    Device(DeviceError),
    /// The device does not answer.
    Stuck,
    /// The device answers that it cannot read.
    Refused,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Setup(error) => write!(formatter, "{error}"),
            Failure::Kit(error) => write!(formatter, "{error}"),
            Failure::Device(error) => write!(formatter, "{error}"),
            Failure::Stuck => formatter.write_str("the device was asked and does not answer"),
            Failure::Refused => formatter.write_str("the device cannot read it"),
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
