//! virtio slots: which device stands in which, and quieting the device of a driver that died.
//!
//! Init maps a slot's registers only for as long as it takes to read them or to reset the device, at one range of
//! addresses that it keeps for this.

use crate::devices::Device;
use alloc::vec::Vec;
use mmio::Window;
use nexus_abi::system::{self, DeviceReset};
use nexus_abi::{Error, Handle, Rights};
use nexus_rt::warning;
use virtio_mmio::{ProbeError, WINDOW_BYTES_MIN, WillNotReset};

/// Bytes of the largest window that is looked into; of a larger one, as many from its beginning.
pub const VIEW_BYTES: usize = nexus_abi::limits::PAGE_SIZE;

const _: () = assert!(VIEW_BYTES >= WINDOW_BYTES_MIN);

/// Why a device could not be quieted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuietError {
    /// It did not reset; it is retired and keeps the memory that it may still write to.
    WillNotReset,
    /// The kernel refused.
    Kernel(Error),
}

impl core::fmt::Display for QuietError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            QuietError::WillNotReset => formatter.write_str("it does not reset and is retired"),
            QuietError::Kernel(error) => write!(formatter, "{error}"),
        }
    }
}

impl From<Error> for QuietError {
    fn from(error: Error) -> Self {
        QuietError::Kernel(error)
    }
}

/// What is known of the machine's slots.
pub struct Slots {
    authority: Handle,
    /// [`VIEW_BYTES`] of addresses that nothing else uses.
    view: u64,
    seen: Vec<(u64, Option<u32>)>,
}

impl Slots {
    /// Nothing is known yet. `view` begins [`VIEW_BYTES`] of addresses that nothing else uses.
    pub fn new(authority: Handle, view: u64) -> Self {
        Slots { authority, view, seen: Vec::new() }
    }

    /// The number of the virtio device in this slot, 0 for an empty one; `None` for what can't be used, of which
    /// the reason is told once.
    pub fn device(&mut self, slot: &Device) -> Option<u32> {
        if let Some((_, known)) = self.seen.iter().find(|(base, _)| *base == slot.base) {
            return *known;
        }
        let found = match self.look(slot) {
            Ok(Ok(device)) => Some(device),
            Ok(Err(reason)) => {
                warning!("init: refused the virtio slot at {:#x}: {reason}", slot.base);
                None
            }
            Err(error) => {
                warning!("init: the virtio slot at {:#x} cannot be looked at: {error}", slot.base);
                None
            }
        };
        self.seen.push((slot.base, found));
        found
    }

    fn look(&self, slot: &Device) -> Result<Result<u32, ProbeError>, Error> {
        let window = system::device_cap_create(self.authority, slot.base, slot.bytes, 0)?;
        let outcome = self.with(window, virtio_mmio::probe);
        // With its last capability the window is gone, so that its owner's can be made.
        system::cap_close(window)?;
        outcome
    }

    /// Takes everything back that the dead driver had of this window, resets the device, reads back that it is,
    /// and ends the quarantine of its memory.
    pub fn quiet(&self, window: Handle) -> Result<(), QuietError> {
        system::cap_revoke(window)?;
        match self.with(window, virtio_mmio::reset)? {
            Ok(()) => Ok(system::dma_release(window, DeviceReset::Done)?),
            Err(WillNotReset) => {
                system::dma_release(window, DeviceReset::Failed)?;
                Err(QuietError::WillNotReset)
            }
        }
    }

    /// Has the registers mapped while `act` looks at them.
    fn with<T>(&self, window: Handle, act: impl FnOnce(&Window) -> T) -> Result<T, Error> {
        let both = Rights::READ | Rights::WRITE;
        // SAFETY: the range is kept for this alone, and nothing is mapped there between two calls.
        unsafe { system::mmio_map(window, self.view, 0, VIEW_BYTES, both)? };
        // SAFETY: mapped until below; the driver that shares these registers has not been started or is dead.
        let outcome = act(&unsafe { Window::new(self.view as *mut u8, VIEW_BYTES) });
        // SAFETY: the window that used the mapping is gone.
        unsafe { system::vmo_unmap(Handle::NONE, self.view)? };
        Ok(outcome)
    }
}
