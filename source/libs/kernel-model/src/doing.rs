//! Events as system calls: what a thread puts into its memory and its registers.

use crate::model::{CapId, Event, LeaseCopy, Message, NEVER, Plain, ROOM};
use crate::{Bench, LABEL, Lockstep, PAGE, SCRATCH, THREADS};
use alloc::vec;
use alloc::vec::Vec;
use nexus_abi::message::{Buffers, CAP_COPY, CAP_MOVE, CapabilityTransfer, Header, Lease, Registers};
use nexus_abi::{Handle, SystemCall};
use zerocopy::IntoBytes;

/// Where leases stand, beyond the buffers.
const LEASES_OFFSET: u64 = 512;

impl<B: Bench> Lockstep<B> {
    /// Where a thread has its buffers, what it sends, and what it receives.
    pub(crate) fn places(thread: usize) -> [u64; 3] {
        let base = SCRATCH + (thread % THREADS) as u64 * 16 * PAGE;
        [base, base + PAGE, base + 8 * PAGE]
    }

    /// Puts a message into a thread's memory and registers.
    fn registers(&mut self, thread: usize, target: CapId, message: &Message, deadline: u64) -> Registers {
        let [buffers, send, receive] = Self::places(thread);
        let mut record = Buffers {
            send_address: send,
            receive_address: receive,
            receive_bytes: ROOM.into(),
            leases: buffers + LEASES_OFFSET,
            ..Buffers::default()
        };
        for (place, lent) in message.leases.iter().enumerate() {
            let (reply, index, address) = lent
                .on
                .map_or((0, 0, send), |(reply, index, offset)| (self.handles[&reply], index as u32, offset));
            let (reply, rights) = (Handle(reply), lent.rights.bits());
            let lease = Lease { reply, address, bytes: lent.bytes, rights, index };
            let at = buffers + LEASES_OFFSET + (place * size_of::<Lease>()) as u64;
            self.bench.put(thread, at, lease.as_bytes());
        }
        for (place, sent) in record.send_capabilities.iter_mut().zip(&message.caps) {
            let mode = if sent.moved { CAP_MOVE } else { CAP_COPY };
            let handle = Handle(self.handles[&sent.cap]);
            *place = CapabilityTransfer { handle, rights: sent.rights.bits(), mode };
        }
        self.bench.put(thread, buffers, record.as_bytes());
        if message.bytes > 64 {
            self.bench.put(thread, send, &message.tag.to_le_bytes());
            let last = send + u64::from(message.bytes) - 8;
            self.bench.put(thread, last, &message.tag.to_le_bytes());
        }
        let deadline = self.deadline(deadline);
        Registers {
            target: self.handles.get(&target).copied().unwrap_or(0),
            header: Header::new(LABEL, message.bytes, message.caps.len() as u8)
                .with_leases(message.leases.len() as u8),
            buffers: if message.plain { 0 } else { buffers },
            words: [message.tag; 8],
            deadline,
            ..Registers::default()
        }
    }

    /// Lets the kernel do what the event says.
    pub(crate) fn act(&mut self, event: &Event) {
        let handle = |cap: &CapId| self.handles[cap];
        let (thread, call, arguments) = match event {
            Event::Call { thread, via, message, deadline } => {
                let registers = self.registers(*thread, *via, message, *deadline);
                return self.send(*thread, SystemCall::Call, &registers);
            }
            Event::Receive { thread, via, plain, deadline } => {
                let nothing = Message { plain: *plain, ..Message::default() };
                let registers = self.registers(*thread, *via, &nothing, *deadline);
                return self.send(*thread, SystemCall::Receive, &registers);
            }
            Event::Reply { thread, reply, message } => {
                let registers = self.registers(*thread, 0, message, NEVER);
                let registers = Registers { reply: Handle(self.handles[reply]), ..registers };
                return self.send(*thread, SystemCall::Reply, &registers);
            }
            Event::ReplyReceive { thread, via, reply, message, deadline } => {
                let registers = self.registers(*thread, *via, message, *deadline);
                let registers = Registers { reply: Handle(self.handles[reply]), ..registers };
                return self.send(*thread, SystemCall::ReplyReceive, &registers);
            }
            Event::Post { thread, via, message } => {
                let registers = self.registers(*thread, *via, message, NEVER);
                return self.send(*thread, SystemCall::Post, &registers);
            }
            Event::Signal { thread, notification, bits } => {
                (thread, SystemCall::NotificationSignal, vec![handle(notification), *bits])
            }
            Event::Poll { thread, notification, mask } => {
                (thread, SystemCall::NotificationPoll, vec![handle(notification), *mask])
            }
            Event::LeaseCopy { thread, copy } => {
                let LeaseCopy { reply, index, offset, bytes, into } = copy;
                let [_, own, _] = Self::places(*thread);
                let arguments = vec![handle(reply), *index as u64, *offset, own, *bytes, (*into).into()];
                (thread, SystemCall::LeaseCopy, arguments)
            }
            Event::Wait { thread, notification, mask, deadline } => (
                thread,
                SystemCall::NotificationWait,
                vec![handle(notification), *mask, self.deadline(*deadline)],
            ),
            Event::Bind { thread, notification } => {
                (thread, SystemCall::NotificationBind, vec![notification.as_ref().map_or(0, handle)])
            }
            Event::Copy { thread, cap, rights } => {
                (thread, SystemCall::CapDup, vec![handle(cap), rights.bits().into()])
            }
            Event::Mint { thread, cap, badge, rights } => {
                (thread, SystemCall::EndpointMint, vec![handle(cap), *badge, rights.bits().into()])
            }
            Event::Close { thread, cap } => (thread, SystemCall::CapClose, vec![handle(cap)]),
            Event::Seal { thread, cap } => (thread, SystemCall::EndpointSeal, vec![handle(cap)]),
            Event::Revoke { thread, cap } => (thread, SystemCall::CapRevoke, vec![handle(cap)]),
            Event::Sleep { thread, deadline } => {
                (thread, SystemCall::ThreadSleep, vec![self.deadline(*deadline)])
            }
            Event::Exit { thread, code, .. } => (thread, SystemCall::ProcessExit, vec![*code]),
            Event::Plain { thread, call } => {
                let (call, arguments) = self.plain(*thread, call);
                return self.bench.start(*thread, call, &arguments);
            }
            Event::Kill { process, .. } => {
                return self.bench.kill(*process);
            }
            Event::TimePasses => return self.bench.time_passes(&self.model),
        };
        self.bench.start(*thread, call, &arguments);
    }

    /// A call that wakes nobody, and its arguments. What it reads or writes stands where messages are sent from.
    fn plain(&mut self, thread: usize, call: &Plain) -> (SystemCall, Vec<u64>) {
        let [_, own, _] = Self::places(thread);
        if let Plain::Write { word, .. } = call {
            self.bench.put(thread, own, &word.to_le_bytes());
        }
        let handle = |cap: &CapId| self.handles[cap];
        let or_none = |cap: &Option<CapId>| cap.as_ref().map_or(0, handle);
        let number = |process: &usize| self.bench.identity(*process).1;
        match call {
            Plain::Transfer { process, cap, rights } => {
                (SystemCall::CapTransferTo, vec![handle(process), handle(cap), rights.bits().into()])
            }
            Plain::Query { cap } => (SystemCall::CapQuery, vec![handle(cap), own]),
            Plain::Holders { control, process, cap, holder, first, .. } => {
                let of = [handle(control), number(process), handle(cap)];
                let from = [number(holder), u64::from(*first), own];
                (SystemCall::CapHolders, [of, from].concat())
            }
            Plain::List { control, process, first, .. } => {
                (SystemCall::CapList, vec![handle(control), number(process), u64::from(*first), own])
            }
            Plain::Status { process } => (SystemCall::ProcessStatus, vec![handle(process), own]),
            Plain::Class { thread } => (SystemCall::ThreadQos, vec![or_none(thread)]),
            Plain::SetClass { thread, class, authority } => {
                (SystemCall::ThreadSetQos, vec![or_none(thread), *class, or_none(authority)])
            }
            Plain::Budget { process, ticks, period } => {
                (SystemCall::ProcessSetBudget, vec![handle(process), *ticks, *period])
            }
            Plain::Narrow { authority, first, last } => {
                (SystemCall::AuthorityNarrow, vec![handle(authority), *first, *last])
            }
            Plain::Resize { memory, bytes } => (SystemCall::VmoResize, vec![handle(memory), *bytes]),
            Plain::Read { memory, offset, bytes } => {
                (SystemCall::VmoRead, vec![handle(memory), *offset, own, *bytes])
            }
            Plain::Write { memory, offset, bytes, .. } => {
                (SystemCall::VmoWrite, vec![handle(memory), *offset, own, *bytes])
            }
            Plain::LeaseQuery { reply, index } => {
                (SystemCall::LeaseQuery, vec![handle(reply), *index as u64])
            }
            Plain::CreateEndpoint { rank, bytes, caps } => {
                (SystemCall::EndpointCreate, [*rank, *bytes, *caps].map(u64::from).to_vec())
            }
            Plain::CreateNotification => (SystemCall::NotificationCreate, Vec::new()),
            Plain::CreateMemory { bytes } => (SystemCall::VmoCreate, vec![0, *bytes]),
            Plain::Kill { process, code, .. } => (SystemCall::ProcessKill, vec![handle(process), *code]),
        }
    }

    fn send(&mut self, thread: usize, call: SystemCall, registers: &Registers) {
        self.bench.start_message(thread, call, registers);
    }

    /// A deadline of the model in ticks.
    fn deadline(&self, epoch: u64) -> u64 {
        if epoch == NEVER { NEVER } else { self.bench.deadline(epoch) }
    }
}
