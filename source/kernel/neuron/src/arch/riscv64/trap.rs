//! The way in and out: one trap from user mode saves each register once, into the thread's own context;
//! a trap from the kernel itself is a kernel bug.
//!
//! Long because the ways in and out are read side by side: what one of them saves another gives back.
//!
//! `sscratch` holds the address of the hart's [`HartBlock`] while user code runs, and 0 inside the kernel.

use super::boot::Cell;
use super::{Riscv64, csr};
use crate::fast_path::{Delivered, Sent};
use crate::fault::Fault;
use crate::kernel::{Hart, Kernel};
use crate::object::Thread;
use crate::object::thread::Context;
use crate::short_call::Wait;
use crate::sync::Held;
use core::arch::{asm, global_asm};
use csr::{clear, read, set, write};
use hart_locks::Door;
use nexus_abi::limits::HARTS_MAX;
use nexus_abi::message::Registers;
use nexus_abi::records::FaultCause;
use nexus_abi::{Error, SystemCall};

/// What a hart needs at the very beginning of a trap; the offsets are the assembly's.
#[repr(C)]
pub struct HartBlock {
    /// Top of its kernel stack.
    stack: u64,
    /// Where the registers of the running thread go.
    context: *mut Context,
    /// The user's stack pointer, during a short call.
    user_stack: u64,
    /// The user's thread pointer, during a short call.
    user_thread: u64,
    /// The registers of a message; the first three of a wait, two of a short call.
    message: Registers,
    /// Everything else.
    hart: Hart,
    kernel: &'static Kernel<Riscv64>,
    /// Its door into the kernel.
    door: &'static Door,
}

const _: () = assert!(
    core::mem::offset_of!(HartBlock, message) == 32
        && core::mem::offset_of!(Registers, words) == 32
        && core::mem::offset_of!(Registers, deadline) == 96
);

// Five ways in. A system call is a function call to its caller: what a function may clobber is neither
// saved nor leaked.
//  - A short call saves nothing: the functions of the kernel keep what a function keeps.
//  - A message saves what a function keeps; its payload goes into the block and comes out of it as that of
//    whoever runs next.
//    One with buffers is compiled apart.
//  - A wait saves what a function keeps, before anybody can wake the thread.
//  - Everything else saves all registers.
// In the block: stack 0, context 8, user stack 16, user thread 24, message 32 (words 64, deadline 128). In the
// context: register n at 8n, the program counter at 0.
global_asm!(
    r#"
    .macro keep_calls_registers
    sd sp, 16(t0)
    sd gp, 24(t0)
    .irp number, 8,9,18,19,20,21,22,23,24,25,26,27
    sd x\number, 8*\number(t0)
    .endr
    .endm

    .macro message_call function
    sd a0, 32(tp)
    sd a1, 40(tp)
    sd a2, 48(tp)
    sd a3, 56(tp)
    sd a4, 64(tp)
    sd a5, 72(tp)
    sd a6, 80(tp)
    sd t1, 96(tp)
    sd t2, 104(tp)
    sd t3, 112(tp)
    sd t4, 120(tp)
    sd t5, 128(tp)
    ld t0, 8(tp)
    csrr t1, sepc
    addi t1, t1, 4
    sd t1, 0(t0)
    csrrw t1, sscratch, zero
    sd t1, 32(t0)
    keep_calls_registers
    ld sp, 0(tp)
    mv a4, tp
    j \function
    .endm

    .macro short_call number, function
    sd a0, 32(tp)
    sd a1, 40(tp)
    sd sp, 16(tp)
    csrrw t0, sscratch, zero
    sd t0, 24(tp)
    ld sp, 0(tp)
    mv a2, tp
    call \function
    ld sp, 16(tp)
    li a2, \number
    bltz a0, __long_short
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    ld t0, 24(tp)
    csrw sscratch, tp
    mv tp, t0
    .irp cleared, 1,5,6,7,12,13,14,15,16,17,28,29,30,31
    li x\cleared, 0
    .endr
    sret
    .endm

    .section .text
    .option arch, +a
    .balign 4
    .globl __trap
    .globl __enter_message
    .globl __long_message
__trap:
    csrrw tp, sscratch, tp
    beqz tp, 9f
    sd t0, 88(tp)
    csrr t0, scause
    addi t0, t0, -{user_call}
    bnez t0, 8f
    addi t0, a7, -{call}
    beqz t0, 2f
    addi t0, a7, -{reply_receive}
    beqz t0, 3f
    addi t0, a7, -{poll}
    beqz t0, 4f
    addi t0, a7, -{signal}
    beqz t0, 5f
    addi t0, a7, -{yield}
    beqz t0, 6f
    addi t0, a7, -{wait}
    beqz t0, 7f
    j 8f

4:  short_call {poll}, {short_poll}
5:  short_call {signal}, {short_signal}
6:  short_call {yield}, {short_yield}

    # It was none, or somebody else runs next: the thread's registers are put away after all. a2: the number.
__long_short:
    ld t0, 8(tp)
    keep_calls_registers
    ld t1, 24(tp)
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
7:  sd a0, 32(tp)
    sd a1, 40(tp)
    sd a2, 48(tp)
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
2:  message_call {fast_call}
3:  message_call {fast_reply}

    # The long way: what the block has of the message goes where any call has it. a0: the call's number.
__long_message:
    ld sp, 0(tp)
    ld t0, 8(tp)
    sd a0, 8*17(t0)
    .irp place, 10,11,12,13,14,15,16
    ld t1, 8*\place-48(tp)
    sd t1, 8*\place(t0)
    .endr
    .irp place, 5,6,7
    ld t1, 8*\place+48(tp)
    sd t1, 8*\place(t0)
    .endr
    .irp place, 28,29,30
    ld t1, 8*\place-112(tp)
    sd t1, 8*\place(t0)
    .endr
    mv s0, zero
    mv a0, tp
    call {long_call}
    j __enter_user

    # Whoever runs next gets the payload out of the block. a0: its context; a1, a2, a3, t5 and t6 are as they are.
__enter_message:
    sd a0, 8(tp)
    ld t0, 0(a0)
    csrw sepc, t0
    sc.d t1, t0, (a0) # Whatever another thread reserved is reserved no more. It stores what is there, if it does.
    ld sp, 16(a0)
    ld gp, 24(a0)
    .irp number, 8,9,18,19,20,21,22,23,24,25,26,27
    ld x\number, 8*\number(a0)
    .endr
    csrw sscratch, tp
    ld a4, 64(tp)
    ld a5, 72(tp)
    ld a6, 80(tp)
    ld t0, 88(tp)
    ld t1, 96(tp)
    ld t2, 104(tp)
    ld t3, 112(tp)
    ld t4, 120(tp)
    ld tp, 32(a0)
    li ra, 0
    li a7, 0
    li a0, 0
    sret

    # Everything else.
8:  ld t0, 8(tp)
    sd x1, 8(t0)
    sd x2, 16(t0)
    sd x3, 24(t0)
    sd x6, 48(t0)
    csrrw t1, sscratch, zero
    sd t1, 32(t0)
    ld t1, 88(tp)
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
    sc.d t2, t1, (t0) # As above.
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
    csrw sscratch, zero
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
    wait = const SystemCall::NotificationWait as u64,
    poll = const SystemCall::NotificationPoll as u64,
    signal = const SystemCall::NotificationSignal as u64,
    yield = const SystemCall::ThreadYield as u64,
    short_poll = sym short_poll,
    short_signal = sym short_signal,
    short_yield = sym short_yield,
    after_short = sym after_short_call,
    fast_call = sym fast_call,
    fast_reply = sym fast_reply,
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
    // What the kernel does not put away for a thread, no thread has.
    clear!("sstatus", csr::FROM_SUPERVISOR | csr::FLOAT_MASK | csr::VECTOR_MASK | csr::EXTENSION_MASK);
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
        user_stack: 0,
        user_thread: 0,
        message: Registers::default(),
        door: kernel.get().entrance.door(hart.index),
        hart,
        kernel: kernel.get(),
    });
    // What boot did is not among what interrupts wait for.
    block.kernel.mark_entry(&block.hart);
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

// The functions of messages never come back, so they have nothing to restore: they leave by `go_on_with`. Each is one
// piece of code from here to there: a closure would be a function of its own, with its values in memory.

extern "C" fn fast_call(target: u64, header: u64, reply: u64, buffers: u64, block: &mut HartBlock) -> ! {
    let sent = Sent { target, header, reply, buffers, deadline: block.message.deadline };
    if sent.is_long() {
        fast_call_with_buffers(target, header, reply, buffers, block)
    }
    message::<{ SystemCall::Call as u64 }, false>(&sent, block)
}

#[inline(never)]
extern "C" fn fast_call_with_buffers(
    target: u64,
    header: u64,
    reply: u64,
    buffers: u64,
    block: &mut HartBlock,
) -> ! {
    let sent = Sent { target, header, reply, buffers, deadline: block.message.deadline };
    message::<{ SystemCall::Call as u64 }, true>(&sent, block)
}

extern "C" fn fast_reply(target: u64, header: u64, reply: u64, buffers: u64, block: &mut HartBlock) -> ! {
    let sent = Sent { target, header, reply, buffers, deadline: block.message.deadline };
    if sent.is_long() {
        fast_reply_with_buffers(target, header, reply, buffers, block)
    }
    message::<{ SystemCall::ReplyReceive as u64 }, false>(&sent, block)
}

#[inline(never)]
extern "C" fn fast_reply_with_buffers(
    target: u64,
    header: u64,
    reply: u64,
    buffers: u64,
    block: &mut HartBlock,
) -> ! {
    let sent = Sent { target, header, reply, buffers, deadline: block.message.deadline };
    message::<{ SystemCall::ReplyReceive as u64 }, true>(&sent, block)
}

/// Delivers a message beside other harts, or goes the long way. `CALL`: the number of the system call.
#[inline(always)]
fn message<const CALL: u64, const LONG: bool>(sent: &Sent, block: &mut HartBlock) -> ! {
    let Some(inside) = block.door.beside() else { go_on_with(None, CALL) };
    let (kernel, hart, words) = (block.kernel, &mut block.hart, &mut block.message.words);
    let delivered = if CALL == SystemCall::Call as u64 {
        kernel.fast_call::<LONG>(hart, sent, words)
    } else {
        kernel.fast_reply_receive::<LONG>(hart, sent, words)
    };
    drop(inside);
    go_on_with(delivered, CALL)
}

/// Leaves the kernel with whoever got a message, or goes the long way.
#[inline(always)]
fn go_on_with(delivered: Option<Delivered>, call: u64) -> ! {
    match delivered {
        // SAFETY: `tp` holds the block, since the trap; the payload is in it, and the context is that of a thread
        // which may run, with its space loaded. The stack below its top belongs to the next trap.
        Some(delivered) => unsafe {
            asm!(
                "j __enter_message",
                in("a0") delivered.context.as_ptr(),
                in("a1") delivered.header,
                in("a2") delivered.reply,
                in("a3") delivered.badge,
                in("t5") delivered.service_id,
                in("t6") delivered.process_id,
                options(noreturn),
            )
        },
        // SAFETY: as above; the block has the message's registers, as the trap put them there.
        None => unsafe { asm!("j __long_message", in("a0") call, options(noreturn)) },
    }
}

extern "C" fn wait_call(block: &mut HartBlock) {
    let held = &mut Held::at_entry();
    let arguments = [block.message.target, block.message.header.0, block.message.reply.0];
    let outcome = block.door.beside().and_then(|_inside| {
        let outcome = block.kernel.fast_wait(&mut block.hart, arguments)?;
        Some((outcome, outcome == Wait::Waits && block.kernel.go_on(&mut block.hart, &mut Held::at_entry())))
    });
    match outcome {
        Some((Wait::Bits(bits), _)) => {
            // SAFETY: the context is that of the thread which made the call and is still this hart's current one: whoever
            // is alone neither ends nor touches a thread that runs elsewhere, so nothing else refers to it.
            let context = unsafe { &mut *block.context };
            context.set_argument(0, 0);
            context.set_argument(1, bits);
            return;
        }
        Some((Wait::Waits, true)) => {
            block.context = context_of_current(block);
            return;
        }
        Some((Wait::Waits, false)) => block.kernel.come_in(&mut block.hart, held),
        None => {
            // SAFETY: as above.
            let context = unsafe { &mut *block.context };
            context.repeat_call();
            arguments.into_iter().enumerate().for_each(|(place, value)| context.set_argument(place, value));
            context.set_argument(7, SystemCall::NotificationWait as u64);
            block.kernel.come_in(&mut block.hart, held);
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

impl Answer {
    #[inline(always)]
    fn new(outcome: Option<Result<u64, Error>>) -> Self {
        match outcome {
            None => Answer { error: LONG, value: 0 },
            Some(Ok(value)) => Answer { error: 0, value },
            Some(Err(error)) => Answer { error: error as i64, value: 0 },
        }
    }

    /// As it is, or put into the block while somebody else runs.
    #[inline(always)]
    fn unless_others(self, block: &mut HartBlock) -> Self {
        if self.error == LONG || !block.hart.reschedule {
            return self;
        }
        (block.message.target, block.message.header.0) = (self.error as u64, self.value);
        Answer { error: OTHERS, value: 0 }
    }
}

extern "C" fn short_poll(notification: u64, mask: u64, block: &mut HartBlock) -> Answer {
    let Some(_inside) = block.door.beside() else { return Answer::new(None) };
    Answer::new(block.kernel.short_poll(&block.hart, notification, mask))
}

extern "C" fn short_signal(notification: u64, bits: u64, block: &mut HartBlock) -> Answer {
    let Some(inside) = block.door.beside() else { return Answer::new(None) };
    let outcome = block.kernel.short_signal(&mut block.hart, notification, bits);
    drop(inside);
    Answer::new(outcome).unless_others(block)
}

extern "C" fn short_yield(_: u64, _: u64, block: &mut HartBlock) -> Answer {
    block.kernel.short_yield(&mut block.hart);
    Answer { error: 0, value: 0 }.unless_others(block)
}

extern "C" fn after_short_call(block: &mut HartBlock, what: i64, number: u64) {
    let held = &mut Held::at_entry();
    // SAFETY: the context is that of the thread which made the call, and nothing else refers to it here.
    let context = unsafe { &mut *block.context };
    context.set_argument(0, block.message.target);
    context.set_argument(1, block.message.header.0);
    if what == LONG {
        context.set_argument(7, number);
        block.kernel.come_in(&mut block.hart, held);
        block.kernel.system_call(&mut block.hart, held);
        return choose_next(block);
    }
    context.step_over_call();
    // Once it has given way another hart may go on with it: all its registers are put away.
    let went_on = block.door.beside().is_some_and(|_inside| block.kernel.fast_yield(&mut block.hart, held));
    if went_on {
        block.context = context_of_current(block);
    } else {
        block.kernel.come_in(&mut block.hart, held);
        choose_next(block);
    }
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
    unsafe { &raw mut (*block.kernel.memory.view().body_of_live::<Thread>(next.granule())).context }
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
    let address = if has_address { address } else { 0 };
    Fault { cause: what, detail: cause as u32, address, is_of_a_page: matches!(cause, 12 | 13 | 15) }
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
