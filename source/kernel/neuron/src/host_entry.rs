//! The way in on a host: what the machine's assembly does with a system call, for tests and the simulator.

use crate::arch::Arch;
use crate::fast_path::Sent;
use crate::kernel::{Hart, Kernel};
use crate::memory::Id;
use crate::object::Thread;
use crate::object::thread::Context;
use crate::schedule::set_outcome;
use crate::short_call::Wait;
use crate::sync::{Held, Nothing};
use nexus_abi::message::{Header, Registers};
use nexus_abi::{Error, Handle, SystemCall};

impl Context {
    /// The registers of a message.
    pub fn message(&self) -> Registers {
        Registers {
            target: self.argument(0),
            header: Header(self.argument(1)),
            reply: Handle(self.argument(2)),
            buffers: self.argument(3),
            words: self.words(),
            deadline: self.registers[30],
            process_id: self.registers[31],
        }
    }

    /// Sets the registers of a message.
    pub fn set_message(&mut self, message: &Registers) {
        let first = [message.target, message.header.0, message.reply.0, message.buffers];
        first.into_iter().enumerate().for_each(|(index, value)| self.set_argument(index, value));
        self.set_words(message.words);
        self.set_sender(message.deadline, message.process_id);
    }
}

impl<A: Arch> Kernel<A> {
    /// Does the system call that the current thread's registers ask for: the fast path first, then the long way.
    pub(crate) fn enter(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        let Some(thread) = hart.current else { return };
        if !self.enter_fast(hart, held, thread) {
            self.system_call(hart, held);
        }
    }

    pub(crate) fn enter_fast(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        thread: Id<Thread>,
    ) -> bool {
        let begun = self.lock(held, thread).map(|(mut body, _)| {
            // Once it waits, another hart may go on with it.
            body.context.step_over_call();
            (body.context.argument(7), body.context.message())
        });
        let Some((number, message)) = begun else { return false };
        let done = self.make_fast(hart, held, thread, (number, message));
        if !done && let Some((mut body, _)) = self.lock(held, thread) {
            body.context.repeat_call();
        }
        done
    }

    fn make_fast(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        thread: Id<Thread>,
        (number, mut message): (u64, Registers),
    ) -> bool {
        let sent = Sent {
            target: message.target,
            header: message.header.0,
            reply: message.reply.0,
            buffers: message.buffers,
            deadline: message.deadline,
        };
        let words = &mut message.words;
        let delivered = match (SystemCall::from_number(number), sent.is_long()) {
            (Some(SystemCall::Call), false) => self.fast_call::<false>(hart, &sent, words),
            (Some(SystemCall::Call), true) => self.fast_call::<true>(hart, &sent, words),
            (Some(SystemCall::ReplyReceive), false) => self.fast_reply_receive::<false>(hart, &sent, words),
            (Some(SystemCall::ReplyReceive), true) => self.fast_reply_receive::<true>(hart, &sent, words),
            (Some(SystemCall::NotificationWait), _) => {
                let arguments = [message.target, message.header.0, message.reply.0];
                let Some(outcome) = self.fast_wait(hart, arguments) else { return false };
                match outcome {
                    Wait::Waits => drop(self.go_on(hart, held)),
                    Wait::Bits(bits) => self.answer_short(held, thread, Ok(bits)),
                }
                return true;
            }
            (number, _) => {
                let [target, second] = [message.target, message.header.0];
                let outcome = match number {
                    Some(SystemCall::NotificationPoll) => self.short_poll(hart, target, second),
                    Some(SystemCall::NotificationSignal) => self.short_signal(hart, target, second),
                    Some(SystemCall::ThreadYield) => {
                        self.short_yield(hart);
                        Some(Ok(0))
                    }
                    _ => None,
                };
                let Some(outcome) = outcome else { return false };
                self.answer_short(held, thread, outcome);
                return true;
            }
        };
        let Some(delivered) = delivered else { return false };
        message.target = 0;
        message.header = Header(delivered.header);
        (message.reply, message.buffers) = (Handle(delivered.reply), delivered.badge);
        (message.deadline, message.process_id) = (delivered.service_id, delivered.process_id);
        if let Some(runs) = hart.current
            && let Some((mut body, _)) = self.lock(held, runs)
        {
            body.context.set_message(&message);
        }
        true
    }

    fn answer_short(&self, held: &mut Held<'_, Nothing>, thread: Id<Thread>, outcome: Result<u64, Error>) {
        if let Some((mut body, _)) = self.lock(held, thread) {
            set_outcome(&mut body, outcome);
        }
    }
}
