//! Devices: register windows, the memory that they reach by themselves, and interrupt lines.
//!
//! Invariants: windows are whole pages, touch neither RAM nor the kernel's own devices and do not overlap;
//! memory for a device belongs to whoever created the window, within `dma_pages`, and what nobody reaches any
//! more stays in quarantine until the device was reset; a window with such memory never goes away unnoticed;
//! a line has at most one `Irq`. A line that interrupted stays masked until it is acknowledged, so a
//! driver that stalls holds up its own line only; binding unmasks it.

use super::notification::Notification;
use super::vmo::{Reclaim, Vmo};
use crate::memory::frame::Row;
use crate::memory::list::LinksOf;
use crate::memory::{Id, Links, List, Object};
use crate::sync;

/// One device's register window.
pub struct Device {
    /// Physical address of the first register.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// Pages that its memory may take, promised in the account of whoever created the window.
    pub dma_pages: u64,
    /// Pages of them in use, quarantined ones included.
    pub dma_used: u64,
    /// Pages in quarantine.
    pub quarantined: u64,
    /// Memory that nobody reaches any more but the device.
    pub quarantine: List<Vmo, Reclaim>,
    /// Frames that are being gathered for more memory, without being counted in `dma_used` yet.
    pub row: Row,
    /// Whether it could not be reset: it is never given memory or mapped again.
    pub retired: bool,
}

impl Device {
    /// A window of a device that has no memory and may have none.
    pub fn new(base: u64, bytes: u64) -> Self {
        Device {
            base,
            bytes,
            dma_pages: 0,
            dma_used: 0,
            quarantined: 0,
            quarantine: List::new(),
            row: Row::default(),
            retired: false,
        }
    }
}

/// The links of the list of all windows.
pub struct AllDevices;
impl LinksOf<Device> for AllDevices {
    fn links(shared: &Links) -> &Links {
        shared
    }
}

impl Object for Device {
    const SLAB: u8 = 6;
    const NAME: &'static str = "device";
    type Level = sync::Object;
    type Shared = Links;
    fn reset(shared: &Links) {
        shared.reset();
    }
}

/// One interrupt line.
pub struct Irq {
    /// Its number at the controller.
    pub line: u32,
    /// Who hears of it.
    pub notification: Option<Id<Notification>>,
    /// By which bits.
    pub bits: u64,
}

impl Object for Irq {
    const SLAB: u8 = 7;
    const NAME: &'static str = "irq";
    type Level = sync::Object;
    type Shared = ();
    fn reset(_: &()) {}
}
