//! Urgency and time: what class a thread has, and how much of the time a process may use.
//!
//! Lowering one's own process's threads is free. Raising them, and touching those of others, takes a
//! `QosAuthority` whose maximum covers the class. Each decision that changes something, or refuses to, is a
//! record in the kernel's ring.

use super::{Outcome, Request};
use crate::arch::Arch;
use crate::kernel::Kernel;
use crate::line;
use crate::memory::Id;
use crate::object::process::{BUDGET_LEFT, BUDGET_NONE, Budget};
use crate::object::{Process, Thread};
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::capability::Qos;
use nexus_abi::limits::{BUDGET_PERIOD_MAX, BUDGET_PERIOD_MIN};
use nexus_abi::records::RingLevel;
use nexus_abi::{Error, Handle, Kind, Rights};

impl<A: Arch> Kernel<A> {
    /// The thread that a handle names; 0 is the caller's own.
    fn thread_or_self(&self, request: &Request<'_, '_, '_>, handle: u64) -> Result<Id<Thread>, Error> {
        if Handle(handle).is_none() {
            return Ok(request.caller.thread);
        }
        let thread: Id<Thread> = self.object(&request.caller, handle, Kind::Thread, Rights::MANAGE)?;
        self.memory.shared(thread).ok_or(Error::StaleHandle)?;
        Ok(thread)
    }

    pub(super) fn thread_qos(&self, request: Request<'_, '_, '_>) -> Outcome {
        let thread = self.thread_or_self(&request, request.arguments[0])?;
        let (body, _) = self.lock(request.held, thread).ok_or(Error::StaleHandle)?;
        Ok(body.qos as u64)
    }

    pub(super) fn thread_set_qos(&self, mut request: Request<'_, '_, '_>) -> Outcome {
        let [thread, class, authority, ..] = request.arguments;
        let thread = self.thread_or_self(&request, thread)?;
        let class = Qos::from_number(class).ok_or(Error::InvalidArgument)?;
        let most = match Handle(authority).is_none() {
            true => None,
            false => Some(self.memory.capability(
                request.caller.shared,
                authority,
                Kind::QosAuthority,
                Rights::MANAGE,
            )?),
        };
        let (before, process) = {
            let (body, _) = self.lock(request.held, thread).ok_or(Error::StaleHandle)?;
            (body.qos, body.process)
        };
        let is_free = process == request.caller.process && class <= before;
        let is_allowed = is_free || most.is_some_and(|most| most.badge >= class as u64);
        if class != before || !is_allowed {
            self.record_qos(&mut request, process, is_allowed, (before, class));
        }
        if !is_allowed {
            return Err(Error::NotPermitted.into());
        }
        let (mut body, _) = self.lock(request.held, thread).ok_or(Error::StaleHandle)?;
        let now = body.shared().urgency();
        // What was lent stays until it falls back.
        let next = if now == before { class } else { now.max(class) };
        body.qos = class;
        self.change_urgency(request.hart, thread, &body, next);
        Ok(0)
    }

    fn record_qos(
        &self,
        request: &mut Request<'_, '_, '_>,
        target: Id<Process>,
        is_allowed: bool,
        (before, class): (Qos, Qos),
    ) {
        let number =
            |id| self.memory.shared::<Process>(id).map_or(0, |shared| shared.process_id.load(Relaxed));
        let caller = request.caller.shared;
        let line = line!(
            "QOS-AUDIT decision={} reason={} caller_sid={:#x} caller_pid={} target_pid={} from={before:?} to={class:?}",
            if is_allowed { "allow" } else { "deny" },
            match (is_allowed, target == request.caller.process) {
                (true, _) => "applied",
                (false, true) => "unauthorized_escalation",
                (false, false) => "unauthorized_other_pid",
            },
            caller.service_id.load(Relaxed),
            caller.process_id.load(Relaxed),
            number(target),
        );
        self.say(request.hart, request.held, RingLevel::Info, &line);
    }

    pub(super) fn thread_set_affinity(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [thread, harts, ..] = request.arguments;
        let thread = self.thread_or_self(&request, thread)?;
        let online = (1u64 << self.online()) - 1;
        if harts & online == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let (body, _) = self.lock(request.held, thread).ok_or(Error::StaleHandle)?;
        self.set_affinity(request.hart, thread, &body, (harts & online) as u32);
        Ok(0)
    }

    pub(super) fn process_set_budget(&self, request: Request<'_, '_, '_>) -> Outcome {
        let [process, ticks, period, ..] = request.arguments;
        let process: Id<Process> = self.object(&request.caller, process, Kind::Process, Rights::MANAGE)?;
        let shared = self.memory.shared(process).ok_or(Error::StaleHandle)?;
        if shared.has_ended() {
            return Err(Error::PeerGone.into());
        }
        let second = self.arch.ticks_per_second();
        let (least, most) = (second / BUDGET_PERIOD_MIN, second * BUDGET_PERIOD_MAX);
        let is_none = ticks == 0 && period == 0;
        if !is_none && (ticks == 0 || ticks > period || !(least..=most).contains(&period)) {
            return Err(Error::InvalidArgument.into());
        }
        let (mut body, _) = self.lock(request.held, process).ok_or(Error::StaleHandle)?;
        body.budget = Budget { ticks, period, used: 0, began: self.arch.now() };
        shared.budget.store(if is_none { BUDGET_NONE } else { BUDGET_LEFT }, Relaxed);
        Ok(0)
    }
}
