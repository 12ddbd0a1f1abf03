//! The first process: loaded by the kernel out of the initial image, with the root capabilities.

use super::BootError;
use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{FrameNumber, Id};
use crate::object::capability::Capability;
use crate::object::mapping::Shows;
use crate::object::{Process, Vmo};
use crate::sync::{Held, Nothing};
use crate::system_call::mapping::Wanted;
use core::sync::atomic::Ordering::Relaxed;
use elf::ElfBytes;
use elf::abi::{EM_RISCV, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;
use nexus_abi::capability::Qos;
use nexus_abi::image::{INIT, Image};
use nexus_abi::limits::{CAPABILITIES_MAX, PAGE_SIZE};
use nexus_abi::records::ProcessParameters;
use nexus_abi::start_page::StartPage;
use nexus_abi::{Handle, Kind, Rights, service_id};
use zerocopy::IntoBytes;

const PAGE: u64 = PAGE_SIZE as u64;
/// Pages of the kernel's own account that init does not get.
const KEPT_PAGES: u64 = 16;
/// Where init's stack ends; the page above is its start page's guard.
const STACK_TOP: u64 = 0x3f_0000_0000;
const STACK_BYTES: u64 = 128 * 1024;
const START_PAGE: u64 = STACK_TOP + PAGE;
const HEAP_BASE: u64 = 0x10_0000_0000;
const HEAP_BYTES: u64 = 1 << 30;
const OPEN_CALLS: u32 = 64;

/// What the first process is made from.
pub struct Origin<'a> {
    /// The initial image, checked.
    pub image: Image<'a>,
    /// Its first frame and its pages.
    pub image_frames: (FrameNumber, usize),
    /// The device tree.
    pub tree: &'a [u8],
    /// Boot arguments.
    pub arguments: &'a str,
}

/// Loads the first process and makes its thread ready.
pub fn start_init<A: Arch>(
    kernel: &Kernel<A>,
    hart: &mut Hart,
    held: &mut Held<'_, Nothing>,
    origin: &Origin<'_>,
) -> Result<(), BootError> {
    let loader = Loader { kernel, init: create(kernel, held, origin.image.init_rank())? };
    let file = origin.image.file(INIT).map_err(BootError::Image)?;
    let entry = loader.load(held, file)?;
    loader.memory(held, STACK_TOP - STACK_BYTES, STACK_BYTES, Rights::READ | Rights::WRITE, &[])?;
    let page = loader.start_page(held, origin)?;
    loader.memory(held, START_PAGE, PAGE, Rights::READ, page.as_bytes())?;
    let thread = kernel
        .new_thread(held, loader.init, [entry, STACK_TOP, START_PAGE], Qos::Interactive)
        .map_err(BootError::Init)?;
    if let Some((mut body, _)) = kernel.lock(held, thread) {
        kernel.make_ready(hart, thread, &mut body);
    }
    kernel.init.store(loader.init.raw(), Relaxed);
    kernel.counters.init_ticks.store(kernel.arch.now(), Relaxed);
    Ok(())
}

fn create<A: Arch>(
    kernel: &Kernel<A>,
    held: &mut Held<'_, Nothing>,
    rank: u32,
) -> Result<Id<Process>, BootError> {
    let free =
        kernel.lock(held, kernel.root).map_or(0, |(root, _)| root.account.limit - root.account.reserved);
    let parameters = ProcessParameters {
        service_id: service_id(INIT),
        quota_pages: free.saturating_sub(KEPT_PAGES),
        rank,
        capabilities_max: CAPABILITIES_MAX,
        open_calls_max: OPEN_CALLS,
        qos_max: Qos::PerfBurst as u32,
        ..ProcessParameters::default()
    };
    kernel.new_process(held, kernel.root, &parameters).map_err(BootError::Init)
}

struct Loader<'k, A: Arch> {
    kernel: &'k Kernel<A>,
    init: Id<Process>,
}

impl<A: Arch> Loader<'_, A> {
    /// Loads every segment of a program; yields where it begins.
    fn load(&self, held: &mut Held<'_, Nothing>, file: &[u8]) -> Result<u64, BootError> {
        let malformed = || BootError::InitFormat("it is no ELF file of 64 bits, little-endian");
        let program = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| malformed())?;
        if program.ehdr.e_machine != EM_RISCV || program.ehdr.e_type != ET_EXEC {
            return Err(BootError::InitFormat("it is no static program for RISC-V"));
        }
        let segments = program.segments().ok_or_else(malformed)?;
        for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz > 0) {
            let bytes = program.segment_data(&segment).map_err(|_| malformed())?;
            self.load_segment(held, &segment, bytes)?;
        }
        Ok(program.ehdr.e_entry)
    }

    fn load_segment(
        &self,
        held: &mut Held<'_, Nothing>,
        segment: &ProgramHeader,
        bytes: &[u8],
    ) -> Result<(), BootError> {
        let outside = || BootError::InitFormat("a segment lies outside user memory");
        let base = segment.p_vaddr & !(PAGE - 1);
        let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or_else(outside)?;
        let total = end.checked_next_multiple_of(PAGE).ok_or_else(outside)? - base;
        if !crate::memory::user::in_user_range(base, total) || bytes.len() as u64 > segment.p_memsz {
            return Err(outside());
        }
        let mut rights = Rights::empty();
        for (flag, right) in [(PF_R, Rights::READ), (PF_W, Rights::WRITE), (PF_X, Rights::EXECUTE)] {
            rights.set(right, segment.p_flags & flag != 0);
        }
        let vmo = self.vmo(held, total)?;
        self.fill(held, vmo, segment.p_vaddr - base, bytes)?;
        self.map(held, vmo, base, total, rights)
    }

    /// Memory of init's own, with these bytes at its beginning, mapped.
    fn memory(
        &self,
        held: &mut Held<'_, Nothing>,
        base: u64,
        bytes: u64,
        rights: Rights,
        contents: &[u8],
    ) -> Result<(), BootError> {
        let vmo = self.vmo(held, bytes)?;
        self.fill(held, vmo, 0, contents)?;
        self.map(held, vmo, base, bytes, rights)
    }

    fn vmo(&self, held: &mut Held<'_, Nothing>, bytes: u64) -> Result<Id<Vmo>, BootError> {
        let pages = bytes.div_ceil(PAGE) as usize;
        self.kernel.create_vmo(held, self.init, pages).map_err(BootError::Init)
    }

    fn fill(
        &self,
        held: &mut Held<'_, Nothing>,
        vmo: Id<Vmo>,
        mut offset: u64,
        mut bytes: &[u8],
    ) -> Result<(), BootError> {
        while !bytes.is_empty() {
            let place = (offset % PAGE) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_SIZE - place));
            let frame = self
                .kernel
                .vmo_page(&mut held.above(), vmo, (offset / PAGE) as usize)
                .map_err(BootError::Init)?;
            self.kernel.memory.write(frame, place, now);
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn map(
        &self,
        held: &mut Held<'_, Nothing>,
        vmo: Id<Vmo>,
        base: u64,
        bytes: u64,
        rights: Rights,
    ) -> Result<(), BootError> {
        let wanted = Wanted {
            process: self.init,
            base,
            bytes,
            shows: Shows::Memory(vmo, 0),
            rights,
            rights_max: rights,
            parent: 0,
        };
        self.kernel.map(held, &wanted).map_err(BootError::Init)
    }

    fn start_page(&self, held: &mut Held<'_, Nothing>, origin: &Origin<'_>) -> Result<StartPage, BootError> {
        let mut page = StartPage::new(INIT, service_id(INIT));
        page.ticks_per_second = self.kernel.arch.ticks_per_second();
        (page.heap_base, page.heap_bytes) = (HEAP_BASE, HEAP_BYTES);
        (page.stack_base, page.stack_bytes) = (STACK_TOP - STACK_BYTES, STACK_BYTES);
        page.quota_pages = self.kernel.lock(held, self.init).map_or(0, |(init, _)| init.account.limit);
        page.rank = origin.image.init_rank();
        (page.open_calls_max, page.generation) = (OPEN_CALLS, 1);
        page.set_arguments(origin.arguments);
        let mut processes = Capability::new(Kind::ProcessAuthority, Rights::CREATE, 1);
        processes.badge = u64::MAX;
        let mut urgency = Capability::new(Kind::QosAuthority, Rights::MANAGE, 0);
        urgency.badge = Qos::PerfBurst as u64;
        let control = Capability::new(Kind::SystemControl, Kind::SystemControl.rights(), 0);
        let devices = Capability::new(Kind::DeviceAuthority, Rights::CREATE, 0);
        self.give(held, &mut page, "system", control)?;
        self.give(held, &mut page, "process-authority", processes)?;
        self.give(held, &mut page, "device-authority", devices)?;
        self.give(held, &mut page, "qos-authority", urgency)?;
        let image = Vmo::fixed(origin.image_frames.0, origin.image_frames.1);
        let image = self.kernel.create(held, self.kernel.root, image).map_err(BootError::Init)?;
        self.give(held, &mut page, "initial-image", Capability::new(Kind::Vmo, Rights::READ, image.raw()))?;
        let tree = self.vmo(held, origin.tree.len() as u64)?;
        self.fill(held, tree, 0, origin.tree)?;
        self.give(held, &mut page, "device-tree", Capability::new(Kind::Vmo, Rights::READ, tree.raw()))?;
        Ok(page)
    }

    fn give(
        &self,
        held: &mut Held<'_, Nothing>,
        page: &mut StartPage,
        name: &str,
        capability: Capability,
    ) -> Result<(), BootError> {
        let (kind, rights) = (capability.kind, capability.rights);
        let handle: Handle =
            self.kernel.insert_into(held, self.init, 0, capability).map_err(BootError::Init)?;
        page.add(name, handle, kind, rights).map_err(|_| BootError::InitFormat("its start page is full"))
    }
}
