//! The end of processes and threads, in steps.
//!
//! An ended process stops at once: none of its threads runs again. Everything that it had goes back in
//! bounded steps, between which interrupts are taken and others run: threads, then capabilities (calls
//! that it had received fail), then objects that it created, then its tables. Its supervisor hears of it
//! when the last page is back, so that a successor finds the quota free.

use crate::arch::Arch;
use crate::deadline::Node;
use crate::kernel::{Hart, Kernel, StructureState};
use crate::line;
use crate::memory::slab::GRANULES;
use crate::memory::{Id, Memory};
use crate::object::process::Teardown;
use crate::object::thread::State;
use crate::object::{
    Device, Endpoint, Irq, Mapping, Notification, Post, Process, Session, Thread, Timer, Vmo,
};
use crate::sync::{Held, Nothing, Structure};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::HARTS_MAX;
use nexus_abi::records::{STATE_ALIVE, STATE_FAULTED, STATE_KILLED};
use nexus_abi::{Kind, Rights};

/// Capabilities or objects that one step ends.
const ENDED_A_STEP: usize = 4;

impl<A: Arch> Kernel<A> {
    /// Ends a process: marks it and leaves the rest to the steps. The current thread, if it is one of
    /// this process, has stopped running already or is stopped by the next step's first stage.
    pub(crate) fn end_process(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        process: Id<Process>,
        state: u32,
        code: u64,
    ) {
        let Some(shared) = self.memory.shared(process) else { return };
        let Some((mut body, _)) = self.lock(held, process) else { return };
        if body.state != STATE_ALIVE {
            return;
        }
        (body.state, body.exit_code, body.teardown) = (state, code, Teardown::Threads);
        if self.init.load(Relaxed) == process.raw() {
            self.without_init(&body);
        }
        shared.ended.store(1, Relaxed);
        // Its threads that run on other harts find no capability any more.
        shared.forget_table();
        structure.push_ended(&self.memory, process);
        self.begin_reclaiming();
    }

    /// Something waits to be reclaimed: a hart that is busy comes to it at the end of a turn.
    pub(crate) fn begin_reclaiming(&self) {
        self.reclaiming.store(1, Relaxed);
        for hart in &self.harts {
            hart.ready.fetch_or(1, Relaxed);
        }
    }

    /// Init is the one process that may not die: without it nobody starts, watches or restarts anything.
    fn without_init(&self, init: &Process) {
        let reason = match (init.state, init.report) {
            (STATE_FAULTED, Some(report)) => {
                line!("faulted at {:#x}, pc {:#x}", report.address, report.program_counter)
            }
            _ => line!("ended with code {}", init.exit_code),
        };
        self.arch.print(line!("\nneuron: nexus-init {}; the machine is reset\n", reason.as_str()).as_str());
        self.arch.reset(true);
    }

    /// One step of whatever is being reclaimed; yields whether there is more.
    pub(crate) fn reclaim_step(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) -> bool {
        let husks = self.dissolve_husks_step(held);
        let (process, vmo, endpoint) = {
            let (mut structure, mut held) = self.structure(held);
            let process = structure.ended.first(&self.memory);
            let endpoint = structure.ending.first(&self.memory);
            if let Some(endpoint) = endpoint {
                self.ending_step(hart, &mut structure, &mut held, endpoint);
            }
            let vmo = structure.unreachable.first(&self.memory);
            if let Some(vmo) = vmo {
                self.reclaim_vmo_step(&mut structure, &mut held, vmo);
            }
            (process, vmo, endpoint)
        };
        if let Some(process) = process {
            self.teardown_step(hart, held, process);
        }
        let more = husks || process.is_some() || vmo.is_some() || endpoint.is_some();
        self.reclaiming.store(more.into(), Relaxed);
        more
    }

    fn teardown_step(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, process: Id<Process>) {
        let Some(stage) = self.lock(held, process).map(|(body, _)| body.teardown) else { return };
        let next = match stage {
            Teardown::Alive | Teardown::Done => None,
            Teardown::Threads => self.end_a_thread(hart, held, process),
            Teardown::Capabilities { next } => self.end_capabilities(hart, held, process, next),
            Teardown::Objects => self.end_objects(hart, held, process),
            Teardown::Table => self.end_table(held, process),
            Teardown::AddressSpace => self.end_address_space(hart, held, process),
        };
        if let Some(next) = next
            && let Some((mut body, _)) = self.lock(held, process)
        {
            body.teardown = next;
        }
        if next == Some(Teardown::Done) {
            self.finish(hart, held, process);
        }
    }

    fn end_a_thread(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
    ) -> Option<Teardown> {
        let any = self.lock(held, process)?.0.account.any::<Thread>(&self.memory);
        let Some(thread) = any else {
            self.memory.shared(process)?.lose_its_threads();
            return Some(Teardown::Capabilities { next: 0 });
        };
        if self.call_off(hart, process) {
            // It goes on once those harts have come in. Nothing else would tell: on the fast path such a thread may have
            // given way to one of another process before.
            let (mut structure, _) = self.structure(held);
            structure.ended.remove(&self.memory, process);
            structure.called_off.push_back(&self.memory, process);
            return None;
        }
        if hart.current == Some(thread)
            && let Some((mut body, _)) = self.lock(held, thread)
        {
            self.stop_running(hart, &mut body);
        }
        self.end_thread(held, thread);
        None
    }

    /// Ends a thread that does not run: it leaves whatever it is in, and its object goes.
    pub(crate) fn end_thread(&self, held: &mut Held<'_, Nothing>, thread: Id<Thread>) {
        let Some((state, bound, process, entry)) =
            self.lock(held, thread).map(|(body, _)| (body.state, body.bound, body.process, body.reply_entry))
        else {
            return;
        };
        self.leave_queue(held, thread, state);
        self.stop_listening(process, thread);
        if let Some((mut body, _)) = self.lock(held, thread) {
            self.thaw(&mut body);
            body.state = State::Ended;
            body.shared().open_call.clear();
        }
        if let Some(notification) = bound
            && let Some((mut body, _)) = self.lock(held, notification)
        {
            body.bound = None;
        }
        if state == State::Ready {
            self.with_queue_of(thread, |queue| queue.remove_if_queued(&self.memory, thread));
        }
        self.forget_deadline(Node::Thread(thread.granule()));
        if entry != 0
            && let Some((mut body, _)) = self.lock(held, process)
        {
            body.free_entry(&self.memory, entry);
        }
        if let Some((guard, mut inner)) = self.lock(held, thread) {
            self.destroy(&mut inner, thread, guard);
            self.counters.threads.fetch_sub(1, Relaxed);
        }
        if let Some((mut body, _)) = self.lock(held, process) {
            body.threads = body.threads.saturating_sub(1);
        }
    }

    /// Closes a few capabilities; a server's death moves the endpoints that it received from one
    /// generation on.
    fn end_capabilities(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
        next: u32,
    ) -> Option<Teardown> {
        let mut closed = 0;
        for index in next.. {
            let frame = self.lock(held, process)?.0.table.page(&self.memory, index / GRANULES);
            let Some(frame) = frame else { return Some(Teardown::Objects) };
            let granule = Memory::first_granule(frame) + index % GRANULES;
            let slot = self.memory.capability_slot(granule);
            if slot.is_husk() {
                // It goes by itself.
                return Some(Teardown::Capabilities { next: index });
            }
            let Some(capability) = slot.read(granule) else {
                if index % GRANULES == GRANULES - 1 {
                    return Some(Teardown::Capabilities { next: index + 1 });
                }
                continue;
            };
            if capability.kind == Kind::Endpoint
                && capability.rights.contains(Rights::RECEIVE)
                && let Some(endpoint) = Id::<Endpoint>::from_raw(capability.object)
                && let Some((mut endpoint, _)) = self.lock(held, endpoint)
            {
                endpoint.begin_generation(process);
            }
            let done = self.close_entry(hart, held, process, granule);
            closed += 1;
            if !done || closed == ENDED_A_STEP {
                return Some(Teardown::Capabilities { next: if done { index + 1 } else { index } });
            }
        }
        None
    }

    /// Ends a few of the objects that the process created.
    fn end_objects(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
    ) -> Option<Teardown> {
        for _ in 0..ENDED_A_STEP {
            if !self.end_an_object(hart, held, process)? {
                return Some(Teardown::Table);
            }
        }
        None
    }

    /// Ends one object; `Some(false)`: there is none. A child process that is being reclaimed itself is
    /// waited for: it comes first in the list of the ended.
    fn end_an_object(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
    ) -> Option<bool> {
        if let Some(child) = self.any_of::<Process>(held, process) {
            return Some(self.end_child(held, process, child));
        }
        if let Some(mapping) = self.any_of::<Mapping>(held, process) {
            let (mut structure, mut held) = self.structure(held);
            self.unmap_step(&mut structure, &mut held, mapping);
        } else if let Some(vmo) = self.any_of::<Vmo>(held, process) {
            let (mut structure, mut held) = self.structure(held);
            self.reclaim_vmo_step(&mut structure, &mut held, vmo);
        } else if let Some(endpoint) = self.any_of::<Endpoint>(held, process) {
            let (mut structure, mut held) = self.structure(held);
            self.end_endpoint(hart, &mut structure, &mut held, endpoint);
        } else if let Some(notification) = self.any_of::<Notification>(held, process) {
            self.end_notification(hart, &mut self.structure(held).1, notification);
        } else if let Some(irq) = self.any_of::<Irq>(held, process) {
            self.end_irq(&mut self.structure(held).1, irq);
        } else if let Some(timer) = self.any_of::<Timer>(held, process) {
            self.end_timer(&mut self.structure(held).1, timer);
        } else if let Some(device) = self.any_of::<Device>(held, process) {
            let (mut structure, mut held) = self.structure(held);
            self.end_device(&mut structure, &mut held, device);
        } else if let Some(post) = self.any_of::<Post>(held, process) {
            self.end_post(held, post);
        } else if let Some(session) = self.any_of::<Session>(held, process) {
            self.end_session(held, session);
        } else {
            return Some(false);
        }
        Some(true)
    }

    fn any_of<T: crate::memory::Object>(
        &self,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
    ) -> Option<Id<T>> {
        self.lock(held, process)?.0.account.any(&self.memory)
    }

    fn end_child(&self, held: &mut Held<'_, Nothing>, parent: Id<Process>, child: Id<Process>) -> bool {
        let (mut structure, mut held) = self.structure(held);
        self.end_process(&mut structure, &mut held, child, STATE_KILLED, 0);
        let done = self.lock(&mut held, child).is_some_and(|(body, _)| body.teardown == Teardown::Done);
        if done {
            self.remove_process(&mut structure, &mut held, child);
        } else {
            structure.ended.remove(&self.memory, parent);
            structure.ended.push_back(&self.memory, parent);
        }
        true
    }

    /// A post of a sender that died is still delivered unless its storage goes first; it does here.
    fn end_post(&self, held: &mut Held<'_, Nothing>, post: Id<Post>) {
        let Some(endpoint) = self.lock(held, post).map(|(body, _)| body.endpoint) else { return };
        if let Some((mut body, _)) = self.lock(held, endpoint) {
            body.posts.remove(&self.memory, post);
        }
        if let Some((guard, mut inner)) = self.lock(held, post) {
            self.destroy(&mut inner, post, guard);
        }
    }

    fn end_session(&self, held: &mut Held<'_, Nothing>, session: Id<Session>) {
        use crate::memory::list::LinksOf;
        let Some(endpoint) = self.lock(held, session).map(|(body, _)| body.endpoint) else { return };
        if let Some((mut body, _)) = self.lock(held, endpoint) {
            let links =
                crate::object::endpoint::Gone::links(self.memory.shared_at::<Session>(session.granule()));
            if links.linked() {
                body.gone.remove(&self.memory, session);
            }
        }
        if let Some((guard, mut inner)) = self.lock(held, session) {
            self.destroy(&mut inner, session, guard);
        }
    }

    fn end_table(&self, held: &mut Held<'_, Nothing>, process: Id<Process>) -> Option<Teardown> {
        let (mut body, _) = self.lock(held, process)?;
        for page in 0..body.table.page_count() {
            if let Some(frame) = body.table.page(&self.memory, page) {
                body.account.release(&self.memory, frame);
            }
        }
        let index = body.table.index_frame();
        body.account.release(&self.memory, index);
        body.table = Default::default();
        let shared = self.memory.shared(process)?;
        shared.forget_table();
        Some(Teardown::AddressSpace)
    }

    fn end_address_space(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        process: Id<Process>,
    ) -> Option<Teardown> {
        let shared = self.memory.shared(process)?;
        let asid = shared.asid.load(Relaxed) as u16;
        if hart.loaded == shared.space() {
            self.load_kernel_space(hart);
        }
        // One that stands there waits to be alone, and then stands elsewhere.
        let stands = |index: usize| self.harts[index].stands_on.load(Relaxed) == process.granule();
        if (0..HARTS_MAX).any(|index| index != hart.index && stands(index)) {
            return None;
        }
        self.flush_everywhere(shared);
        let (mut structure, mut held) = self.structure(held);
        structure.release_asid(asid);
        let (mut body, _) = self.lock(&mut held, process)?;
        let root = body.page_table.root;
        body.account.release(&self.memory, root);
        shared.root.store(0, Relaxed);
        assert!(body.account.reserved == 0 && body.account.populated == 0, "a process left pages behind");
        Some(Teardown::Done)
    }

    /// Leaves the space of a process that is gone for the kernel's own.
    pub(crate) fn load_kernel_space(&self, hart: &mut Hart) {
        let Some(shared) = self.memory.shared(self.root) else { return };
        let space = shared.space();
        if hart.loaded != space {
            self.arch.load(space);
            hart.loaded = space;
        }
    }

    /// All is back: the supervisor is told; without anybody who holds it the process object goes too.
    fn finish(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, process: Id<Process>) {
        let Some((supervisor, bits, number)) = self.lock(held, process).map(|(body, _)| {
            (
                body.supervisor,
                body.death_bits,
                self.memory.shared(process).map(|s| s.process_id.load(Relaxed)),
            )
        }) else {
            return;
        };
        self.reader_ended(number);
        {
            let (mut structure, mut held) = self.structure(held);
            structure.ended.remove(&self.memory, process);
            if let Some(supervisor) = supervisor {
                self.signal(hart, &mut held, supervisor, bits);
            }
            if self.memory.references(process) == 0 {
                self.remove_process(&mut structure, &mut held, process);
            }
        }
    }

    /// The last capability to a process is gone: an ended one goes, a live one goes when it ends.
    pub(crate) fn process_unreferenced(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        process: Id<Process>,
    ) {
        let done = self.lock(held, process).is_some_and(|(body, _)| body.teardown == Teardown::Done);
        if done {
            self.remove_process(structure, held, process);
        }
    }

    fn remove_process(
        &self,
        structure: &mut StructureState,
        held: &mut Held<'_, Structure>,
        process: Id<Process>,
    ) {
        let Some((parent, pages, lost)) =
            self.lock(held, process).map(|(body, _)| (body.parent, body.account.limit, body.account.lost))
        else {
            return;
        };
        structure.processes.remove(&self.memory, process);
        self.counters.processes.fetch_sub(1, Relaxed);
        let Some(parent) = parent else { return };
        // Parent and child are of one level: the child's body is taken out under its own lock first.
        let child = self.memory.lock_slot(process);
        let Some((mut parent, _)) = self.lock(held, parent) else { return };
        if let Some(child) = child {
            parent.account.destroy(&self.memory, child);
            parent.account.take_back(pages, lost);
        }
    }
}
