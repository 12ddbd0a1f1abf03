//! System calls: one dispatch by number, one function a call, all of one shape.
//!
//! A function gets the caller and the arguments and answers a value, an [`Error`], or how else the call
//! ends ([`Stop`]). Longer work goes in steps: `Again` lets interrupts in and the call is made anew.

pub(crate) mod capability;
mod device;
mod dma;
mod endpoint;
mod lease;
pub(crate) mod mapping;
pub(crate) mod memory;
mod message;
mod notification;
mod process;
mod qos;
mod system;

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::Id;
use crate::memory::user::UserHeld;
use crate::object::process::ProcessShared;
use crate::object::thread::Progress;
use crate::object::{Process, Thread};
use crate::schedule::set_outcome;
use crate::sync::{Held, Nothing};
use nexus_abi::{Error, Handle, Kind, Rights, SystemCall};

/// How a call ends that does not simply answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is refused.
    Error(Error),
    /// The caller waits, or has ended; its registers are somebody else's business.
    Waits,
    /// The registers hold the answer already.
    Answered,
    /// An interrupt comes first; then the call is made again from its beginning.
    Again,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

/// What a call yields.
pub type Outcome = Result<u64, Stop>;

/// Who makes the call.
pub struct Caller<'k> {
    /// The thread.
    pub thread: Id<Thread>,
    /// Its process.
    pub process: Id<Process>,
    /// What is shared of the process.
    pub shared: &'k ProcessShared,
}

/// What every call's function gets.
pub(crate) struct Request<'a, 'k, 'h> {
    pub hart: &'a mut Hart,
    pub held: &'a mut Held<'h, Nothing>,
    pub caller: Caller<'k>,
    pub arguments: [u64; 6],
}

impl<'k> Request<'_, 'k, '_> {
    /// Permission to reach user memory.
    pub fn user(&mut self) -> UserHeld<'_> {
        self.held.above()
    }
}

impl<A: Arch> Kernel<A> {
    /// Does the system call that the current thread's registers ask for.
    pub fn system_call(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        let Some(thread) = hart.current else { return };
        let Some((number, arguments, process)) = self.begin_call(held, thread) else { return };
        let Some(shared) = self.memory.shared(process) else { return };
        let caller = Caller { thread, process, shared };
        let outcome = match SystemCall::from_number(number) {
            Some(call) => self.dispatch(call, Request { hart, held, caller, arguments }),
            None => Err(Stop::Error(Error::UnknownCall)),
        };
        if !matches!(outcome, Err(Stop::Again))
            && let Some((mut body, _)) = self.lock(held, thread)
        {
            // The next message is another one, also if it goes to the same receiver.
            body.message.progress = Progress::default();
        }
        let result = match outcome {
            Ok(value) => Ok(value),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Waits | Stop::Answered) => return,
            Err(Stop::Again) => {
                if let Some((mut body, _)) = self.lock(held, thread) {
                    body.context.repeat_call();
                }
                return;
            }
        };
        if let Some((mut body, _)) = self.lock(held, thread) {
            set_outcome(&mut body, result);
        }
    }

    /// Has the call made again from where it got to: its arguments, by their places, become these.
    pub(crate) fn again_with(
        &self,
        held: &mut Held<'_, Nothing>,
        thread: Id<Thread>,
        arguments: &[(usize, u64)],
    ) -> Stop {
        if let Some((mut body, _)) = self.lock(held, thread) {
            for &(place, value) in arguments {
                body.context.set_argument(place, value);
            }
        }
        Stop::Again
    }

    /// Steps over the instruction and reads number and arguments.
    fn begin_call(
        &self,
        held: &mut Held<'_, Nothing>,
        thread: Id<Thread>,
    ) -> Option<(u64, [u64; 6], Id<Process>)> {
        let (mut body, _) = self.lock(held, thread)?;
        body.context.step_over_call();
        let arguments = core::array::from_fn(|index| body.context.argument(index));
        Some((body.context.argument(7), arguments, body.process))
    }

    fn dispatch(&self, call: SystemCall, request: Request<'_, '_, '_>) -> Outcome {
        match call {
            SystemCall::Call => self.call(request),
            SystemCall::Receive => self.recv(request),
            SystemCall::Reply => self.reply(request),
            SystemCall::ReplyReceive => self.reply_recv(request),
            SystemCall::Post => self.post(request),
            SystemCall::EndpointCreate => self.endpoint_create(request),
            SystemCall::EndpointMint => self.endpoint_mint(request),
            SystemCall::EndpointSeal => self.endpoint_seal(request),
            SystemCall::NotificationCreate => self.notification_create(request),
            SystemCall::NotificationSignal => self.notification_signal(request),
            SystemCall::NotificationWait => self.notification_wait(request),
            SystemCall::NotificationPoll => self.notification_poll(request),
            SystemCall::NotificationBind => self.notification_bind(request),
            SystemCall::CapDup => self.cap_dup(request),
            SystemCall::CapTransferTo => self.cap_transfer_to(request),
            SystemCall::CapQuery => self.cap_query(request),
            SystemCall::CapClose => self.cap_close(request),
            SystemCall::CapRevoke => self.cap_revoke(request),
            SystemCall::VmoCreate => self.vmo_create(request),
            SystemCall::VmoRead => self.vmo_read(request),
            SystemCall::VmoWrite => self.vmo_write(request),
            SystemCall::VmoMap => self.vmo_map(request),
            SystemCall::VmoUnmap => self.vmo_unmap(request),
            SystemCall::VmoProtect => self.vmo_protect(request),
            SystemCall::ProcessCreate => self.process_create(request),
            SystemCall::ThreadCreate => self.thread_create(request),
            SystemCall::ThreadExit => self.thread_exit(request),
            SystemCall::ThreadYield => self.thread_yield(request),
            SystemCall::ThreadSleep => self.thread_sleep(request),
            SystemCall::ProcessExit => self.process_exit(request),
            SystemCall::ProcessKill => self.process_kill(request),
            SystemCall::ProcessStatus => self.process_status(request),
            SystemCall::ProcessReport => self.process_report(request),
            SystemCall::DeviceCapCreate => self.device_cap_create(request),
            SystemCall::IrqCapCreate => self.irq_cap_create(request),
            SystemCall::MmioMap => self.mmio_map(request),
            SystemCall::IrqBind => self.irq_bind(request),
            SystemCall::IrqAck => self.irq_ack(request),
            SystemCall::TimerCreate => self.timer_create(request),
            SystemCall::TimerArm => self.timer_arm(request),
            SystemCall::RingRead => self.ring_read(request),
            SystemCall::RingWrite => self.ring_write(request),
            SystemCall::RingBind => self.ring_bind(request),
            SystemCall::SystemInfo => self.system_info(request),
            SystemCall::ProcessList => self.process_list(request),
            SystemCall::CapList => self.cap_list(request),
            SystemCall::SystemReset => self.system_reset(request),
            SystemCall::LeaseCopy => self.lease_copy(request),
            SystemCall::LeaseQuery => self.lease_query(request),
            SystemCall::VmoResize => self.vmo_resize(request),
            SystemCall::DmaCreate => self.dma_create(request),
            SystemCall::DmaAddress => self.dma_address(request),
            SystemCall::DmaRelease => self.dma_release(request),
            SystemCall::CapHolders => self.cap_holders(request),
            SystemCall::ThreadQos => self.thread_qos(request),
            SystemCall::ThreadSetQos => self.thread_set_qos(request),
            SystemCall::ProcessSetBudget => self.process_set_budget(request),
            SystemCall::AuthorityNarrow => self.authority_narrow(request),
            SystemCall::ThreadSetAffinity => self.thread_set_affinity(request),
        }
    }

    /// The object that a capability of the caller names, of this kind and with these rights.
    pub(crate) fn object<T>(
        &self,
        caller: &Caller<'_>,
        handle: u64,
        kind: Kind,
        rights: Rights,
    ) -> Result<Id<T>, Error> {
        let capability = self.memory.capability(caller.shared, handle, kind, rights)?;
        Id::from_raw(capability.object).ok_or(Error::StaleHandle)
    }

    /// As [`Kernel::object`] for a process, where no handle means the caller's own.
    pub(crate) fn process_or_self(
        &self,
        caller: &Caller<'_>,
        handle: u64,
        rights: Rights,
    ) -> Result<Id<Process>, Error> {
        if Handle(handle).is_none() {
            return Ok(caller.process);
        }
        let process: Id<Process> = self.object(caller, handle, Kind::Process, rights)?;
        let shared = self.memory.shared(process).ok_or(Error::StaleHandle)?;
        if shared.has_ended() { Err(Error::PeerGone) } else { Ok(process) }
    }
}
