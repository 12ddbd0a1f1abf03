//! Notifications: signal, wait, poll, bind; and timers, which signal them.

use super::{Caller, Outcome, Request, Stop};
use crate::arch::Arch;
use crate::deadline::Node;
use crate::kernel::{Hart, Kernel};
use crate::memory::Id;
use crate::object::thread::State;
use crate::object::{Notification, Timer};
use crate::schedule::SignalHeld;
use crate::system_call::message::answer_event;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::message::Arrival;
use nexus_abi::{Error, Handle, Kind, Rights};

impl<A: Arch> Kernel<A> {
    /// Sets bits and wakes whoever waits for one of them. A notification that is gone hears nothing.
    pub(crate) fn signal(
        &self,
        hart: &mut Hart,
        held: &mut SignalHeld<'_>,
        notification: Id<Notification>,
        bits: u64,
    ) {
        let bound = {
            let Some((mut body, mut held)) = self.lock(held, notification) else { return };
            body.bits |= bits;
            if body.bits == 0 {
                // No bits are no news: nobody's wait ends.
                return;
            }
            if let Some(waiter) = body.waiter
                && let Some((mut thread, _)) = self.lock(&mut held, waiter)
                && let State::Waiting(_, mask) = thread.state
            {
                let taken = body.bits & mask;
                if taken != 0 {
                    body.bits &= !taken;
                    body.waiter = None;
                    thread.wait_sequence += 1;
                    self.wake(hart, waiter, &mut thread, Ok(taken));
                }
                return;
            }
            body.bound
        };
        let Some(bound) = bound else { return };
        let Some(state) = self.lock(held, bound).map(|(thread, _)| thread.state) else { return };
        match state {
            State::Receiving(endpoint) => {
                self.signal_receiver(hart, held, notification, (bound, endpoint, true));
            }
            State::Listening(endpoint) => {
                self.signal_receiver(hart, held, notification, (bound, endpoint, false));
            }
            _ => {}
        }
    }

    /// The bound thread waits at an endpoint: it leaves that and takes the bits.
    fn signal_receiver(
        &self,
        hart: &mut Hart,
        held: &mut SignalHeld<'_>,
        notification: Id<Notification>,
        (bound, endpoint, calls): (Id<crate::object::Thread>, Id<crate::object::Endpoint>, bool),
    ) {
        if let Some((mut body, _)) = self.lock(held, endpoint) {
            if calls {
                body.receivers.remove(&self.memory, bound);
            } else {
                body.listeners.remove(&self.memory, bound);
            }
        }
        let Some((mut body, mut held)) = self.lock(held, notification) else { return };
        let bits = core::mem::take(&mut body.bits);
        if let Some((mut thread, _)) = self.lock(&mut held, bound) {
            answer_event(&mut thread, Arrival::Bits, bits, 0);
            thread.wait_sequence += 1;
            self.make_ready(hart, bound, &mut thread);
        }
    }

    pub(super) fn notification_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        self.create_named(request, Kind::Notification, Notification::default())
    }

    /// The notification that a capability of the caller may signal; one that is gone hears nothing any more.
    pub(super) fn to_signal(&self, caller: &Caller<'_>, handle: u64) -> Result<Id<Notification>, Error> {
        let id = self.object(caller, handle, Kind::Notification, Rights::SIGNAL)?;
        self.memory.shared(id).map(|()| id).ok_or(Error::StaleHandle)
    }

    pub(super) fn notification_signal(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, bits, ..] = request.arguments;
        let notification = self.to_signal(&request.caller, target)?;
        self.signal(request.hart, &mut request.held.above(), notification, bits);
        Ok(0)
    }

    pub(super) fn notification_wait(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, mask, deadline, ..] = request.arguments;
        let notification: Id<Notification> =
            self.object(&request.caller, target, Kind::Notification, Rights::WAIT)?;
        if mask == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let me = request.caller.thread;
        let (mut body, mut held) = self.lock(request.held, notification).ok_or(Error::StaleHandle)?;
        if body.waiter.is_some() || body.bound.is_some_and(|bound| bound != me) {
            return Err(Error::Busy.into());
        }
        let taken = body.bits & mask;
        if taken != 0 {
            body.bits &= !taken;
            return Ok(taken);
        }
        if deadline <= self.arch.now() {
            return Err(Error::TimedOut.into());
        }
        let (mut thread, _) = self.lock(&mut held, me).ok_or(Error::PeerGone)?;
        thread.state = State::Waiting(notification, mask);
        thread.wait_sequence += 1;
        self.stop_running(request.hart, &mut thread);
        body.waiter = Some(me);
        self.arm(request.hart, me, &mut thread, deadline);
        Err(Stop::Waits)
    }

    pub(super) fn notification_poll(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, mask, ..] = request.arguments;
        let notification: Id<Notification> =
            self.object(&request.caller, target, Kind::Notification, Rights::WAIT)?;
        let (mut body, _) = self.lock(request.held, notification).ok_or(Error::StaleHandle)?;
        let taken = body.bits & mask;
        if taken == 0 {
            return Err(Error::WouldBlock.into());
        }
        body.bits &= !taken;
        Ok(taken)
    }

    pub(super) fn notification_bind(&self, request: Request<'_, '_, '_>) -> Outcome {
        let target = request.arguments[0];
        let me = request.caller.thread;
        let next: Option<Id<Notification>> = match Handle(target).is_none() {
            true => None,
            false => Some(self.object(&request.caller, target, Kind::Notification, Rights::WAIT)?),
        };
        if let Some(next) = next {
            let (mut body, _) = self.lock(request.held, next).ok_or(Error::StaleHandle)?;
            if body.waiter.is_some() || body.bound.is_some_and(|bound| bound != me) {
                return Err(Error::Busy.into());
            }
            body.bound = Some(me);
        }
        let before = {
            let (mut thread, _) = self.lock(request.held, me).ok_or(Error::PeerGone)?;
            core::mem::replace(&mut thread.bound, next)
        };
        if let Some(before) = before.filter(|&before| Some(before) != next)
            && let Some((mut body, _)) = self.lock(request.held, before)
        {
            body.bound = None;
        }
        Ok(0)
    }

    /// Ends whatever waits for a notification that is about to go.
    pub(crate) fn empty_notification(
        &self,
        hart: &mut Hart,
        held: &mut SignalHeld<'_>,
        notification: Id<Notification>,
    ) {
        let Some((mut body, mut held)) = self.lock(held, notification) else { return };
        if let Some(waiter) = body.waiter.take()
            && let Some((mut thread, _)) = self.lock(&mut held, waiter)
        {
            thread.wait_sequence += 1;
            self.wake(hart, waiter, &mut thread, Err(Error::PeerGone));
        }
        if let Some(bound) = body.bound.take()
            && let Some((mut thread, _)) = self.lock(&mut held, bound)
        {
            thread.bound = None;
        }
    }

    pub(super) fn timer_create(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, bits, ..] = request.arguments;
        let notification = self.to_signal(&request.caller, target)?;
        if bits == 0 {
            return Err(Error::InvalidArgument.into());
        }
        // The deadline heap has a place for every thread, and as many for timers.
        if self.counters.timers.load(Relaxed) >= self.figures.threads_max {
            return Err(Error::TableFull.into());
        }
        let created = self.create_named(request, Kind::Timer, Timer { notification, bits })?;
        self.counters.timers.fetch_add(1, Relaxed);
        Ok(created)
    }

    pub(super) fn timer_arm(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [target, deadline, ..] = request.arguments;
        let timer: Id<Timer> = self.object(&request.caller, target, Kind::Timer, Rights::ARM)?;
        let _guard = self.lock(request.held, timer).ok_or(Error::StaleHandle)?;
        let node = Node::Timer(timer.granule());
        self.forget_deadline(node);
        if deadline != nexus_abi::limits::FOREVER {
            self.remember_deadline(request.hart, node, deadline);
        }
        Ok(0)
    }
}
