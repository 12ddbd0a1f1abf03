//! Entry and panic on the machine.

use crate::heap::own;
use crate::{Environment, begin};
use core::arch::asm;
use nexus_abi::start_page::{MAGIC, StartPage};

/// Runs a program. Called by [`crate::main!`] alone.
///
/// # Safety
/// `page` must be the start page that the process's creator mapped for good.
pub unsafe fn enter(page: *const StartPage, run: fn(&Environment) -> u64) -> ! {
    // SAFETY: the caller's word; a creator that maps no start page makes a process that faults here.
    let page: &'static StartPage = unsafe { &*page };
    if page.magic != MAGIC {
        stop();
    }
    begin(page, own(), run)
}

/// Ends the process by a breakpoint, of which the kernel makes a fault report with the chain of frames.
fn stop() -> ! {
    // SAFETY: a breakpoint in user mode ends the process and never continues.
    unsafe { asm!("ebreak", options(noreturn)) }
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    crate::error!("{information}");
    stop()
}
