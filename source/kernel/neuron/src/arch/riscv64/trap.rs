//! The way in and out: one trap from user mode saves each register once, into the thread's own context;
//! a trap from the kernel itself is a kernel bug.
//!
//! `sscratch` holds the address of the hart's [`HartBlock`] while user code runs, and 0 inside the kernel.

use super::boot::Cell;
use super::{Riscv64, csr};
use crate::fast_path::Wait;
use crate::fault::Fault;
use crate::kernel::{Hart, Kernel};
use crate::object::Thread;
use crate::object::thread::Context;
use crate::sync::Held;
use core::arch::{asm, global_asm};
use core::ptr::NonNull;
use csr::{clear, read, set, write};
use nexus_abi::SystemCall;
use nexus_abi::limits::HARTS_MAX;
use nexus_abi::message::Registers;
use nexus_abi::records::FaultCause;

/// What a hart needs at the very beginning of a trap; the offsets are the assembly's.
#[repr(C)]
pub struct HartBlock {
    /// Top of its kernel stack.
    stack: u64,
    /// Where the registers of the running thread go.
    context: *mut Context,
    /// The number of the call, while it is a message or a short one.
    number: u64,
    /// The user's stack pointer, during a short call.
    user_stack: u64,
    /// The user's thread pointer, during a short call.
    user_thread: u64,
    /// The registers of a message; the first three of a short call.
    message: Registers,
    /// Everything else.
    hart: Hart,
    kernel: &'static Kernel<Riscv64>,
}

const _: () = assert!(
    core::mem::offset_of!(HartBlock, message) == 40
        && core::mem::offset_of!(Registers, words) == 32
        && core::mem::offset_of!(Registers, deadline) == 96
);

/// Calls that answer at once and touch no other thread as a rule: one bit a number.
const SHORT_CALLS: u64 = 1 << SystemCall::NotificationPoll as u64
    | 1 << SystemCall::NotificationSignal as u64
    | 1 << SystemCall::ThreadYield as u64;

// Four ways in. A system call is a function call to its caller: what a function may clobber is neither
// saved nor leaked.
//  - A short call saves nothing: the functions of the kernel keep what a function keeps.
//  - A message saves what a function keeps; its own registers go into the block and come out of it as those
//    of whoever runs next.
//  - A wait saves what a function keeps, before anybody can wake the thread.
//  - Everything else saves all registers.
// In the block: stack 0, context 8, number 16, user stack 24, user thread 32, message 40 (words 72, deadline
// 136, process id 144). In the context: register n at 8n, the program counter at 0.
global_asm!(
    r#"
    .macro keep_calls_registers
    sd sp, 16(t0)
    sd gp, 24(t0)
    .irp number, 8,9,18,19,20,21,22,23,24,25,26,27
    sd x\number, 8*\number(t0)
    .endr
    .endm

    .macro message_call number, function
    sd a0, 40(tp)
    sd a1, 48(tp)
    sd a2, 56(tp)
    sd a3, 64(tp)
    sd a4, 72(tp)
    sd a5, 80(tp)
    sd a6, 88(tp)
    sd t1, 104(tp)
    sd t2, 112(tp)
    sd t3, 120(tp)
    sd t4, 128(tp)
    sd t5, 136(tp)
    ld t0, 8(tp)
    csrr t1, sepc
    addi t1, t1, 4
    sd t1, 0(t0)
    csrrw t1, sscratch, zero
    sd t1, 32(t0)
    keep_calls_registers
    ld sp, 0(tp)
    mv a0, tp
    call \function
    bnez a0, __enter_message
    li t1, \number
    j 7f
    .endm

    .section .text
    .balign 4
    .globl __trap
__trap:
    csrrw tp, sscratch, tp
    beqz tp, 9f
    sd t0, 96(tp)
    csrr t0, scause
    addi t0, t0, -{user_call}
    bnez t0, 5f
    addi t0, a7, -{call}
    beqz t0, 2f
    addi t0, a7, -{reply_receive}
    beqz t0, 3f
    li t0, {short_calls}
    srl t0, t0, a7
    andi t0, t0, 1
    beqz t0, 6f

    # A short call.
    sd a0, 40(tp)
    sd a1, 48(tp)
    sd a7, 16(tp)
    sd sp, 24(tp)
    csrrw t0, sscratch, zero
    sd t0, 32(tp)
    ld sp, 0(tp)
    mv a2, tp
    mv a3, a7
    call {short}
    ld sp, 24(tp)
    bltz a0, 4f
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    ld t0, 32(tp)
    csrw sscratch, tp
    mv tp, t0
    .irp number, 1,5,6,7,12,13,14,15,16,17,28,29,30,31
    li x\number, 0
    .endr
    sret

    # It was none, or somebody else runs next: the thread's registers are put away after all.
4:  ld t0, 8(tp)
    keep_calls_registers
    ld t1, 32(tp)
    sd t1, 32(t0)
    csrr t1, sepc
    sd t1, 0(t0)
    ld sp, 0(tp)
    mv a1, a0
    mv a0, tp
    mv s0, zero
    call {after_short}
    j __enter_user

    # A wait: once the thread waits somebody else may go on with it, so its registers are put away before.
6:  addi t0, a7, -{wait}
    bnez t0, 5f
    sd a0, 40(tp)
    sd a1, 48(tp)
    sd a2, 56(tp)
    ld t0, 8(tp)
    keep_calls_registers
    csrrw t1, sscratch, zero
    sd t1, 32(t0)
    csrr t1, sepc
    addi t1, t1, 4
    sd t1, 0(t0)
    ld sp, 0(tp)
    mv s0, zero
    mv a0, tp
    call {wait_call}
    j __enter_user

    # Messages.
2:  message_call {call}, {fast_call}
3:  message_call {reply_receive}, {fast_reply_receive}

    # The long way: what the block has of the message goes where any call has it.
7:  ld t0, 8(tp)
    sd t1, 8*17(t0)
    .irp place, 10,11,12,13,14,15,16
    ld t1, 8*\place-40(tp)
    sd t1, 8*\place(t0)
    .endr
    .irp place, 5,6,7
    ld t1, 8*\place+56(tp)
    sd t1, 8*\place(t0)
    .endr
    .irp place, 28,29,30
    ld t1, 8*\place-104(tp)
    sd t1, 8*\place(t0)
    .endr
    mv s0, zero
    mv a0, tp
    call {long_call}
    j __enter_user

    # Whoever runs next gets its registers out of the block. a0: its context.
__enter_message:
    ld t0, 0(a0)
    csrw sepc, t0
    ld sp, 16(a0)
    ld gp, 24(a0)
    .irp number, 8,9,18,19,20,21,22,23,24,25,26,27
    ld x\number, 8*\number(a0)
    .endr
    csrw sscratch, tp
    ld a1, 48(tp)
    ld a2, 56(tp)
    ld a3, 64(tp)
    ld a4, 72(tp)
    ld a5, 80(tp)
    ld a6, 88(tp)
    ld t0, 96(tp)
    ld t1, 104(tp)
    ld t2, 112(tp)
    ld t3, 120(tp)
    ld t4, 128(tp)
    ld t5, 136(tp)
    ld t6, 144(tp)
    ld tp, 32(a0)
    li ra, 0
    li a7, 0
    li a0, 0
    sret

    # Everything else.
5:  ld t0, 8(tp)
    sd x1, 8(t0)
    sd x2, 16(t0)
    sd x3, 24(t0)
    sd x6, 48(t0)
    csrrw t1, sscratch, zero
    sd t1, 32(t0)
    ld t1, 96(tp)
    sd t1, 40(t0)
    csrr t1, sepc
    sd t1, 0(t0)
    .irp number, 7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd x\number, 8*\number(t0)
    .endr
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
    user_call = const USER_CALL,
    call = const SystemCall::Call as u64,
    reply_receive = const SystemCall::ReplyReceive as u64,
    short_calls = const SHORT_CALLS,
    wait = const SystemCall::NotificationWait as u64,
    short = sym short_call,
    after_short = sym after_short_call,
    fast_call = sym fast_call,
    fast_reply_receive = sym fast_reply_receive,
    wait_call = sym wait_call,
    long_call = sym long_call,
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

/// Runs threads, from now on; the boot code's stack is the hart's for good. The hart is alone in the kernel.
pub fn run(kernel: &'static Cell<Kernel<Riscv64>>, hart: Hart, stack: u64) -> ! {
    static BLOCKS: [Cell<HartBlock>; HARTS_MAX] = [const { Cell::new() }; HARTS_MAX];
    let block = BLOCKS[hart.index].fill(HartBlock {
        stack,
        context: core::ptr::null_mut(),
        number: 0,
        user_stack: 0,
        user_thread: 0,
        message: Registers::default(),
        hart,
        kernel: kernel.get(),
    });
    choose_next(block);
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

/// Bit 63 of `scause`: an interrupt.
const INTERRUPT: u64 = 1 << 63;
const USER_CALL: u64 = 8;
const ILLEGAL_INSTRUCTION: u64 = 2;

extern "C" fn handle(block: &mut HartBlock) {
    let kernel = block.kernel;
    let held = &mut Held::at_entry();
    let cause = read!("scause");
    kernel.come_in(&mut block.hart, held);
    match cause {
        USER_CALL => kernel.system_call(&mut block.hart, held),
        // A software interrupt only asks for a look at what is pending.
        cause if cause & INTERRUPT != 0 => kernel.take_interrupts(&mut block.hart, held),
        ILLEGAL_INSTRUCTION if first_float(block) => {}
        cause => kernel.user_fault(&mut block.hart, held, fault(cause, read!("stval"))),
    }
    choose_next(block);
}

/// The context of whoever runs next, or null for the long way.
extern "C" fn fast_call(block: &mut HartBlock) -> *mut Context {
    let _inside = block.kernel.entrance.beside(block.hart.index);
    let next = block.kernel.fast_call(&mut block.hart, &mut block.message);
    next.map_or(core::ptr::null_mut(), |context| run_on(block, context))
}

/// As [`fast_call`].
extern "C" fn fast_reply_receive(block: &mut HartBlock) -> *mut Context {
    let _inside = block.kernel.entrance.beside(block.hart.index);
    let next = block.kernel.fast_reply_receive(&mut block.hart, &mut block.message);
    next.map_or(core::ptr::null_mut(), |context| run_on(block, context))
}

#[inline(always)]
fn run_on(block: &mut HartBlock, context: NonNull<Context>) -> *mut Context {
    block.context = context.as_ptr();
    block.context
}

extern "C" fn wait_call(block: &mut HartBlock) {
    let held = &mut Held::at_entry();
    let arguments = [block.message.target, block.message.header.0, block.message.reply.0];
    match block.kernel.fast_wait(&mut block.hart, arguments) {
        Some(Wait::Waits) if block.kernel.go_on(&mut block.hart, held) => {
            block.context = context_of_current(block);
            return;
        }
        Some(Wait::Waits) => block.kernel.mark_entry(&block.hart),
        outcome => {
            // SAFETY: the context is that of the thread which made the call and still runs; nothing else refers to it.
            let context = unsafe { &mut *block.context };
            if let Some(Wait::Bits(bits)) = outcome {
                context.set_argument(0, 0);
                context.set_argument(1, bits);
                return;
            }
            context.repeat_call();
            arguments.into_iter().enumerate().for_each(|(place, value)| context.set_argument(place, value));
            context.set_argument(7, SystemCall::NotificationWait as u64);
            block.kernel.mark_entry(&block.hart);
            block.kernel.system_call(&mut block.hart, held);
        }
    }
    choose_next(block);
}

/// A message that the fast path does not take; its program counter was stepped over already.
extern "C" fn long_call(block: &mut HartBlock) {
    // SAFETY: the context is that of the thread which made the call, and nothing else refers to it here.
    unsafe { &mut *block.context }.repeat_call();
    block.kernel.come_in(&mut block.hart, &mut Held::at_entry());
    block.kernel.system_call(&mut block.hart, &mut Held::at_entry());
    choose_next(block);
}

/// What a short call comes back with.
#[repr(C)]
struct Answer {
    /// The error's number, or one of the values below.
    error: i64,
    value: u64,
}

/// The call is to go the long way.
const LONG: i64 = -1;
/// The call is answered (the block has the answer), and somebody else runs next.
const OTHERS: i64 = -2;

extern "C" fn short_call(first: u64, second: u64, block: &mut HartBlock, number: u64) -> Answer {
    let inside = block.kernel.entrance.beside(block.hart.index);
    let outcome = block.kernel.short_call(&mut block.hart, number, [first, second]);
    drop(inside);
    let Some(outcome) = outcome else {
        return Answer { error: LONG, value: 0 };
    };
    let (error, value) = match outcome {
        Ok(value) => (0, value),
        Err(error) => (error as i64, 0),
    };
    if block.hart.reschedule {
        (block.message.target, block.message.header.0) = (error as u64, value);
        return Answer { error: OTHERS, value };
    }
    Answer { error, value }
}

extern "C" fn after_short_call(block: &mut HartBlock, what: i64) {
    // SAFETY: the context is that of the thread which made the call, and nothing else refers to it here.
    let context = unsafe { &mut *block.context };
    context.set_argument(0, block.message.target);
    context.set_argument(1, block.message.header.0);
    block.kernel.come_in(&mut block.hart, &mut Held::at_entry());
    if what == LONG {
        context.set_argument(7, block.number);
        block.kernel.system_call(&mut block.hart, &mut Held::at_entry());
    } else {
        context.step_over_call();
    }
    choose_next(block);
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

fn choose_next(block: &mut HartBlock) {
    block.kernel.leave(&mut block.hart, &mut Held::at_entry());
    block.context = context_of_current(block);
    block.kernel.go_out(&mut block.hart);
}

/// Where the registers of the thread that runs next are.
fn context_of_current(block: &HartBlock) -> *mut Context {
    let Some(next) = block.hart.current else { unreachable!("a thread was chosen") };
    // SAFETY: whoever was chosen is alive, and runs on no other hart: the context is this one's to use until
    // it stops running, for no other hart ends a thread that runs (`Kernel::call_off`).
    unsafe { &raw mut (*block.kernel.memory.body_of_live::<Thread>(next.granule())).context }
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
