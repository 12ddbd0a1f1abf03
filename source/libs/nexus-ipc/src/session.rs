//! Calls whose answer brings a capability: a session with the server.

use crate::client::decoded;
use crate::{Answer, Call, CallError, Deadline, Message, Status};
use nexus_abi::limits::REGISTER_BYTES;
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::{Handle, Rights, system};
use zerocopy::IntoBytes;

/// As [`call`], and takes the capability that the answer brings: a session with the server. It is never repeated,
/// and everything that it carries fits the registers.
pub fn call_opening<Q: Message, E: Message>(
    endpoint: Handle,
    operation: u16,
    request: &Q,
    deadline: Deadline,
) -> Result<Handle, CallError<E>> {
    const { assert!(Q::BYTES_MAX <= REGISTER_BYTES && E::BYTES_MAX <= REGISTER_BYTES) };
    let mut registers = Registers::default();
    let length = request.encode(registers.words.as_mut_bytes()).map_err(CallError::of_request)?;
    registers.header = Header::new(operation, length as u32, 0);
    let mut buffers = Buffers::default();
    // SAFETY: the buffers name no memory but themselves.
    unsafe { system::call(endpoint, &mut registers, Some(&mut buffers), deadline.ticks()) }
        .map_err(CallError::Kernel)?;
    let came = buffers.received_capabilities.get(..registers.header.capabilities()).unwrap_or(&[]);
    let payload = registers.words.as_bytes().get(..registers.header.bytes());
    let outcome = decoded::<(), E>(registers.header.label(), payload.unwrap_or(&[]));
    match (outcome, came) {
        (Ok(()), &[session]) => Ok(session),
        (outcome, came) => {
            // What nobody asked for is not kept.
            for &capability in came {
                let _ = system::cap_close(capability);
            }
            Err(outcome.err().unwrap_or(CallError::AnswerMalformed))
        }
    }
}

impl Call<'_> {
    /// Answers at once: with a capability, which becomes the caller's, or with the service's error.
    pub fn answer_opening<E: Message>(self, outcome: Result<Handle, E>) {
        let answer: Answer<(), E> = self.keep();
        match outcome {
            Ok(session) => answer_moving(answer.into_reply(), session),
            Err(error) => {
                // Whoever asked may have given up meanwhile.
                let _ = answer.send(Err(error));
            }
        }
    }
}

/// Answers and moves this capability to the caller. If the caller gave up meanwhile, or has no room for it, it is
/// closed, and so is the Reply.
fn answer_moving(reply: Handle, capability: Handle) {
    let mut registers =
        Registers { header: Header::new(Status::Ok as u16, 0, 1), reply, ..Registers::default() };
    let mut buffers = Buffers::default();
    buffers.send_capabilities[0] = CapabilityTransfer::moved(capability, Rights::CALL);
    // SAFETY: the buffers name no memory but themselves.
    if unsafe { system::reply(&mut registers, Some(&mut buffers)) }.is_err() {
        let _ = system::cap_close(capability);
        let _ = system::cap_close(reply);
    }
}
