//! QEMU's fw_cfg over registers: named items that whoever started the machine gave it.
//!
//! ```text
//! 0  8  data: each byte that is read is the selected item's next one
//! 8  2  selector, big-endian: the item, from its beginning
//! ```
//! The directory is the item 0x19: a number of entries, then 64 bytes each: length (4) and selector (2), both
//! big-endian, two zeroes, and the name, ended by a zero.
//!
//! What it is: finding an item by its name and reading it. What it is not: it writes nothing, and reads no item by DMA.
//! What the device says is checked; no answer of it costs more than [`ITEMS_MAX`] entries.
//!
//! Where to start reading: [`FwCfg::find`].
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
pub mod host;

use core::fmt;
use mmio::Window;

/// The device tree's word for it.
pub const COMPATIBLE: &str = "qemu,fw-cfg-mmio";
/// Bytes of the registers that are used.
pub const REGISTER_BYTES: usize = 16;
/// Entries that a directory may have. QEMU makes at most a few dozen.
pub const ITEMS_MAX: u32 = 256;
/// Bytes of a name, with the zero that ends it.
const NAME_BYTES: usize = 56;

const DATA: usize = 0;
const SELECTOR: usize = 8;
const SIGNATURE_ITEM: u16 = 0;
const DIRECTORY_ITEM: u16 = 0x19;
const SIGNATURE: [u8; 4] = *b"QEMU";

/// Why nothing can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FwCfgError {
    /// The window is too small for the registers.
    SmallWindow,
    /// What stands behind the registers is no fw_cfg.
    NoDevice,
    /// The directory has more than [`ITEMS_MAX`] entries.
    BadDirectory,
    /// The item is not as long as it must be.
    BadLength,
}

impl fmt::Display for FwCfgError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            FwCfgError::SmallWindow => "the window is too small for fw_cfg",
            FwCfgError::NoDevice => "the device is no fw_cfg",
            FwCfgError::BadDirectory => "the directory of fw_cfg has too many entries",
            FwCfgError::BadLength => "the item of fw_cfg is of a wrong length",
        })
    }
}

/// An item that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    selector: u16,
    bytes: u32,
}

/// The device.
pub struct FwCfg {
    window: Window,
}

impl FwCfg {
    /// The device behind this window, if there is one.
    pub fn open(window: Window) -> Result<Self, FwCfgError> {
        if window.bytes() < REGISTER_BYTES {
            return Err(FwCfgError::SmallWindow);
        }
        let device = FwCfg { window };
        device.select(SIGNATURE_ITEM);
        if device.next() == SIGNATURE { Ok(device) } else { Err(FwCfgError::NoDevice) }
    }

    /// The item of this name; `None`: there is none, and that is certain.
    pub fn find(&self, name: &str) -> Result<Option<Item>, FwCfgError> {
        self.select(DIRECTORY_ITEM);
        let items = u32::from_be_bytes(self.next());
        if items > ITEMS_MAX {
            return Err(FwCfgError::BadDirectory);
        }
        for _ in 0..items {
            let bytes = u32::from_be_bytes(self.next());
            let selector = u16::from_be_bytes(self.next());
            let _zeroes: [u8; 2] = self.next();
            let entry: [u8; NAME_BYTES] = self.next();
            // A name that no zero ends is as long as its place.
            if entry.split(|&byte| byte == 0).next() == Some(name.as_bytes()) {
                return Ok(Some(Item { selector, bytes }));
            }
        }
        Ok(None)
    }

    /// Reads an item, which must be exactly as long as `into`.
    pub fn read(&self, item: Item, into: &mut [u8]) -> Result<(), FwCfgError> {
        if usize::try_from(item.bytes) != Ok(into.len()) {
            return Err(FwCfgError::BadLength);
        }
        self.select(item.selector);
        into.fill_with(|| self.window.read_u8(DATA));
        Ok(())
    }

    fn select(&self, item: u16) {
        self.window.write_u16(SELECTOR, item.to_be());
    }

    fn next<const BYTES: usize>(&self) -> [u8; BYTES] {
        core::array::from_fn(|_| self.window.read_u8(DATA))
    }
}
