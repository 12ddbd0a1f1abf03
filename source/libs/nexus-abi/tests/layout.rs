//! Holds the bytes still: every size, offset and byte that kernel and userland agree on, written down a
//! second time. A failure here is a change of the contract, not a test to update.

use nexus_abi::capability::Qos;
use nexus_abi::image::{self, File, Head};
use nexus_abi::message::{
    Buffers, CAP_COPY, CAP_MOVE, CapabilityTransfer, Header, Lease, RECEIVED_CAPABILITIES_OFFSET, Registers,
};
use nexus_abi::records::{
    CapabilityInfo, FaultCause, FaultReport, ProcessParameters, ProcessStatus, RingLevel, RingRecord,
    STATE_KILLED, SystemInfo,
};
use nexus_abi::start_page::{self, NamedCapability, StartPage};
use nexus_abi::{Handle, Kind, Rights};
use std::mem::{align_of, offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Asserts size, alignment and the offset of every field. A field that is not named here does not compile.
macro_rules! assert_layout {
    ($record:ident: $size:literal, $alignment:literal; $( $field:ident $offset:literal ),+ $(,)?) => {
        let _every_field_is_named = |record: $record| {
            let $record { $( $field: _ ),+ } = record;
        };
        assert_eq!(size_of::<$record>(), $size, "size of {}", stringify!($record));
        assert_eq!(align_of::<$record>(), $alignment, "alignment of {}", stringify!($record));
        $( assert_eq!(
            offset_of!($record, $field), $offset, "offset of {}::{}", stringify!($record), stringify!($field)
        ); )+
    };
}

#[test]
fn layout_of_the_records_that_calls_read_and_fill_in() {
    assert_layout!(ProcessParameters: 48, 8; service_id 0, quota_pages 8, supervisor 16, death_bits 24,
        rank 32, capabilities_max 36, open_calls_max 40, qos_max 44);
    assert_layout!(CapabilityInfo: 40, 8; handle 0, kind 8, rights 12, badge 16, base 24, bytes 32);
    assert_layout!(ProcessStatus: 80, 8; process_id 0, service_id 8, cpu_ticks 16, quota_pages 24,
        reserved_pages 32, populated_pages 40, exit_code 48, state 56, rank 60, threads 64, capabilities 68,
        reclaiming 72, reserved 76);
    assert_layout!(SystemInfo: 136, 8; ticks_per_second 0, boot_ticks 8, init_ticks 16, ram_pages 24,
        kernel_pages 32, quota_pages 40, used_pages 48, threads 56, processes 64, harts_online 72,
        messages 80, interrupts 88, quarantined_pages 96, longest_ticks 104,
        hart_calls 112, threads_stolen 120, locks_contended 128);
    assert_layout!(FaultReport: 576, 8; process_id 0, service_id 8, ticks 16, program_counter 24, address 32,
        registers 40, backtrace 288, region_base 544, region_bytes 552, region_protection 560, cause 564,
        detail 568, backtrace_length 572);
    assert_layout!(RingRecord: 32, 8; sequence 0, ticks 8, service_id 16, level 24, text_bytes 28);
}

#[test]
fn layout_of_a_message() {
    assert_layout!(CapabilityTransfer: 16, 8; handle 0, rights 8, mode 12);
    assert_layout!(Lease: 32, 8; reply 0, address 8, bytes 16, rights 24, index 28);
    assert_layout!(Buffers: 128, 8; send_address 0, receive_address 8, receive_bytes 16, leases 24,
        send_capabilities 32, received_capabilities 96);
    assert_layout!(Registers: 112, 8; target 0, header 8, reply 16, buffers 24, words 32, deadline 96,
        process_id 104);
    assert_eq!(RECEIVED_CAPABILITIES_OFFSET, 96);
    assert_eq!((CAP_COPY, CAP_MOVE), (0, 1));
    assert_eq!((size_of::<Header>(), size_of::<Handle>()), (8, 8));
}

#[test]
fn layout_of_the_start_page() {
    assert_layout!(NamedCapability: 56, 8; name 0, handle 40, kind 48, rights 52);
    assert_layout!(StartPage: 3512, 8; magic 0, service_id 8, ticks_per_second 16, heap_base 24,
        heap_bytes 32, stack_base 40, stack_bytes 48, quota_pages 56, rank 64, open_calls_max 68,
        generation 72, capability_count 76, name 80, arguments 120, capabilities 376);
    assert_eq!(start_page::MAGIC, 0x0154_5241_5453_584e);
    assert_eq!(
        (start_page::NAME_BYTES, start_page::CAPABILITIES_MAX, start_page::ARGUMENTS_BYTES),
        (40, 56, 256)
    );
}

#[test]
fn layout_of_the_initial_image() {
    assert_layout!(Head: 64, 8; magic 0, version 8, file_count 12, total_bytes 16, checksum 24, init_rank 28,
        reserved 32);
    assert_layout!(File: 64, 8; name 0, offset 40, bytes 48, reserved 56);
    assert_eq!((image::MAGIC, image::VERSION), (*b"NXIMAGE\0", 1));
    assert_eq!((image::FILES_MAX, image::NAME_BYTES, image::IMAGE_BYTES_MAX), (64, 40, 67_108_864));
    assert_eq!((image::INIT, image::MANIFEST), ("nexus-init", "system.manifest"));
    assert_eq!(image::crc32c(&[b"1234", b"56789"]), 0xe306_9283, "the check value of CRC-32C");
}

/// Asserts that `value` is these bytes at these offsets and zero elsewhere, and that they read back as it.
fn assert_bytes<T>(value: &T, golden: &[(usize, &str)])
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout,
{
    let mut expected = vec![0; size_of::<T>()];
    for (offset, hexadecimal) in golden {
        let digits: Vec<u8> = hexadecimal.bytes().filter(|digit| *digit != b' ').collect();
        for (index, pair) in digits.chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).expect("digits are ASCII");
            expected[offset + index] = u8::from_str_radix(pair, 16).expect("digits are hexadecimal");
        }
    }
    assert_eq!(value.as_bytes(), expected, "{}", std::any::type_name::<T>());
    let read = T::read_from_bytes(&expected).expect("the size is right");
    assert_eq!(read.as_bytes(), expected);
}

const HANDLE: Handle = Handle::new(0x0000_0203, 0x0000_0405);

#[test]
fn bytes_of_the_records_that_describe_processes_and_capabilities() {
    let parameters = ProcessParameters {
        service_id: 0x0102_0304_0506_0708,
        quota_pages: 0x100,
        supervisor: HANDLE,
        death_bits: 1 << 63,
        rank: 0x0a0b,
        capabilities_max: 0x80,
        open_calls_max: 0x10,
        qos_max: Qos::PerfBurst as u32,
    };
    assert_bytes(
        &parameters,
        &[
            (0, "0807060504030201 0001000000000000 0302000005040000 0000000000000080"),
            (32, "0b0a0000 80000000 10000000 03000000"),
        ],
    );
    let info = CapabilityInfo {
        handle: HANDLE,
        kind: Kind::DeviceMmio as u32,
        rights: Rights::MAP.bits(),
        badge: 0x11,
        base: 0x1000_1000,
        bytes: 0x1000,
    };
    assert_bytes(
        &info,
        &[(0, "0302000005040000 07000000 00100000 1100000000000000 0010001000000000 0010000000000000")],
    );
    let status = ProcessStatus {
        process_id: 1,
        service_id: 2,
        cpu_ticks: 3,
        quota_pages: 4,
        reserved_pages: 5,
        populated_pages: 6,
        exit_code: u64::MAX,
        state: STATE_KILLED,
        rank: 7,
        threads: 8,
        capabilities: 9,
        reclaiming: 1,
        reserved: 0,
    };
    assert_bytes(
        &status,
        &[
            (0, "0100000000000000 0200000000000000 0300000000000000 0400000000000000"),
            (32, "0500000000000000 0600000000000000 ffffffffffffffff 03000000 07000000"),
            (64, "08000000 09000000 01000000 00000000"),
        ],
    );
}

#[test]
fn bytes_of_the_records_that_describe_machine_faults_and_ring() {
    let info = SystemInfo {
        ticks_per_second: 10_000_000,
        boot_ticks: 1,
        init_ticks: 2,
        ram_pages: 32_768,
        kernel_pages: 3,
        quota_pages: 4,
        used_pages: 5,
        threads: 6,
        processes: 7,
        harts_online: 8,
        messages: 9,
        interrupts: 10,
        quarantined_pages: 11,
        longest_ticks: 12,
        hart_calls: 13,
        threads_stolen: 14,
        locks_contended: 15,
    };
    assert_bytes(
        &info,
        &[
            (0, "8096980000000000 0100000000000000 0200000000000000 0080000000000000"),
            (32, "0300000000000000 0400000000000000 0500000000000000 0600000000000000"),
            (64, "0700000000000000 0800000000000000 0900000000000000 0a00000000000000"),
            (96, "0b00000000000000 0c00000000000000 0d00000000000000 0e00000000000000"),
            (128, "0f00000000000000"),
        ],
    );
    let mut report = FaultReport {
        process_id: 1,
        service_id: 2,
        ticks: 3,
        program_counter: 0x1_0000,
        address: 0xdead_beef,
        region_base: 0x2000,
        region_bytes: 0x3000,
        region_protection: (Rights::READ | Rights::WRITE).bits(),
        cause: FaultCause::WriteFault as u32,
        detail: 15,
        backtrace_length: 32,
        ..FaultReport::default()
    };
    (report.registers[0], report.registers[30]) = (0x11, 0x31);
    (report.backtrace[0], report.backtrace[31]) = (0xb0, 0xb1);
    assert_bytes(
        &report,
        &[
            (0, "0100000000000000 0200000000000000 0300000000000000 0000010000000000 efbeadde00000000"),
            (40, "11"),
            (280, "31"),
            (288, "b0"),
            (536, "b1"),
            (544, "0020000000000000 0030000000000000 03000000 02000000 0f000000 20000000"),
        ],
    );
    let record =
        RingRecord { sequence: 1, ticks: 2, service_id: 3, level: RingLevel::Info as u32, text_bytes: 5 };
    assert_bytes(&record, &[(0, "0100000000000000 0200000000000000 0300000000000000 02000000 05000000")]);
}

#[test]
fn bytes_of_a_message() {
    let copy = CapabilityTransfer::copy(HANDLE, Rights::CALL);
    assert_bytes(&copy, &[(0, "0302000005040000 20000000 00000000")]);
    let moved = CapabilityTransfer::moved(HANDLE, Rights::empty());
    assert_bytes(&moved, &[(0, "0302000005040000 00000000 01000000")]);
    let lease = Lease { reply: HANDLE, address: 1, bytes: 2, rights: Rights::READ.bits(), index: 3 };
    assert_bytes(&lease, &[(0, "0302000005040000 0100000000000000 0200000000000000 01000000 03000000")]);
    let mut buffers = Buffers { send_address: 1, receive_address: 2, receive_bytes: 3, ..Buffers::default() };
    buffers.leases = 4;
    buffers.send_capabilities[0] = copy;
    buffers.send_capabilities[3] = moved;
    buffers.received_capabilities[0] = HANDLE;
    buffers.received_capabilities[3] = Handle(u64::MAX);
    assert_bytes(
        &buffers,
        &[
            (0, "0100000000000000 0200000000000000 0300000000000000 0400000000000000"),
            (32, "0302000005040000 20000000 00000000"),
            (80, "0302000005040000 00000000 01000000"),
            (96, "0302000005040000"),
            (120, "ffffffffffffffff"),
        ],
    );
}

#[test]
fn bytes_of_the_start_page() {
    let mut page = StartPage::new("ab", 2);
    page.ticks_per_second = 3;
    page.heap_base = 4;
    page.heap_bytes = 5;
    page.stack_base = 6;
    page.stack_bytes = 7;
    page.quota_pages = 8;
    (page.rank, page.open_calls_max, page.generation) = (9, 10, 11);
    page.set_arguments("é");
    page.add("log", HANDLE, Kind::Endpoint, Rights::CALL | Rights::POST).expect("there is room");
    page.add("irq", HANDLE, Kind::Irq, Rights::BIND).expect("there is room");
    assert_bytes(
        &page,
        &[
            (0, "4e58535441525401 0200000000000000 0300000000000000 0400000000000000"),
            (32, "0500000000000000 0600000000000000 0700000000000000 0800000000000000"),
            (64, "09000000 0a000000 0b000000 02000000"),
            (80, "6162"),
            (120, "c3a9"),
            (376, "6c6f67"),
            (416, "0302000005040000 03000000 60000000"),
            (432, "697271"),
            (472, "0302000005040000 08000000 00800000"),
        ],
    );
    assert_bytes(&page.capabilities[0], &[(0, "6c6f67"), (40, "0302000005040000 03000000 60000000")]);
}

#[test]
fn bytes_of_the_initial_image() {
    let head = Head {
        magic: image::MAGIC,
        version: image::VERSION,
        file_count: 2,
        total_bytes: 0x2003,
        checksum: 0x0102_0304,
        init_rank: 0xffff,
        reserved: [0; 32],
    };
    assert_bytes(&head, &[(0, "4e58494d41474500 01000000 02000000 0320000000000000 04030201 ffff0000")]);
    let mut file = File { name: [0; 40], offset: 0x1000, bytes: 0x20, reserved: 0 };
    file.name[..10].copy_from_slice(image::INIT.as_bytes());
    assert_bytes(&file, &[(0, "6e657875732d696e6974"), (40, "0010000000000000 2000000000000000")]);
}
