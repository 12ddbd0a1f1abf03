//! A simulated process, and a simulated thread: a coroutine whose stack is the thread's own simulated memory.
//!
//! A process that is killed loses its memory at once, as on the machine: no destructor runs. One that
//! panics unwinds first, without reaching the kernel, then says what the panic was and faults.
#![allow(unsafe_code)] // it runs code on stacks that it makes

use crate::door::{self, Inside, Request, Response, Way};
use crate::image::Program;
use crate::ram::Space;
use anyhow::{Context, Result};
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult};
use nexus_abi::start_page::StartPage;
use nexus_abi::system::host::{ProcessWords, process_words, set_process_words};
use nexus_rt::Heap;
use nexus_rt::thread::Beginning;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// What a simulated process has beside what the kernel knows of it.
pub struct Process {
    /// Its service's name.
    pub name: String,
    /// The program that it runs.
    pub program: Program,
    /// Its addresses.
    pub space: Space,
    /// Its number in this boot.
    pub number: u64,
    /// Its address space's number.
    pub asid: u16,
    /// Whether its space may lack what the kernel's tables promise.
    pub stale: bool,
    words: ProcessWords,
    heap: Rc<Heap>,
    /// The start page with the host's addresses in it. The process refers to it for as long as it runs.
    page: Box<StartPage>,
}

impl Process {
    /// A process that has not run yet.
    pub fn new(program: Program, space: Space, number: u64, asid: u16, mut page: StartPage) -> Self {
        page.heap_base += space.base();
        page.stack_base += space.base();
        let heap = Rc::new(Heap::new());
        let name = page.name().to_string();
        Process {
            name,
            program,
            space,
            number,
            asid,
            stale: true,
            words: ProcessWords::default(),
            heap,
            page: Box::new(page),
        }
    }
}

/// Bytes below a stack, where nothing is, that an overflow may have reached when it is noticed.
const GUARD_BYTES: u64 = 64 * 1024;

/// Memory that is a stack.
struct Memory {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: base and limit are the ends of memory that the thread's creator mapped for it alone.
unsafe impl Stack for Memory {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// A thread.
pub struct Task {
    /// What it asked for last, and when.
    pub asked: Option<(Request, u64)>,
    coroutine: Coroutine<Response, Request, (), Memory>,
    inside: Rc<Inside>,
}

impl Task {
    /// A thread on the stack between two addresses of its process's contract.
    pub fn new(process: &Process, stack: (u64, u64), begins: Begins, clock: Rc<Cell<u64>>) -> Result<Self> {
        let base = process.space.base();
        let pointer = |address: u64| StackPointer::new((base + address) as usize).context("a stack at 0");
        let memory = Memory { base: pointer(stack.1)?, limit: pointer(stack.0 - GUARD_BYTES)? };
        let inside = Rc::new(Inside {
            way: Cell::new(std::ptr::null()),
            base,
            heap: process.heap.clone(),
            clock,
            ending: Cell::new(false),
            growing: Cell::new(false),
            handler: Cell::new(None),
            trap: Cell::new(None),
            last_words: RefCell::default(),
        });
        let start = Start {
            inside: Rc::as_ptr(&inside),
            page: std::ptr::from_ref(&*process.page),
            heap: Rc::as_ptr(&process.heap),
            run: process.program.1,
            begins,
        };
        let coroutine = Coroutine::with_stack(memory, move |way: &Way, _go| live(way, &start));
        inside.handler.set(Some(coroutine.trap_handler()));
        Ok(Task { asked: None, coroutine, inside })
    }

    /// Lets the thread go on until it asks for something.
    pub fn resume(&mut self, process: &mut Process, response: Response) -> Request {
        door::enter(Some(&self.inside));
        set_process_words(process.words);
        let asked = self.coroutine.resume(response);
        process.words = process_words();
        door::enter(None);
        match asked {
            CoroutineResult::Yield(request) => request,
            CoroutineResult::Return(()) => self.inside.trap.take().map_or(Request::Breakpoint, Request::Trap),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: what lives on the stack refers to nothing but the process's own memory, which goes with it,
        // and to `inside`, by plain pointers; its destructors have nothing to give back.
        unsafe { self.coroutine.force_reset() };
    }
}

/// What a thread begins with: pointers alone, so that a stack that vanishes keeps nothing alive.
struct Start {
    inside: *const Inside,
    page: *const StartPage,
    heap: *const Heap,
    run: fn(&nexus_rt::Environment) -> u64,
    begins: Begins,
}

/// What a thread begins with.
#[derive(Clone, Copy, Debug)]
pub enum Begins {
    /// The process's program.
    Program,
    /// What its process handed over, at this address of the host.
    Thread(u64),
}

fn live(way: &Way, start: &Start) {
    // SAFETY: the task and the process keep all three alive while the thread runs.
    let (inside, page, heap) = unsafe { (&*start.inside, &*start.page, &*start.heap) };
    inside.way.set(way);
    // It comes back only by a panic: a program that ends exits.
    let panicked = catch_unwind(AssertUnwindSafe(|| match start.begins {
        Begins::Program => nexus_rt::begin(page, heap, start.run),
        Begins::Thread(address) => {
            let beginning = std::ptr::with_exposed_provenance::<Beginning>(address as usize);
            // SAFETY: the process's own call handed it over, and it lives as long as the process's memory.
            unsafe { nexus_rt::thread::live(beginning) }
        }
    }));
    drop(panicked);
    inside.ending.set(false);
    nexus_rt::error!("{}", inside.last_words.borrow());
    loop {
        inside.ask(Request::Breakpoint);
    }
}
