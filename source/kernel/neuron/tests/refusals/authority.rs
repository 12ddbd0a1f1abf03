//! What devices, timers and the system's own calls refuse.

use crate::stage::{EXECUTE, HOLE, READ, WINDOW, WRITE};
use neuron::testing::{PAGE, RAM_BASE, SCRATCH};

refusals! {
    test_reject_window_of_no_bytes: DeviceCapCreate, InvalidArgument => |s| {
        s.call(SystemCall::DeviceCapCreate, &[s.devices, WINDOW + 8 * PAGE, 0])
    };
    test_reject_window_off_a_page: DeviceCapCreate, Unaligned => |s| {
        s.call(SystemCall::DeviceCapCreate, &[s.devices, WINDOW + 8 * PAGE, 100])
    };
    test_reject_window_beyond_physical_addresses: DeviceCapCreate, OutOfRange => |s| {
        s.call(SystemCall::DeviceCapCreate, &[s.devices, 1 << 56, PAGE])
    };
    test_reject_window_over_a_window: DeviceCapCreate, Overlap => |s| {
        s.call(SystemCall::DeviceCapCreate, &[s.devices, WINDOW + PAGE, 2 * PAGE])
    };
    test_reject_window_of_ram: DeviceCapCreate, NotPermitted => |s| {
        s.call(SystemCall::DeviceCapCreate, &[s.devices, RAM_BASE, PAGE])
    };
    test_reject_window_of_the_interrupt_controller: DeviceCapCreate, NotPermitted => |s| {
        s.call(SystemCall::DeviceCapCreate, &[s.devices, 0x0c00_0000, PAGE])
    };
    test_reject_window_with_more_memory_than_the_quota: DeviceCapCreate, NoMemory => |s| {
        s.call(SystemCall::DeviceCapCreate, &[s.devices, WINDOW + 8 * PAGE, PAGE, 1_000])
    };
    test_reject_window_without_a_page: DeviceCapCreate, NoMemory => |s| {
        s.exhaust_quota();
        for place in 4..200 {
            s.call(SystemCall::DeviceCapCreate, &[s.devices, WINDOW + place * PAGE, PAGE])?;
        }
        Ok(0)
    };
    test_reject_window_in_a_full_table: DeviceCapCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::DeviceCapCreate, &[s.devices, WINDOW + 8 * PAGE, PAGE])
    };
    test_reject_line_that_does_not_exist: IrqCapCreate, InvalidArgument => |s| {
        s.call(SystemCall::IrqCapCreate, &[s.devices, 0]).and(Err(Error::Busy)).or_else(|first| {
            let second = s.call(SystemCall::IrqCapCreate, &[s.devices, 32]);
            if second == Err(first) { second } else { panic!("line 0: {first}, line 32: {second:?}") }
        })
    };
    test_reject_line_that_is_taken: IrqCapCreate, Busy => |s| s.call(SystemCall::IrqCapCreate, &[s.devices, 5]);
    test_reject_line_without_a_page: IrqCapCreate, NoMemory => |s| {
        s.make(SystemCall::CapClose, &[s.irq]);
        s.exhaust_quota();
        s.call(SystemCall::IrqCapCreate, &[s.devices, 5])
    };
    test_reject_line_in_a_full_table: IrqCapCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::IrqCapCreate, &[s.devices, 6])
    };
    test_reject_mmio_of_no_bytes: MmioMap, InvalidArgument => |s| {
        s.call(SystemCall::MmioMap, &[s.device, HOLE, 0, 0, READ])
    };
    test_reject_mmio_exec: MmioMap, WriteExecute => |s| {
        s.call(SystemCall::MmioMap, &[s.device, HOLE, 0, PAGE, READ | EXECUTE])
    };
    test_reject_mmio_off_a_page: MmioMap, Unaligned => |s| {
        s.call(SystemCall::MmioMap, &[s.device, HOLE, 8, PAGE, READ])
    };
    test_reject_mmio_outside_window: MmioMap, OutOfRange => |s| {
        s.call(SystemCall::MmioMap, &[s.device, HOLE, PAGE, 2 * PAGE, READ | WRITE])
    };
    test_reject_mmio_over_a_mapping: MmioMap, Overlap => |s| {
        s.call(SystemCall::MmioMap, &[s.device, SCRATCH, 0, PAGE, READ])
    };
    test_reject_mmio_without_a_page: MmioMap, NoMemory => |s| {
        s.exhaust_quota();
        s.call(SystemCall::MmioMap, &[s.device, HOLE, 0, PAGE, READ])
    };
    test_reject_binding_a_line_to_no_bit: IrqBind, InvalidArgument => |s| {
        s.call(SystemCall::IrqBind, &[s.irq, s.notification, 0])
    };

    test_reject_timer_of_no_bit: TimerCreate, InvalidArgument => |s| {
        s.call(SystemCall::TimerCreate, &[s.notification, 0])
    };
    test_reject_timer_without_a_page: TimerCreate, NoMemory => |s| {
        s.exhaust_quota_for(SystemCall::TimerCreate, &[s.notification, 1]);
        s.call(SystemCall::TimerCreate, &[s.notification, 1])
    };
    test_reject_timer_in_a_full_table: TimerCreate, NoSlots => |s| {
        s.fill_table(s.me);
        s.call(SystemCall::TimerCreate, &[s.notification, 1])
    };
    test_reject_timer_beyond_the_systems: TimerCreate, TableFull => |s| {
        for _ in 0..s.machine.kernel.figures.threads_max {
            s.call(SystemCall::TimerCreate, &[s.notification, 1])?;
        }
        Ok(0)
    };

    test_reject_reading_more_records_than_a_call_moves: RingRead, TooLarge => |s| {
        s.call(SystemCall::RingRead, &[s.control, 0, SCRATCH, 65_537])
    };
    test_reject_reading_a_record_into_less: RingRead, BufferTooSmall => |s| {
        s.make(SystemCall::RingWrite, &[s.control, 0, SCRATCH, 64]);
        s.call(SystemCall::RingRead, &[s.control, 0, SCRATCH, 8])
    };
    test_reject_reading_when_nothing_is_newer: RingRead, WouldBlock => |s| {
        s.call(SystemCall::RingRead, &[s.control, 99, SCRATCH, PAGE])
    };
    test_reject_reading_records_into_a_hole: RingRead, Fault => |s| {
        s.make(SystemCall::RingWrite, &[s.control, 0, SCRATCH, 64]);
        s.call(SystemCall::RingRead, &[s.control, 0, HOLE, PAGE])
    };
    test_reject_record_of_an_unknown_level: RingWrite, InvalidArgument => |s| {
        s.call(SystemCall::RingWrite, &[s.control, 3, SCRATCH, 8])
    };
    test_reject_record_that_is_too_long: RingWrite, TooLarge => |s| {
        s.call(SystemCall::RingWrite, &[s.control, 0, SCRATCH, 1_025])
    };
    test_reject_record_out_of_a_hole: RingWrite, Fault => |s| {
        s.call(SystemCall::RingWrite, &[s.control, 0, HOLE, 8])
    };
    test_reject_doorbell_of_no_bit: RingBind, InvalidArgument => |s| {
        s.call(SystemCall::RingBind, &[s.control, s.notification, 0])
    };
    test_reject_figures_into_a_hole: SystemInfo, Fault => |s| {
        s.call(SystemCall::SystemInfo, &[s.control, HOLE])
    };
    test_reject_process_beyond_the_last: ProcessList, WouldBlock => |s| {
        s.call(SystemCall::ProcessList, &[s.control, 99, SCRATCH])
    };
    test_reject_process_figures_into_a_hole: ProcessList, Fault => |s| {
        s.call(SystemCall::ProcessList, &[s.control, 0, HOLE])
    };
    test_reject_capabilities_of_nobody: CapList, InvalidArgument => |s| {
        s.call(SystemCall::CapList, &[s.control, 99, 0, SCRATCH])
    };
    test_reject_capability_beyond_the_last: CapList, WouldBlock => |s| {
        s.call(SystemCall::CapList, &[s.control, 1, 9_999, SCRATCH])
    };
    test_reject_capability_figures_into_a_hole: CapList, Fault => |s| {
        s.call(SystemCall::CapList, &[s.control, 1, 0, HOLE])
    };
    test_reject_holders_for_nobody: CapHolders, InvalidArgument => |s| {
        s.call(SystemCall::CapHolders, &[s.control, 99, s.vmo, 0, 0, SCRATCH])
    };
    test_reject_holders_of_a_handle_that_never_was: CapHolders, InvalidHandle => |s| {
        let number = s.number();
        s.call(SystemCall::CapHolders, &[s.control, number, 9_999, 0, 0, SCRATCH])
    };
    test_reject_holder_beyond_the_last: CapHolders, WouldBlock => |s| {
        let number = s.number();
        s.call(SystemCall::CapHolders, &[s.control, number, s.vmo, number + 1, 0, SCRATCH])
    };
    test_reject_holders_into_a_hole: CapHolders, Fault => |s| {
        let number = s.number();
        s.call(SystemCall::CapHolders, &[s.control, number, s.vmo, 0, 0, HOLE])
    };
    test_reject_reset_of_an_unknown_mode: SystemReset, InvalidArgument => |s| {
        s.call(SystemCall::SystemReset, &[s.control, 2])
    };
    test_reject_reset_that_the_firmware_cannot: SystemReset, Unsupported => |s| {
        s.call(SystemCall::SystemReset, &[s.control, 1])
    };
}
