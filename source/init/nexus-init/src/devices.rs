//! Finding devices in the device tree. No address and no line stands in any code.

use alloc::vec::Vec;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
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
    let tree = Fdt::new(without_padding(tree)).map_err(|_| DeviceError::BadTree)?;
    let mut refusal = DeviceError::NotFound;
    for node in nodes(tree).filter(|node| is_enabled(*node) && node.is_compatible(compatible)) {
        match device(node) {
            Ok(device) if given.contains(&device) => {}
            Ok(device) if shares_a_page(tree, &node, &device) => refusal = DeviceError::SharedPage,
            Ok(device) if !fits(&device) => {}
            Ok(device) => return Ok(device),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// The bytes that the tree's header counts: memory holds whole pages.
fn without_padding(tree: &[u8]) -> &[u8] {
    let bytes = tree.get(4..8).and_then(|field| field.try_into().ok()).map(u32::from_be_bytes);
    bytes.and_then(|bytes| tree.get(..bytes as usize)).unwrap_or(tree)
}

/// The nodes below the root, and those on the buses that stand there: the addresses of both are physical ones.
fn nodes<'t>(tree: Fdt<'t>) -> impl Iterator<Item = FdtNode<'t>> {
    tree.root().children().flat_map(|node| core::iter::once(node).chain(node.children()))
}

fn is_enabled(node: FdtNode<'_>) -> bool {
    let status = node.property("status").map(|status| status.value_as::<&str>());
    status.is_none_or(|status| matches!(status, Ok("okay" | "ok")))
}

/// First address and bytes of each register range.
fn ranges<'t>(node: FdtNode<'t>) -> impl Iterator<Item = (u64, u64)> + 't {
    let regions = node.reg().ok().flatten().into_iter().flatten();
    regions.filter_map(|region| Some((region.address().ok()?, region.size().ok()?)))
}

fn device(node: FdtNode<'_>) -> Result<Device, DeviceError> {
    let (base, bytes) =
        ranges(node).next().filter(|&(_, bytes)| bytes > 0).ok_or(DeviceError::BadRegisters)?;
    let whole = bytes.checked_next_multiple_of(PAGE_SIZE as u64).ok_or(DeviceError::BadRegisters)?;
    if !base.is_multiple_of(PAGE_SIZE as u64) || base.checked_add(whole).is_none() {
        return Err(DeviceError::BadRegisters);
    }
    // The first word of the first interrupt is its line, however many there are.
    let lines = node.property("interrupts").and_then(|lines| lines.value_as::<&[u8]>().ok());
    let line = lines.and_then(|lines| lines.first_chunk()).map(|word| u32::from_be_bytes(*word));
    Ok(Device { base, bytes: whole as usize, line })
}

/// Whether any other node has registers in the pages of this device.
fn shares_a_page(tree: Fdt<'_>, own: &FdtNode<'_>, device: &Device) -> bool {
    let overlaps = |(start, bytes): (u64, u64)| {
        start < device.base + device.bytes as u64 && start.saturating_add(bytes) > device.base
    };
    nodes(tree).filter(|node| node.name() != own.name()).any(|node| ranges(node).any(overlaps))
}

/// The devices that were given, to keep two services from getting one.
pub type Given = Vec<Device>;
