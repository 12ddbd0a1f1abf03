//! What a program on the machine begins and ends with: entry, environment, heap, panic, log lines.
//!
//! What it is: [`main!`] makes a function the program; [`Environment`] is what it was given, by name;
//! [`info!`] and its sisters write log lines that never block; [`AuditLog`] writes decisions down. What it is not: it makes no calls to
//! services; that is `nexus-ipc`.
//!
//! Invariants: nothing here is a right; whoever holds no capability gets an error. On a host the same
//! programs compile; there they run in the simulator, which calls [`begin`] for each process.
//!
//! Where to start reading: [`main!`], then [`Environment`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod audit;
mod environment;
mod heap;
mod line;
mod logger;
#[cfg(target_os = "none")]
mod machine;
mod setup;
pub mod thread;

pub use audit::{AuditLog, KEPT_BIT, ReservedAudit};
pub use environment::{Environment, MapError, READY_LABEL};
pub use heap::Heap;
pub use logger::{write_line, write_record};
#[cfg(target_os = "none")]
pub use machine::enter;
pub use nexus_log::{Audit, AuditMark, Decision, Keeping, Key, Level, Several, Value};
pub use setup::{FILE_LENGTH_BYTES, SetupError};

/// Makes `fn run(environment: &Environment) -> u64` the program; its value is the exit code.
///
/// ```
/// fn run(environment: &nexus_rt::Environment) -> u64 {
///     nexus_rt::info!("{} is here", environment.name());
///     0
/// }
/// # mod hidden { use super::run;
/// nexus_rt::main!(run);
/// # }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[cfg(target_os = "none")]
        const _: () = {
            extern "C" fn entry(page: *const $crate::StartPage) -> ! {
                // SAFETY: `_start` hands on what the creator of the process put into `a0`.
                unsafe { $crate::enter(page, $run) }
            }

            // SAFETY: the loader jumps here once, with a stack; nothing calls it.
            /// Ends the chain of frames (no frame above, no return address) and enters Rust.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn _start() -> ! {
        core::arch::naked_asm!("li s0, 0", "li ra, 0", "tail {entry}", entry = sym entry)
            }
        };

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn(&$crate::Environment) -> u64 = $run;
            $crate::say_where_it_runs();
        }
    };
}

/// The life of a process's first thread: its heap, its log, its program, its end.
pub fn begin(page: &'static StartPage, heap: &Heap, run: fn(&Environment) -> u64) -> ! {
    heap.open(page);
    let environment = Environment::new(page);
    logger::target::open(&environment);
    let code = run(&environment);
    nexus_abi::system::process_exit(code)
}

#[doc(hidden)]
pub use nexus_abi::start_page::StartPage;

#[doc(hidden)]
#[cfg(not(target_os = "none"))]
pub fn say_where_it_runs() {
    eprintln!("this program runs on Open Nexus; on a host `nx sim` runs the whole system");
    std::process::exit(2);
}

/// Writes a log line of ordinary life.
#[macro_export]
macro_rules! info {
    ($($argument:tt)*) => { $crate::write_line($crate::Level::Info, format_args!($($argument)*)) };
}

/// Writes a log line about something that was refused or is odd.
#[macro_export]
macro_rules! warning {
    ($($argument:tt)*) => { $crate::write_line($crate::Level::Warning, format_args!($($argument)*)) };
}

/// Writes a log line about something that must be looked at.
#[macro_export]
macro_rules! error {
    ($($argument:tt)*) => { $crate::write_line($crate::Level::Error, format_args!($($argument)*)) };
}
