//! What the kernel takes from the device tree: RAM, harts, clock, interrupt controller, initial image,
//! boot arguments. Everything else in it is init's business.
//!
//! The whole tree is checked before any of it is read, and what is read is checked for what boot does with it:
//! whatever the firmware hands over, [`Machine::read`] yields a machine or one error that says what is wrong.

use core::fmt;
use dtoolkit::error::FdtParseError;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Cells, FromPropertyValue, Node, Property, ToCellInt};
use nexus_abi::limits::{HARTS_MAX, PAGE_SIZE};

/// Ranges of RAM that the tree or its header reserves, at most.
pub const RESERVED_MAX: usize = 16;

/// Physical addresses that the kernel can reach lie below this: 64 GiB, as many as boot's first tables map.
pub const ADDRESS_END: u64 = 64 << 30;
/// RAM begins at a multiple of this: the kernel maps it in blocks.
pub const RAM_ALIGNMENT: u64 = 2 << 20;
/// The slowest clock that the kernel can keep time by, in ticks a second.
const CLOCK_MIN: u64 = 1_000;
/// The fastest.
const CLOCK_MAX: u64 = 1 << 40;
/// Lines of a PLIC, as its specification has it.
const PLIC_LINES_MAX: u64 = 1_023;
/// Where the registers of a PLIC's first context are, and how many bytes each context has.
const PLIC_CONTEXTS: (u64, u64) = (0x20_0000, 0x1000);
/// Bytes of the registers of the largest PLIC.
const PLIC_BYTES_MAX: u64 = 0x400_0000;

/// What is missing or wrong, in words that name the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// It is no device tree at all.
    NotATree,
    /// It is damaged; the error names the place.
    Damaged(FdtParseError),
    /// No node has `device_type = "memory"` and a `reg`.
    NoMemory,
    /// The largest range of RAM is not one that the kernel can map.
    BadMemory(Range),
    /// `/cpus` has no `timebase-frequency`.
    NoTimebase,
    /// It is not one that the kernel can keep time by.
    BadTimebase(u64),
    /// No hart stands under `/cpus`.
    NoHarts,
    /// There is no interrupt controller (PLIC) that interrupts this hart in supervisor mode.
    NoInterruptController,
    /// The interrupt controller's registers cannot be what its node says.
    BadInterruptController(Range),
    /// `/chosen` does not say where the initial image is.
    NoInitialImage,
    /// It is not in RAM.
    BadInitialImage(Range),
    /// More than [`RESERVED_MAX`] ranges are reserved.
    TooManyReserved,
}

impl fmt::Display for TreeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TreeError::Damaged(error) => return write!(formatter, "the device tree is damaged: {error}"),
            TreeError::BadMemory(range) => {
                return write!(
                    formatter,
                    "the device tree's memory node says {range}, which cannot be mapped"
                );
            }
            TreeError::BadTimebase(ticks) => {
                return write!(formatter, "the device tree's timebase-frequency is {ticks}");
            }
            TreeError::BadInterruptController(range) => {
                let fault = "where its contexts and lines cannot be";
                return write!(formatter, "the device tree's PLIC is at {range}, {fault}");
            }
            TreeError::BadInitialImage(range) => {
                return write!(formatter, "the device tree's initial image is {range}, outside RAM");
            }
            TreeError::NotATree => "the firmware handed over no device tree",
            TreeError::NoMemory => "the device tree has no memory node",
            TreeError::NoTimebase => "the device tree has no timebase-frequency under /cpus",
            TreeError::NoHarts => "the device tree has no hart under /cpus",
            TreeError::NoInterruptController => {
                "the device tree has no PLIC that interrupts this hart in supervisor mode"
            }
            TreeError::NoInitialImage => {
                "the device tree names no initial image (linux,initrd-start and -end under /chosen)"
            }
            TreeError::TooManyReserved => "the device tree reserves more ranges than the kernel can keep",
        })
    }
}

/// A physical range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// First address beyond.
    pub end: u64,
}

impl Range {
    fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.base)
    }

    fn holds(&self, other: &Range) -> bool {
        self.base <= other.base && other.base < other.end && other.end <= self.end
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x} to {:#x}", self.base, self.end)
    }
}

/// One hart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HartNode {
    /// Its number for the firmware.
    pub id: u64,
    /// The interrupt controller's context for its supervisor mode.
    pub context: u32,
    /// Whether it has the supervisor timer extension (Sstc).
    pub has_supervisor_timer: bool,
}

/// The machine, as far as the kernel cares.
#[derive(Clone, Debug)]
pub struct Machine<'t> {
    /// RAM: the largest range of it.
    pub ram: Range,
    /// Ranges of it that are somebody's.
    pub reserved: [Range; RESERVED_MAX],
    /// Ticks of the clock a second.
    pub ticks_per_second: u64,
    /// Harts; those beyond `hart_count` are empty.
    pub harts: [HartNode; HARTS_MAX],
    /// How many harts the kernel uses.
    pub hart_count: usize,
    /// The interrupt controller's registers.
    pub controller: Range,
    /// Its highest line.
    pub last_line: u32,
    /// The initial image.
    pub initial_image: Option<Range>,
    /// Boot arguments.
    pub arguments: &'t str,
    /// Bytes of the tree.
    pub tree_bytes: usize,
}

impl<'t> Machine<'t> {
    /// Reads the tree.
    pub fn read(bytes: &'t [u8]) -> Result<Self, TreeError> {
        if !bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) {
            return Err(TreeError::NotATree);
        }
        let tree = Fdt::new(bytes).map_err(TreeError::Damaged)?;
        let cpus = tree.find_node("/cpus").ok_or(TreeError::NoHarts)?;
        let ticks_per_second = number(cpus, "timebase-frequency").ok_or(TreeError::NoTimebase)?;
        if !(CLOCK_MIN..=CLOCK_MAX).contains(&ticks_per_second) {
            return Err(TreeError::BadTimebase(ticks_per_second));
        }
        let is_controller = |node: &FdtNode<'_>| {
            ["sifive,plic-1.0.0", "riscv,plic0"].iter().any(|name| node.is_compatible(name))
        };
        let node = nodes(tree).find(is_controller).ok_or(TreeError::NoInterruptController)?;
        let (harts, hart_count) = harts(cpus, node)?;
        let (controller, last_line) = controller(node, &harts[..hart_count])?;
        let ram = ram(tree)?;
        let chosen = tree.find_node("/chosen");
        let initial_image = chosen.and_then(initial_image);
        if let Some(image) = initial_image.filter(|image| !ram.holds(image)) {
            return Err(TreeError::BadInitialImage(image));
        }
        let arguments = chosen.and_then(|node| value(node, "bootargs")).unwrap_or("");
        Ok(Machine {
            ram,
            reserved: reserved(tree)?,
            ticks_per_second,
            harts,
            hart_count,
            controller,
            last_line,
            initial_image,
            arguments,
            tree_bytes: bytes.len(),
        })
    }

    /// Whether a boot argument was given, alone or as `name=1`.
    pub fn has_argument(&self, name: &str) -> bool {
        self.arguments
            .split_ascii_whitespace()
            .any(|word| word == name || word.strip_prefix(name).is_some_and(|rest| rest == "=1"))
    }
}

/// The nodes below the root, and those on the buses that stand there. What is behind further buses has addresses of
/// its own.
fn nodes<'t>(tree: Fdt<'t>) -> impl Iterator<Item = FdtNode<'t>> {
    tree.root().children().flat_map(|node| core::iter::once(node).chain(node.children()))
}

fn value<'t, T: FromPropertyValue<'t>>(node: FdtNode<'t>, name: &str) -> Option<T> {
    node.property(name)?.value_as().ok()
}

/// A number of 32 or 64 bits.
fn number(node: FdtNode<'_>, name: &str) -> Option<u64> {
    value::<u32>(node, name).map(u64::from).or_else(|| value(node, name))
}

fn ranges<'t>(node: FdtNode<'t>) -> impl Iterator<Item = Range> + 't {
    node.reg().ok().flatten().into_iter().flatten().filter_map(|region| {
        let (base, bytes) = (region.address::<u64>().ok()?, region.size::<u64>().ok()?);
        Some(Range { base, end: base.checked_add(bytes)? })
    })
}

fn ram(tree: Fdt<'_>) -> Result<Range, TreeError> {
    let is_memory = |node: &FdtNode<'_>| value(*node, "device_type") == Some("memory");
    let all = nodes(tree).filter(is_memory).flat_map(ranges);
    let ram = all.max_by_key(Range::bytes).ok_or(TreeError::NoMemory)?;
    let is_whole = ram.base.is_multiple_of(RAM_ALIGNMENT) && ram.end.is_multiple_of(PAGE_SIZE as u64);
    if is_whole && ram.base < ram.end && ram.end <= ADDRESS_END {
        Ok(ram)
    } else {
        Err(TreeError::BadMemory(ram))
    }
}

fn reserved(tree: Fdt<'_>) -> Result<[Range; RESERVED_MAX], TreeError> {
    let from_header = tree
        .memory_reservations()
        .map(|entry| Range { base: entry.address(), end: entry.address().saturating_add(entry.size()) });
    let children = tree.find_node("/reserved-memory").into_iter().flat_map(|node| node.children());
    let from_nodes = children.filter_map(|node| ranges(node).next());
    let mut all = [Range::default(); RESERVED_MAX];
    for (index, range) in from_header.chain(from_nodes).enumerate() {
        *all.get_mut(index).ok_or(TreeError::TooManyReserved)? = range;
    }
    Ok(all)
}

fn initial_image(chosen: FdtNode<'_>) -> Option<Range> {
    let base = number(chosen, "linux,initrd-start")?;
    Some(Range { base, end: number(chosen, "linux,initrd-end")? })
}

/// The controller's registers, which hold every context of these harts, and its highest line.
fn controller(node: FdtNode<'_>, harts: &[HartNode]) -> Result<(Range, u32), TreeError> {
    let registers = ranges(node).next().ok_or(TreeError::NoInterruptController)?;
    let last_line = number(node, "riscv,ndev").ok_or(TreeError::NoInterruptController)?;
    let contexts = harts.iter().map(|hart| u64::from(hart.context) + 1).max().unwrap_or(0);
    let needed = PLIC_CONTEXTS.0 + contexts * PLIC_CONTEXTS.1;
    let is_usable = registers.base.is_multiple_of(PAGE_SIZE as u64)
        && registers.base > 0
        && registers.end <= ADDRESS_END
        && (needed..=PLIC_BYTES_MAX).contains(&registers.bytes())
        && last_line <= PLIC_LINES_MAX;
    if is_usable {
        Ok((registers, last_line as u32))
    } else {
        Err(TreeError::BadInterruptController(registers))
    }
}

/// The number by which a device tree and the privileged architecture call a supervisor's external
/// interrupt.
const SUPERVISOR_EXTERNAL: u32 = 9;

fn harts(cpus: FdtNode<'_>, controller: FdtNode<'_>) -> Result<([HartNode; HARTS_MAX], usize), TreeError> {
    let contexts = controller
        .property("interrupts-extended")
        .and_then(|property| property.as_prop_encoded_array([1, 1]).ok())
        .ok_or(TreeError::NoInterruptController)?;
    let context_of = |phandle: u32| {
        contexts.clone().position(|[hart, interrupt]| {
            let is = |cells: Cells<'_>, wanted: u32| cells.to_int::<u32>() == Ok(wanted);
            is(hart, phandle) && is(interrupt, SUPERVISOR_EXTERNAL)
        })
    };
    let mut harts = [HartNode::default(); HARTS_MAX];
    let mut count = 0;
    for cpu in cpus.children().filter(|node| node.name().starts_with("cpu@")) {
        let Some(place) = harts.get_mut(count) else { break };
        let id = cpu.reg().ok().flatten().and_then(|mut all| all.next()?.address::<u64>().ok());
        let own = cpu.children().find(|node| node.name().starts_with("interrupt-controller"));
        let context = own.and_then(|own| value(own, "phandle")).and_then(context_of);
        if let (Some(id), Some(context)) = (id, context) {
            let extensions: &str = value(cpu, "riscv,isa").unwrap_or("");
            let has_supervisor_timer = extensions.split('_').any(|name| name == "sstc");
            *place = HartNode { id, context: context as u32, has_supervisor_timer };
            count += 1;
        }
    }
    if count == 0 { Err(TreeError::NoHarts) } else { Ok((harts, count)) }
}
