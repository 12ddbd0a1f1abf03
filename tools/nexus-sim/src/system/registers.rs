//! A system call as registers: put in where the thread asks, taken out when it is answered.

use super::BEFORE_CALL;
use crate::door::{Request, Response};
use neuron::object::thread::Context as ThreadContext;
use nexus_abi::Handle;
use nexus_abi::message::{Header, Registers};

/// The number of `t5`, which holds a deadline; `t6` follows it.
const DEADLINE: usize = 30;

/// Puts a call into a thread's registers, as the program's code does on the machine.
pub(super) fn ask(request: Request, context: &mut ThreadContext) {
    let (call, arguments) = match request {
        Request::Plain(call, arguments) => (call, arguments),
        Request::Message(call, registers) => {
            context.set_words(registers.words);
            context.registers[DEADLINE] = registers.deadline;
            (call, [registers.target, registers.header.0, registers.reply.0, registers.buffers, 0, 0])
        }
        _ => return,
    };
    let count = if matches!(request, Request::Message(..)) { 4 } else { 6 };
    for (place, argument) in arguments.into_iter().enumerate().take(count) {
        context.set_argument(place, argument);
    }
    context.set_argument(7, call as u64);
    context.set_program_counter(BEFORE_CALL);
}

/// Answers a call as the kernel would that refuses it.
pub(crate) fn answer_with(context: &mut ThreadContext, error: u64) {
    context.set_argument(0, error);
    context.set_argument(1, 0);
    context.set_program_counter(BEFORE_CALL + 4);
}

/// Takes a call's answer out of a thread's registers.
pub(super) fn answer(asked: Request, context: &mut ThreadContext) -> Response {
    match asked {
        Request::Message(..) => Response::Message(Registers {
            target: context.argument(0),
            header: Header(context.argument(1)),
            reply: Handle(context.argument(2)),
            buffers: context.argument(3),
            words: context.words(),
            deadline: context.registers[DEADLINE],
            process_id: context.registers[DEADLINE + 1],
        }),
        _ => Response::Plain(context.argument(0), context.argument(1)),
    }
}
