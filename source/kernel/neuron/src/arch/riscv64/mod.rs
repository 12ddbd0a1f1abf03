//! The real machine: 64-bit RISC-V in supervisor mode, Sv39, OpenSBI below, a PLIC.
//!
//! Everything with assembly or control registers is here: [`boot`] (the first instructions, the tables),
//! [`trap`] (the way in and out), [`csr`], [`plic`], and this file, which is the [`Arch`].
#![allow(unsafe_code)] // it is the machine

pub mod boot;
pub mod csr;
pub mod plic;
mod tables;
pub mod trap;

use super::{AddressSpace, Arch};
use crate::object::thread::Context;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use csr::{clear, read, set, write};
use nexus_abi::limits::HARTS_MAX;
use plic::Plic;
use sbi_rt::HartMask;

/// Bit of `sip`: another hart interrupts.
const SOFTWARE: u64 = 1 << 1;

/// What boot found of the machine.
pub struct Riscv64 {
    plic: Plic,
    controller: crate::boot::device_tree::Range,
    last_line: u32,
    ticks_per_second: u64,
    has_supervisor_timer: bool,
    last_asid: u16,
    /// The firmware's ids of the harts, by index. Each is written before its hart is online.
    hart_ids: [AtomicU64; HARTS_MAX],
}

/// Whether the console is this hart's: set by a kernel bug, after which nobody else prints.
pub static STOPPED: AtomicBool = AtomicBool::new(false);

/// A rest is this part of a second: short beside a turn, long beside what a computer needs to have another hart run.
const RESTS_A_SECOND: u64 = 5_000;

impl Arch for Riscv64 {
    fn now(&self) -> u64 {
        read!("time")
    }

    fn ticks_per_second(&self) -> u64 {
        self.ticks_per_second
    }

    fn set_timer(&self, deadline: u64) {
        if self.has_supervisor_timer {
            write!("0x14d", deadline);
        } else {
            sbi_rt::set_timer(deadline);
        }
    }

    fn interrupt_pending(&self) -> bool {
        read!("sip") & read!("sie") != 0
    }

    fn wait_for_interrupt(&self) {
        // The machine may come back from waiting for no reason.
        while !self.interrupt_pending() {
            // SAFETY: with interrupts off `wfi` only waits; it changes neither registers nor memory.
            unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
        }
    }

    fn rest(&self, timer: u64) {
        let end = self.now() + self.ticks_per_second / RESTS_A_SECOND;
        self.set_timer(timer.min(end));
        if !self.interrupt_pending() {
            // SAFETY: with interrupts off `wfi` only waits; it changes neither registers nor memory.
            unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
        }
        self.set_timer(timer);
    }

    fn last_line(&self) -> u32 {
        self.last_line
    }

    fn claim_and_mask(&self) -> Option<u32> {
        let line = self.plic.claim()?;
        // Masked before it is complete: the line is silent until its driver acknowledges.
        self.plic.set_priority(line, 0);
        self.plic.complete(line);
        Some(line)
    }

    fn unmask(&self, line: u32) {
        self.plic.enable(line);
        self.plic.set_priority(line, 1);
    }

    fn mask(&self, line: u32) {
        self.plic.set_priority(line, 0);
    }

    fn is_kernel_device(&self, base: u64, bytes: u64) -> bool {
        base < self.controller.end && self.controller.base < base.saturating_add(bytes)
    }

    fn space(&self, root: u64, asid: u16) -> AddressSpace {
        AddressSpace(csr::table_word(root, asid))
    }

    fn load(&self, space: AddressSpace) {
        csr::load_table(space.0);
    }

    fn flush_page(&self, asid: u16, address: u64) {
        // SAFETY: forgets translations; whatever is mapped is found again by walking.
        unsafe { asm!("sfence.vma {}, {}", in(reg) address, in(reg) u64::from(asid), options(nostack)) };
    }

    fn flush_space(&self, asid: u16) {
        // SAFETY: as in `flush_page`.
        unsafe { asm!("sfence.vma zero, {}", in(reg) u64::from(asid), options(nostack)) };
    }

    fn flush_instructions(&self) {
        // SAFETY: makes this hart fetch instructions anew; no other effect.
        unsafe { asm!("fence.i", options(nostack)) };
    }

    fn flush_space_of(&self, others: u32, asid: u16) {
        for hart in harts(others) {
            let done = sbi_rt::remote_sfence_vma_asid(self.mask_of(hart), 0, usize::MAX, asid.into());
            assert!(done.is_ok(), "a hart does not forget translations");
        }
    }

    fn flush_instructions_of(&self, others: u32) {
        for hart in harts(others) {
            assert!(sbi_rt::remote_fence_i(self.mask_of(hart)).is_ok(), "a hart does not fetch anew");
        }
    }

    fn interrupt(&self, hart: usize) {
        assert!(sbi_rt::send_ipi(self.mask_of(hart)).is_ok(), "a hart cannot be interrupted");
    }

    fn quiet(&self) -> bool {
        let was_called = read!("sip") & SOFTWARE != 0;
        if was_called {
            clear!("sip", SOFTWARE);
        }
        was_called
    }

    fn last_asid(&self) -> u16 {
        self.last_asid
    }

    fn leave_float(&self, context: &mut Context) {
        let state = read!("sstatus") & csr::FLOAT_MASK;
        if state == 0 {
            return;
        }
        if state == csr::FLOAT_DIRTY {
            trap::save_float(&mut context.float);
        }
        clear!("sstatus", csr::FLOAT_MASK);
    }

    fn enter_float(&self, context: &Context) {
        clear!("sstatus", csr::FLOAT_MASK);
        if context.float_used != 0 {
            set!("sstatus", csr::FLOAT_CLEAN);
            trap::load_float(&context.float);
            clear!("sstatus", csr::FLOAT_MASK);
            set!("sstatus", csr::FLOAT_CLEAN);
        }
    }

    fn print(&self, text: &str) {
        print(text);
    }

    fn reset(&self, reboot: bool) {
        if reboot {
            sbi_rt::system_reset(sbi_rt::ColdReboot, sbi_rt::NoReason);
        } else {
            sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::NoReason);
        }
    }
}

impl Riscv64 {
    /// How the firmware names a hart.
    fn mask_of(&self, hart: usize) -> HartMask {
        HartMask::from_mask_base(1, self.hart_ids[hart].load(Relaxed) as usize)
    }
}

/// The indices of the bits of a set.
fn harts(set: u32) -> impl Iterator<Item = usize> {
    (0..HARTS_MAX).filter(move |hart| set >> hart & 1 != 0)
}

/// Writes to the firmware's console, byte by byte; the firmware puts a carriage return before a new line.
pub fn print(text: &str) {
    text.bytes().for_each(console_byte);
}

#[expect(deprecated, reason = "the debug console extension is younger than the firmware that Debian 12 has")]
fn console_byte(byte: u8) {
    sbi_rt::legacy::console_putchar(byte.into());
}
