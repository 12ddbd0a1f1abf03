//! A simulated machine: time that a test moves, a console that it reads, an interrupt controller that it
//! pulls lines of. There is no translation: user memory is reached by walking the same page tables.

use super::{AddressSpace, Arch};
use crate::object::thread::Context;
use std::collections::BTreeSet;
use std::string::String;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The simulated machine.
#[derive(Default)]
pub struct Host {
    /// The clock. Goes on by one tick each time it is read, so that bounded waits end.
    pub clock: AtomicU64,
    /// The time for which the timer is set.
    pub timer: AtomicU64,
    /// What was printed.
    pub console: Mutex<String>,
    /// Lines that are pulled.
    pub pulled: Mutex<BTreeSet<u32>>,
    /// Lines that may interrupt.
    pub enabled: Mutex<BTreeSet<u32>>,
    /// What the last reset was asked to do: reboot or not.
    pub reset: Mutex<Option<bool>>,
    /// Harts that were interrupted by others.
    pub interrupted: Mutex<BTreeSet<usize>>,
    /// Harts that were told to forget translations of a space, one bit each, in the order in which they were.
    pub flushed: Mutex<std::vec::Vec<u32>>,
    /// Whether every long copy finds an interrupt pending.
    pub always_interrupted: AtomicBool,
}

impl Arch for Host {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    fn ticks_per_second(&self) -> u64 {
        1_000_000
    }

    fn set_timer(&self, deadline: u64) {
        self.timer.store(deadline, Relaxed);
    }

    fn interrupt_pending(&self) -> bool {
        self.always_interrupted.load(Relaxed)
    }

    fn wait_for_interrupt(&self) {
        let timer = self.timer.load(Relaxed);
        if timer != u64::MAX {
            self.clock.fetch_max(timer, Relaxed);
        }
        std::thread::yield_now();
    }

    fn rest(&self, _: u64) {
        std::thread::yield_now();
    }

    fn last_line(&self) -> u32 {
        31
    }

    fn claim_and_mask(&self) -> Option<u32> {
        let mut enabled = self.enabled.lock().unwrap();
        let mut pulled = self.pulled.lock().unwrap();
        let line = *pulled.intersection(&enabled).next()?;
        enabled.remove(&line);
        pulled.remove(&line);
        Some(line)
    }

    fn unmask(&self, line: u32) {
        self.enabled.lock().unwrap().insert(line);
    }

    fn mask(&self, line: u32) {
        self.enabled.lock().unwrap().remove(&line);
    }

    fn is_kernel_device(&self, base: u64, bytes: u64) -> bool {
        base < 0x0c60_0000 && base + bytes > 0x0c00_0000
    }

    fn space(&self, root: u64, asid: u16) -> AddressSpace {
        AddressSpace(root | u64::from(asid))
    }

    fn load(&self, _: AddressSpace) {}
    fn flush_page(&self, _: u16, _: u64) {}
    fn flush_space(&self, _: u16) {}
    fn flush_instructions(&self) {}
    fn flush_space_of(&self, harts: u32, _: u16) {
        if harts != 0 {
            self.flushed.lock().unwrap().push(harts);
        }
    }
    fn flush_instructions_of(&self, _: u32) {}

    fn interrupt(&self, hart: usize) {
        self.interrupted.lock().unwrap().insert(hart);
    }

    fn quiet(&self) -> bool {
        false
    }

    fn last_asid(&self) -> u16 {
        1023
    }

    fn leave_float(&self, _: &mut Context) {}
    fn enter_float(&self, _: &Context) {}

    fn print(&self, text: &str) {
        self.console.lock().unwrap().push_str(text);
    }

    fn reset(&self, reboot: bool) {
        *self.reset.lock().unwrap() = Some(reboot);
    }
}
