//! What leases refuse.

use crate::stage::{BUFFERS, HOLE, READ, RECEIVE, SEND, forever, header};
use neuron::testing::PAGE;
use nexus_abi::message::{Lease, Registers};
use nexus_abi::{Handle, Rights};

/// A page of a caller's memory, to be read.
fn page() -> Lease {
    Lease { address: SEND, bytes: PAGE, rights: Rights::READ.bits(), ..Lease::default() }
}

impl Stage {
    /// `me` calls with these leases.
    fn call_with(&mut self, leases: &[Lease]) -> Outcome {
        let (buffers, header) = self.put_leases(self.me, leases);
        self.send(SystemCall::Call, &Registers { target: self.endpoint, header, buffers, ..forever() })
    }

    /// `me` copies out of (`into` 0) or into the first lease of a caller that lends this.
    fn copy(&mut self, lease: Lease, offset: u64, bytes: u64, into: u64) -> Outcome {
        let (_, reply) = self.owe_leases(&[lease]);
        self.call(SystemCall::LeaseCopy, &[reply, 0, offset, RECEIVE, bytes, into])
    }

    /// The Reply of a call that lent a page and whose caller died.
    fn lent_by_the_dead(&mut self) -> u64 {
        let (caller, reply) = self.owe_leases(&[page()]);
        self.machine.kill(caller.process);
        self.machine.settle();
        reply
    }
}

refusals! {
    test_reject_call_with_five_leases: Call, InvalidArgument => |s| {
        s.send(SystemCall::Call, &Registers { target: s.endpoint, header: header(0, 0).with_leases(5), ..forever() })
    };
    test_reject_call_with_leases_but_no_buffers: Call, Fault => |s| {
        s.send(SystemCall::Call, &Registers { target: s.endpoint, header: header(0, 0).with_leases(1), ..forever() })
    };
    test_reject_call_whose_leases_are_unmapped: Call, Fault => |s| {
        let (buffers, header) = s.put_leases(s.me, &[page()]);
        s.machine.put(s.me, BUFFERS + 24, &HOLE);
        s.send(SystemCall::Call, &Registers { target: s.endpoint, header, buffers, ..forever() })
    };
    test_reject_lease_beyond_user_addresses: Call, Fault => |s| {
        s.call_with(&[Lease { address: u64::MAX - 10, ..page() }])
    };
    test_reject_lease_to_execute: Call, InvalidArgument => |s| {
        s.call_with(&[Lease { rights: Rights::EXECUTE.bits(), ..page() }])
    };
    test_reject_lease_for_nothing: Call, InvalidArgument => |s| s.call_with(&[Lease { rights: 0, ..page() }]);
    test_reject_lending_on_what_was_not_lent: Call, InvalidArgument => |s| {
        let (_, reply) = s.owe_leases(&[page()]);
        s.call_with(&[Lease { reply: Handle(reply), address: 0, index: 1, ..page() }])
    };
    test_reject_lending_on_more_than_was_lent: Call, OutOfRange => |s| {
        let (_, reply) = s.owe_leases(&[page()]);
        s.call_with(&[Lease { reply: Handle(reply), address: 1, ..page() }])
    };
    test_reject_lending_on_to_write_what_may_be_read: Call, NotPermitted => |s| {
        let (_, reply) = s.owe_leases(&[page()]);
        s.call_with(&[Lease { reply: Handle(reply), address: 0, rights: Rights::WRITE.bits(), ..page() }])
    };
    test_reject_lending_on_after_the_call_ended: Call, PeerGone => |s| {
        let reply = Handle(s.lent_by_the_dead());
        s.call_with(&[Lease { reply, address: 0, ..page() }])
    };

    test_reject_copy_out_of_a_lease_to_write: LeaseCopy, NotPermitted => |s| {
        s.copy(Lease { rights: Rights::WRITE.bits(), ..page() }, 0, 8, 0)
    };
    test_reject_copy_into_a_lease_to_read: LeaseCopy, NotPermitted => |s| s.copy(page(), 0, 8, 1);
    test_reject_copy_in_no_direction: LeaseCopy, InvalidArgument => |s| s.copy(page(), 0, 8, 2);
    test_reject_copy_of_a_lease_that_is_not_there: LeaseCopy, InvalidArgument => |s| {
        let (_, reply) = s.owe_leases(&[page()]);
        s.call(SystemCall::LeaseCopy, &[reply, 1, 0, RECEIVE, 8, 0])
    };
    test_reject_copy_beyond_the_lease: LeaseCopy, OutOfRange => |s| s.copy(page(), PAGE - 7, 8, 0);
    test_reject_copy_of_a_wrapping_range: LeaseCopy, OutOfRange => |s| s.copy(page(), u64::MAX, 8, 0);
    test_reject_copy_of_more_than_64_kib: LeaseCopy, TooLarge => |s| s.copy(page(), 0, 16 * PAGE + 1, 0);
    test_reject_copy_to_unmapped_memory: LeaseCopy, Fault => |s| {
        let (_, reply) = s.owe_leases(&[page()]);
        s.call(SystemCall::LeaseCopy, &[reply, 0, 0, HOLE, 8, 0])
    };
    test_reject_copy_of_a_hole_and_the_call_stays_open: LeaseCopy, Fault => |s| {
        let (caller, reply) = s.owe_leases(&[Lease { address: HOLE, ..page() }]);
        let refused = s.call(SystemCall::LeaseCopy, &[reply, 0, 0, RECEIVE, 8, 0]);
        assert!(s.machine.waits(caller), "the call stays open");
        refused
    };
    test_reject_copy_of_what_its_caller_may_only_read: LeaseCopy, Fault => |s| {
        let (caller, reply) = s.owe_leases(&[Lease { rights: Rights::WRITE.bits(), ..page() }]);
        let other = s.machine.thread(caller.process);
        s.machine.call(other, SystemCall::VmoProtect, &[0, neuron::testing::SCRATCH, READ])?;
        s.call(SystemCall::LeaseCopy, &[reply, 0, 0, RECEIVE, 8, 1])
    };
    test_reject_copy_of_what_the_dead_lent: LeaseCopy, PeerGone => |s| {
        let reply = s.lent_by_the_dead();
        s.call(SystemCall::LeaseCopy, &[reply, 0, 0, RECEIVE, 8, 0])
    };
    test_reject_copy_of_nothing_that_the_dead_lent: LeaseCopy, PeerGone => |s| {
        let reply = s.lent_by_the_dead();
        s.call(SystemCall::LeaseCopy, &[reply, 0, 0, RECEIVE, 0, 0])
    };
    test_reject_query_of_a_lease_that_is_not_there: LeaseQuery, InvalidArgument => |s| {
        let (_, reply) = s.owe_leases(&[page()]);
        s.call(SystemCall::LeaseQuery, &[reply, 1])
    };
    test_reject_query_of_what_the_dead_lent: LeaseQuery, PeerGone => |s| {
        let reply = s.lent_by_the_dead();
        s.call(SystemCall::LeaseQuery, &[reply, 0])
    };
    test_reject_lease_copy_with_an_unknown_handle: LeaseCopy, InvalidHandle => |s| s.no_handle(SystemCall::LeaseCopy);
    test_reject_lease_copy_with_a_stale_handle: LeaseCopy, StaleHandle => |s| s.stale_handle(SystemCall::LeaseCopy);
    test_reject_lease_copy_with_a_handle_of_another_kind: LeaseCopy, WrongKind => |s| s.wrong_kind(SystemCall::LeaseCopy);
    test_reject_lease_query_with_an_unknown_handle: LeaseQuery, InvalidHandle => |s| s.no_handle(SystemCall::LeaseQuery);
    test_reject_lease_query_with_a_stale_handle: LeaseQuery, StaleHandle => |s| s.stale_handle(SystemCall::LeaseQuery);
    test_reject_lease_query_with_a_handle_of_another_kind: LeaseQuery, WrongKind => |s| s.wrong_kind(SystemCall::LeaseQuery);
}
