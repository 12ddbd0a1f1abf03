//! What the threads run: instructions that make the call which stands in a mailbox, again and again.
#![allow(unsafe_code)] // it is given to processes that know nothing of Rust

use core::sync::atomic::AtomicU64;
use nexus_abi::SystemCall;

/// Registers that a call takes and gives back: `a0` to `a6`, `t0` to `t6`.
pub const CALL_REGISTERS: usize = 14;
/// Registers that a call leaves alone, without those that the actor itself needs: `s2` to `s11`, `sp`,
/// `gp`, `tp`.
pub const KEPT_REGISTERS: usize = 13;

/// Shared between the director and one thread. The director writes the first half while the thread looks for
/// a new command, the thread the second half before it says that the command is done.
#[repr(C)]
pub struct Mailbox {
    /// The number of the command; a new number is a new command.
    pub command: AtomicU64,
    /// The command that the thread is about to make.
    pub entered: AtomicU64,
    /// The command that has been answered.
    pub done: AtomicU64,
    /// Number of the system call.
    pub call: AtomicU64,
    /// What the registers hold at the call.
    pub arguments: [AtomicU64; CALL_REGISTERS],
    /// What the others hold at the call.
    pub kept: [AtomicU64; KEPT_REGISTERS],
    /// What the registers held after it.
    pub answers: [AtomicU64; CALL_REGISTERS],
    /// What the others held after it.
    pub kept_after: [AtomicU64; KEPT_REGISTERS],
}

const _: () = assert!(size_of::<Mailbox>() == 464);

core::arch::global_asm!(
    ".pushsection .rodata.lockstep_actor, \"a\"",
    ".balign 8",
    "lockstep_actor_begin:",
    "mv s0, a0",
    "li s1, 0",
    // The next command.
    "1:",
    "ld t0, 0(s0)",
    "bne t0, s1, 2f",
    "li a7, {thread_yield}",
    "ecall",
    "j 1b",
    "2:",
    "mv s1, t0",
    "fence",
    // What the call must leave alone.
    "ld s2, 144(s0)",
    "ld s3, 152(s0)",
    "ld s4, 160(s0)",
    "ld s5, 168(s0)",
    "ld s6, 176(s0)",
    "ld s7, 184(s0)",
    "ld s8, 192(s0)",
    "ld s9, 200(s0)",
    "ld s10, 208(s0)",
    "ld s11, 216(s0)",
    "ld sp, 224(s0)",
    "ld gp, 232(s0)",
    "ld tp, 240(s0)",
    // The call.
    "ld a7, 24(s0)",
    "ld a0, 32(s0)",
    "ld a1, 40(s0)",
    "ld a2, 48(s0)",
    "ld a3, 56(s0)",
    "ld a4, 64(s0)",
    "ld a5, 72(s0)",
    "ld a6, 80(s0)",
    "ld t0, 88(s0)",
    "ld t1, 96(s0)",
    "ld t2, 104(s0)",
    "ld t3, 112(s0)",
    "ld t4, 120(s0)",
    "ld t5, 128(s0)",
    "ld t6, 136(s0)",
    "sd s1, 8(s0)",
    "ecall",
    "sd a0, 248(s0)",
    "sd a1, 256(s0)",
    "sd a2, 264(s0)",
    "sd a3, 272(s0)",
    "sd a4, 280(s0)",
    "sd a5, 288(s0)",
    "sd a6, 296(s0)",
    "sd t0, 304(s0)",
    "sd t1, 312(s0)",
    "sd t2, 320(s0)",
    "sd t3, 328(s0)",
    "sd t4, 336(s0)",
    "sd t5, 344(s0)",
    "sd t6, 352(s0)",
    "sd s2, 360(s0)",
    "sd s3, 368(s0)",
    "sd s4, 376(s0)",
    "sd s5, 384(s0)",
    "sd s6, 392(s0)",
    "sd s7, 400(s0)",
    "sd s8, 408(s0)",
    "sd s9, 416(s0)",
    "sd s10, 424(s0)",
    "sd s11, 432(s0)",
    "sd sp, 440(s0)",
    "sd gp, 448(s0)",
    "sd tp, 456(s0)",
    "fence",
    "sd s1, 16(s0)",
    "j 1b",
    "lockstep_actor_end:",
    ".popsection",
    thread_yield = const SystemCall::ThreadYield as u64,
);

// SAFETY: the assembly above defines both; only their addresses are taken.
unsafe extern "C" {
    static lockstep_actor_begin: u8;
    static lockstep_actor_end: u8;
}

/// The instructions: they run wherever they stand, with the address of a [`Mailbox`] in `a0`.
pub fn instructions() -> &'static [u8] {
    let (begin, end) = (&raw const lockstep_actor_begin, &raw const lockstep_actor_end);
    // SAFETY: the assembler above puts the two labels around constant bytes, in this order.
    unsafe { core::slice::from_raw_parts(begin, end.offset_from_unsigned(begin)) }
}
