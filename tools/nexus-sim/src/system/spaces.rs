//! Processes and threads of the simulator as the kernel's come and go, and their spaces as its tables change.

use super::{Death, PAGE, ProcessId, System, ThreadId};
use crate::image::{ENTRY_BYTES, program_at};
use crate::machine::{Flush, Machine};
use crate::ram::{Ram, Shown, Space};
use crate::task::{Begins, Process, Task};
use anyhow::{Context, Result, anyhow};
use neuron::memory::PhysicalAddress;
use neuron::simulation;
use nexus_abi::Rights;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::start_page::StartPage;
use zerocopy::{FromZeros, IntoBytes};

/// The number of the register `sp`.
const STACK_POINTER: usize = 2;

impl System {
    /// Gives a thread that never ran its stack, and its program or what its process has it do.
    pub(super) fn begin(&mut self, thread: ThreadId, id: ProcessId) -> Result<()> {
        let begins = self.kernel.context(thread, |context| {
            (context.program_counter(), context.registers[STACK_POINTER], context.argument(0))
        });
        let (entry, stack, argument) = begins.context("a thread that is gone begins")?;
        let is_first = !self.processes.contains_key(&id.raw());
        if is_first {
            let mut bytes = [0; ENTRY_BYTES];
            self.kernel.read(id, entry, &mut bytes).map_err(|error| anyhow!("the entry: {error}"))?;
            let program = program_at(&bytes).context("no program stands at an entry")?;
            let mut page = StartPage::new_zeroed();
            let read = self.kernel.read(id, argument, page.as_mut_bytes());
            read.map_err(|error| anyhow!("the start page of {}: {error}", program.0))?;
            let identity = self.kernel.identity(id).context("a process that is gone begins")?;
            let space = Space::new().context("a space")?;
            let process = Process::new(program, space, identity.process_id, identity.asid, page);
            self.processes.insert(id.raw(), process);
        }
        self.fill(id)?;
        let regions = self.kernel.regions(id);
        let holds =
            |region: &&simulation::Region| (region.base..region.base + region.bytes).contains(&(stack - 1));
        let limit = regions.iter().find(holds).context("a thread without a stack")?.base;
        let process = self.processes.get(&id.raw()).context("a process that never began")?;
        let begins = if is_first { Begins::Program } else { Begins::Thread(process.space.base() + argument) };
        let task = Task::new(process, (limit, stack), begins, self.clock.clone())?;
        self.tasks.insert(thread.raw(), task);
        Ok(())
    }

    /// Brings a process's space up to what the kernel's tables promise.
    pub(super) fn fill(&mut self, id: ProcessId) -> Result<()> {
        let Some(process) = self.processes.get_mut(&id.raw()) else { return Ok(()) };
        if !std::mem::take(&mut process.stale) {
            return Ok(());
        }
        for region in self.kernel.regions(id) {
            // Code is the host's own.
            if !region.rights.contains(Rights::READ) {
                continue;
            }
            let writable = region.rights.contains(Rights::WRITE);
            let mut run: Option<(u64, u64, PhysicalAddress)> = None;
            for page in (region.base..region.base + region.bytes).step_by(PAGE_SIZE) {
                if process.space.has(page) {
                    continue;
                }
                let place = self.kernel.page(id, page, Rights::READ).map_err(|error| anyhow!("{error}"))?;
                if region.registers {
                    if Machine::is_plain(place.0) {
                        process.space.show(&self.ram, page, 1, Shown::Registers, writable)?;
                    }
                    continue;
                }
                run = match run {
                    Some((base, count, first))
                        if base + count * PAGE == page && first.0 + count * PAGE == place.0 =>
                    {
                        Some((base, count + 1, first))
                    }
                    other => {
                        show(&mut process.space, &self.ram, other, writable)?;
                        Some((page, 1, place))
                    }
                };
            }
            show(&mut process.space, &self.ram, run, writable)?;
        }
        Ok(())
    }

    /// Forgets what the kernel said is to be forgotten, and whoever has ended.
    pub(super) fn flush(&mut self) -> Result<()> {
        for flush in self.kernel.arch().take_flushes() {
            let (Flush::Page(asid, _) | Flush::Space(asid)) = flush;
            let Some(process) = self.processes.values_mut().find(|process| process.asid == asid) else {
                continue;
            };
            process.stale = true;
            match flush {
                Flush::Page(_, page) => process.space.flush(page)?,
                Flush::Space(_) => process.space.flush_all()?,
            }
        }
        let kernel = &mut self.kernel;
        self.tasks.retain(|&raw, _| {
            let process = ThreadId::from_raw(raw).and_then(|thread| kernel.process_of(thread));
            process.and_then(|process| kernel.identity(process)).is_some_and(|identity| !identity.ended)
        });
        let deaths = &mut self.deaths;
        self.processes.retain(|&raw, process| {
            let Some(id) = ProcessId::from_raw(raw) else { return false };
            let alive = kernel.identity(id).is_some_and(|identity| !identity.ended);
            if !alive {
                let status = kernel.status(id).unwrap_or_default();
                let (state, exit_code) = (status.state, status.exit_code);
                let (service, number) = (process.name.clone(), process.number);
                deaths.push(Death { service, number, state, exit_code });
            }
            alive
        });
        Ok(())
    }
}

fn show(
    space: &mut Space,
    ram: &Ram,
    run: Option<(u64, u64, PhysicalAddress)>,
    writable: bool,
) -> Result<()> {
    let Some((page, count, place)) = run else { return Ok(()) };
    space.show(ram, page, count, Shown::Memory(place), writable).context("memory of a process")
}
