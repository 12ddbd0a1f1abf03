//! A system call as registers: put in where the thread asks, taken out when it is answered.

use super::BEFORE_CALL;
use crate::door::{Request, Response};
use neuron::object::thread::Context as ThreadContext;

/// Puts a call into a thread's registers, as the program's code does on the machine.
pub(super) fn ask(request: Request, context: &mut ThreadContext) {
    let call = match request {
        Request::Plain(call, arguments) => {
            arguments
                .into_iter()
                .enumerate()
                .for_each(|(place, argument)| context.set_argument(place, argument));
            call
        }
        Request::Message(call, registers) => {
            context.set_message(&registers);
            call
        }
        _ => return,
    };
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
        Request::Message(..) => Response::Message(context.message()),
        _ => Response::Plain(context.argument(0), context.argument(1)),
    }
}
