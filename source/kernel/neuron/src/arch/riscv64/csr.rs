//! Control and status registers: numbers and fields as the RISC-V privileged specification and the crate
//! `riscv` have them.

use core::arch::asm;

/// `sstatus.VS`: the state of the vector registers.
pub const VECTOR_MASK: u64 = 3 << 9;
/// `sstatus.XS`: the state of other extensions; it cannot be changed where there are none.
pub const EXTENSION_MASK: u64 = 3 << 15;
/// `sstatus.FS`: both bits.
pub const FLOAT_MASK: u64 = 3 << 13;
/// `sstatus.FS`: the registers are as they were loaded.
pub const FLOAT_CLEAN: u64 = 2 << 13;
/// `sstatus.FS`: the registers were changed.
pub const FLOAT_DIRTY: u64 = 3 << 13;
/// `sstatus.SPP`: the trap came from the supervisor.
pub const FROM_SUPERVISOR: u64 = 1 << 8;
/// `sstatus.SPIE`: interrupts are on after the return.
pub const INTERRUPTS_AFTER: u64 = 1 << 5;
/// `sie` and `sip`: software, timer and external interrupts of the supervisor.
pub const ALL_INTERRUPTS: u64 = 1 << 1 | 1 << 5 | 1 << 9;
/// `satp.MODE` for Sv39.
const SV39: u64 = 8 << 60;
const ASID_SHIFT: u32 = 44;

/// Reads a register.
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading the registers that this kernel reads has no side effect.
        unsafe { core::arch::asm!(concat!("csrr {}, ", $register), out(reg) value, options(nostack)) };
        value
    }};
}

/// Writes a register.
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the macro is this folder's alone. What is written here steers traps, interrupts and the
        // floating-point state, of which Rust's memory knows nothing; `satp` only gets tables that share the
        // kernel's half (`load_table`, and `last_asid` with the table that is in force).
        unsafe { core::arch::asm!(concat!("csrw ", $register, ", {}"), in(reg) value, options(nostack)) }
    }};
}

/// Sets bits of a register.
macro_rules! set {
    ($register:literal, $bits:expr) => {{
        let bits: u64 = $bits;
        // SAFETY: as for `write`.
        unsafe { core::arch::asm!(concat!("csrs ", $register, ", {}"), in(reg) bits, options(nostack)) }
    }};
}

/// Clears bits of a register.
macro_rules! clear {
    ($register:literal, $bits:expr) => {{
        let bits: u64 = $bits;
        // SAFETY: as for `write`.
        unsafe { core::arch::asm!(concat!("csrc ", $register, ", {}"), in(reg) bits, options(nostack)) }
    }};
}

pub(crate) use {clear, read, set, write};

/// The value of `satp` for a page table and an address space number.
pub const fn table_word(root: u64, asid: u16) -> u64 {
    SV39 | (asid as u64) << ASID_SHIFT | root >> 12
}

/// Makes a page table the one in force. The kernel's half is the same in all of them.
#[inline]
pub fn load_table(value: u64) {
    // SAFETY: every table that the core loads shares the kernel's half, so the code, data and stack in
    // use stay mapped as they are.
    unsafe { asm!("csrw satp, {}", in(reg) value, options(nostack)) };
}

/// The highest address space number that the machine keeps apart; found by writing ones.
pub fn last_asid() -> u16 {
    let before = read!("satp");
    write!("satp", before | 0xffff << ASID_SHIFT);
    let kept = read!("satp") >> ASID_SHIFT & 0xffff;
    write!("satp", before);
    kept as u16
}
