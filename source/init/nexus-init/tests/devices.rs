//! Finding devices in device trees, good and bad.

use nexus_init::devices::{Device, DeviceError, find};
use proptest::prelude::*;
use vm_fdt::FdtWriter;

struct Node {
    name: &'static str,
    compatible: &'static str,
    reg: &'static [u64],
    status: Option<&'static str>,
}

fn uart(name: &'static str, reg: &'static [u64]) -> Node {
    Node { name, compatible: "ns16550a", reg, status: None }
}

fn tree(nodes: &[Node]) -> Vec<u8> {
    let mut fdt = FdtWriter::new().unwrap();
    let root = fdt.begin_node("").unwrap();
    fdt.property_u32("#address-cells", 2).unwrap();
    fdt.property_u32("#size-cells", 2).unwrap();
    let plic = fdt.begin_node("plic@c000000").unwrap();
    fdt.property_u32("#interrupt-cells", 1).unwrap();
    fdt.property_u32("phandle", 3).unwrap();
    fdt.property_array_u64("reg", &[0xc00_0000, 0x60_0000]).unwrap();
    fdt.end_node(plic).unwrap();
    for node in nodes {
        let begun = fdt.begin_node(node.name).unwrap();
        fdt.property_string("compatible", node.compatible).unwrap();
        fdt.property_array_u64("reg", node.reg).unwrap();
        fdt.property_u32("interrupts", 10).unwrap();
        fdt.property_u32("interrupt-parent", 3).unwrap();
        if let Some(status) = node.status {
            fdt.property_string("status", status).unwrap();
        }
        fdt.end_node(begun).unwrap();
    }
    fdt.end_node(root).unwrap();
    fdt.finish().unwrap()
}

#[test]
fn a_device_is_found_with_whole_pages_and_its_line() {
    let tree = tree(&[uart("serial@10000000", &[0x1000_0000, 0x100])]);
    let device = Device { base: 0x1000_0000, bytes: 0x1000, line: Some(10) };
    assert_eq!(find(&tree, "ns16550a", &[], |_| true), Ok(device));
}

#[test]
fn the_second_of_two_goes_to_the_second_who_asks() {
    let tree = tree(&[
        uart("serial@10000000", &[0x1000_0000, 0x100]),
        uart("serial@10010000", &[0x1001_0000, 0x100]),
    ]);
    let first = find(&tree, "ns16550a", &[], |_| true).unwrap();
    let second = find(&tree, "ns16550a", &[first], |_| true).unwrap();
    assert_eq!((first.base, second.base), (0x1000_0000, 0x1001_0000));
    assert_eq!(find(&tree, "ns16550a", &[first, second], |_| true), Err(DeviceError::NotFound));
}

#[test]
fn what_does_not_fit_is_passed_over() {
    let slot = |name, reg| Node { compatible: "virtio,mmio", ..uart(name, reg) };
    let tree = tree(&[
        slot("virtio_mmio@10002000", &[0x1000_2000, 0x1000]),
        slot("virtio_mmio@10001000", &[0x1000_1000, 0x1000]),
    ]);
    let found = find(&tree, "virtio,mmio", &[], |device| device.base == 0x1000_1000).unwrap();
    assert_eq!(found.base, 0x1000_1000);
    assert_eq!(find(&tree, "virtio,mmio", &[], |_| false), Err(DeviceError::NotFound));
}

#[test]
fn test_reject_a_page_with_two_devices() {
    let tree = tree(&[
        uart("serial@10000000", &[0x1000_0000, 0x100]),
        Node { compatible: "sifive,test0", ..uart("test@10000800", &[0x1000_0800, 0x100]) },
    ]);
    assert_eq!(find(&tree, "ns16550a", &[], |_| true), Err(DeviceError::SharedPage));
}

#[test]
fn test_reject_disabled_misaligned_and_missing_devices() {
    let disabled =
        tree(&[Node { status: Some("disabled"), ..uart("serial@10000000", &[0x1000_0000, 0x100]) }]);
    assert_eq!(find(&disabled, "ns16550a", &[], |_| true), Err(DeviceError::NotFound));
    let odd = tree(&[uart("serial@10000400", &[0x1000_0400, 0x100])]);
    assert_eq!(find(&odd, "ns16550a", &[], |_| true), Err(DeviceError::BadRegisters));
    let empty = tree(&[uart("serial@10000000", &[0x1000_0000, 0])]);
    assert_eq!(find(&empty, "ns16550a", &[], |_| true), Err(DeviceError::BadRegisters));
    assert_eq!(find(&empty, "virtio,mmio", &[], |_| true), Err(DeviceError::NotFound));
}

#[test]
fn test_reject_bytes_that_are_no_tree() {
    assert_eq!(find(&[], "ns16550a", &[], |_| true), Err(DeviceError::BadTree));
    assert_eq!(find(&[0xd0; 64], "ns16550a", &[], |_| true), Err(DeviceError::BadTree));
}

proptest! {
    #[test]
    fn any_bytes_without_the_magic_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assume!(!bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]));
        prop_assert_eq!(find(&bytes, "ns16550a", &[], |_| true), Err(DeviceError::BadTree));
    }
}
