//! Calls that need no registers put away, or those alone that a function keeps: a poll, a signal, a yield, a wait; and
//! who goes on after them. As in [`crate::fast_path`], each says `None` while nothing has changed, and then goes the
//! long way.
#![allow(unsafe_code)] // it reaches objects that are known to be alive without checking that they are

use crate::arch::Arch;
use crate::kernel::{Hart, Kernel};
use crate::memory::{Guard, Id};
use crate::object::thread::State;
use crate::object::{Notification, Thread};
use crate::schedule::set_outcome;
use crate::sync::{Held, Nothing};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::{FOREVER, HARTS_MAX};
use nexus_abi::{Error, Handle, Kind, Rights};

impl<A: Arch> Kernel<A> {
    /// A poll. `None`, here and below: nothing was done, and it has to go the long way.
    #[inline(always)]
    pub fn short_poll(&self, hart: &Hart, notification: u64, mask: u64) -> Option<Result<u64, Error>> {
        let (mut notification, _) = self.short_notification(hart, notification, Rights::WAIT)?;
        let taken = notification.bits & mask;
        notification.bits &= !taken;
        Some(if taken == 0 { Err(Error::WouldBlock) } else { Ok(taken) })
    }

    /// A signal to a notification that no receiver is bound to.
    #[inline(always)]
    pub fn short_signal(&self, hart: &mut Hart, notification: u64, bits: u64) -> Option<Result<u64, Error>> {
        let (mut notification, _) = self.short_notification(hart, notification, Rights::SIGNAL)?;
        if let Some(waiter) = notification.waiter {
            return self.signal_waiter(hart, notification, waiter, bits);
        }
        if notification.bound.is_some() {
            return None;
        }
        notification.bits |= bits;
        Some(Ok(0))
    }

    /// A yield: somebody else runs next, if there is anybody.
    #[inline(always)]
    pub fn short_yield(&self, hart: &mut Hart) {
        hart.reschedule = self.harts[hart.index % HARTS_MAX].ready.load(Relaxed) != 0;
    }

    /// A signal to a notification that somebody waits for.
    #[inline(never)]
    fn signal_waiter(
        &self,
        hart: &mut Hart,
        mut notification: Guard<'_, Notification>,
        waiter: Id<Thread>,
        bits: u64,
    ) -> Option<Result<u64, Error>> {
        // SAFETY: it is the id of a thread that lives or has lived.
        let mut thread = unsafe { self.memory.view().try_lock_issued(waiter) }?;
        let State::Waiting(_, mask) = thread.state else { return None };
        if !self.wakes_here(hart, thread.shared()) {
            return None;
        }
        notification.bits |= bits;
        let taken = notification.bits & mask;
        if taken != 0 {
            notification.bits &= !taken;
            notification.waiter = None;
            thread.wait_sequence = thread.wait_sequence.wrapping_add(1);
            set_outcome(&mut thread, Ok(taken));
            if self.goes_first(hart, &thread) {
                (thread.state, thread.deadline) = (State::Ready, FOREVER);
                (hart.woken, hart.reschedule) = (Some(waiter), true);
            } else {
                self.make_ready(hart, waiter, &mut thread);
                self.end_turn_in_time(hart);
            }
        }
        Some(Ok(0))
    }

    /// Whether a thread that wakes here is to run before the one that runs, and before whoever is ready.
    #[inline]
    fn goes_first(&self, hart: &Hart, thread: &Guard<'_, Thread>) -> bool {
        let class = thread.shared().urgency_number();
        let current = hart.current.map_or(class, |id| {
            // SAFETY: a thread that runs is alive.
            unsafe { self.memory.view().shared_of_live::<Thread>(id.granule()) }.urgency_number()
        });
        let is_first = current < class && self.harts[hart.index].ready.load(Relaxed).wrapping_shr(class) == 0;
        is_first && hart.woken.is_none() && !self.is_out_of_time(thread)
    }

    /// A wait for bits of a notification. `None`: nothing was done, and it has to go the long way.
    #[inline]
    pub fn fast_wait(&self, hart: &mut Hart, [target, mask, deadline]: [u64; 3]) -> Option<Wait> {
        let me = hart.current?;
        let (mut notification, id) = self.short_notification(hart, target, Rights::WAIT)?;
        if mask == 0 || notification.waiter.is_some() || notification.bound.is_some() {
            return None;
        }
        let taken = notification.bits & mask;
        if taken != 0 {
            notification.bits &= !taken;
            return Some(Wait::Bits(taken));
        }
        // SAFETY: this thread runs, so it is alive.
        let mut thread = unsafe { self.memory.view().try_lock_live::<Thread>(me.granule()) }?;
        if self.needs_timer(&thread, deadline) {
            return None;
        }
        thread.state = State::Waiting(id, mask);
        thread.wait_sequence = thread.wait_sequence.wrapping_add(1);
        thread.deadline = deadline;
        notification.waiter = Some(me);
        self.stop_running(hart, &mut thread);
        Some(Wait::Waits)
    }

    /// Gives way to whoever is ready. `false`: something else is to be done first; the thread runs still, or stands in a
    /// queue.
    #[inline]
    pub fn fast_yield(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) -> bool {
        // Of a process that has ended the hart lets go by the long way, which its teardown waits for.
        if self.is_more_to_do(hart) || self.process_of_hart(hart).has_ended() {
            return false;
        }
        self.yield_current(hart, held);
        let Some(woken) = hart.woken else { return self.go_on(hart, held) };
        let may_run = self.memory.shared(woken).is_some_and(|shared| self.may_run(shared, hart.index));
        if !may_run || self.is_more_to_do(hart) {
            return self.stand_aside(hart);
        }
        hart.woken = None;
        self.begin_turn(hart, held, woken)
    }

    /// Whether something else comes before whoever is ready here.
    #[inline]
    fn is_more_to_do(&self, hart: &Hart) -> bool {
        hart.handoff.is_some()
            || hart.calls != 0
            || self.reclaiming.load(Relaxed) | self.asleep.load(Relaxed) != 0
    }

    /// After a thread has stopped running: whoever is ready goes on. `false`: there is something else to do first, or
    /// nobody.
    #[inline]
    pub fn go_on(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>) -> bool {
        if self.is_more_to_do(hart) {
            return self.stand_aside(hart);
        }
        match self.with_queue(hart.index, |queue| queue.pop(&self.memory)) {
            Some(next) => self.begin_turn(hart, held, next),
            None => self.stand_aside(hart),
        }
    }

    /// The hart runs nothing, and comes in alone next. Until then it stands on the page table of whom it ran last.
    #[cold]
    fn stand_aside(&self, hart: &Hart) -> bool {
        self.harts[hart.index].stands_on.store(hart.process, Relaxed);
        false
    }

    /// A thread that is in no queue runs; `false`: it has ended.
    #[inline]
    fn begin_turn(&self, hart: &mut Hart, held: &mut Held<'_, Nothing>, id: Id<Thread>) -> bool {
        hart.reschedule = false;
        self.run(hart, held, id);
        self.end_turn_in_time(hart);
        hart.current.is_some() || self.stand_aside(hart)
    }

    /// Makes sure that the timer ends the turn if somebody else is ready. One that is set too early does no harm.
    #[inline]
    fn end_turn_in_time(&self, hart: &mut Hart) {
        if hart.turn_ends < hart.timer && self.harts[hart.index].ready.load(Relaxed) != 0 {
            hart.timer = hart.turn_ends;
            self.arch.set_timer(hart.timer);
        }
    }

    #[inline(always)]
    fn short_notification(
        &self,
        hart: &Hart,
        handle: u64,
        right: Rights,
    ) -> Option<(Guard<'_, Notification>, Id<Notification>)> {
        let memory = self.memory.view();
        // SAFETY: the process of the thread that runs is alive, and so is its table.
        let entry = unsafe { memory.entry_of_live(self.process_of_hart(hart), Handle(handle)) };
        let id = entry?.0.plain(Kind::Notification, right)?;
        // SAFETY: a capability names what lives or has lived.
        Some((unsafe { memory.try_lock_issued(id) }?, id))
    }
}

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// These bits were there.
    Bits(u64),
    /// The thread waits and has stopped running.
    Waits,
}
