//! What the kernel takes from the device tree: RAM, harts, clock, interrupt controller, initial image,
//! boot arguments. Everything else in it is init's business.

use fdt::Fdt;
use fdt::node::FdtNode;
use nexus_abi::limits::HARTS_MAX;

/// Ranges of RAM that the tree or its header reserves, at most.
pub const RESERVED_MAX: usize = 16;

/// What is missing or wrong, in words that name the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// It is no device tree at all.
    NotATree,
    /// No node has `device_type = "memory"` and a `reg`.
    NoMemory,
    /// `/cpus` has no `timebase-frequency`.
    NoTimebase,
    /// No hart stands under `/cpus`.
    NoHarts,
    /// There is no interrupt controller (PLIC) that interrupts this hart in supervisor mode.
    NoInterruptController,
    /// `/chosen` does not say where the initial image is.
    NoInitialImage,
    /// More than [`RESERVED_MAX`] ranges are reserved.
    TooManyReserved,
}

impl TreeError {
    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
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
        }
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
        let tree = Fdt::new(bytes).map_err(|_| TreeError::NotATree)?;
        let cpus = tree.find_node("/cpus").ok_or(TreeError::NoHarts)?;
        let ticks_per_second = cpus
            .property("timebase-frequency")
            .and_then(|property| property.as_usize())
            .filter(|&ticks| ticks > 0)
            .ok_or(TreeError::NoTimebase)? as u64;
        let controller = tree
            .find_compatible(&["sifive,plic-1.0.0", "riscv,plic0"])
            .ok_or(TreeError::NoInterruptController)?;
        let (harts, hart_count) = harts(&cpus, &controller)?;
        let chosen = tree.find_node("/chosen");
        let arguments = chosen
            .and_then(|node| node.property("bootargs"))
            .and_then(|property| property.as_str())
            .unwrap_or("");
        Ok(Machine {
            ram: ram(&tree)?,
            reserved: reserved(&tree)?,
            ticks_per_second,
            harts,
            hart_count,
            controller: first_range(&controller).ok_or(TreeError::NoInterruptController)?,
            last_line: controller
                .property("riscv,ndev")
                .and_then(|property| property.as_usize())
                .ok_or(TreeError::NoInterruptController)? as u32,
            initial_image: chosen.and_then(initial_image),
            arguments,
            tree_bytes: tree.total_size(),
        })
    }

    /// Whether a boot argument was given, alone or as `name=1`.
    pub fn has_argument(&self, name: &str) -> bool {
        self.arguments
            .split_ascii_whitespace()
            .any(|word| word == name || word.strip_prefix(name).is_some_and(|rest| rest == "=1"))
    }
}

fn first_range(node: &FdtNode<'_, '_>) -> Option<Range> {
    let region = node.reg()?.next()?;
    let base = region.starting_address as u64;
    Some(Range { base, end: base.checked_add(region.size? as u64)? })
}

fn ram(tree: &Fdt<'_>) -> Result<Range, TreeError> {
    let is_memory = |node: &FdtNode<'_, '_>| {
        node.property("device_type").and_then(|property| property.as_str()) == Some("memory")
    };
    tree.all_nodes()
        .filter(is_memory)
        .filter_map(|node| node.reg())
        .flatten()
        .filter_map(|region| {
            let base = region.starting_address as u64;
            Some(Range { base, end: base.checked_add(region.size? as u64)? })
        })
        .max_by_key(|range| range.end - range.base)
        .ok_or(TreeError::NoMemory)
}

fn reserved(tree: &Fdt<'_>) -> Result<[Range; RESERVED_MAX], TreeError> {
    let from_header = tree.memory_reservations().map(|entry| {
        let base = entry.address() as u64;
        Range { base, end: base.saturating_add(entry.size() as u64) }
    });
    let children = tree.find_node("/reserved-memory").into_iter().flat_map(|node| node.children());
    let from_nodes = children.filter_map(|node| first_range(&node));
    let mut ranges = [Range::default(); RESERVED_MAX];
    for (index, range) in from_header.chain(from_nodes).enumerate() {
        *ranges.get_mut(index).ok_or(TreeError::TooManyReserved)? = range;
    }
    Ok(ranges)
}

fn initial_image(chosen: FdtNode<'_, '_>) -> Option<Range> {
    let base = chosen.property("linux,initrd-start")?.as_usize()? as u64;
    let end = chosen.property("linux,initrd-end")?.as_usize()? as u64;
    (base < end).then_some(Range { base, end })
}

/// The number by which a device tree and the privileged architecture call a supervisor's external
/// interrupt.
const SUPERVISOR_EXTERNAL: u32 = 9;

fn harts(
    cpus: &FdtNode<'_, '_>,
    controller: &FdtNode<'_, '_>,
) -> Result<([HartNode; HARTS_MAX], usize), TreeError> {
    let contexts = controller.property("interrupts-extended").ok_or(TreeError::NoInterruptController)?;
    let context_of = |phandle: u32| {
        contexts.value.chunks_exact(8).position(|pair| {
            let word = |at: usize| u32::from_be_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
            word(0) == phandle && word(4) == SUPERVISOR_EXTERNAL
        })
    };
    let mut harts = [HartNode::default(); HARTS_MAX];
    let mut count = 0;
    for cpu in cpus.children().filter(|node| node.name.starts_with("cpu@")) {
        let Some(id) = cpu.reg().and_then(|mut reg| reg.next()).map(|reg| reg.starting_address as u64) else {
            continue;
        };
        let phandle = cpu
            .children()
            .find(|node| node.name.starts_with("interrupt-controller"))
            .and_then(|node| node.property("phandle"))
            .and_then(|property| property.as_usize());
        let context = phandle.and_then(|phandle| context_of(phandle as u32));
        let extensions = cpu.property("riscv,isa").and_then(|property| property.as_str()).unwrap_or("");
        if let (Some(context), Some(hart)) = (context, harts.get_mut(count)) {
            let has_supervisor_timer = extensions.split('_').any(|name| name == "sstc");
            *hart = HartNode { id, context: context as u32, has_supervisor_timer };
            count += 1;
        }
    }
    if count == 0 { Err(TreeError::NoHarts) } else { Ok((harts, count)) }
}
