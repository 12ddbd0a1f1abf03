//! Calls on a host: handed to whatever the current thread installed, refused without it.

use crate::calls::SystemCall;
use crate::error::Error;
use crate::message::Registers;
use std::boxed::Box;
use std::cell::RefCell;

/// Something that plays the kernel for one host thread.
pub trait Backend {
    /// A call with plain arguments: the error number and the value.
    fn plain(&mut self, call: SystemCall, arguments: [u64; 6]) -> (u64, u64);
    /// A call with the registers of a message.
    fn message(&mut self, call: SystemCall, registers: &mut Registers);
    /// The clock, in ticks.
    fn ticks(&mut self) -> u64;
}

std::thread_local! {
    static BACKEND: RefCell<Option<Box<dyn Backend>>> = const { RefCell::new(None) };
}

/// Installs the backend of the current thread and yields the one before.
pub fn install(backend: Option<Box<dyn Backend>>) -> Option<Box<dyn Backend>> {
    BACKEND.with(|cell| cell.replace(backend))
}

pub(super) fn plain(call: SystemCall, arguments: [u64; 6]) -> (u64, u64) {
    BACKEND.with(|cell| match cell.borrow_mut().as_mut() {
        Some(backend) => backend.plain(call, arguments),
        None => (Error::Unsupported as u64, 0),
    })
}

pub(super) fn message(call: SystemCall, registers: &mut Registers) {
    BACKEND.with(|cell| match cell.borrow_mut().as_mut() {
        Some(backend) => backend.message(call, registers),
        None => registers.target = Error::Unsupported as u64,
    });
}

/// The clock, in ticks (0 without a backend).
pub fn ticks() -> u64 {
    BACKEND.with(|cell| cell.borrow_mut().as_mut().map_or(0, |backend| backend.ticks()))
}

pub(super) fn abort() -> ! {
    panic!("a thread that had ended was continued");
}
