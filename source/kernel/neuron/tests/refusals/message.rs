//! What messages, endpoints and notifications refuse.

use crate::stage::{BUFFERS, CALL, HOLE, POST, READ, forever, header};
use neuron::testing::{PAGE, Step};
use nexus_abi::message::{CapabilityTransfer, Registers};
use nexus_abi::{Handle, Rights};

/// A message with two bytes too many for registers, from the usual buffers.
fn long(target: u64) -> Registers {
    Registers { target, header: header(66, 0), buffers: BUFFERS, ..forever() }
}

/// An answer through `reply`, then an arrival at the own endpoint.
fn answer(stage: &Stage, reply: u64) -> Registers {
    Registers { target: stage.own, reply: Handle(reply), ..forever() }
}

impl Stage {
    /// The server takes a call of `me` and dies.
    fn call_a_server_that_dies(&mut self) -> Outcome {
        self.serve();
        self.begin(SystemCall::Call, &Registers { target: self.endpoint, buffers: BUFFERS, ..forever() });
        let server = self.server.process;
        self.machine.kill(server);
        self.machine.settle();
        self.outcome()
    }

    fn seal(&mut self, endpoint: u64) {
        self.make(SystemCall::EndpointSeal, &[endpoint]);
    }

    /// A badged capability whose server has died since.
    fn outlived_session(&mut self) -> u64 {
        let badged = self.make(SystemCall::EndpointMint, &[self.endpoint, 7, CALL | POST]);
        let server = self.server.process;
        self.machine.kill(server);
        self.machine.settle();
        badged
    }

    /// An endpoint at which `me` may receive, of these bounds.
    fn endpoint_of(&mut self, bytes: u64, capabilities: u64) -> u64 {
        self.make(SystemCall::EndpointCreate, &[10, bytes, capabilities])
    }

    /// `me` waits for an arrival at an endpoint whose owner then dies.
    fn receive_from_one_that_dies(&mut self, call: SystemCall) -> Outcome {
        let owner = self.machine.process();
        let endpoint = self.machine.call(owner, SystemCall::EndpointCreate, &[10, 64, 0]).expect("fresh");
        let target = self.machine.hand(owner, endpoint, self.me, Rights::RECEIVE);
        self.begin(call, &Registers { target, ..forever() });
        self.machine.kill(owner.process);
        self.machine.settle();
        self.outcome()
    }
}

/// A message of `me` that copies a capability.
fn with_a_copy(stage: &mut Stage, capability: u64) -> Registers {
    stage.put_buffers(stage.me, &[CapabilityTransfer::copy(Handle(capability), Rights::READ)]);
    Registers { header: header(0, 1), buffers: BUFFERS, ..forever() }
}

/// A message of `me` that moves a copy of the endpoint through which another thread's call waits.
fn others_wait_through_a_copy(stage: &mut Stage) -> Registers {
    let copy = stage.make(SystemCall::CapDup, &[stage.endpoint, CALL]);
    let other = stage.machine.thread(stage.me.process);
    let call = Registers { target: copy, ..forever() };
    assert_eq!(stage.machine.message(other, SystemCall::Call, &call), Step::Waits);
    stage.put_buffers(stage.me, &[CapabilityTransfer::moved(Handle(copy), Rights::CALL)]);
    Registers { header: header(0, 1), buffers: BUFFERS, ..forever() }
}

refusals! {
    test_reject_call_with_five_capabilities: Call, InvalidArgument => |s| {
        s.send(SystemCall::Call, &Registers { target: s.endpoint, header: header(0, 5), ..forever() })
    };
    test_reject_call_that_sends_one_capability_twice: Call, InvalidArgument => |s| {
        let one = CapabilityTransfer::copy(Handle(s.vmo), Rights::READ);
        s.put_buffers(s.me, &[one, one]);
        s.send(SystemCall::Call, &Registers { header: header(0, 2), ..long(s.endpoint) })
    };
    test_reject_call_with_unmapped_buffers: Call, Fault => |s| {
        s.send(SystemCall::Call, &Registers { buffers: HOLE, ..long(s.endpoint) })
    };
    test_reject_call_with_unmapped_payload: Call, Fault => |s| {
        s.serve();
        s.put_buffers(s.me, &[]);
        s.machine.put(s.me, BUFFERS, &HOLE);
        s.send(SystemCall::Call, &long(s.endpoint))
    };
    test_reject_call_beyond_the_endpoints_bytes: Call, TooLarge => |s| {
        s.send(SystemCall::Call, &Registers { header: header(4_097, 0), ..long(s.endpoint) })
    };
    test_reject_call_beyond_the_endpoints_capabilities: Call, TooLarge => |s| {
        s.send(SystemCall::Call, &Registers { header: header(0, 3), ..long(s.endpoint) })
    };
    test_reject_call_to_the_same_rank: Call, WouldDeadlock => |s| {
        s.send(SystemCall::Call, &Registers { target: s.own, ..forever() })
    };
    test_reject_call_to_a_sealed_endpoint: Call, Sealed => |s| {
        s.seal(s.endpoint);
        s.send(SystemCall::Call, &Registers { target: s.endpoint, ..forever() })
    };
    test_reject_call_that_waits_when_the_endpoint_is_sealed: Call, Sealed => |s| {
        s.begin(SystemCall::Call, &Registers { target: s.endpoint, ..forever() });
        let other = s.machine.thread(s.me.process);
        s.machine.call(other, SystemCall::EndpointSeal, &[s.endpoint])?;
        s.outcome()
    };
    test_reject_call_through_a_revoked_capability: Call, Revoked => |s| {
        let derived = s.make(SystemCall::CapDup, &[s.endpoint, CALL]);
        s.begin(SystemCall::Call, &Registers { target: derived, ..forever() });
        let other = s.machine.thread(s.me.process);
        s.machine.call(other, SystemCall::CapRevoke, &[s.endpoint])?;
        s.outcome()
    };
    test_reject_call_that_moves_what_others_wait_through: Call, Busy => |s| {
        let moved = others_wait_through_a_copy(s);
        let message = Registers { target: s.endpoint, ..moved };
        s.send(SystemCall::Call, &message)
    };
    test_reject_call_with_a_copy_of_what_is_being_revoked: Call, Revoked => |s| {
        s.begin_revoking(s.vmo, READ);
        s.serve();
        let message = Registers { target: s.endpoint, ..with_a_copy(s, s.vmo) };
        s.send(SystemCall::Call, &message)
    };
    test_reject_call_with_a_copy_that_derives_from_too_many: Call, NoSlots => |s| {
        let last = s.derive_as_far_as_may_be(s.vmo, READ);
        s.serve();
        let message = Registers { target: s.endpoint, ..with_a_copy(s, last) };
        s.send(SystemCall::Call, &message)
    };
    test_reject_call_whose_deadline_is_over: Call, TimedOut => |s| {
        s.send(SystemCall::Call, &Registers { target: s.endpoint, ..Registers::default() })
    };
    test_reject_call_that_nobody_takes_in_time: Call, TimedOut => |s| {
        let deadline = s.machine.now() + 1_000;
        s.begin(SystemCall::Call, &Registers { target: s.endpoint, deadline, ..Registers::default() });
        s.machine.advance_to(deadline);
        s.outcome()
    };
    test_reject_call_whose_server_dies: Call, PeerGone => |s| s.call_a_server_that_dies();
    test_reject_call_through_an_outlived_session: Call, PeerGone => |s| {
        let target = s.outlived_session();
        s.send(SystemCall::Call, &Registers { target, ..forever() })
    };

    test_reject_recv_above_the_endpoints_rank: Receive, WouldDeadlock => |s| {
        s.send(SystemCall::Receive, &Registers { target: s.endpoint, buffers: BUFFERS, ..forever() })
    };
    test_reject_recv_without_buffers: Receive, BufferTooSmall => |s| {
        let target = s.endpoint_of(65, 0);
        s.send(SystemCall::Receive, &Registers { target, ..forever() })
    };
    test_reject_recv_with_small_buffers: Receive, BufferTooSmall => |s| {
        let target = s.endpoint_of(16 * PAGE, 0);
        s.put_buffers(s.me, &[]);
        s.machine.put(s.me, BUFFERS + 16, &(16 * PAGE - 1));
        s.send(SystemCall::Receive, &Registers { target, buffers: BUFFERS, ..forever() })
    };
    test_reject_recv_without_room_for_capabilities: Receive, NoSlots => |s| {
        let target = s.endpoint_of(64, 1);
        s.put_buffers(s.me, &[]);
        s.fill_table(s.me);
        s.send(SystemCall::Receive, &Registers { target, buffers: BUFFERS, ..forever() })
    };
    test_reject_recv_with_unmapped_buffers: Receive, Fault => |s| {
        s.send(SystemCall::Receive, &Registers { target: s.own, buffers: HOLE, ..forever() })
    };
    test_reject_recv_from_a_sealed_endpoint: Receive, Sealed => |s| {
        s.seal(s.own);
        s.send(SystemCall::Receive, &Registers { target: s.own, ..forever() })
    };
    test_reject_recv_when_nothing_comes: Receive, TimedOut => |s| {
        s.send(SystemCall::Receive, &Registers { target: s.own, ..Registers::default() })
    };
    test_reject_recv_from_an_endpoint_that_is_destroyed: Receive, PeerGone => |s| {
        s.receive_from_one_that_dies(SystemCall::Receive)
    };

    test_reject_reply_that_sends_a_right_it_lacks: Reply, NotPermitted => |s| {
        let (_, reply) = s.owe_answer(true);
        let weak = s.make(SystemCall::CapDup, &[s.vmo, 0]);
        s.put_buffers(s.me, &[CapabilityTransfer::copy(Handle(weak), Rights::READ)]);
        let message = Registers { header: header(0, 1), buffers: BUFFERS, ..answer(s, reply) };
        s.send(SystemCall::Reply, &message)
    };
    test_reject_reply_with_five_capabilities: Reply, InvalidArgument => |s| {
        let (_, reply) = s.owe_answer(true);
        s.put_buffers(s.me, &[]);
        let message = Registers { header: header(0, 5), buffers: BUFFERS, ..answer(s, reply) };
        s.send(SystemCall::Reply, &message)
    };
    test_reject_reply_with_unmapped_buffers: Reply, Fault => |s| {
        let (_, reply) = s.owe_answer(true);
        s.send(SystemCall::Reply, &Registers { header: header(66, 0), buffers: HOLE, ..answer(s, reply) })
    };
    test_reject_reply_beyond_the_callers_room: Reply, TooLarge => |s| {
        let (caller, reply) = s.owe_answer(false);
        s.put_buffers(s.me, &[]);
        let message = Registers { header: header(66, 0), buffers: BUFFERS, ..answer(s, reply) };
        let refused = s.send(SystemCall::Reply, &message);
        assert!(s.machine.waits(caller), "the call stays open");
        refused
    };
    test_reject_reply_beyond_what_any_message_has: Reply, TooLarge => |s| {
        let (_, reply) = s.owe_answer(true);
        s.put_buffers(s.me, &[]);
        let message = Registers { header: header(65_537, 0), buffers: BUFFERS, ..answer(s, reply) };
        s.send(SystemCall::Reply, &message)
    };
    test_reject_reply_whose_capabilities_have_no_room: Reply, NoSlots => |s| {
        let (caller, reply) = s.owe_answer(true);
        s.fill_table(caller);
        s.put_buffers(s.me, &[CapabilityTransfer::copy(Handle(s.vmo), Rights::READ)]);
        let message = Registers { header: header(0, 1), buffers: BUFFERS, ..answer(s, reply) };
        let refused = s.send(SystemCall::Reply, &message);
        assert!(s.machine.waits(caller), "the call stays open");
        refused
    };
    test_reject_reply_that_moves_what_others_wait_through: Reply, Busy => |s| {
        let (_, reply) = s.owe_answer(true);
        let moved = others_wait_through_a_copy(s);
        s.send(SystemCall::Reply, &Registers { reply: Handle(reply), ..moved })
    };
    test_reject_reply_recv_that_moves_what_others_wait_through: ReplyReceive, Busy => |s| {
        let (_, reply) = s.owe_answer(true);
        let moved = others_wait_through_a_copy(s);
        let message = Registers { target: s.own, reply: Handle(reply), ..moved };
        s.send(SystemCall::ReplyReceive, &message)
    };
    test_reject_reply_with_a_copy_of_what_is_being_revoked: Reply, Revoked => |s| {
        let (caller, reply) = s.owe_answer(true);
        s.begin_revoking(s.vmo, READ);
        let message = Registers { reply: Handle(reply), ..with_a_copy(s, s.vmo) };
        let refused = s.send(SystemCall::Reply, &message);
        assert!(s.machine.waits(caller), "the call stays open");
        refused
    };
    test_reject_reply_recv_with_a_copy_of_what_is_being_revoked: ReplyReceive, Revoked => |s| {
        let (_, reply) = s.owe_answer(true);
        s.begin_revoking(s.vmo, READ);
        let message = Registers { target: s.own, reply: Handle(reply), ..with_a_copy(s, s.vmo) };
        s.send(SystemCall::ReplyReceive, &message)
    };
    test_reject_reply_to_a_caller_that_died: Reply, PeerGone => |s| {
        let (caller, reply) = s.owe_answer(false);
        s.machine.kill(caller.process);
        s.machine.settle();
        s.send(SystemCall::Reply, &answer(s, reply))
    };

    test_reject_reply_recv_with_five_capabilities: ReplyReceive, InvalidArgument => |s| {
        let (_, reply) = s.owe_answer(true);
        s.put_buffers(s.me, &[]);
        let message = Registers { header: header(0, 5), buffers: BUFFERS, ..answer(s, reply) };
        s.send(SystemCall::ReplyReceive, &message)
    };
    test_reject_reply_recv_above_the_endpoints_rank: ReplyReceive, WouldDeadlock => |s| {
        let (_, reply) = s.owe_answer(false);
        s.put_buffers(s.me, &[]);
        let message = Registers { target: s.endpoint, buffers: BUFFERS, ..answer(s, reply) };
        s.send(SystemCall::ReplyReceive, &message)
    };
    test_reject_reply_recv_without_buffers: ReplyReceive, BufferTooSmall => |s| {
        let (_, reply) = s.owe_answer(false);
        let target = s.endpoint_of(65, 0);
        s.send(SystemCall::ReplyReceive, &Registers { target, ..answer(s, reply) })
    };
    test_reject_reply_recv_without_room_for_capabilities: ReplyReceive, NoSlots => |s| {
        let (_, reply) = s.owe_answer(false);
        let target = s.endpoint_of(64, 1);
        s.put_buffers(s.me, &[]);
        s.fill_table(s.me);
        s.send(SystemCall::ReplyReceive, &Registers { target, buffers: BUFFERS, ..answer(s, reply) })
    };
    test_reject_reply_recv_beyond_the_callers_room: ReplyReceive, TooLarge => |s| {
        let (_, reply) = s.owe_answer(false);
        s.put_buffers(s.me, &[]);
        let message = Registers { header: header(66, 0), buffers: BUFFERS, ..answer(s, reply) };
        s.send(SystemCall::ReplyReceive, &message)
    };
    test_reject_reply_recv_with_unmapped_buffers: ReplyReceive, Fault => |s| {
        let (_, reply) = s.owe_answer(false);
        s.send(SystemCall::ReplyReceive, &Registers { buffers: HOLE, ..answer(s, reply) })
    };
    test_reject_reply_recv_from_a_sealed_endpoint_after_the_answer: ReplyReceive, Sealed => |s| {
        let (caller, reply) = s.owe_answer(false);
        s.seal(s.own);
        let refused = s.send(SystemCall::ReplyReceive, &answer(s, reply));
        assert_eq!(s.machine.result(caller).map(drop), Ok(()), "the answer was given");
        refused
    };
    test_reject_reply_recv_when_nothing_comes_after_the_answer: ReplyReceive, TimedOut => |s| {
        let (caller, reply) = s.owe_answer(false);
        let message = Registers { deadline: 0, ..answer(s, reply) };
        let refused = s.send(SystemCall::ReplyReceive, &message);
        assert_eq!(s.machine.result(caller).map(drop), Ok(()), "the answer was given");
        refused
    };
    test_reject_reply_recv_from_an_endpoint_that_is_destroyed: ReplyReceive, PeerGone => |s| {
        s.receive_from_one_that_dies(SystemCall::ReplyReceive)
    };

    test_reject_reply_recv_to_a_caller_that_died: ReplyReceive, PeerGone => |s| {
        let (caller, reply) = s.owe_answer(false);
        s.machine.kill(caller.process);
        s.machine.settle();
        s.send(SystemCall::ReplyReceive, &answer(s, reply))
    };
    test_reject_reply_sent_to_its_own_callers_rank: Reply, WouldDeadlock => |s| {
        let ((_, first), (_, second)) = (s.owe_answer(true), s.owe_answer(true));
        s.put_buffers(s.me, &[CapabilityTransfer::moved(Handle(second), Rights::empty())]);
        let message = Registers { header: header(0, 1), buffers: BUFFERS, ..answer(s, first) };
        s.send(SystemCall::Reply, &message)
    };
    test_reject_reply_that_is_copied: Call, InvalidArgument => |s| {
        let (_, reply) = s.owe_answer(false);
        s.put_buffers(s.me, &[CapabilityTransfer::copy(Handle(reply), Rights::empty())]);
        s.send(SystemCall::Call, &Registers { header: header(0, 1), ..long(s.endpoint) })
    };
    test_reject_reply_sent_with_itself: Reply, InvalidArgument => |s| {
        let (_, reply) = s.owe_answer(true);
        s.put_buffers(s.me, &[CapabilityTransfer::moved(Handle(reply), Rights::empty())]);
        let message = Registers { header: header(0, 1), buffers: BUFFERS, ..answer(s, reply) };
        s.send(SystemCall::Reply, &message)
    };
    test_reject_reply_that_lends: Reply, InvalidArgument => |s| {
        let (_, reply) = s.owe_answer(true);
        s.send(SystemCall::Reply, &Registers { header: header(0, 0).with_leases(1), ..answer(s, reply) })
    };
    test_reject_post_that_lends: Post, InvalidArgument => |s| {
        let lends = header(0, 0).with_leases(1);
        s.send(SystemCall::Post, &Registers { target: s.endpoint, header: lends, ..forever() })
    };

    test_reject_post_beyond_the_registers: Post, TooLarge => |s| {
        s.send(SystemCall::Post, &Registers { target: s.endpoint, header: header(65, 0), ..forever() })
    };
    test_reject_post_with_capabilities: Post, TooLarge => |s| {
        s.send(SystemCall::Post, &Registers { target: s.endpoint, header: header(0, 1), ..forever() })
    };
    test_reject_fifth_post_that_nobody_took: Post, NoCredit => |s| {
        let post = Registers { target: s.endpoint, header: header(8, 0), ..forever() };
        for _ in 0..4 {
            s.send(SystemCall::Post, &post)?;
        }
        s.send(SystemCall::Post, &post)
    };
    test_reject_post_without_a_page: Post, NoMemory => |s| {
        s.exhaust_quota();
        s.send(SystemCall::Post, &Registers { target: s.endpoint, ..forever() })
    };
    test_reject_post_to_a_sealed_endpoint: Post, Sealed => |s| {
        s.seal(s.endpoint);
        s.send(SystemCall::Post, &Registers { target: s.endpoint, ..forever() })
    };
    test_reject_post_through_an_outlived_session: Post, PeerGone => |s| {
        let target = s.outlived_session();
        s.send(SystemCall::Post, &Registers { target, ..forever() })
    };

    test_reject_endpoint_above_ones_own_rank: EndpointCreate, InvalidArgument => |s| {
        s.call(SystemCall::EndpointCreate, &[11, 64, 0])
    };
    test_reject_endpoint_of_five_capabilities: EndpointCreate, InvalidArgument => |s| {
        s.call(SystemCall::EndpointCreate, &[5, 64, 5])
    };
    test_reject_endpoint_of_more_than_a_message: EndpointCreate, TooLarge => |s| {
        s.call(SystemCall::EndpointCreate, &[5, 65_537, 0])
    };
    test_reject_endpoint_without_a_page: EndpointCreate, NoMemory => |s| {
        s.exhaust_quota_for(SystemCall::EndpointCreate, &[5, 64, 0]);
        s.call(SystemCall::EndpointCreate, &[5, 64, 0])
    };
    test_reject_endpoint_in_a_full_table: EndpointCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::EndpointCreate, &[5, 64, 0])
    };
    test_reject_badge_of_nothing: EndpointMint, InvalidArgument => |s| {
        s.call(SystemCall::EndpointMint, &[s.endpoint, 0, CALL])
    };
    test_reject_badge_on_a_badge: EndpointMint, InvalidArgument => |s| {
        let mint = u64::from(Rights::MINT.bits());
        s.call(SystemCall::EndpointMint, &[s.endpoint, 7, CALL | mint])
    };
    test_reject_badge_without_a_page: EndpointMint, NoMemory => |s| {
        s.exhaust_quota();
        s.call(SystemCall::EndpointMint, &[s.endpoint, 7, CALL])
    };
    test_reject_badge_in_a_full_table: EndpointMint, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::EndpointMint, &[s.endpoint, 7, CALL])
    };
    test_reject_badge_of_an_endpoint_that_derives_from_too_many: EndpointMint, NoSlots => |s| {
        let last = s.derive_as_far_as_may_be(s.endpoint, CALL | u64::from(Rights::MINT.bits()));
        s.call(SystemCall::EndpointMint, &[last, 7, CALL])
    };
    test_reject_badge_of_an_endpoint_that_is_revoked: EndpointMint, Revoked => |s| {
        s.begin_revoking(s.endpoint, CALL);
        s.call(SystemCall::EndpointMint, &[s.endpoint, 7, CALL])
    };

    test_reject_notification_without_a_page: NotificationCreate, NoMemory => |s| {
        s.exhaust_quota_for(SystemCall::NotificationCreate, &[]);
        s.call(SystemCall::NotificationCreate, &[])
    };
    test_reject_notification_in_a_full_table: NotificationCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::NotificationCreate, &[])
    };
    test_reject_wait_for_no_bit: NotificationWait, InvalidArgument => |s| {
        s.call(SystemCall::NotificationWait, &[s.notification, 0, 0])
    };
    test_reject_second_waiter: NotificationWait, Busy => |s| {
        let other = s.machine.thread(s.me.process);
        let wait = [s.notification, 1, u64::MAX];
        assert_eq!(s.machine.start(other, SystemCall::NotificationWait, &wait), Step::Waits);
        s.call(SystemCall::NotificationWait, &wait)
    };
    test_reject_wait_whose_deadline_is_over: NotificationWait, TimedOut => |s| {
        s.call(SystemCall::NotificationWait, &[s.notification, 1, 0])
    };
    test_reject_wait_for_a_notification_that_is_destroyed: NotificationWait, PeerGone => |s| {
        let owner = s.machine.process();
        let made = s.machine.call(owner, SystemCall::NotificationCreate, &[])?;
        let handed = s.machine.hand(owner, made, s.me, Rights::WAIT);
        let wait = [handed, 1, u64::MAX];
        assert_eq!(s.machine.start(s.me, SystemCall::NotificationWait, &wait), Step::Waits);
        s.machine.kill(owner.process);
        s.machine.settle();
        s.outcome()
    };
    test_reject_poll_of_nothing: NotificationPoll, WouldBlock => |s| {
        s.make(SystemCall::NotificationSignal, &[s.notification, 2]);
        s.call(SystemCall::NotificationPoll, &[s.notification, 1])
    };
    test_reject_second_binding: NotificationBind, Busy => |s| {
        let other = s.machine.thread(s.me.process);
        s.machine.call(other, SystemCall::NotificationBind, &[s.notification])?;
        s.call(SystemCall::NotificationBind, &[s.notification])
    };
}
