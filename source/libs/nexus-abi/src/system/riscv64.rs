//! One `ecall`, with exactly the registers that the contract names.
#![allow(unsafe_code)]

use crate::calls::SystemCall;
use crate::message::Registers;
use core::arch::asm;

/// A call with plain arguments: the error number and the value.
#[inline]
pub fn plain(call: SystemCall, arguments: [u64; 6]) -> (u64, u64) {
    let (error, value);
    // SAFETY: `clobber_abi` declares every register that the kernel may change; what memory the call
    // changes is named by its arguments, whose functions in `system` state what callers must uphold.
    unsafe {
        asm!(
            "ecall",
            in("a7") call as u64,
            inlateout("a0") arguments[0] => error,
            inlateout("a1") arguments[1] => value,
            in("a2") arguments[2],
            in("a3") arguments[3],
            in("a4") arguments[4],
            in("a5") arguments[5],
            clobber_abi("C"),
        );
    }
    (error, value)
}

/// A call with the registers of a message.
#[inline(always)]
pub fn message(call: SystemCall, registers: &mut Registers) {
    let words = &mut registers.words;
    // SAFETY: as in `plain`.
    unsafe {
        asm!(
            "ecall",
            in("a7") call as u64,
            inlateout("a0") registers.target,
            inlateout("a1") registers.header.0,
            inlateout("a2") registers.reply.0,
            inlateout("a3") registers.buffers,
            inlateout("a4") words[0],
            inlateout("a5") words[1],
            inlateout("a6") words[2],
            inlateout("t0") words[3],
            inlateout("t1") words[4],
            inlateout("t2") words[5],
            inlateout("t3") words[6],
            inlateout("t4") words[7],
            inlateout("t5") registers.deadline,
            inlateout("t6") registers.process_id,
            clobber_abi("C"),
        );
    }
}

/// The clock, in ticks, read without a system call.
#[inline(always)]
pub fn ticks() -> u64 {
    let ticks;
    // SAFETY: reads a counter that user mode may read; touches nothing else.
    unsafe { asm!("rdtime {}", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// Ends a thread whose end was refused: an illegal instruction the kernel must act on.
pub fn abort() -> ! {
    // SAFETY: `unimp` traps and never continues.
    unsafe { asm!("unimp", options(noreturn)) }
}
