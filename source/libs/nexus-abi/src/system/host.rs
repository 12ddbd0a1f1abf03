//! Calls on a host: handed to whatever the current thread installed, refused without it.

use crate::calls::SystemCall;
use crate::error::Error;
use crate::message::Registers;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Something that plays the kernel for one host thread. A call may come back after other calls were made
/// and answered, on other stacks of the same thread.
pub trait Backend {
    /// A call with plain arguments: the error number and the value.
    fn plain(&self, call: SystemCall, arguments: [u64; 6]) -> (u64, u64);
    /// A call with the registers of a message.
    fn message(&self, call: SystemCall, registers: &mut Registers);
    /// The clock, in ticks.
    fn ticks(&self) -> u64;
}

std::thread_local! {
    static BACKEND: RefCell<Option<Rc<dyn Backend>>> = const { RefCell::new(None) };
    static PROCESS_WORDS_NOW: Cell<ProcessWords> = const { Cell::new([0; PROCESS_WORDS]) };
}

/// Installs the backend of the current thread and yields the one before.
pub fn install(backend: Option<Rc<dyn Backend>>) -> Option<Rc<dyn Backend>> {
    BACKEND.with(|cell| cell.replace(backend))
}

/// Words that belong to one simulated process, as statics do on the machine; 0 where nothing was set.
pub type ProcessWords = [usize; PROCESS_WORDS];
/// How many there are.
pub const PROCESS_WORDS: usize = 2;
/// The number of the word that says where a process's log lines go.
pub const LOGGER_WORD: usize = 0;
/// The number of the word that says where the memory of a driver's device is.
pub const DEVICE_WORD: usize = 1;

/// The words of the process which runs now. The simulator keeps them for each process and swaps them.
pub fn process_words() -> ProcessWords {
    PROCESS_WORDS_NOW.get()
}

/// Sets all of them.
pub fn set_process_words(words: ProcessWords) {
    PROCESS_WORDS_NOW.set(words);
}

/// Sets the one of this number, which is below [`PROCESS_WORDS`].
pub fn set_process_word(number: usize, word: usize) {
    let mut words = process_words();
    words[number] = word;
    set_process_words(words);
}

/// Whether calls of the current thread reach a backend.
pub fn is_installed() -> bool {
    BACKEND.with(|cell| cell.borrow().is_some())
}

fn backend() -> Option<Rc<dyn Backend>> {
    BACKEND.with(|cell| cell.borrow().clone())
}

pub(super) fn plain(call: SystemCall, arguments: [u64; 6]) -> (u64, u64) {
    backend().map_or((Error::Unsupported as u64, 0), |backend| backend.plain(call, arguments))
}

pub(super) fn message(call: SystemCall, registers: &mut Registers) {
    match backend() {
        Some(backend) => backend.message(call, registers),
        None => registers.target = Error::Unsupported as u64,
    }
}

/// The clock, in ticks (0 without a backend).
pub fn ticks() -> u64 {
    backend().map_or(0, |backend| backend.ticks())
}

pub(super) fn abort() -> ! {
    panic!("a thread that had ended was continued");
}
