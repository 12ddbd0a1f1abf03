//! Processes and threads: create, end, look at.

use super::{Outcome, Request, Stop};
use crate::arch::Arch;
use crate::kernel::{Kernel, StructureState};
use crate::memory::page_table::{PageTable, index};
use crate::memory::user::in_user_range;
use crate::memory::{FrameKind, FrameNumber, Id};
use crate::object::account::Account;
use crate::object::capability::{Capability, Table};
use crate::object::process::RIGHTS;
use crate::object::thread::State;
use crate::object::{Process, Thread};
use crate::sync::{Held, Nothing};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::capability::Qos;
use nexus_abi::limits::{CAPABILITIES_MAX, OPEN_CALLS_MAX, RANK_MAX};
use nexus_abi::records::{ProcessParameters, ProcessStatus, STATE_ALIVE, STATE_EXITED, STATE_KILLED};
use nexus_abi::{Error, Handle, Kind, Rights};

/// Pages that every process has before it does anything: root of the page table, index of the table.
const FIRST_PAGES: u64 = 2;
/// The first entry of a root table that is the kernel's.
const KERNEL_HALF: usize = 256;

impl<A: Arch> Kernel<A> {
    pub(super) fn process_create(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [authority, address, ..] = request.arguments;
        let creator = request.caller.process;
        let own = request.caller.shared;
        let authority = self.memory.capability(own, authority, Kind::ProcessAuthority, Rights::CREATE)?;
        let parameters: ProcessParameters = self.read_record(&mut request.user(), creator, address)?;
        check_parameters(&parameters)?;
        if !(authority.object..=authority.badge).contains(&parameters.service_id) {
            return Err(Error::NotPermitted.into());
        }
        let supervisor = match parameters.supervisor {
            Handle::NONE => None,
            handle => Some(self.to_signal(&request.caller, handle.0)?),
        };
        let process = self.new_process(request.held, creator, &parameters)?;
        let capability = Capability::new(Kind::Process, RIGHTS, process.raw());
        let inserted = self.insert(request.held, &request.caller, 0, capability);
        let (mut structure, mut held) = self.structure(request.held);
        match inserted {
            Ok(handle) => {
                if let Some((mut body, _)) = self.lock(&mut held, process) {
                    (body.supervisor, body.death_bits) = (supervisor, parameters.death_bits);
                }
                Ok(handle.0)
            }
            // A process that never was has no death to tell of.
            Err(error) => {
                self.end_process(&mut structure, &mut held, process, STATE_KILLED, 0);
                Err(error.into())
            }
        }
    }

    /// Creates a process in its parent's account.
    pub(crate) fn new_process(
        &self,
        held: &mut Held<'_, Nothing>,
        parent: Id<Process>,
        parameters: &ProcessParameters,
    ) -> Result<Id<Process>, Error> {
        let (mut structure, mut held) = self.structure(held);
        if self.find_service(&structure, parameters.service_id).is_some() {
            return Err(Error::IdentityInUse);
        }
        if parameters.quota_pages < FIRST_PAGES {
            return Err(Error::NoMemory);
        }
        let asid = structure.take_asid(self.arch.last_asid()).ok_or(Error::TableFull)?;
        let created = {
            let (mut body, _) = self.lock(&mut held, parent).ok_or(Error::PeerGone)?;
            self.carve(&mut body.account, parent, parameters)
        };
        let process = match created {
            Ok(process) => process,
            Err(error) => {
                structure.release_asid(asid);
                return Err(error);
            }
        };
        let shared = self.memory.shared(process).ok_or(Error::PeerGone)?;
        let (mut body, _) = self.lock(&mut held, process).ok_or(Error::PeerGone)?;
        body.qos_max = parameters.qos_max;
        body.parent = Some(parent);
        shared.service_id.store(parameters.service_id, Relaxed);
        shared.process_id.store(structure.next_process_id, Relaxed);
        shared.rank.store(parameters.rank, Relaxed);
        shared.asid.store(asid.into(), Relaxed);
        shared.space.store(self.arch.space(self.memory.address(body.page_table.root).0, asid).0, Relaxed);
        shared.root.store(body.page_table.root, Relaxed);
        shared.table_index.store(body.table.index_frame(), Relaxed);
        shared.forget_table();
        structure.next_process_id += 1;
        structure.processes.push_back(&self.memory, process);
        self.counters.processes.fetch_add(1, Relaxed);
        Ok(process)
    }

    /// Takes the pages of a new process out of its parent's account and creates it.
    fn carve(
        &self,
        account: &mut Account,
        parent: Id<Process>,
        parameters: &ProcessParameters,
    ) -> Result<Id<Process>, Error> {
        account.reserve(parameters.quota_pages)?;
        let mut own = Account::new(parameters.quota_pages);
        let first = own
            .take(&self.memory, FrameKind::PageTable as u8)
            .and_then(|root| own.take(&self.memory, FrameKind::Data as u8).map(|index| (root, index)));
        let created = first.and_then(|(root, table_index)| {
            self.share_kernel_half(root);
            let table = Table::new(table_index, parameters.capabilities_max, parameters.open_calls_max);
            let process = Process::new(own, table, Some(parent), PageTable { root });
            account.create(&self.memory, parent.granule(), process).inspect_err(|_| {
                self.memory.release(root);
                self.memory.release(table_index);
            })
        });
        created.inspect_err(|_| account.unreserve(parameters.quota_pages))
    }

    /// The upper half of every address space is the kernel's, the same tables in all of them.
    fn share_kernel_half(&self, root: FrameNumber) {
        let Some(shared) = self.memory.shared(self.root) else { return };
        let kernel = shared.page_table().root;
        if kernel == 0 {
            return;
        }
        for place in KERNEL_HALF..2 * KERNEL_HALF {
            let entry = self.memory.word(kernel, place).load(Relaxed);
            self.memory.word(root, place).store(entry, Relaxed);
        }
        debug_assert_eq!(index(nexus_abi::limits::USER_END - 1, 2), KERNEL_HALF - 1);
    }

    /// The live process with a service id.
    pub(crate) fn find_service(&self, structure: &StructureState, service_id: u64) -> Option<Id<Process>> {
        structure.processes.iter(&self.memory).find(|id| {
            self.memory
                .shared(*id)
                .is_some_and(|process| process.service_id.load(Relaxed) == service_id && !process.has_ended())
        })
    }

    pub(super) fn thread_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [process, entry, stack, argument, qos, _] = request.arguments;
        let process = self.process_or_self(&request.caller, process, Rights::MANAGE)?;
        let qos = Qos::from_number(qos).ok_or(Error::InvalidArgument)?;
        if !in_user_range(entry, 4) || !stack.is_multiple_of(16) {
            return Err(Error::InvalidArgument.into());
        }
        let thread = self.new_thread(request.held, process, [entry, stack, argument], qos)?;
        let capability = Capability::new(Kind::Thread, Kind::Thread.rights(), thread.raw());
        let handle = match self.insert(request.held, &request.caller, 0, capability) {
            Ok(handle) => handle,
            Err(error) => {
                self.end_thread(request.held, thread);
                return Err(error.into());
            }
        };
        if let Some((mut guard, _)) = self.lock(request.held, thread) {
            let shared = guard.shared();
            shared.home.store(request.hart.index as u32, Relaxed);
            if process == request.caller.process
                && let Some(own) = self.memory.shared(request.caller.thread)
            {
                shared.affinity.store(own.affinity.load(Relaxed), Relaxed);
            }
            self.make_ready(request.hart, thread, &mut guard);
        }
        Ok(handle.0)
    }

    /// Creates a thread that is not ready yet.
    pub(crate) fn new_thread(
        &self,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
        [entry, stack, argument]: [u64; 3],
        qos: Qos,
    ) -> Result<Id<Thread>, Error> {
        if self.counters.threads.load(Relaxed) >= self.figures.threads_max {
            return Err(Error::TableFull);
        }
        let (mut body, _) = self.lock(held, process).ok_or(Error::PeerGone)?;
        if body.state != STATE_ALIVE {
            return Err(Error::PeerGone);
        }
        if qos as u32 > body.qos_max {
            return Err(Error::NotPermitted);
        }
        let thread = Thread::new(process, entry, stack, argument, qos);
        let id = body.account.create(&self.memory, process.granule(), thread)?;
        let shared = self.memory.shared_at::<Thread>(id.granule());
        shared.process.store(process.granule(), Relaxed);
        shared.set_urgency(qos);
        body.threads += 1;
        self.counters.threads.fetch_add(1, Relaxed);
        Ok(id)
    }

    pub(super) fn thread_exit(&self, request: Request<'_, '_, '_>) -> Outcome {
        let me = request.caller.thread;
        if let Some((mut thread, _)) = self.lock(request.held, me) {
            self.stop_running(request.hart, &mut thread);
        }
        let process = request.caller.process;
        let last = self.lock(request.held, process).is_some_and(|(body, _)| body.threads == 1);
        if last {
            let (mut structure, mut held) = self.structure(request.held);
            self.end_process(&mut structure, &mut held, process, STATE_EXITED, 0);
        } else {
            self.end_thread(request.held, me);
            self.open_call_freed(request.hart, request.held, process);
        }
        Err(Stop::Waits)
    }

    pub(super) fn thread_yield(&self, request: Request<'_, '_, '_>) -> Outcome {
        if let Some((mut thread, _)) = self.lock(request.held, request.caller.thread) {
            crate::schedule::set_outcome(&mut thread, Ok(0));
        }
        if self.harts[request.hart.index].ready.load(Relaxed) != 0 {
            self.yield_current(request.hart, request.held);
        }
        Err(Stop::Answered)
    }

    pub(super) fn thread_sleep(&self, request: Request<'_, '_, '_>) -> Outcome {
        let deadline = request.arguments[0];
        if deadline <= self.arch.now() {
            return Ok(0);
        }
        let me = request.caller.thread;
        let (mut thread, _) = self.lock(request.held, me).ok_or(Error::PeerGone)?;
        thread.state = State::Sleeping;
        thread.wait_sequence += 1;
        self.stop_running(request.hart, &mut thread);
        self.arm(request.hart, me, &mut thread, deadline);
        Err(Stop::Waits)
    }

    pub(super) fn process_exit(&self, request: Request<'_, '_, '_>) -> Outcome {
        if let Some((mut thread, _)) = self.lock(request.held, request.caller.thread) {
            self.stop_running(request.hart, &mut thread);
        }
        let (mut structure, mut held) = self.structure(request.held);
        let code = request.arguments[0];
        self.end_process(&mut structure, &mut held, request.caller.process, STATE_EXITED, code);
        Err(Stop::Waits)
    }

    pub(super) fn process_kill(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [process, code, ..] = request.arguments;
        let process: Id<Process> = self.object(&request.caller, process, Kind::Process, Rights::MANAGE)?;
        if self.memory.shared(process).ok_or(Error::StaleHandle)?.has_ended() {
            return Err(Error::PeerGone.into());
        }
        let own = process == request.caller.process;
        if own && let Some((mut thread, _)) = self.lock(request.held, request.caller.thread) {
            self.stop_running(request.hart, &mut thread);
        }
        let (mut structure, mut held) = self.structure(request.held);
        self.end_process(&mut structure, &mut held, process, STATE_KILLED, code);
        if own { Err(Stop::Waits) } else { Ok(0) }
    }

    pub(super) fn process_status(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [process, to, ..] = request.arguments;
        let process: Id<Process> = self.object(&request.caller, process, Kind::Process, Rights::INSPECT)?;
        let status = self.status_of(request.held, process).ok_or(Error::StaleHandle)?;
        let own = request.caller.process;
        self.write_record(&mut request.user(), own, to, &status)?;
        Ok(0)
    }

    /// The figures of a process.
    pub(crate) fn status_of(
        &self,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
    ) -> Option<ProcessStatus> {
        let shared = self.memory.shared(process)?;
        let (body, _) = self.lock(held, process)?;
        Some(ProcessStatus {
            process_id: shared.process_id.load(Relaxed),
            service_id: shared.service_id.load(Relaxed),
            cpu_ticks: shared.cpu_ticks.load(Relaxed),
            quota_pages: body.account.limit,
            reserved_pages: body.account.reserved,
            populated_pages: body.account.populated,
            exit_code: body.exit_code,
            state: body.state,
            rank: shared.rank.load(Relaxed),
            threads: body.threads,
            capabilities: body.table.used + body.table.open_calls,
            reclaiming: (body.state != STATE_ALIVE
                && body.teardown != crate::object::process::Teardown::Done)
                .into(),
            reserved: 0,
        })
    }

    pub(super) fn process_report(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [process, to, ..] = request.arguments;
        let process: Id<Process> = self.object(&request.caller, process, Kind::Process, Rights::INSPECT)?;
        let report =
            self.lock(request.held, process).ok_or(Error::StaleHandle)?.0.report.ok_or(Error::WouldBlock)?;
        let own = request.caller.process;
        self.write_record(&mut request.user(), own, to, &report)?;
        Ok(0)
    }
}

fn check_parameters(parameters: &ProcessParameters) -> Result<(), Error> {
    let valid = parameters.service_id != 0
        && parameters.rank <= RANK_MAX
        && (1..=CAPABILITIES_MAX).contains(&parameters.capabilities_max)
        && parameters.open_calls_max <= OPEN_CALLS_MAX
        && Qos::from_number(parameters.qos_max.into()).is_some();
    if valid { Ok(()) } else { Err(Error::InvalidArgument) }
}
