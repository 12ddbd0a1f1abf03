//! The door between a simulated process and the simulator: system calls, register accesses, memory.
//!
//! While a process runs, on a stack in its own simulated memory, [`Inside`] says whose addresses are whose.
//! Whatever it asks for becomes a [`Request`], and the simulator goes on on its own stack; the process
//! sees the [`Response`] when the kernel has chosen it again. Addresses are translated here: the kernel sees
//! those of the contract, the process those of the host.
#![allow(unsafe_code)] // it is the allocator, and reads messages where programs say they are

use crate::ram::in_any_space;
use crate::traps::{self, Trap};
use corosensei::Yielder;
use corosensei::trap::{CoroutineTrapHandler, TrapHandlerRegs};
use nexus_abi::calls::{Argument, SYSTEM_CALLS};
use nexus_abi::limits::{LEASES_MAX, MESSAGE_BYTES_MAX, USER_END};
use nexus_abi::message::{Buffers, Lease, Registers};
use nexus_abi::system::host::{self, Backend};
use nexus_abi::{Error, SystemCall};
use nexus_rt::Heap;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::ptr::{null, with_exposed_provenance};
use std::rc::Rc;
use std::sync::Once;

/// What a process asks for.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// A system call with plain arguments.
    Plain(SystemCall, [u64; 6]),
    /// A system call with the registers of a message.
    Message(SystemCall, Registers),
    /// Reads so many bytes of a device's register.
    Load(u64, u32),
    /// Writes a register.
    Store(u64, u32, u64),
    /// Nothing more: it panicked, or its memory is used up.
    Breakpoint,
    /// Nothing more: the processor refused what it did. Addresses are the contract's.
    Trap(Trap),
}

/// What it gets.
#[derive(Clone, Copy, Debug)]
pub enum Response {
    /// It may go on.
    Go,
    /// The error number and the value.
    Plain(u64, u64),
    /// The registers.
    Message(Registers),
    /// The register's value.
    Loaded(u64),
}

/// How a process's thread reaches the simulator.
pub type Way = Yielder<Response, Request>;

/// The thread that runs now.
pub struct Inside {
    /// Where it stops to ask; set when it begins.
    pub way: Cell<*const Way>,
    /// What to add to an address of the contract.
    pub base: u64,
    /// Its process's heap.
    pub heap: Rc<Heap>,
    /// The clock.
    pub clock: Rc<Cell<u64>>,
    /// Whether it unwinds: nothing that it does any more reaches the kernel.
    pub ending: Cell<bool>,
    /// Whether its heap grows: that must go on while it unwinds.
    pub growing: Cell<bool>,
    /// How a trap ends it.
    pub handler: Cell<Option<CoroutineTrapHandler<()>>>,
    /// The trap that ended it.
    pub trap: Cell<Option<Trap>>,
    /// What it said when it panicked. The text is in the host's memory.
    pub last_words: RefCell<String>,
}

thread_local! {
    static INSIDE: Cell<*const Inside> = const { Cell::new(null()) };
}

/// Says whose code runs from here on; `None`: the simulator's own.
pub fn enter(inside: Option<&Inside>) {
    INSIDE.set(inside.map_or(null(), std::ptr::from_ref));
}

/// Who runs, if it may still reach the kernel.
fn caller() -> Option<&'static Inside> {
    inside().filter(|inside| !inside.ending.get() || inside.growing.get())
}

fn inside() -> Option<&'static Inside> {
    // SAFETY: set by `enter` while the thread that it describes runs, which keeps it alive.
    unsafe { INSIDE.get().as_ref() }
}

impl Inside {
    /// Asks the simulator for something.
    pub fn ask(&self, request: Request) -> Response {
        // SAFETY: the thread stored it at its beginning, and its stack is alive while it runs.
        let way = unsafe { &*self.way.get() };
        way.suspend(request)
    }

    /// The contract's address for one of the host; what is not of this process stays what it is, for the
    /// kernel to refuse.
    fn translated(&self, address: u64) -> u64 {
        match address.checked_sub(self.base) {
            Some(own) if own < USER_END => own,
            _ => address,
        }
    }

    /// What a call lends, in the contract's addresses.
    fn leases(&self, address: u64, count: usize) -> [Lease; LEASES_MAX] {
        let mut leases = [Lease::default(); LEASES_MAX];
        let named = with_exposed_provenance::<Lease>(address as usize);
        for (place, lease) in leases.iter_mut().enumerate().take(count) {
            // SAFETY: `nexus_abi::system` puts the address of so many of them there.
            *lease = unsafe { named.add(place).read() };
            // One that lends on names an offset.
            if lease.reply.is_none() {
                lease.address = self.translated(lease.address);
            }
        }
        leases
    }

    /// As [`Inside::translated`], of bytes that are only read. Constants of the program lie outside of its
    /// simulated memory: they are copied into it first, as far as there is room and a call can take them.
    fn readable(&self, address: u64, bytes: usize) -> (u64, Option<Vec<u8>>) {
        let as_it_is = (self.translated(address), None);
        if bytes > MESSAGE_BYTES_MAX || !is_constant(address, bytes) {
            return as_it_is;
        }
        let Ok(layout) = Layout::array::<u8>(bytes) else { return as_it_is };
        // SAFETY: `is_constant` refuses 0 bytes. (Through the allocator a failure would end the process.)
        let room = unsafe { self.heap.alloc(layout) };
        if room.is_null() {
            return as_it_is;
        }
        // SAFETY: the constant lies in this program's own loaded image; the room is as large, was allocated as a
        // vector's is, and the vector gives it back to the same heap.
        let copy = unsafe {
            room.copy_from_nonoverlapping(with_exposed_provenance(address as usize), bytes);
            Vec::from_raw_parts(room, bytes, bytes)
        };
        (self.translated(room.expose_provenance() as u64), Some(copy))
    }
}

/// Whether bytes lie in the loaded image of this program.
fn is_constant(address: u64, bytes: usize) -> bool {
    let (start, after) = traps::image();
    bytes > 0 && address >= start && address.checked_add(bytes as u64).is_some_and(|last| last <= after)
}

/// Ends the thread that runs because of a trap: yields where the host's processor is to go on. `None`: it is
/// the simulator itself that trapped.
pub(crate) fn trapped(trap: Trap) -> Option<TrapHandlerRegs> {
    let inside = inside()?;
    let handler = inside.handler.get()?;
    // SAFETY: called by the signal's handler, for the coroutine in which the signal came.
    let next = handler
        .stack_ptr_in_bounds(trap.stack as usize)
        .then(|| unsafe { handler.setup_trap_handler(|| ()) });
    let next = next?;
    let own = |address| inside.translated(address);
    inside.trap.set(Some(Trap {
        address: traps::told(own(trap.address)),
        program_counter: traps::told(own(trap.program_counter)),
        frame: own(trap.frame),
        stack: own(trap.stack),
        ..trap
    }));
    Some(next)
}

/// The kernel, as simulated processes reach it.
struct Kernel;

/// The answer of calls that nobody is there to make any more.
const NOBODY: u64 = Error::PeerGone as u64;

impl Backend for Kernel {
    fn plain(&self, call: SystemCall, mut arguments: [u64; 6]) -> (u64, u64) {
        let Some(inside) = caller() else { return (NOBODY, 0) };
        let specification = SYSTEM_CALLS.iter().find(|specification| specification.call == call);
        let forms = specification.map_or(&[][..], |specification| specification.arguments);
        let mut copies = [const { None }; 6];
        for place in 0..forms.len().min(arguments.len()) {
            let following = arguments.get(place + 1).copied().unwrap_or(0);
            let argument = &mut arguments[place];
            match forms[place].1 {
                Argument::In(bytes) => (*argument, copies[place]) = inside.readable(*argument, bytes),
                Argument::InBytes => {
                    (*argument, copies[place]) = inside.readable(*argument, following as usize);
                }
                // What a lease is to be filled with is named as what it is copied to.
                Argument::OutBytes if call == SystemCall::LeaseCopy => {
                    (*argument, copies[place]) = inside.readable(*argument, following as usize);
                }
                Argument::Out(_) | Argument::OutBytes | Argument::Address => {
                    *argument = inside.translated(*argument);
                }
                // Where a stack ends, and what a thread begins with; its other numbers are no addresses of anybody.
                Argument::Number if call == SystemCall::ThreadCreate => {
                    *argument = inside.translated(*argument)
                }
                _ => {}
            }
        }
        match inside.ask(Request::Plain(call, arguments)) {
            Response::Plain(error, value) => (error, value),
            _ => (Error::Unsupported as u64, 0),
        }
    }

    fn message(&self, call: SystemCall, registers: &mut Registers) {
        let Some(inside) = caller() else {
            registers.target = NOBODY;
            return;
        };
        let place = registers.buffers;
        // SAFETY: `nexus_abi::system` puts the address of a live `Buffers` there, or 0.
        let buffers = unsafe { with_exposed_provenance::<Buffers>(place as usize).cast_mut().as_mut() };
        let Some(buffers) = buffers else {
            return ask_message(inside, call, registers);
        };
        let mut leases = inside.leases(buffers.leases, registers.header.leases());
        let (send_address, _copy) = inside.readable(buffers.send_address, registers.header.bytes());
        let receive_address = inside.translated(buffers.receive_address);
        let lent = inside.translated(leases.as_mut_ptr().expose_provenance() as u64);
        let mut own = Buffers { send_address, receive_address, leases: lent, ..*buffers };
        registers.buffers = inside.translated((&raw mut own).expose_provenance() as u64);
        ask_message(inside, call, registers);
        buffers.received_capabilities = own.received_capabilities;
    }

    fn ticks(&self) -> u64 {
        let Some(inside) = inside() else { return 0 };
        inside.clock.set(inside.clock.get() + 1);
        inside.clock.get()
    }
}

fn ask_message(inside: &Inside, call: SystemCall, registers: &mut Registers) {
    match inside.ask(Request::Message(call, *registers)) {
        Response::Message(answer) => *registers = answer,
        _ => registers.target = Error::Unsupported as u64,
    }
}

impl mmio::host::Bus for Kernel {
    fn load(&self, address: u64, bytes: u32) -> u64 {
        let Some(inside) = caller() else { return 0 };
        match inside.ask(Request::Load(inside.translated(address), bytes)) {
            Response::Loaded(value) => value,
            _ => 0,
        }
    }

    fn store(&self, address: u64, bytes: u32, value: u64) {
        if let Some(inside) = caller() {
            inside.ask(Request::Store(inside.translated(address), bytes, value));
        }
    }
}

/// Makes this thread of the host one that can run simulated processes.
pub fn open() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |information| match inside() {
            Some(inside) => {
                inside.ending.set(true);
                enter(None);
                inside.last_words.replace(information.to_string());
                enter(Some(inside));
            }
            None => before(information),
        }));
    });
    traps::open();
    host::install(Some(Rc::new(Kernel)));
    mmio::host::install(Some(Rc::new(Kernel)));
}

/// Gives simulated processes memory of their own heap, and everybody else the host's.
pub struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: each branch is an allocator that keeps the contract, and an address tells which one gave it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(inside) = inside() else {
            // SAFETY: the caller's word.
            return unsafe { System.alloc(layout) };
        };
        let before = inside.growing.replace(true);
        // SAFETY: the caller's word.
        let place = unsafe { inside.heap.alloc(layout) };
        inside.growing.set(before);
        if place.is_null() {
            out_of_memory(inside, layout);
        }
        place
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !in_any_space(pointer.addr() as u64) {
            // SAFETY: the caller's word, and it is none of a simulated process.
            return unsafe { System.dealloc(pointer, layout) };
        }
        // What a process has allocated goes with the process when the simulator drops it.
        if let Some(inside) = inside() {
            // SAFETY: the caller's word; a process reaches no other process's memory.
            unsafe { inside.heap.dealloc(pointer, layout) };
        }
    }
}

/// On the machine a failed allocation panics, which ends the process; on a host it would end the simulator,
/// so the process ends here. (One that asks whether an allocation would fail ends too.)
fn out_of_memory(inside: &Inside, layout: Layout) -> ! {
    inside.ending.set(false);
    nexus_rt::error!("memory allocation of {} bytes failed", layout.size());
    loop {
        inside.ask(Request::Breakpoint);
    }
}
