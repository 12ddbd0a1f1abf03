//! What a userspace driver of a virtio device needs, so that the driver itself is a page of code.
//!
//! What it is: [`open`] makes of a service's capabilities the device's registers (reset, and read back as reset),
//! its memory ([`DeviceMemory`], the `Hal` of `virtio-drivers`) and its interrupt ([`Line`]).
//! What it is not: it knows no device.
//!
//! **One device a process.** `virtio-drivers` asks for memory through functions without a `self`, so what they
//! hand out is the process's; a second [`open`] is refused. It is given once, when the driver starts, and never
//! taken back while the process lives: the device knows where it is. When the process dies, init resets the device
//! and reads that back before the kernel gives the memory to anybody else.
//!
//! Where to start reading: [`open`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod line;
mod memory;

pub use line::{Line, Look};
pub use memory::DeviceMemory;
pub use virtio_mmio::transport::{MmioTransport, OpenError};

use alloc::format;
use core::fmt;
use mmio::Window;
use nexus_abi::{Error, Kind};
use nexus_rt::{Environment, MapError, SetupError};

/// Why a driver cannot begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KitError {
    /// A capability is missing or something could not be mapped.
    Setup(SetupError),
    /// The device.
    Device(OpenError),
    /// This process has a device already.
    SecondDevice,
}

impl fmt::Display for KitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KitError::Setup(error) => write!(formatter, "{error}"),
            KitError::Device(error) => write!(formatter, "{error}"),
            KitError::SecondDevice => formatter.write_str("a process drives one device"),
        }
    }
}

impl From<SetupError> for KitError {
    fn from(error: SetupError) -> Self {
        KitError::Setup(error)
    }
}

impl From<Error> for KitError {
    fn from(error: Error) -> Self {
        KitError::Setup(error.into())
    }
}

impl From<MapError> for KitError {
    fn from(error: MapError) -> Self {
        KitError::Setup(error.into())
    }
}

impl From<OpenError> for KitError {
    fn from(error: OpenError) -> Self {
        KitError::Device(error)
    }
}

/// Takes the device that the recipe calls `name`: virtio's device `number`, with `dma_pages` pages of memory that
/// it reaches by itself (from 1 to what the recipe promises, and at most `DMA_PAGES_MAX`).
pub fn open(
    environment: &Environment,
    name: &str,
    number: u32,
    dma_pages: usize,
) -> Result<(MmioTransport, Line), KitError> {
    // Before anything of the second is touched.
    memory::expect_none()?;
    let window = environment.needed(&format!("device.mmio.{name}"), Kind::DeviceMmio)?;
    let irq = environment.needed(&format!("device.irq.{name}"), Kind::Irq)?;
    let (registers, bytes) = environment.map_device(window)?;
    // SAFETY: the window was just mapped for good, with this size, and is this process's alone.
    let registers = unsafe { Window::new(registers, bytes) };
    let transport = MmioTransport::open(registers, number)?;
    memory::provide(environment, window, dma_pages)?;
    Ok((transport, Line::new(irq)))
}
