//! What memory and mappings refuse.

use crate::stage::{EXECUTE, HOLE, READ, WRITE};
use neuron::testing::{PAGE, SCRATCH};

const BEYOND: u64 = 0x40_0000_0000;

refusals! {
    test_reject_map_of_what_is_being_revoked: VmoMap, Revoked => |s| {
        s.begin_revoking(s.vmo, READ);
        s.call(SystemCall::VmoMap, &[0, s.vmo, HOLE, 0, PAGE, READ])
    };
    test_reject_memory_of_no_bytes: VmoCreate, InvalidArgument => |s| s.call(SystemCall::VmoCreate, &[0, 0]);
    test_reject_memory_above_the_largest: VmoCreate, TooLarge => |s| {
        s.call(SystemCall::VmoCreate, &[0, (1 << 30) + 1])
    };
    test_reject_memory_for_the_dead: VmoCreate, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::VmoCreate, &[s.child, PAGE])
    };
    test_reject_memory_beyond_the_quota: VmoCreate, NoMemory => |s| {
        s.call(SystemCall::VmoCreate, &[0, 1_000 * PAGE])
    };
    test_reject_memory_in_a_full_table: VmoCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::VmoCreate, &[0, PAGE])
    };
    test_reject_read_beyond_the_end: VmoRead, OutOfRange => |s| {
        s.call(SystemCall::VmoRead, &[s.vmo, 2 * PAGE - 7, SCRATCH, 8])
    };
    test_reject_read_that_wraps: VmoRead, OutOfRange => |s| {
        s.call(SystemCall::VmoRead, &[s.vmo, u64::MAX - 3, SCRATCH, 8])
    };
    test_reject_read_of_too_much: VmoRead, TooLarge => |s| {
        s.call(SystemCall::VmoRead, &[s.vmo, 0, SCRATCH, 65_537])
    };
    test_reject_read_into_a_hole: VmoRead, Fault => |s| s.call(SystemCall::VmoRead, &[s.vmo, 0, HOLE, 8]);
    test_reject_read_into_the_kernel: VmoRead, Fault => |s| {
        s.call(SystemCall::VmoRead, &[s.vmo, 0, u64::MAX << 38, 8])
    };
    test_reject_write_beyond_the_end: VmoWrite, OutOfRange => |s| {
        s.call(SystemCall::VmoWrite, &[s.vmo, 2 * PAGE, SCRATCH, 1])
    };
    test_reject_write_of_too_much: VmoWrite, TooLarge => |s| {
        s.call(SystemCall::VmoWrite, &[s.vmo, 0, SCRATCH, 65_537])
    };
    test_reject_write_from_a_hole: VmoWrite, Fault => |s| s.call(SystemCall::VmoWrite, &[s.vmo, 0, HOLE, 8]);
    test_reject_write_from_a_buffer_that_wraps: VmoWrite, Fault => |s| {
        s.call(SystemCall::VmoWrite, &[s.vmo, 0, u64::MAX - 3, 8])
    };

    test_reject_resize_to_no_bytes: VmoResize, InvalidArgument => |s| s.call(SystemCall::VmoResize, &[s.vmo, 0]);
    test_reject_resize_above_the_largest: VmoResize, TooLarge => |s| {
        s.call(SystemCall::VmoResize, &[s.vmo, (1 << 30) + 1])
    };
    test_reject_growth_beyond_the_quota: VmoResize, NoMemory => |s| {
        s.call(SystemCall::VmoResize, &[s.vmo, 1_000 * PAGE])
    };
    test_reject_shrinking_what_others_map: VmoResize, Busy => |s| {
        s.make(SystemCall::VmoMap, &[s.child, s.vmo, HOLE, 0, PAGE, READ]);
        s.call(SystemCall::VmoResize, &[s.vmo, PAGE])
    };
    test_reject_shrinking_under_a_mapping: VmoResize, Busy => |s| {
        s.make(SystemCall::VmoMap, &[0, s.vmo, HOLE, PAGE, PAGE, READ]);
        s.call(SystemCall::VmoResize, &[s.vmo, PAGE])
    };
    test_reject_resize_of_memory_for_a_device: VmoResize, NotPermitted => |s| {
        s.call(SystemCall::VmoResize, &[s.dma, 2 * PAGE])
    };

    test_reject_mapping_of_no_bytes: VmoMap, InvalidArgument => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, HOLE, 0, 0, READ])
    };
    test_reject_mapping_without_protection: VmoMap, InvalidArgument => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, HOLE, 0, PAGE, 0])
    };
    test_reject_mapping_off_a_page: VmoMap, Unaligned => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, HOLE + 8, 0, PAGE, READ])
    };
    test_reject_mapping_beyond_the_memory: VmoMap, OutOfRange => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, HOLE, PAGE, 2 * PAGE, READ])
    };
    test_reject_mapping_beyond_user_addresses: VmoMap, OutOfRange => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, BEYOND - PAGE, 0, 2 * PAGE, READ])
    };
    test_reject_mapping_of_the_first_page: VmoMap, OutOfRange => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, 0, 0, PAGE, READ])
    };
    test_reject_writable_executable_mapping: VmoMap, WriteExecute => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, HOLE, 0, PAGE, WRITE | EXECUTE])
    };
    test_reject_mapping_over_a_mapping: VmoMap, Overlap => |s| {
        s.call(SystemCall::VmoMap, &[0, s.vmo, SCRATCH - PAGE, 0, 2 * PAGE, READ])
    };
    test_reject_mapping_into_the_dead: VmoMap, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::VmoMap, &[s.child, s.vmo, HOLE, 0, PAGE, READ])
    };
    test_reject_mapping_without_a_page: VmoMap, NoMemory => |s| {
        s.exhaust_quota();
        s.call(SystemCall::VmoMap, &[0, s.vmo, HOLE, 0, PAGE, READ])
    };
    test_reject_mapping_with_a_right_that_is_missing: VmoMap, NotPermitted => |s| {
        let weak = s.make(SystemCall::CapDup, &[s.vmo, READ]);
        s.call(SystemCall::VmoMap, &[0, weak, HOLE, 0, PAGE, READ | WRITE])
    };
    test_reject_unmapping_of_nothing: VmoUnmap, InvalidArgument => |s| {
        s.call(SystemCall::VmoUnmap, &[0, SCRATCH + PAGE])
    };
    test_reject_unmapping_from_the_dead: VmoUnmap, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::VmoUnmap, &[s.child, SCRATCH])
    };
    test_reject_protection_of_nothing: VmoProtect, InvalidArgument => |s| {
        s.call(SystemCall::VmoProtect, &[0, HOLE, READ])
    };
    test_reject_protection_beyond_what_was_mapped: VmoProtect, NotPermitted => |s| {
        let weak = s.make(SystemCall::CapDup, &[s.vmo, READ]);
        s.make(SystemCall::VmoMap, &[0, weak, HOLE, 0, PAGE, READ]);
        s.call(SystemCall::VmoProtect, &[0, HOLE, READ | WRITE])
    };
    test_reject_writable_executable_protection: VmoProtect, WriteExecute => |s| {
        s.call(SystemCall::VmoProtect, &[0, SCRATCH, WRITE | EXECUTE])
    };
    test_reject_protection_in_the_dead: VmoProtect, PeerGone => |s| {
        s.kill_child();
        s.call(SystemCall::VmoProtect, &[s.child, SCRATCH, READ])
    };
}
