//! Classes: a thread's own, and at which it runs because others wait for it.

use super::{CapId, Model, Object, Wait};
use nexus_abi::capability::Qos;
use nexus_abi::{Error, Rights};

/// Threads that one call can make more urgent, each waiting for the next.
const CHAIN_MAX: usize = 16;

impl Model {
    /// A caller of this class waits for a thread, and for whomever that waits for in turn.
    pub(super) fn lend_urgency(&mut self, class: Qos, mut worker: Option<usize>) {
        for _ in 0..CHAIN_MAX {
            let Some(thread) = worker.filter(|&worker| self.threads[worker].alive) else { return };
            if self.threads[thread].urgency >= class {
                return;
            }
            self.threads[thread].urgency = class;
            worker = match self.threads[thread].wait {
                Wait::Calling { endpoint, .. } => self.endpoints[endpoint].server,
                Wait::Called => self.threads[thread].served_by,
                _ => None,
            };
        }
    }

    /// A thread works for another, which waits for its answer.
    pub(super) fn works_for(&mut self, worker: usize, caller: usize) {
        self.threads[caller].served_by = Some(worker);
        let class = self.threads[caller].urgency;
        self.at_least(worker, class);
    }

    pub(super) fn at_least(&mut self, thread: usize, class: Qos) {
        let state = &mut self.threads[thread];
        state.urgency = state.urgency.max(class);
    }

    /// The class of the most urgent call that waits.
    pub(super) fn most_urgent(&self, endpoint: usize) -> Option<Qos> {
        self.endpoints[endpoint].callers.iter().map(|&caller| self.threads[caller].urgency).max()
    }

    /// A thread works for nobody any more but whoever waits at the endpoint that it serves.
    pub(super) fn fall_back(&mut self, thread: usize) {
        let serves = self.threads[thread].serves.filter(|&endpoint| self.endpoints[endpoint].alive);
        let waiting = serves.and_then(|endpoint| self.most_urgent(endpoint));
        let state = &mut self.threads[thread];
        if state.urgency != state.class {
            state.urgency = waiting.map_or(state.class, |waiting| waiting.max(state.class));
        }
    }

    pub(super) fn set_class(
        &mut self,
        thread: usize,
        of: Option<CapId>,
        class: u64,
        authority: Option<CapId>,
    ) -> Result<(), Error> {
        let target = self.thread_of(thread, of)?;
        let class = Qos::from_number(class).ok_or(Error::InvalidArgument)?;
        let is_urgency = |object: &Object| matches!(object, Object::Urgency(_));
        let most = match authority {
            None => None,
            Some(cap) => match self.usable(thread, cap, is_urgency, Rights::MANAGE)?.object {
                Object::Urgency(most) => Some(most),
                _ => return Err(Error::WrongKind),
            },
        };
        let own = self.threads[thread].process;
        let state = &mut self.threads[target];
        let is_free = state.process == own && class <= state.class;
        if !is_free && most.is_none_or(|most| most < class as u64) {
            return Err(Error::NotPermitted);
        }
        // What was lent stays until it falls back.
        state.urgency = if state.urgency == state.class { class } else { state.urgency.max(class) };
        state.class = class;
        Ok(())
    }
}
