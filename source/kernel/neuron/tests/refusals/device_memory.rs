//! What memory for devices refuses.

use crate::stage::{HOLE, READ, WINDOW};
use neuron::memory::FrameKind;
use neuron::memory::frame::Row;
use neuron::testing::PAGE;

/// Takes frames until no two of the free ones are neighbours.
fn fragment(stage: &mut Stage) {
    let memory = &stage.machine.kernel.memory;
    for frame in (1..memory.frame_count()).step_by(2) {
        let free = [FrameKind::Free as u8, FrameKind::Clean as u8];
        if free.contains(&memory.info(frame).kind()) {
            let mut alone = Row { first: frame, count: 0 };
            assert_eq!(memory.extend_row(&mut alone, 1, FrameKind::Data as u8), Ok(Some(frame)));
        }
    }
}

refusals! {
    test_reject_device_memory_of_no_bytes: DmaCreate, InvalidArgument => |s| {
        s.call(SystemCall::DmaCreate, &[s.device, 0])
    };
    test_reject_device_memory_above_the_largest: DmaCreate, TooLarge => |s| {
        s.call(SystemCall::DmaCreate, &[s.device, 64 * PAGE + 1])
    };
    test_reject_device_memory_beyond_what_was_promised: DmaCreate, NoMemory => |s| {
        s.call(SystemCall::DmaCreate, &[s.device, 8 * PAGE])
    };
    test_reject_device_memory_for_a_device_that_may_have_none: DmaCreate, NoMemory => |s| {
        let device = s.make(SystemCall::DeviceCapCreate, &[s.devices, WINDOW + 8 * PAGE, PAGE]);
        s.call(SystemCall::DmaCreate, &[device, PAGE])
    };
    test_reject_device_memory_without_neighbours: DmaCreate, NoMemory => |s| {
        fragment(s);
        s.call(SystemCall::DmaCreate, &[s.device, 2 * PAGE])
    };
    test_reject_device_memory_in_a_full_table: DmaCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::DmaCreate, &[s.device, PAGE])
    };
    test_reject_device_memory_of_what_is_being_revoked: DmaCreate, Revoked => |s| {
        let map = nexus_abi::Rights::MAP.bits().into();
        s.begin_revoking(s.device, map);
        s.call(SystemCall::DmaCreate, &[s.device, PAGE])
    };
    test_reject_device_memory_of_what_derives_from_too_many: DmaCreate, NoSlots => |s| {
        let last = s.derive_as_far_as_may_be(s.device, nexus_abi::Rights::MAP.bits().into());
        s.call(SystemCall::DmaCreate, &[last, PAGE])
    };
    test_reject_the_window_of_what_is_being_revoked: MmioMap, Revoked => |s| {
        s.begin_revoking(s.device, nexus_abi::Rights::MAP.bits().into());
        s.call(SystemCall::MmioMap, &[s.device, HOLE, 0, PAGE, READ])
    };
    test_reject_device_memory_for_a_retired_device: DmaCreate, Sealed => |s| {
        s.make(SystemCall::DmaRelease, &[s.device, 1]);
        s.call(SystemCall::DmaCreate, &[s.device, PAGE])
    };
    test_reject_the_window_of_a_retired_device: MmioMap, Sealed => |s| {
        s.make(SystemCall::DmaRelease, &[s.device, 1]);
        s.call(SystemCall::MmioMap, &[s.device, HOLE, 0, PAGE, READ])
    };
    test_reject_the_address_of_ordinary_memory: DmaAddress, NotPermitted => |s| {
        s.call(SystemCall::DmaAddress, &[s.vmo])
    };
    test_reject_an_unknown_outcome_of_a_reset: DmaRelease, InvalidArgument => |s| {
        s.call(SystemCall::DmaRelease, &[s.device, 2])
    };
    test_reject_the_reset_of_a_retired_device: DmaRelease, Sealed => |s| {
        s.make(SystemCall::DmaRelease, &[s.device, 1]);
        s.call(SystemCall::DmaRelease, &[s.device, 0])
    };
}
