//! The terminal of the machine: one writer for every line of everyone.
//!
//! It owns the UART, drains the kernel's ring and every service's ring, and offers the terminal to the shell.
//! What it decides is in `console`, the device in `ns16550`; here the two meet the system calls.
//!
//! Where to start reading: [`serve`].
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod sources;
mod terminal;

use core::convert::Infallible;
use nexus_abi::{Kind, system};
use nexus_ipc::{Deadline, Event};
use nexus_proto::console::{MAX_BYTES, REFERENCE, dispatch};
use nexus_rt::{Environment, SetupError, error, info};
use ns16550::{MmioRegisters, Uart};
use sources::Sources;
use terminal::Terminal;

/// The bit that the kernel's ring sets.
const KERNEL_BIT: u64 = 2;
/// The bit that the UART sets.
const UART_BIT: u64 = 4;

/// The program; its value is the exit code.
pub fn run(environment: &Environment) -> u64 {
    let Err(reason) = serve(environment);
    error!("consoled: {reason}");
    1
}

fn serve(environment: &Environment) -> Result<Infallible, SetupError> {
    let mut receiver = environment.to_serve(REFERENCE.endpoint, MAX_BYTES)?;
    let events = environment.needed("log-doorbell", Kind::Notification)?;
    let control = environment.needed("system", Kind::SystemControl)?;
    let journal = environment.needed("journal-doorbell", Kind::Notification)?;
    let irq = environment.needed("device.irq.uart", Kind::Irq)?;
    let (registers, bytes) =
        environment.map_device(environment.needed("device.mmio.uart", Kind::DeviceMmio)?)?;
    if bytes < ns16550::REGISTER_BYTES {
        return Err(SetupError::Kernel(nexus_abi::Error::OutOfRange));
    }
    // SAFETY: the window was just mapped for good, is large enough, and is this process's alone.
    let uart = Uart::open(unsafe { MmioRegisters::new(registers) });
    system::notification_bind(events)?;
    let printed = system::ring_bind(control, events, KERNEL_BIT)?;
    system::irq_bind(irq, events, UART_BIT)?;
    let sources = Sources::open(environment, control, printed)?;
    let mut terminal = Terminal::new(uart, sources, environment.has_argument("console.origin=1"));
    info!("consoled: mmio window mapped ok");
    info!("consoled: ready");
    environment.ready();
    loop {
        terminal.pump();
        match receiver.next(Deadline::NEVER)? {
            Event::Bits(bits) => {
                if bits & UART_BIT != 0 {
                    // Clear the cause, let the line interrupt again; `pump` looks once more before the wait.
                    terminal.receive();
                    system::irq_ack(irq)?;
                }
                if bits & KERNEL_BIT != 0 {
                    // The kernel rings one bell alone, so it is passed on; the journal reads later otherwise.
                    let _ = system::notification_signal(journal, KERNEL_BIT);
                }
            }
            Event::Call(call) => dispatch(&mut terminal, call),
            _ => {}
        }
    }
}
