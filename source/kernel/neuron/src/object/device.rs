//! Devices: register windows and interrupt lines.
//!
//! Invariants: windows are whole pages, touch neither RAM nor the kernel's own devices and do not overlap;
//! a line has at most one `Irq`. A line that interrupted stays masked until it is acknowledged, so a
//! driver that stalls holds up its own line only; binding unmasks it.

use super::notification::Notification;
use crate::memory::list::LinksOf;
use crate::memory::{Id, Links, Object};
use crate::sync;

/// One device's register window.
pub struct Device {
    /// Physical address of the first register.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
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
