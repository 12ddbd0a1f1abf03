//! Bugs that are planted, to see that they are found. Each changes what a system call does, as a bug in the
//! program that makes it, or in the kernel, would; no product code knows of them.

use crate::door::Request;
use crate::machine::Machine;
use crate::system::answer_with;
use neuron::memory::Id;
use neuron::object::{Process, Thread};
use neuron::simulation::Simulation;
use nexus_abi::message::{Arrival, Header};
use nexus_abi::{Kind, SystemCall};
use std::collections::BTreeMap;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutant {
    /// Init forgets to close the process of a service that died
    LeakedCapability,
    /// Init overlooks that a service died
    MissedRestart,
    /// A server that holds two callers answers the wrong one
    WrongCaller,
    /// An interrupt line is not opened again now and then
    LostWakeUp,
    /// A client repeats a call that failed, without end
    UnboundedRetry,
    /// The disk's driver answers a flush that was not made
    ForgottenFlush,
    /// The store answers before its flush
    EarlyAnswer,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Mutant; 7] = [
        Mutant::LeakedCapability,
        Mutant::MissedRestart,
        Mutant::WrongCaller,
        Mutant::LostWakeUp,
        Mutant::UnboundedRetry,
        Mutant::ForgottenFlush,
        Mutant::EarlyAnswer,
    ];

    /// The boot argument by which a program that is built with planted bugs knows its own.
    pub const fn argument(self) -> &'static str {
        match self {
            Mutant::EarlyAnswer => " mutant=early-answer",
            _ => "",
        }
    }
}

/// Every how many acknowledgements [`Mutant::LostWakeUp`] loses one.
const ACKNOWLEDGED: u64 = 16;
const REPLY_HANDLE: usize = 2;
const WORD_0: usize = 4;

/// The planted bug at work.
pub struct Mutations {
    mutant: Option<Mutant>,
    /// Replies that each process owes, by process.
    owed: BTreeMap<u64, Vec<u64>>,
    acknowledged: u64,
}

impl Mutations {
    /// Of one bug, or of none.
    pub fn new(mutant: Option<Mutant>) -> Self {
        Mutations { mutant, owed: BTreeMap::new(), acknowledged: 0 }
    }

    /// Looks at a call that is about to be made, and changes it; yields whether it is not to be made.
    pub fn before(
        &mut self,
        kernel: &mut Simulation<Machine>,
        thread: Id<Thread>,
        caller: Id<Process>,
        is_init: bool,
        call: SystemCall,
    ) -> bool {
        match self.mutant {
            Some(Mutant::LeakedCapability) if is_init && call == SystemCall::CapClose => {
                let handle = kernel.context(thread, |context| context.argument(0)).unwrap_or(0);
                let closes_a_process = kernel
                    .capabilities(caller)
                    .iter()
                    .any(|info| info.handle.0 == handle && info.kind == Kind::Process as u32);
                closes_a_process && kernel.context(thread, |context| answer_with(context, 0)).is_some()
            }
            Some(Mutant::WrongCaller) if matches!(call, SystemCall::Reply | SystemCall::ReplyReceive) => {
                let owed = self.owed.entry(caller.raw()).or_default();
                let given = kernel.context(thread, |context| context.argument(REPLY_HANDLE)).unwrap_or(0);
                let wrong = owed.iter().copied().find(|&other| other != given);
                let answered = wrong.unwrap_or(given);
                owed.retain(|&other| other != answered);
                kernel.context(thread, |context| context.set_argument(REPLY_HANDLE, answered));
                false
            }
            Some(Mutant::LostWakeUp) if call == SystemCall::IrqAck => {
                self.acknowledged += 1;
                self.acknowledged.is_multiple_of(ACKNOWLEDGED)
                    && kernel.context(thread, |context| answer_with(context, 0)).is_some()
            }
            _ => false,
        }
    }

    /// Looks at an answer that is about to be given, and changes it; yields whether the call is made again.
    pub fn after(
        &mut self,
        kernel: &mut Simulation<Machine>,
        thread: Id<Thread>,
        is_init: bool,
        asked: Request,
    ) -> bool {
        let Request::Message(call, _) = asked else { return false };
        let receives = matches!(call, SystemCall::Receive | SystemCall::ReplyReceive);
        let process = kernel.process_of(thread).map_or(0, Id::raw);
        let answered = kernel.context(thread, |context| {
            let arrival = Header(context.argument(1)).arrival();
            (context.argument(0), arrival, context.argument(REPLY_HANDLE))
        });
        let Some((error, arrival, reply)) = answered else { return false };
        match self.mutant {
            Some(Mutant::MissedRestart)
                if is_init && receives && error == 0 && arrival == Some(Arrival::Bits) =>
            {
                kernel.context(thread, |context| context.set_argument(WORD_0, 0));
                false
            }
            Some(Mutant::WrongCaller) if receives && error == 0 && arrival == Some(Arrival::Call) => {
                self.owed.entry(process).or_default().push(reply);
                false
            }
            Some(Mutant::UnboundedRetry) => !is_init && call == SystemCall::Call && error != 0,
            _ => false,
        }
    }
}
