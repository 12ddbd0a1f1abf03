//! Where the model's events happen.

use crate::model::{Model, Object};
use core::fmt::Debug;
use nexus_abi::message::Registers;
use nexus_abi::{Error, Rights, SystemCall};

/// A deadline passed before the model's clock reached it: nothing that follows can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

/// Processes as [`crate::PROCESSES`] names them, whose threads make the calls that they are told to make.
/// Processes and threads are named by their places.
pub trait Bench {
    /// Has a thread make a call that is answered at once; only before the first event.
    fn call(&mut self, thread: usize, call: SystemCall, arguments: &[u64]) -> Result<u64, Error>;

    /// Puts a copy of a capability from one process into another; only before the first event.
    fn hand(&mut self, handle: u64, from: usize, to: usize, rights: Rights) -> u64;

    /// Gives a process a capability that none of them can have made: to a process, a thread, the control of the
    /// system, or an authority; only before the first event.
    fn give(&mut self, object: Object, to: usize, rights: Rights) -> u64;

    /// The service ids that [`Object::Identities`] may name: the first and the last.
    fn identities(&self) -> (u64, u64);

    /// Hears of an object that a process just created.
    fn created(&mut self, _object: Object, _process: usize, _handle: u64) {}

    /// Writes into a thread's memory at [`crate::SCRATCH`].
    fn put(&mut self, thread: usize, address: u64, bytes: &[u8]);

    /// Reads from a thread's memory at [`crate::SCRATCH`].
    fn get(&mut self, thread: usize, address: u64, bytes: &mut [u8]);

    /// Hears of the next event before it happens.
    fn before(&mut self, _model: &Model) {}

    /// Has a thread begin a call, which may wait.
    fn start(&mut self, thread: usize, call: SystemCall, arguments: &[u64]);

    /// As [`Bench::start`], with the registers of a message.
    fn start_message(&mut self, thread: usize, call: SystemCall, registers: &Registers);

    /// Ends a process.
    fn kill(&mut self, process: usize);

    /// Lets the next epoch come.
    fn time_passes(&mut self, model: &Model);

    /// When an epoch begins, in ticks.
    fn deadline(&self, epoch: u64) -> u64;

    /// Waits until these threads were answered, and until whoever made the last call waits, or was. The
    /// model is as it is after the event.
    fn settle(&mut self, model: &Model, answered: &[usize]) -> Result<(), Late>;

    /// How the last call of a thread ended.
    fn outcome(&mut self, thread: usize) -> Result<u64, Error>;

    /// The registers of a message after a thread's last call.
    fn registers(&mut self, thread: usize) -> Registers;

    /// Service id and number of a process.
    fn identity(&self, process: usize) -> (u64, u64);

    /// Compares what the bench sees with the model: who waits, and what is counted.
    fn compare(&mut self, model: &Model);

    /// Is told each event and who was answered what.
    fn tell(&mut self, _event: &dyn Debug, _answers: &dyn Debug) {}
}
