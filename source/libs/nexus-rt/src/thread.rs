//! A second thread of one's own process, for who must never wait in the first.

use crate::{Environment, MapError};
use alloc::boxed::Box;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Handle, Rights, system};

/// Pages of its stack.
#[cfg(target_os = "none")]
const STACK_PAGES: usize = 4;
/// Code of a host needs more, as the simulator's programs do.
#[cfg(not(target_os = "none"))]
const STACK_PAGES: usize = 64;

/// What a second thread begins with.
pub struct Beginning(&'static (dyn Fn() + Sync));

/// Starts a thread of the first one's class, which ends when `body` does. Its stack stays for as long as the process.
///
/// Both threads share the heap, behind a lock that spins: a body that waits for others is not to allocate.
pub fn spawn(environment: &Environment, body: &'static (dyn Fn() + Sync)) -> Result<(), MapError> {
    let bytes = STACK_PAGES * PAGE_SIZE;
    let vmo = system::vmo_create(Handle::NONE, bytes)?;
    let stack = environment.map_memory(vmo, bytes, Rights::READ | Rights::WRITE)?;
    let end = stack.expose_provenance() + bytes;
    let beginning = Box::leak(Box::new(Beginning(body)));
    let argument = core::ptr::from_mut(beginning).expose_provenance() as u64;
    let class = system::thread_qos(Handle::NONE)?;
    // SAFETY: `entry` takes a `Beginning` that is never freed and ends the thread; the stack was mapped just now and
    // is known here alone.
    let thread = unsafe { system::thread_create(Handle::NONE, entry(), end as u64, argument, class)? };
    // It goes on without being named.
    Ok(system::cap_close(thread)?)
}

/// The life of a second thread. Called where one begins: by [`spawn`]'s entry, and by the simulator.
///
/// # Safety
/// `beginning` must be what [`spawn`] handed over.
pub unsafe fn live(beginning: *const Beginning) -> ! {
    // SAFETY: the caller's word; it is never freed.
    let beginning = unsafe { &*beginning };
    (beginning.0)();
    system::thread_exit()
}

#[cfg(target_os = "none")]
fn entry() -> u64 {
    extern "C" fn enter(beginning: *const Beginning) -> ! {
        // SAFETY: `spawn` put it into `a0`.
        unsafe { live(beginning) }
    }

    // SAFETY: the kernel jumps here once, with a stack; nothing calls it.
    /// Ends the chain of frames and enters Rust.
    #[unsafe(naked)]
    unsafe extern "C" fn begin() -> ! {
        core::arch::naked_asm!("li s0, 0", "li ra, 0", "tail {enter}", enter = sym enter)
    }

    begin as *const () as u64
}

/// The simulator knows by itself how a second thread begins.
#[cfg(not(target_os = "none"))]
fn entry() -> u64 {
    nexus_abi::limits::USER_BASE
}
