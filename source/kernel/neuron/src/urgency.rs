//! At which class a thread runs, and how much of the time a process may use: urgency that calls lend, and
//! budgets.
//!
//! A thread runs at its own class, or at a higher one that whoever waits for it lent, until it answers, hands the
//! answer on or receives again. A thread of a process whose budget is used up runs as Idle, unless it works for
//! somebody else; time is charged to the process at the root of a chain of calls.

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{Guard, Id};
use crate::object::process::{BUDGET_LEFT, BUDGET_USED_UP, ProcessShared};
use crate::object::thread::State;
use crate::object::{Process, Thread};
use crate::sync::{self, Before, Held};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::capability::Qos;

/// A turn is this part of a second.
const TURNS_PER_SECOND: u64 = 200;
/// Threads that one call can make more urgent, each waiting for the next. Ranks fall along the way.
const CHAIN_MAX: usize = 16;

impl<A: Arch> Kernel<A> {
    /// A caller of this class waits for a thread (by its raw id): it, and whoever that waits for in turn, runs
    /// at least at this class until it answers, hands the answer on or receives again.
    pub(crate) fn lend_urgency<L: Before<sync::Thread>>(
        &self,
        hart: &mut Hart,
        held: &mut Held<'_, L>,
        class: Qos,
        mut worker: u64,
    ) {
        for _ in 0..CHAIN_MAX {
            let Some(id) = Id::<Thread>::from_raw(worker) else { return };
            let Some((thread, _)) = self.lock(held, id) else { return };
            let shared = thread.shared();
            if shared.urgency() >= class {
                return;
            }
            worker = match thread.state {
                State::Calling(endpoint) => {
                    self.memory.shared(endpoint).map_or(0, |endpoint| endpoint.server.load(Relaxed))
                }
                State::Called => shared.served_by.load(Relaxed),
                _ => 0,
            };
            self.change_urgency(hart, id, &thread, class);
        }
    }

    /// Has a thread run at another class from now on, whatever it does.
    pub(crate) fn change_urgency(
        &self,
        hart: &mut Hart,
        id: Id<Thread>,
        thread: &Guard<'_, Thread>,
        class: Qos,
    ) {
        let shared = thread.shared();
        let before = shared.urgency();
        match thread.state {
            State::Calling(endpoint) => {
                if let Some(endpoint) = self.memory.shared(endpoint) {
                    endpoint.uncount(before);
                    endpoint.count(class);
                }
            }
            State::Ready => {
                let queued = self.with_queue_of(id, |queue| queue.remove_if_queued(&self.memory, id));
                if queued {
                    shared.set_urgency(class);
                    self.enqueue(hart, id, thread);
                    return;
                }
                if hart.current == Some(id) {
                    hart.reschedule |= self.is_somebody_above(hart.index, class);
                } else if let Some(other) = self.runs_elsewhere(hart, id) {
                    hart.calls |= 1 << other;
                }
            }
            _ => {}
        }
        shared.set_urgency(class);
    }

    /// A thread works for nobody any more but whoever waits at the endpoint that it serves.
    pub(crate) fn fall_back(&self, hart: &mut Hart, thread: &Guard<'_, Thread>) {
        let shared = thread.shared();
        if shared.urgency() == thread.qos {
            return;
        }
        let waiting = thread.serves.and_then(|endpoint| self.memory.shared(endpoint)?.most_urgent());
        let class = waiting.map_or(thread.qos, |waiting| waiting.max(thread.qos));
        shared.set_urgency(class);
        hart.reschedule |= self.is_somebody_above(hart.index, class);
    }

    /// Whether a thread works for its own process, whose budget is used up.
    #[inline]
    pub(crate) fn is_out_of_time(&self, thread: &Guard<'_, Thread>) -> bool {
        let shared = self.process_of(thread);
        let may_be = shared.budget.load(Relaxed) == BUDGET_USED_UP && thread.payer == thread.process;
        may_be && self.is_still_out_of_time(thread, shared)
    }

    fn is_still_out_of_time(&self, thread: &Thread, shared: &ProcessShared) -> bool {
        let now = self.arch.now();
        let has_time =
            self.memory.lock_slot(thread.process).is_none_or(|mut body| body.budget.begin_period(now));
        if has_time {
            shared.budget.store(BUDGET_LEFT, Relaxed);
        }
        !has_time
    }

    /// Charges the budget of whoever pays.
    pub(crate) fn charge(&self, hart: &Hart, ticks: u64, now: u64) {
        let Some(payer) = hart.payer else { return };
        let Some((mut body, shared)) = self.memory.lock_slot(payer).zip(self.memory.shared(payer)) else {
            return;
        };
        if body.budget.charge(ticks, now) {
            shared.budget.store(BUDGET_USED_UP, Relaxed);
        }
    }

    /// Ticks of a turn: what is left of the payer's budget, if that is less.
    pub(crate) fn turn(&self, payer: Id<Process>) -> u64 {
        let turn = self.whole_turn();
        let has_budget =
            self.memory.shared(payer).is_some_and(|payer| payer.budget.load(Relaxed) == BUDGET_LEFT);
        if !has_budget {
            return turn;
        }
        self.memory.lock_slot(payer).map_or(turn, |body| turn.min(body.budget.left()))
    }

    /// Somebody of this class is ready: whoever runs less urgently gives way.
    pub(crate) fn look_up_to(&self, hart: &mut Hart, class: Qos) {
        let current = hart.current.and_then(|id| self.memory.shared(id));
        hart.reschedule |= current.is_some_and(|current| current.urgency() < class);
    }

    /// Ticks of a turn without a budget.
    pub(crate) fn whole_turn(&self) -> u64 {
        self.arch.ticks_per_second() / TURNS_PER_SECOND
    }
}
