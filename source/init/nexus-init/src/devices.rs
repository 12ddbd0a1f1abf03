//! Finding devices in the device tree. No address and no line stands in any code.

use alloc::vec::Vec;
use fdt::Fdt;
use fdt::node::FdtNode;
use nexus_abi::limits::PAGE_SIZE;

/// One device's window and interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Physical base: a multiple of the page size.
    pub base: u64,
    /// Bytes of the window: whole pages.
    pub bytes: usize,
    /// The interrupt line; `None` for a device that has none.
    pub line: Option<u32>,
}

/// Why a device cannot be given to anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// The device tree cannot be read.
    BadTree,
    /// No (enabled, not yet given) device has this `compatible` and fits.
    NotFound,
    /// Its node has no usable `reg`, or one that does not begin at a page.
    BadRegisters,
    /// A page of its window holds another device's registers.
    SharedPage,
}

impl DeviceError {
    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
            DeviceError::BadTree => "the device tree cannot be read",
            DeviceError::NotFound => "there is no such device that is free",
            DeviceError::BadRegisters => "its registers do not begin at a page",
            DeviceError::SharedPage => "a page of its registers belongs to another device too",
        }
    }
}

/// Finds the first enabled device with this `compatible` that is not among those `given` already and that `fits`.
pub fn find(
    tree: &[u8],
    compatible: &str,
    given: &[Device],
    mut fits: impl FnMut(&Device) -> bool,
) -> Result<Device, DeviceError> {
    let tree = Fdt::new(tree).map_err(|_| DeviceError::BadTree)?;
    let mut refusal = DeviceError::NotFound;
    for node in tree.all_nodes().filter(|node| is_enabled(node) && has_compatible(node, compatible)) {
        match device(&node) {
            Ok(device) if given.contains(&device) => {}
            Ok(device) if shares_a_page(&tree, &node, &device) => refusal = DeviceError::SharedPage,
            Ok(device) if !fits(&device) => {}
            Ok(device) => return Ok(device),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn is_enabled(node: &FdtNode<'_, '_>) -> bool {
    let status = node.property("status").and_then(|status| status.as_str());
    status.is_none_or(|status| matches!(status.trim_end_matches('\0'), "okay" | "ok"))
}

fn has_compatible(node: &FdtNode<'_, '_>, wanted: &str) -> bool {
    node.compatible().is_some_and(|all| all.all().any(|word| word == wanted))
}

fn device(node: &FdtNode<'_, '_>) -> Result<Device, DeviceError> {
    let region = node.reg().and_then(|mut regions| regions.next()).ok_or(DeviceError::BadRegisters)?;
    let base = region.starting_address as usize;
    let bytes = region.size.filter(|&bytes| bytes > 0).ok_or(DeviceError::BadRegisters)?;
    let whole = bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(DeviceError::BadRegisters)?;
    if !base.is_multiple_of(PAGE_SIZE) || base.checked_add(whole).is_none() {
        return Err(DeviceError::BadRegisters);
    }
    let line = node.interrupts().and_then(|mut lines| lines.next()).and_then(|line| u32::try_from(line).ok());
    Ok(Device { base: base as u64, bytes: whole, line })
}

/// Whether any other node has registers in the pages of this device.
fn shares_a_page(tree: &Fdt<'_>, own: &FdtNode<'_, '_>, device: &Device) -> bool {
    let overlaps = |region: fdt::standard_nodes::MemoryRegion| {
        let start = region.starting_address as u64;
        let end = start.saturating_add(region.size.unwrap_or(0) as u64);
        start < device.base + device.bytes as u64 && end > device.base
    };
    tree.all_nodes()
        .filter(|node| node.name != own.name)
        .any(|node| node.reg().into_iter().flatten().any(overlaps))
}

/// The devices that were given, to keep two services from getting one.
pub type Given = Vec<Device>;
