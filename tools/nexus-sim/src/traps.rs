//! Faults of simulated programs: what the host's processor refuses becomes a fault report of the kernel's.
//!
//! The handler of the host's signal ends the coroutine in which it came and leaves a note of what happened;
//! the simulator hands that to the kernel as a trap does on the machine. Only on `x86_64`; elsewhere a fault
//! of a simulated program ends the simulator.
#![allow(unsafe_code)] // it handles signals

use nexus_abi::records::FaultCause;

/// What the processor refused. Addresses are the host's.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// Why.
    pub cause: FaultCause,
    /// What was touched.
    pub address: u64,
    /// The instruction.
    pub program_counter: u64,
    /// The frame pointer: the caller's frame pointer stands there, the return address above it.
    pub frame: u64,
    /// The stack pointer.
    pub stack: u64,
}

/// Where the programs are loaded, as far as a report tells: the first address of this program's own image.
const LOAD_ADDRESS: u64 = 0x1_0000;

unsafe extern "C" {
    static __executable_start: u8;
    static end: u8;
}

/// First address of this program's loaded image and the first one behind it.
pub fn image() -> (u64, u64) {
    // The linker defines both; only their addresses are taken.
    ((&raw const __executable_start).addr() as u64, (&raw const end).addr() as u64)
}

/// An address of code as reports tell it: counted from where programs are loaded, so that it does not depend
/// on where the host loads this program.
pub fn told(address: u64) -> u64 {
    let (start, after) = image();
    if (start..after).contains(&address) { address - start + LOAD_ADDRESS } else { address }
}

/// Makes faults of simulated programs come to the simulator.
pub fn open() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    x86_64::open();
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod x86_64 {
    use super::Trap;
    use crate::door;
    use libc::{
        REG_ERR, REG_RBP, REG_RDI, REG_RIP, REG_RSI, REG_RSP, SA_ONSTACK, SA_SIGINFO, SIG_DFL, SIGBUS,
        SIGILL, SIGSEGV, c_int, c_void, sigaction, siginfo_t, ucontext_t,
    };
    use nexus_abi::records::FaultCause;
    use std::mem::zeroed;
    use std::ptr::null_mut;
    use std::sync::Once;

    /// Bits of the processor's error code.
    const WRITE: i64 = 1 << 1;
    const FETCH: i64 = 1 << 4;
    const SIGNALS: [c_int; 3] = [SIGSEGV, SIGBUS, SIGILL];

    pub fn open() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            for signal in SIGNALS {
                // SAFETY: a zeroed `sigaction` is a valid one; the handler keeps to what signals allow.
                let installed = unsafe {
                    let mut action: sigaction = zeroed();
                    action.sa_sigaction = handle as *const () as usize;
                    // The standard library gave each of its threads a stack for this.
                    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
                    sigaction(signal, &action, null_mut())
                };
                assert_eq!(installed, 0, "the host lets nobody handle its signal {signal}");
            }
        });
    }

    extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: the host hands over both for the time of the handler.
        let (info, context) = unsafe { (&*info, &mut *context.cast::<ucontext_t>()) };
        let registers = &mut context.uc_mcontext.gregs;
        let register = |index: c_int| registers[index as usize] as u64;
        let error = registers[REG_ERR as usize];
        let cause = match signal {
            SIGILL => FaultCause::IllegalInstruction,
            _ if error & FETCH != 0 => FaultCause::ExecuteFault,
            _ if error & WRITE != 0 => FaultCause::WriteFault,
            _ => FaultCause::ReadFault,
        };
        // SAFETY: these signals carry the address.
        let address = if signal == SIGILL { 0 } else { unsafe { info.si_addr() }.addr() as u64 };
        let trap = Trap {
            cause,
            address,
            program_counter: register(REG_RIP),
            frame: register(REG_RBP),
            stack: register(REG_RSP),
        };
        match door::trapped(trap) {
            Some(next) => {
                for (index, value) in [
                    (REG_RIP, next.rip),
                    (REG_RSP, next.rsp),
                    (REG_RBP, next.rbp),
                    (REG_RDI, next.rdi),
                    (REG_RSI, next.rsi),
                ] {
                    registers[index as usize] = value as i64;
                }
            }
            // A fault of the simulator's own: it comes again, and the host ends the simulator.
            // SAFETY: a zeroed `sigaction` is a valid one.
            None => unsafe {
                let mut action: sigaction = zeroed();
                action.sa_sigaction = SIG_DFL;
                sigaction(signal, &action, null_mut());
            },
        }
    }
}
