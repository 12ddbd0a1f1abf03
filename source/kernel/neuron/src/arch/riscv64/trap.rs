//! The way in and out: one trap from user mode saves each register once, into the thread's own context;
//! a trap from the kernel itself is a kernel bug.
//!
//! `sscratch` holds the address of the hart's [`HartBlock`] while user code runs, and 0 inside the kernel.

use super::boot::Cell;
use super::{Riscv64, csr};
use crate::fault::Fault;
use crate::kernel::{Hart, Kernel};
use crate::object::thread::Context;
use crate::sync::Held;
use core::arch::{asm, global_asm};
use csr::{clear, read, set, write};
use nexus_abi::records::FaultCause;

/// What a hart needs at the very beginning of a trap; the offsets are the assembly's.
#[repr(C)]
pub struct HartBlock {
    /// Top of its kernel stack.
    stack: u64,
    /// Where the registers of the running thread go.
    context: *mut Context,
    /// Room for one register.
    scratch: u64,
    /// Everything else.
    hart: Hart,
}

global_asm!(
    r#"
    .section .text
    .balign 4
    .globl __trap
__trap:
    csrrw tp, sscratch, tp
    beqz tp, 9f
    sd t0, 16(tp)
    ld t0, 8(tp)
    sd x1, 8(t0)
    sd x2, 16(t0)
    sd x3, 24(t0)
    sd x6, 48(t0)
    csrr t1, sscratch
    sd t1, 32(t0)
    ld t1, 16(tp)
    sd t1, 40(t0)
    csrr t1, sepc
    sd t1, 0(t0)
    .irp number, 7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd x\number, 8*\number(t0)
    .endr
    csrw sscratch, zero
    ld sp, 0(tp)
    mv s0, zero
    mv a0, tp
    call {handle}
    .globl __enter_user
__enter_user:
    ld t0, 8(tp)
    ld t1, 0(t0)
    csrw sepc, t1
    csrw sscratch, tp
    ld x1, 8(t0)
    ld x2, 16(t0)
    ld x3, 24(t0)
    ld x4, 32(t0)
    .irp number, 6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld x\number, 8*\number(t0)
    .endr
    ld t0, 40(t0)
    sret

    # A trap inside the kernel: stop on a stack of its own, for the one in use may be what is broken.
9:
    la sp, __stopped_stack_end
    mv s0, zero
    call {stopped}
    .section .bss.page_aligned, "aw", @nobits
    .balign 16
__stopped_stack:
    .space 8192
__stopped_stack_end:
    .text
    "#,
    handle = sym handle,
    stopped = sym stopped,
);

/// Points this hart's traps at the kernel and allows its interrupts while user code runs.
pub fn install() {
    // SAFETY: the assembly above defines it; only its address is taken, never called from here.
    unsafe extern "C" {
        fn __trap();
    }
    write!("stvec", (__trap as *const ()).addr() as u64);
    write!("sscratch", 0);
    clear!("sstatus", csr::FROM_SUPERVISOR | csr::FLOAT_MASK);
    set!("sstatus", csr::INTERRUPTS_AFTER);
    // User code reads the clock (bit 1); nothing else.
    write!("scounteren", 1 << 1);
    write!("sie", csr::ALL_INTERRUPTS);
}

/// Runs threads, from now on; the boot code's stack is the hart's for good.
pub fn run(kernel: &'static Cell<Kernel<Riscv64>>, hart: Hart, stack: u64) -> ! {
    KERNEL_OF_TRAPS.set(kernel);
    static BLOCK: Cell<HartBlock> = Cell::new();
    let block = BLOCK.fill(HartBlock { stack, context: core::ptr::null_mut(), scratch: 0, hart });
    choose_next(kernel.get(), block);
    // SAFETY: `choose_next` put the context of a thread that may run into the block, and loaded its space;
    // the block lives for ever. From here on the stack below `stack` belongs to traps.
    unsafe {
        asm!(
            "mv tp, {block}",
            "j __enter_user",
            block = in(reg) core::ptr::from_mut(block),
            options(noreturn),
        )
    }
}

static KERNEL_OF_TRAPS: KernelSlot = KernelSlot(core::sync::atomic::AtomicPtr::new(core::ptr::null_mut()));

struct KernelSlot(core::sync::atomic::AtomicPtr<Cell<Kernel<Riscv64>>>);

impl KernelSlot {
    fn set(&self, kernel: &'static Cell<Kernel<Riscv64>>) {
        self.0.store(core::ptr::from_ref(kernel).cast_mut(), core::sync::atomic::Ordering::Release);
    }

    fn get(&self) -> &'static Kernel<Riscv64> {
        let pointer = self.0.load(core::sync::atomic::Ordering::Acquire);
        assert!(!pointer.is_null());
        // SAFETY: only `set` writes it, with a reference that is valid for ever.
        unsafe { (*pointer).get() }
    }
}

/// Bit 63 of `scause`: an interrupt.
const INTERRUPT: u64 = 1 << 63;
const USER_CALL: u64 = 8;
const ILLEGAL_INSTRUCTION: u64 = 2;

extern "C" fn handle(block: &mut HartBlock) {
    let kernel = KERNEL_OF_TRAPS.get();
    let held = &mut Held::at_entry();
    match read!("scause") {
        USER_CALL => kernel.system_call(&mut block.hart, held),
        cause if cause & INTERRUPT != 0 => {
            // A software interrupt only asks for a look at what is pending.
            clear!("sip", 1 << 1);
            kernel.take_interrupts(&mut block.hart, held);
        }
        ILLEGAL_INSTRUCTION if first_float(block) => {}
        cause => kernel.user_fault(&mut block.hart, held, fault(cause, read!("stval"))),
    }
    choose_next(kernel, block);
}

/// Lets a thread that has none begin with zeroed floating-point registers; `false`: it has them already,
/// so the instruction is at fault.
fn first_float(block: &mut HartBlock) -> bool {
    if read!("sstatus") & csr::FLOAT_MASK != 0 {
        return false;
    }
    // SAFETY: the context is that of the thread which trapped; `choose_next` put it there and nothing
    // else refers to it while the trap is handled up to here.
    let context = unsafe { &mut *block.context };
    context.float_used = 1;
    set!("sstatus", csr::FLOAT_CLEAN);
    load_float(&context.float);
    true
}

fn choose_next(kernel: &'static Kernel<Riscv64>, block: &mut HartBlock) {
    let next = kernel.leave(&mut block.hart, &mut Held::at_entry());
    let Some(mut thread) = kernel.memory.lock_slot(next) else { unreachable!("leave yields live threads") };
    block.context = &raw mut thread.context;
}

fn fault(cause: u64, address: u64) -> Fault {
    let (what, has_address) = match cause {
        0 | 4 | 6 => (FaultCause::Misaligned, true),
        1 | 12 => (FaultCause::ExecuteFault, true),
        2 => (FaultCause::IllegalInstruction, false),
        3 => (FaultCause::Breakpoint, false),
        5 | 13 => (FaultCause::ReadFault, true),
        7 | 15 => (FaultCause::WriteFault, true),
        _ => (FaultCause::Other, false),
    };
    Fault { cause: what, detail: cause as u32, address: if has_address { address } else { 0 } }
}

extern "C" fn stopped() -> ! {
    panic!(
        "trap inside the kernel: cause {}, at {:#x}, address {:#x}",
        read!("scause"),
        read!("sepc"),
        read!("stval")
    )
}

/// Saves the floating-point registers and `fcsr`.
pub fn save_float(to: &mut [u64; 33]) {
    // SAFETY: `sstatus.FS` is not off (the caller saw it dirty); writes exactly the 33 words.
    unsafe {
        asm!(
            ".attribute arch, \"rv64gc\"",
            ".irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fsd f\\number, 8*\\number({to})",
            ".endr",
            "csrr {word}, fcsr",
            "sd {word}, 256({to})",
            to = in(reg) to.as_mut_ptr(),
            word = out(reg) _,
            options(nostack),
        );
    }
}

/// Loads the floating-point registers and `fcsr`.
pub fn load_float(from: &[u64; 33]) {
    // SAFETY: `sstatus.FS` is not off (the caller set it); reads exactly the 33 words. The kernel itself
    // holds nothing in floating-point registers.
    unsafe {
        asm!(
            ".irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fld f\\number, 8*\\number({from})",
            ".endr",
            "ld {word}, 256({from})",
            "csrw fcsr, {word}",
            from = in(reg) from.as_ptr(),
            word = out(reg) _,
            options(nostack),
        );
    }
}
