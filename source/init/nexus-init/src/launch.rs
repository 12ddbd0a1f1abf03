//! Making one process: its memory, its start page with its capabilities, its thread.

use crate::program::{Program, Segment};
use crate::resources::Grant;
use core::fmt;
use nexus_abi::limits::{PAGE_SIZE, TRANSFER_BYTES_MAX};
use nexus_abi::records::ProcessParameters;
use nexus_abi::start_page::StartPage;
use nexus_abi::{Error, Handle, Rights, service_id, system};
use nexus_proto::init::StartFailure;
use nexus_rt::warning;
use system_manifest::Service;
use zerocopy::IntoBytes;

/// Where the start page lies in every process.
pub const START_PAGE: u64 = crate::program::PROGRAM_END;
/// Where every first stack ends; below it lies its guard page, which nothing is ever mapped to.
pub const STACK_END: u64 = 0x2000_0000;
/// Where the range for heap and mappings begins.
pub const HEAP_BASE: u64 = 0x4000_0000;
/// Bytes of that range (1 GiB).
pub const HEAP_BYTES: u64 = 0x4000_0000;

/// What a process is made of.
pub struct Launch<'a> {
    /// Its manifest entry.
    pub service: &'a Service,
    /// Its program.
    pub program: &'a Program<'a>,
    /// What it is handed.
    pub grants: &'a [Grant],
    /// Its arguments.
    pub arguments: &'a str,
    /// How often the service was started, this time included.
    pub generation: u32,
    /// Who hears of its death.
    pub supervisor: Handle,
    /// The bit that is set then.
    pub death_bits: u64,
}

/// Parts of making a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The process itself.
    Create,
    /// A piece of its memory.
    Allocate,
    /// What stands there.
    Fill,
    /// Putting it where it belongs.
    Map,
    /// Its capabilities.
    HandOut,
    /// Its thread.
    Begin,
}

/// Why a process could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchError {
    /// What was tried.
    pub step: Step,
    /// What the kernel said.
    pub error: Error,
}

impl LaunchError {
    /// What that means for who asked.
    pub fn failure(self) -> StartFailure {
        match (self.step, self.error) {
            (Step::Create, Error::NoMemory) => StartFailure::OutOfMemory,
            (_, Error::NoSlots | Error::TableFull) => StartFailure::TableFull,
            (_, Error::NoMemory) => StartFailure::Quota,
            (Step::Map, _) => StartFailure::MappingFailed,
            (Step::Fill | Step::Begin, Error::InvalidArgument | Error::OutOfRange) => {
                StartFailure::InvalidImage
            }
            _ => StartFailure::NotPermitted,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Create => "creating the process",
            Step::Allocate => "creating memory",
            Step::Fill => "filling memory",
            Step::Map => "mapping memory",
            Step::HandOut => "handing out a capability",
            Step::Begin => "starting the thread",
        };
        write!(formatter, "{step}: {}", self.error)
    }
}

fn at<T>(step: Step, outcome: Result<T, Error>) -> Result<T, LaunchError> {
    outcome.map_err(|error| LaunchError { step, error })
}

/// Makes a process and starts its first thread; yields the process. A process that could not be finished is
/// ended again.
pub fn launch(authority: Handle, plan: &Launch<'_>, ticks_per_second: u64) -> Result<Handle, LaunchError> {
    let limits = plan.service.limits;
    let parameters = ProcessParameters {
        service_id: service_id(&plan.service.name),
        quota_pages: limits.memory_pages.into(),
        supervisor: plan.supervisor,
        death_bits: plan.death_bits,
        rank: plan.service.rank,
        capabilities_max: limits.capabilities,
        open_calls_max: limits.open_calls,
        qos_max: plan.service.urgency as u32,
    };
    let process = at(Step::Create, system::process_create(authority, &parameters))?;
    match furnish(process, plan, ticks_per_second) {
        Ok(()) => Ok(process),
        Err(error) => {
            // It has no thread and nobody knows it: whether it could be ended changes nothing.
            let _ = system::process_kill(process, 0);
            let _ = system::cap_close(process);
            Err(error)
        }
    }
}

fn furnish(process: Handle, plan: &Launch<'_>, ticks_per_second: u64) -> Result<(), LaunchError> {
    for segment in &plan.program.segments {
        map_segment(process, segment)?;
    }
    let stack_bytes = plan.service.limits.stack_pages as usize * PAGE_SIZE;
    let stack_base = STACK_END - stack_bytes as u64;
    let protection = Rights::READ | Rights::WRITE;
    map_segment(
        process,
        &Segment { base: stack_base, bytes: stack_bytes, offset: 0, contents: &[], protection },
    )?;
    let mut page = start_page(process, plan)?;
    page.ticks_per_second = ticks_per_second;
    page.stack_base = stack_base;
    page.stack_bytes = stack_bytes as u64;
    let contents = page.as_bytes();
    let protection = Rights::READ;
    map_segment(process, &Segment { base: START_PAGE, bytes: PAGE_SIZE, offset: 0, contents, protection })?;
    let (entry, qos) = (plan.program.entry, plan.service.urgency as u64);
    // SAFETY: it is another process's memory.
    let thread = unsafe { system::thread_create(process, entry, STACK_END, START_PAGE, qos) };
    let thread = at(Step::Begin, thread)?;
    if plan.service.affinity != 0
        && system::thread_set_affinity(thread, plan.service.affinity.into()).is_err()
    {
        warning!("init: this machine has none of the harts of {}: it runs on any", plan.service.name);
    }
    close(thread);
    Ok(())
}

/// Hands out the capabilities and writes down who the process is and what it has.
fn start_page(process: Handle, plan: &Launch<'_>) -> Result<StartPage, LaunchError> {
    let mut page = StartPage::new(&plan.service.name, service_id(&plan.service.name));
    page.heap_base = HEAP_BASE;
    page.heap_bytes = HEAP_BYTES;
    page.quota_pages = plan.service.limits.memory_pages.into();
    page.rank = plan.service.rank;
    page.open_calls_max = plan.service.limits.open_calls;
    page.generation = plan.generation;
    page.set_arguments(plan.arguments);
    for grant in plan.grants {
        let handed = system::cap_transfer_to(process, grant.handle, grant.rights);
        let handle = at(Step::HandOut, handed)?;
        let named = page.add(&grant.name, handle, grant.kind, grant.rights);
        at(Step::HandOut, named.map_err(|_| Error::NoSlots))?;
    }
    Ok(page)
}

/// Makes memory that belongs to the process, fills it and maps it with exactly its protection.
fn map_segment(process: Handle, segment: &Segment<'_>) -> Result<(), LaunchError> {
    let vmo = at(Step::Allocate, system::vmo_create(process, segment.bytes))?;
    let outcome = fill_and_map(process, segment, vmo);
    close(vmo);
    outcome
}

fn fill_and_map(process: Handle, segment: &Segment<'_>, vmo: Handle) -> Result<(), LaunchError> {
    let mut offset = segment.offset as u64;
    for piece in segment.contents.chunks(TRANSFER_BYTES_MAX) {
        at(Step::Fill, system::vmo_write(vmo, offset, piece))?;
        offset += piece.len() as u64;
    }
    // SAFETY: it is another process's memory.
    let mapped = unsafe { system::vmo_map(process, vmo, segment.base, 0, segment.bytes, segment.protection) };
    at(Step::Map, mapped)
}

/// The object belongs to the process and lives on; only init's own name for it goes.
fn close(handle: Handle) {
    let _ = system::cap_close(handle);
}
