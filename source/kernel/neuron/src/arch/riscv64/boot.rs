//! The first instructions, and the tables: from OpenSBI's jump to a kernel in the upper half.
//!
//! OpenSBI jumps to `_start` with translation off, the hart's id in `a0` and the device tree's address in
//! `a1`. The assembly makes coarse tables (everything mapped, to be thrown away), jumps to where the
//! kernel is linked, and [`enter`] makes the real ones: the window onto RAM and the kernel's image, page
//! by page where the image is, never writable and executable, with a hole under every stack.

use super::plic::Plic;
use super::tables::{
    GUARD_BYTES, IMAGE_BASE, STACK_BYTES, image_end, make_tables, place_for_keeping, seen, stacks_start,
};
use super::{Riscv64, csr, print, trap};
use crate::arch::Arch;
use crate::boot::device_tree::{Machine, Range, TreeError};
use crate::boot::{self, BootError, Origin, deadlines_for};
use crate::deadline::Entry;
use crate::kernel::{Figures, Hart, Kernel, LINES_MAX, Storage};
use crate::line;
use crate::memory::frame::FrameInfo;
use crate::memory::{Memory, PhysicalAddress};
use crate::ring::RING_BYTES;
use crate::sync::Held;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use csr::read;
use nexus_abi::image::Image;
use nexus_abi::limits::{HARTS_MAX, PAGE_SIZE};
use nexus_abi::records::RingLevel;

const PAGE: u64 = PAGE_SIZE as u64;
/// How long a hart may take from its start to its first word.
const START_SECONDS: u64 = 60;
/// Physical addresses that the coarse tables map: 64 GiB.
const COARSE_GIB: u64 = 64;

global_asm!(
    r#"
    .section .text.start, "ax"
    .globl _start
_start:
    csrw sie, zero
    csrw sscratch, zero
    mv s1, a0
    mv s2, a1
    la t0, __bss_start
    la t1, __bss_end
1:  sd zero, 0(t0)
    addi t0, t0, 8
    bltu t0, t1, 1b

    # The coarse root: where we are (identity), all of RAM and devices (window), the kernel (image).
    la t0, __coarse_root
    la t1, _start
    srli t2, t1, 30
    slli t3, t2, 28
    ori t3, t3, 0xcf
    slli t2, t2, 3
    add t2, t2, t0
    sd t3, 0(t2)
    li t2, 256*8
    add t2, t2, t0
    li t3, 0xe7
    li t4, {coarse}
    li t5, 1 << 28
2:  sd t3, 0(t2)
    add t3, t3, t5
    addi t2, t2, 8
    addi t4, t4, -1
    bnez t4, 2b
    la t2, __coarse_image
    srli t3, t2, 12
    slli t3, t3, 10
    ori t3, t3, 1
    li t4, 510*8
    add t4, t4, t0
    sd t3, 0(t4)
    srli t3, t1, 12
    slli t3, t3, 10
    ori t3, t3, 0xef
    li t4, 16
    li t5, 1 << 19
3:  sd t3, 0(t2)
    add t3, t3, t5
    addi t2, t2, 8
    addi t4, t4, -1
    bnez t4, 3b
    la t2, __coarse_root
    srli t2, t2, 12
    li t3, 8 << 60
    or t2, t2, t3
    mv s3, t1

    # Into the upper half: the kernel's addresses minus where it was loaded.
    .globl __climb
__climb:
    li t3, {base}
    sub t3, t3, s3
    la t4, 4f
    add t4, t4, t3
    la sp, __stacks_start
    li t5, {first_stack}
    add sp, sp, t5
    add sp, sp, t3
    sfence.vma
    csrw satp, t2
    sfence.vma
    jr t4
4:  mv a0, s1
    mv a1, s2
    mv a2, s3
    mv s0, zero
    mv ra, zero
    call {enter}

    # Another hart: the same way in, on the tables in force; a1 is the top of its stack.
    .globl __start_other
__start_other:
    csrw sie, zero
    csrw sscratch, zero
    mv s1, a0
    mv s2, a1
    la t0, __coarse_root
    srli t2, t0, 12
    li t3, 8 << 60
    or t2, t2, t3
    la t1, _start
    li t3, {base}
    sub t3, t3, t1
    la t4, 5f
    add t4, t4, t3
    sfence.vma
    csrw satp, t2
    sfence.vma
    jr t4
5:  mv a0, s2
    mv sp, s2
    mv s0, zero
    mv ra, zero
    call {enter_other}

    .section .bss.page_aligned, "aw", @nobits
    .balign 4096
    .globl __coarse_root
__coarse_root:
    .space 4096
__coarse_image:
    .space 4096
    .text
    "#,
    coarse = const COARSE_GIB,
    base = const IMAGE_BASE,
    first_stack = const GUARD_BYTES + STACK_BYTES,
    enter = sym enter,
    enter_other = sym enter_other,
);

/// A place that is filled once, at boot, and never changes hands again.
pub struct Cell<T> {
    filled: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is written once, before anybody can get it; afterwards it is only shared.
unsafe impl<T> Sync for Cell<T> {}

impl<T> Cell<T> {
    /// An empty place.
    #[expect(clippy::new_without_default, reason = "statics need a constant")]
    pub const fn new() -> Self {
        Cell { filled: AtomicBool::new(false), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Fills the place; who fills it may change it until it is shared.
    #[expect(clippy::mut_from_ref, reason = "the flag lets this happen once")]
    pub fn fill(&'static self, value: T) -> &'static mut T {
        assert!(!self.filled.swap(true, Ordering::AcqRel), "filled twice");
        // SAFETY: the flag lets this happen once.
        unsafe { (*self.value.get()).write(value) }
    }

    /// What is in it.
    pub fn get(&'static self) -> &'static T {
        assert!(self.filled.load(Ordering::Acquire), "used before boot filled it");
        // SAFETY: it was filled, and is not changed again.
        unsafe { (*self.value.get()).assume_init_ref() }
    }
}

static KERNEL: Cell<Kernel<Riscv64>> = Cell::new();
/// Harts that have started, beside the one that boots.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// Whether they may come in.
static ADMITTED: AtomicBool = AtomicBool::new(false);

/// Bytes of physical memory that the firmware left for the kernel.
///
/// # Safety
/// The range must be RAM that nobody writes.
unsafe fn physical_slice(range: Range) -> &'static [u8] {
    // SAFETY: the caller's promise, and the window maps all of RAM.
    unsafe { core::slice::from_raw_parts(seen(range.base), (range.end - range.base) as usize) }
}

extern "C" fn enter(hart_id: u64, tree_address: u64, load_address: u64) -> ! {
    let started = read!("time");
    if let Err(error) = start(hart_id, tree_address, load_address, started) {
        refuse(error);
    }
    unreachable!("a started kernel does not come back")
}

/// Ends a boot that cannot go on, with one line.
fn refuse(error: BootError) -> ! {
    print(line!("neuron: cannot boot: {error}\n").as_str());
    sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::SystemFailure);
    stop()
}

/// Waits for ever.
pub fn stop() -> ! {
    loop {
        // SAFETY: `wfi` only waits.
        unsafe { core::arch::asm!("wfi", options(nomem, nostack)) };
    }
}

/// Bytes of a device tree's header that say how long it is: magic and total size, big-endian.
fn tree_slice(address: u64) -> Result<&'static [u8], BootError> {
    // SAFETY: the firmware hands over the address of a device tree in RAM; its header is 40 bytes.
    let head = unsafe { physical_slice(Range { base: address, end: address + 40 }) };
    let size = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    if head[..4] != [0xd0, 0x0d, 0xfe, 0xed] || size > 2 << 20 {
        return Err(BootError::Tree(TreeError::NotATree));
    }
    // SAFETY: as above. How long it is is the firmware's word, which nothing here can check; it is RAM, and bytes.
    Ok(unsafe { physical_slice(Range { base: address, end: address + u64::from(size) }) })
}

fn start(hart_id: u64, tree_address: u64, load_address: u64, started: u64) -> Result<(), BootError> {
    let tree = tree_slice(tree_address)?;
    let machine = Machine::read(tree).map_err(BootError::Tree)?;
    let image_end = load_address + (image_end() - IMAGE_BASE);
    let tree_range = Range { base: tree_address, end: tree_address + tree.len() as u64 };
    let mut keeper = place_for_keeping(&machine, image_end, tree_range);
    let frames = (machine.ram.end - machine.ram.base) / PAGE;
    let too_little = || BootError::TooLittleRam {
        needed_kib: boot::RAM_KIB_MIN,
        free_kib: machine.ram.end.saturating_sub(image_end) / 1024,
    };
    let infos =
        keeper.take((frames * size_of::<FrameInfo>() as u64).div_ceil(PAGE)).ok_or_else(too_little)?;
    let harts = machine.hart_count.max(1);
    let places = (deadlines_for(frames) * harts) as u64;
    let deadlines =
        keeper.take((places * size_of::<Entry>() as u64).div_ceil(PAGE)).ok_or_else(too_little)?;
    let ring = keeper.take(RING_BYTES as u64 / PAGE).ok_or_else(too_little)?;
    let lines = keeper.take((8 * LINES_MAX as u64).div_ceil(PAGE)).ok_or_else(too_little)?;
    let root = make_tables(&machine, &mut keeper, load_address).ok_or_else(too_little)?;
    csr::load_table(csr::table_word(root, 0));
    // SAFETY: forgets the coarse tables' translations.
    unsafe { core::arch::asm!("sfence.vma", options(nostack)) };
    trap::install();
    let image_range = machine.initial_image.unwrap_or_default();
    let taken = [
        Range { base: machine.ram.base, end: load_address },
        Range { base: load_address, end: keeper.next },
        tree_range,
        image_range,
    ];
    // SAFETY: `keeper` gave these pages to nobody else; they are zero, which is a valid value of both, and
    // stay mapped by the window for ever.
    let (memory, storage) = unsafe {
        let infos = core::slice::from_raw_parts(seen(infos).cast::<FrameInfo>(), frames as usize);
        let storage = Storage {
            harts,
            deadlines: core::slice::from_raw_parts_mut(seen(deadlines).cast::<Entry>(), places as usize),
            ring: &mut *seen(ring).cast(),
            lines: &*seen(lines).cast(),
        };
        (Memory::new(seen(machine.ram.base), machine.ram.base, infos), storage)
    };
    let mut all = [Range::default(); 4 + boot::device_tree::RESERVED_MAX];
    all[..4].copy_from_slice(&taken);
    all[4..].copy_from_slice(&machine.reserved);
    let free = boot::fill_pool(&memory, &all);
    let figures = Figures {
        boot_ticks: started,
        ram_pages: frames,
        kernel_pages: frames.saturating_sub(free),
        threads_max: boot::threads_for(frames),
        harts: machine.hart_count as u64,
        print_origin: machine.has_argument("console.origin"),
    };
    let boot_hart = machine.harts.iter().find(|hart| hart.id == hart_id);
    let boot_hart = *boot_hart.ok_or(BootError::Tree(TreeError::NoInterruptController))?;
    let arch = arch(&machine, boot_hart);
    // A reset keeps the comparator of the boot before, whose time may be over for good.
    arch.set_timer(u64::MAX);
    let root_frame = memory.frame(PhysicalAddress(root)).ok_or_else(too_little)?;
    let kernel = KERNEL.fill(boot::build(arch, memory, root_frame, figures, storage)?);
    first_words(kernel, &machine, hart_id, load_address)?;
    let image = open_image(kernel, &machine)?;
    let mut hart = Hart::new(0);
    kernel.come_in(&mut hart, &mut Held::at_entry());
    if machine.has_argument("selftest") {
        crate::selftest::run(kernel, &mut hart, &mut Held::at_entry());
    }
    let origin = Origin { image: image.0, image_frames: image.1, tree, arguments: machine.arguments };
    boot::start_init(kernel, &mut hart, &mut Held::at_entry(), &origin)?;
    trap::run(&KERNEL, hart, stack_of(0))
}

fn arch(machine: &Machine<'_>, hart: crate::boot::device_tree::HartNode) -> Riscv64 {
    let registers = NonNull::new(seen(machine.controller.base)).expect("the window is not at address 0");
    let bytes = (machine.controller.end - machine.controller.base) as usize;
    // SAFETY: `make_tables` mapped the controller's window for good; the kernel keeps it to itself
    // (`is_kernel_device`).
    let plic = unsafe { Plic::new(registers, bytes, hart.context, machine.last_line) };
    Riscv64 {
        plic,
        controller: machine.controller,
        last_line: machine.last_line.min(crate::kernel::LINES_MAX as u32 - 1),
        ticks_per_second: machine.ticks_per_second,
        has_supervisor_timer: hart.has_supervisor_timer,
        last_asid: csr::last_asid(),
        hart_ids: [const { AtomicU64::new(0) }; HARTS_MAX],
    }
}

fn first_words(
    kernel: &'static Kernel<Riscv64>,
    machine: &Machine<'_>,
    hart_id: u64,
    load_address: u64,
) -> Result<(), BootError> {
    let (mut hart, held) = (Hart::new(0), &mut Held::at_entry());
    let version = env!("CARGO_PKG_VERSION");
    let ram = (machine.ram.end - machine.ram.base) >> 20;
    let harts = machine.hart_count;
    let banner = line!("neuron vers. {version}, Open Nexus: {ram} MiB RAM, {harts} hart(s)");
    kernel.say(&mut hart, held, RingLevel::Info, &banner);
    let free = u64::from(kernel.memory.free_count()) * PAGE / 1024;
    kernel.say(&mut hart, held, RingLevel::Info, &line!("boot: ok, {free} KiB free"));
    let timer = if kernel.arch.has_supervisor_timer { "sstc" } else { "sbi" };
    let asids = kernel.arch.last_asid;
    kernel.say(&mut hart, held, RingLevel::Info, &line!("traps: ok, timer {timer}, {asids} asids"));
    kernel.arch.hart_ids[0].store(hart_id, Ordering::Relaxed);
    kernel.entrance.admit();
    let mut online = 1;
    for other in machine.harts[..machine.hart_count].iter().filter(|other| other.id != hart_id) {
        // Numbered as they come: which hart the firmware boots first is its own choice.
        kernel.arch.hart_ids[online].store(other.id, Ordering::Relaxed);
        if other.has_supervisor_timer == kernel.arch.has_supervisor_timer
            && start_other(other.id, online, load_address)
        {
            kernel.entrance.admit();
            let text = line!("KINIT: cpu{online} online");
            online += 1;
            kernel.say(&mut hart, held, RingLevel::Info, &text);
        }
    }
    kernel.counters.harts_online.store(online as u64, Ordering::Relaxed);
    ADMITTED.store(true, Ordering::Release);
    Ok(())
}

/// The top of the stack of a hart, by its index.
fn stack_of(index: usize) -> u64 {
    stacks_start() + (index as u64 + 1) * (STACK_BYTES + GUARD_BYTES)
}

/// Starts another hart and waits, for a bounded time, until it says so.
fn start_other(id: u64, index: usize, load_address: u64) -> bool {
    // SAFETY: the assembly above defines it; only its address is taken, never called from here.
    unsafe extern "C" {
        fn __start_other();
    }
    let entry = (__start_other as *const ()).addr() as u64 - IMAGE_BASE + load_address;
    let before = STARTED.load(Ordering::Acquire);
    if sbi_rt::hart_start(id as usize, entry as usize, stack_of(index) as usize).is_err() {
        return false;
    }
    let patience = read!("time") + START_SECONDS * KERNEL.get().arch.ticks_per_second;
    while read!("time") < patience {
        if STARTED.load(Ordering::Acquire) != before {
            return true;
        }
        core::hint::spin_loop();
    }
    // It may still come: then onto a stack that must be nobody else's.
    panic!("hart {id} was started and does not come")
}

extern "C" fn enter_other(stack: u64) -> ! {
    let kernel = KERNEL.get();
    if let Some(shared) = kernel.memory.shared(kernel.root) {
        csr::load_table(shared.space().0);
    }
    // SAFETY: forgets the coarse tables' translations.
    unsafe { core::arch::asm!("sfence.vma", options(nostack)) };
    trap::install();
    kernel.arch.set_timer(u64::MAX);
    STARTED.fetch_add(1, Ordering::AcqRel);
    while !ADMITTED.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let index = (stack - stacks_start()) / (STACK_BYTES + GUARD_BYTES) - 1;
    let mut hart = Hart::new(index as usize);
    kernel.come_in(&mut hart, &mut Held::at_entry());
    trap::run(&KERNEL, hart, stack)
}

type OpenedImage = (Image<'static>, (crate::memory::FrameNumber, usize));

fn open_image(kernel: &'static Kernel<Riscv64>, machine: &Machine<'_>) -> Result<OpenedImage, BootError> {
    let range = machine.initial_image.ok_or(BootError::Tree(TreeError::NoInitialImage))?;
    if !range.base.is_multiple_of(PAGE) {
        return Err(BootError::ImageUnaligned);
    }
    // SAFETY: the range is of RAM (`Machine::read`); the firmware loaded the image there, and its frames never go to
    // the pool.
    let image = Image::open(unsafe { physical_slice(range) }).map_err(BootError::Image)?;
    let first = kernel.memory.frame(PhysicalAddress(range.base)).ok_or(BootError::ImageUnaligned)?;
    let pages = (range.end - range.base).div_ceil(PAGE) as usize;
    Ok((image, (first, pages)))
}
