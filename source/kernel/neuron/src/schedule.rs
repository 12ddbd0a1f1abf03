//! Who runs: run queues of four classes, turns, deadlines, and the way out of the kernel.
//!
//! A ready thread of a higher class runs first; after [`crate::run_queue::PASSED_OVER_MAX`] choices that passed a waiting
//! class over, that class gets one turn, so starvation is bounded. There is no periodic tick: the timer
//! is set only for deadlines, and for the end of a turn while somebody else is ready.

use crate::arch::Arch;
use crate::deadline::Node;
use crate::kernel::{Hart, Kernel};
use crate::memory::list::LinksOf;
use crate::memory::{Granule, Guard, Id};
use crate::object::process::BUDGET_NONE;
use crate::object::thread::{Listening, State};
use crate::object::{Endpoint, Process, Thread, Timer};
use crate::run_queue::RunQueue;
use crate::sync::{self, Before, Held, Nothing};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::Error;
use nexus_abi::capability::Qos;
use nexus_abi::limits::FOREVER;

impl<A: Arch> Kernel<A> {
    /// Does something with a hart's run queue, and notes which classes have somebody ready afterwards.
    #[inline]
    pub(crate) fn with_queue<R>(&self, hart: usize, change: impl FnOnce(&mut RunQueue) -> R) -> R {
        let mut queue = self.run_queues[hart].lock();
        let result = change(&mut queue);
        self.harts[hart].ready.store(queue.occupied() | self.reclaiming.load(Relaxed), Relaxed);
        result
    }

    /// Whether somebody above a class is ready on a hart.
    #[inline]
    pub(crate) fn is_somebody_above(&self, hart: usize, class: Qos) -> bool {
        self.harts[hart].ready.load(Relaxed) >> class as u32 > 1
    }

    /// Makes a thread ready whose lock is held, with `a0` (and `a1`) as the outcome of its wait.
    pub(crate) fn wake(
        &self,
        hart: &mut Hart,
        id: Id<Thread>,
        thread: &mut Guard<'_, Thread>,
        outcome: Result<u64, Error>,
    ) {
        set_outcome(thread, outcome);
        self.make_ready(hart, id, thread);
    }

    /// Makes a thread ready whose registers already hold what it waited for.
    pub(crate) fn make_ready(&self, hart: &mut Hart, id: Id<Thread>, thread: &mut Guard<'_, Thread>) {
        if matches!(thread.state, State::Listening(_)) {
            self.stop_listening(thread.process, id);
        }
        thread.state = State::Ready;
        thread.shared().open_call.clear();
        thread.deadline = FOREVER;
        self.enqueue(hart, id, thread);
    }

    /// Puts a ready thread into the run queue of its class, or of the lowest while its process's time is used up
    /// and it works for nobody else.
    pub(crate) fn enqueue(&self, hart: &mut Hart, id: Id<Thread>, thread: &Guard<'_, Thread>) {
        let shared = thread.shared();
        let class = if self.is_out_of_time(thread) { Qos::Idle } else { shared.urgency() };
        let home = self.hart_for(hart, shared);
        shared.home.store(home as u32, Relaxed);
        self.with_queue(home, |queue| queue.push(&self.memory, id, class));
        if home == hart.index {
            self.look_up_to(hart, class);
        } else {
            hart.calls |= 1 << home;
        }
    }

    /// Takes a call that waits out of the endpoint's queue.
    pub(crate) fn remove_caller(&self, endpoint: &mut Guard<'_, Endpoint>, caller: Id<Thread>) {
        endpoint.callers.remove(&self.memory, caller);
        self.memory.leave_users(caller);
        endpoint.shared().uncount(self.memory.shared_at::<Thread>(caller.granule()).urgency());
    }

    /// A thread no longer waits for one of its process's open calls to become free.
    pub(crate) fn stop_listening(&self, process: Id<Process>, thread: Id<Thread>) {
        if Listening::links(self.memory.shared_at::<Thread>(thread.granule())).linked()
            && let Some(mut body) = self.memory.lock_slot(process)
        {
            body.listeners.remove(&self.memory, thread);
        }
    }

    /// An open call of a process may have become free: a thread that waited for that receives anew.
    pub(crate) fn open_call_freed<L>(&self, hart: &mut Hart, held: &mut Held<'_, L>, process: Id<Process>)
    where
        L: Before<sync::Object> + Before<sync::Thread> + Before<sync::Process>,
    {
        let listener = self.lock(held, process).and_then(|(body, _)| {
            let free = body.table.open_calls < body.table.open_calls_max;
            body.listeners.first(&self.memory).filter(|_| free)
        });
        let Some(listener) = listener else { return };
        let Some(state) = self.lock(held, listener).map(|(thread, _)| thread.state) else { return };
        self.leave_queue(held, listener, state);
        if let Some((mut thread, _)) = self.lock(held, listener) {
            thread.context.repeat_call();
            thread.wait_sequence += 1;
            self.make_ready(hart, listener, &mut thread);
        }
    }

    /// Makes sure that a thread's wait ends at its deadline.
    pub(crate) fn arm(&self, hart: &mut Hart, id: Id<Thread>, thread: &mut Thread, deadline: u64) {
        thread.deadline = deadline;
        if deadline == FOREVER {
            return;
        }
        let shared = self.memory.shared_at::<Thread>(id.granule());
        if deadline < shared.heap_key.load(Relaxed) {
            self.remember_deadline(hart, Node::Thread(id.granule()), deadline);
        }
    }

    /// The current thread stops running: its time is counted, its floating point put away.
    pub(crate) fn stop_running(&self, hart: &mut Hart, thread: &mut Guard<'_, Thread>) {
        self.arch.leave_float(&mut thread.context);
        self.count_time(hart);
        self.note_running(hart, None);
        thread.shared().home.store(hart.index as u32, Relaxed);
    }

    /// Whoever paid is charged up to now; from here on it is this one.
    pub(crate) fn charge_from_now(&self, hart: &mut Hart, payer: Id<Process>) {
        if hart.payer != Some(payer) {
            self.count_time(hart);
            hart.payer = Some(payer);
        }
    }

    /// Charges the time since the current thread, or the chain of calls that it works in, began to run.
    pub(crate) fn count_time(&self, hart: &mut Hart) {
        let now = self.arch.now();
        if let Some(payer) = hart.payer.and_then(|payer| self.memory.shared(payer)) {
            let ticks = now.saturating_sub(hart.running_since);
            payer.cpu_ticks.fetch_add(ticks, Relaxed);
            if payer.budget.load(Relaxed) != BUDGET_NONE {
                self.charge(hart, ticks, now);
            }
        }
        hart.running_since = now;
    }

    /// Puts the current thread at the end of its class.
    pub(crate) fn yield_current(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        let Some(id) = hart.current else { return };
        if let Some((mut thread, _)) = self.lock(held, id) {
            self.stop_running(hart, &mut thread);
            self.make_ready(hart, id, &mut thread);
        }
    }

    /// Ends what is due: waits whose deadline passed, timers.
    pub fn expire(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        loop {
            let now = self.arch.now();
            let due = self.deadlines[hart.index].lock().pop(&self.memory, now);
            match due {
                None => return,
                Some(Node::Timer(granule)) => self.expire_timer(hart, held, granule),
                Some(Node::Thread(granule)) => self.expire_wait(hart, held, granule, now),
            }
        }
    }

    fn expire_timer(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, granule: Granule) {
        let Some(id) = self.memory.id_at::<Timer>(granule) else { return };
        let Some((notification, bits)) =
            self.lock(held, id).map(|(timer, _)| (timer.notification, timer.bits))
        else {
            return;
        };
        self.signal(hart, &mut held.above(), notification, bits);
    }

    fn expire_wait(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, granule: Granule, now: u64) {
        let Some(id) = self.memory.id_at::<Thread>(granule) else { return };
        let Some((mut thread, _)) = self.lock(held, id) else { return };
        if thread.deadline > now {
            let deadline = thread.deadline;
            self.arm(hart, id, &mut thread, deadline);
            return;
        }
        let state = thread.state;
        drop(thread);
        let outcome = if state == State::Sleeping { Ok(0) } else { Err(Error::TimedOut) };
        self.end_wait(hart, held, id, outcome);
    }

    /// Ends a thread's wait from outside, whatever it waits for.
    pub(crate) fn end_wait(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, Nothing>,
        id: Id<Thread>,
        outcome: Result<u64, Error>,
    ) {
        let Some(state) = self.lock(held, id).map(|(thread, _)| thread.state) else { return };
        self.leave_queue(held, id, state);
        let Some((mut thread, _)) = self.lock(held, id) else { return };
        match state {
            State::Calling(_) | State::Called => self.thaw(&mut thread),
            State::Receiving(_) | State::Listening(_) | State::Waiting(..) | State::Sleeping => {}
            State::Ready | State::Ended => return,
        }
        thread.wait_sequence += 1;
        self.wake(hart, id, &mut thread, outcome);
    }

    /// Takes a waiting thread out of whatever it waits at.
    pub(crate) fn leave_queue<L>(&self, held: &mut Held<'_, L>, id: Id<Thread>, state: State)
    where
        L: Before<sync::Object>,
    {
        match state {
            State::Calling(endpoint) => {
                if let Some((mut endpoint, _)) = self.lock(held, endpoint) {
                    self.remove_caller(&mut endpoint, id);
                }
            }
            State::Receiving(endpoint) => {
                if let Some((mut endpoint, _)) = self.lock(held, endpoint) {
                    endpoint.receivers.remove(&self.memory, id);
                }
            }
            State::Listening(endpoint) => {
                if let Some((mut endpoint, _)) = self.lock(held, endpoint) {
                    endpoint.listeners.remove(&self.memory, id);
                }
            }
            State::Waiting(notification, _) => {
                if let Some((mut notification, _)) = self.lock(held, notification) {
                    notification.waiter = None;
                }
            }
            State::Ready | State::Called | State::Sleeping | State::Ended => {}
        }
    }

    /// A hart comes into the kernel, by the long way.
    pub fn mark_entry(&self, hart: &Hart) {
        self.looked[hart.index].store(self.arch.now(), Relaxed);
    }

    /// A hart looks at interrupts, or leaves: how long that took is remembered if it was longest.
    fn look(&self, hart: usize) {
        let now = self.arch.now();
        let took = now.saturating_sub(self.looked[hart].swap(now, Relaxed));
        self.counters.longest_ticks.fetch_max(took, Relaxed);
    }

    /// Whether an interrupt waits to be taken: asked between the steps of longer work.
    pub(crate) fn interrupt_pending(&self, hart: usize) -> bool {
        self.look(hart);
        self.arch.interrupt_pending() || self.entrance.is_awaited()
    }

    /// What the hart does next: yields the thread to run, with its address space loaded and its turn
    /// begun. Idle moments are spent outside: they zero free frames and wait for interrupts.
    pub fn leave(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) -> Id<Thread> {
        loop {
            if let Some(next) = self.choose(hart, held) {
                return next;
            }
            self.idle(hart, held);
        }
    }

    /// As [`Kernel::leave`], but `None` when nothing can be done before the next interrupt.
    pub(crate) fn choose(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) -> Option<Id<Thread>> {
        self.fast_messages[hart.index].store(hart.messages, Relaxed);
        self.queue_woken(hart, held);
        loop {
            if let Some(id) = hart.current {
                if !hart.reschedule {
                    // Whoever it was meant for goes on; later it would jump a queue.
                    hart.handoff = None;
                    self.set_timer(hart);
                    self.look(hart.index);
                    return Some(id);
                }
                self.yield_current(hart, held);
            }
            hart.reschedule = false;
            let more = self.reclaim_step(hart, held);
            if let Some(next) = self.next_thread(hart, held) {
                self.run(hart, held, next);
                continue;
            }
            if !more {
                return None;
            }
            self.look(hart.index);
            self.take_interrupts(hart, held);
            self.let_others_in(hart, held);
        }
    }

    /// Whom a signal woke, to run next, stands in the queue like anybody else: something came in between.
    pub(crate) fn queue_woken(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        if let Some(woken) = hart.woken.take()
            && let Some((thread, _)) = self.lock(held, woken)
        {
            self.enqueue(hart, woken, &thread);
        }
    }

    /// Waits outside of the kernel for an interrupt, and takes it.
    pub(crate) fn idle(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        self.set_timer(hart);
        self.load_kernel_space(hart);
        self.look(hart.index);
        self.asleep.fetch_or(1 << hart.index, Relaxed);
        self.go_out(hart);
        while !self.arch.interrupt_pending() && self.memory.clean_one() {}
        self.arch.wait_for_interrupt();
        self.come_in(hart, held);
        self.asleep.fetch_and(!(1 << hart.index), Relaxed);
        self.take_interrupts(hart, held);
    }

    fn next_thread(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) -> Option<Id<Thread>> {
        if let Some(next) = hart.handoff.take()
            && let Some((thread, _)) = self.lock(held, next)
            && thread.state == State::Ready
            && !self.is_somebody_above(hart.index, thread.shared().urgency())
            && self.may_run(thread.shared(), hart.index)
            // Another hart may have taken it over, while this one went on with whoever handed off.
            && self.with_queue_of(next, |queue| queue.remove_if_queued(&self.memory, next))
        {
            return Some(next);
        }
        let next = self.with_queue(hart.index, |queue| queue.pop(&self.memory));
        next.or_else(|| self.steal(hart.index))
    }

    /// A thread that is in no queue begins its turn, unless its process has ended.
    pub(crate) fn run(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, id: Id<Thread>) {
        let Some((thread, _)) = self.lock(held, id) else { return };
        let process = self.process_of(&thread);
        if process.has_ended() {
            // Out of the queue it stays until the teardown comes to it.
            return;
        }
        let space = process.space();
        if hart.loaded != space {
            self.arch.load(space);
            hart.loaded = space;
        }
        self.arch.enter_float(&thread.context);
        self.make_known(hart, thread.shared(), process);
        let now = self.arch.now();
        self.note_running(hart, Some(id));
        (hart.process, hart.payer) = (thread.process.granule(), Some(thread.payer));
        hart.running_since = now;
        hart.turn_ends = now + self.turn(thread.payer);
        // Whoever ran as Idle because its time was used up is itself again.
        let shared = thread.shared();
        if shared.urgency() < thread.qos && !self.is_out_of_time(&thread) {
            shared.set_urgency(thread.qos);
        }
    }

    /// Sets the timer for the earliest deadline, and for the end of the turn while others are ready.
    pub(crate) fn set_timer(&self, hart: &mut Hart) {
        let mut time = self.deadlines[hart.index].lock().earliest();
        if hart.current.is_some() && self.harts[hart.index].ready.load(Relaxed) != 0 {
            time = time.min(hart.turn_ends);
        }
        if time != hart.timer {
            hart.timer = time;
            self.arch.set_timer(time);
        }
    }

    /// Handles whatever interrupts are pending: deadlines, the end of a turn, devices.
    pub fn take_interrupts(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) {
        self.expire(hart, held);
        while let Some(line) = self.arch.claim_and_mask() {
            self.device_interrupt(hart, held, line);
        }
        if hart.current.is_some() && self.arch.now() >= hart.turn_ends {
            if self.harts[hart.index].ready.load(Relaxed) == 0 {
                hart.turn_ends = self.arch.now() + self.whole_turn();
            } else {
                hart.reschedule = true;
            }
        }
        // The timer that brought us here is over; whatever is earliest now must be set anew.
        if self.arch.now() >= hart.timer {
            hart.timer = FOREVER;
            self.arch.set_timer(FOREVER);
        }
    }

    fn device_interrupt(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, line: u32) {
        self.counters.interrupts.fetch_add(1, Relaxed);
        let raw = self.lines.get(line as usize).map_or(0, |word| word.load(Relaxed));
        let Some(irq) = Id::from_raw(raw) else { return };
        let bound =
            self.lock::<crate::object::Irq, _>(held, irq).map(|(irq, _)| (irq.notification, irq.bits));
        if let Some((Some(notification), bits)) = bound {
            self.signal(hart, &mut held.above(), notification, bits);
        }
    }
}

/// Writes the outcome of a call into its registers.
pub(crate) fn set_outcome(thread: &mut Thread, outcome: Result<u64, Error>) {
    let (error, value) = match outcome {
        Ok(value) => (0, value),
        Err(error) => (error as u64, 0),
    };
    thread.context.set_argument(0, error);
    thread.context.set_argument(1, value);
}

/// The permission that signalling needs: no lock above the structure's is held.
pub(crate) type SignalHeld<'h> = Held<'h, sync::Structure>;
