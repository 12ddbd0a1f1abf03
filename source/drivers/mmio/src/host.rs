//! Register accesses on a host: handed to whatever the current thread installed.

use std::cell::RefCell;
use std::rc::Rc;

/// Something that plays the devices for one host thread.
pub trait Bus {
    /// Reads a register of 1, 2, 4 or 8 bytes.
    fn load(&self, address: u64, bytes: u32) -> u64;
    /// Writes a register.
    fn store(&self, address: u64, bytes: u32, value: u64);
}

std::thread_local! {
    static BUS: RefCell<Option<Rc<dyn Bus>>> = const { RefCell::new(None) };
}

/// Installs the bus of the current thread and yields the one before.
pub fn install(bus: Option<Rc<dyn Bus>>) -> Option<Rc<dyn Bus>> {
    BUS.with(|cell| cell.replace(bus))
}

pub(crate) fn installed() -> Option<Rc<dyn Bus>> {
    BUS.with(|cell| cell.borrow().clone())
}
