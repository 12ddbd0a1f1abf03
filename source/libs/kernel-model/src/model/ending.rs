//! How things end: capabilities, calls, endpoints, notifications, processes, time.

use super::{Answer, CapId, Model, Object, Wait};
use alloc::collections::BTreeSet;
use nexus_abi::{Error, Rights};

impl Model {
    pub(super) fn close_call(&mut self, thread: usize, cap: CapId) -> Result<(), Error> {
        if self.held(thread, cap)?.frozen {
            return Err(Error::Busy);
        }
        self.close(cap);
        Ok(())
    }

    /// A capability is gone; what derives from it derives from its parent. With the last one, the object goes.
    pub(super) fn close(&mut self, cap: CapId) {
        let Some(closed) = self.caps.remove(&cap) else { return };
        if let Some(parent) = closed.parent {
            self.cap(parent).children.retain(|&child| child != cap);
        }
        for child in closed.children {
            self.cap(child).parent = closed.parent;
            if let Some(parent) = closed.parent {
                self.cap(parent).children.insert(0, child);
            }
        }
        let process = &mut self.processes[closed.holder];
        match closed.object {
            Object::Reply(caller, sequence) => {
                if closed.open_call {
                    self.open_call_freed(closed.holder);
                } else {
                    process.used -= 1;
                }
                let waiting = &self.threads[caller];
                if waiting.alive && matches!(waiting.wait, Wait::Called) && waiting.sequence == sequence {
                    self.answer(caller, Answer::Failed(Error::PeerGone));
                }
                return;
            }
            _ => process.used -= 1,
        }
        if let Some(session) = closed.session
            && self.sessions[session].alive
        {
            self.sessions[session].references -= 1;
            if self.sessions[session].references == 0 {
                self.session_ends(session);
            }
        }
        if self.references(closed.object) == 0 {
            match closed.object {
                Object::Endpoint(endpoint) => self.end_endpoint(endpoint),
                Object::Notification(notification) => self.end_notification(notification),
                _ => {}
            }
        }
    }

    /// The last capability with a badge is gone: whoever receives hears of it, now or next time.
    fn session_ends(&mut self, session: usize) {
        let endpoint = self.sessions[session].endpoint;
        if !self.endpoints[endpoint].alive || self.is_over(Some(session), endpoint) {
            self.sessions[session].alive = false;
            return;
        }
        match self.pop_any(endpoint) {
            Some(receiver) => {
                self.sessions[session].alive = false;
                self.answer(receiver, Answer::BadgeGone(self.sessions[session].badge));
            }
            None => self.endpoints[endpoint].gone.push_back(session),
        }
    }

    fn end_endpoint(&mut self, endpoint: usize) {
        if !self.endpoints[endpoint].alive {
            return;
        }
        self.empty_endpoint(endpoint, Error::PeerGone);
        self.endpoints[endpoint].alive = false;
        self.endpoints[endpoint].gone.clear();
        for session in self.sessions.iter_mut().filter(|session| session.endpoint == endpoint) {
            session.alive = false;
        }
    }

    fn empty_endpoint(&mut self, endpoint: usize, error: Error) {
        loop {
            let caller = self.endpoints[endpoint].callers.pop_front();
            let Some(thread) = caller.or_else(|| self.pop_any(endpoint)) else { break };
            self.thaw_message(thread);
            self.answer(thread, Answer::Failed(error));
        }
        while let Some(post) = self.endpoints[endpoint].posts.pop_front() {
            self.return_credit(post.via);
        }
    }

    fn thaw_message(&mut self, thread: usize) {
        if let Wait::Calling { message, .. } = self.threads[thread].wait.clone() {
            self.thaw(&message.caps);
        }
    }

    fn end_notification(&mut self, notification: usize) {
        let state = &mut self.notifications[notification];
        state.alive = false;
        let (waiter, bound) = (state.waiter.take(), state.bound.take());
        if let Some(waiter) = waiter {
            self.answer(waiter, Answer::Failed(Error::PeerGone));
        }
        if let Some(bound) = bound {
            self.threads[bound].bound = None;
        }
    }

    pub(super) fn seal(&mut self, thread: usize, cap: CapId) -> Result<(), Error> {
        let endpoint = self.endpoint_of(thread, cap, Rights::MANAGE)?;
        if !self.endpoints[endpoint].alive {
            return Err(Error::StaleHandle);
        }
        self.endpoints[endpoint].sealed = true;
        self.empty_endpoint(endpoint, Error::Sealed);
        Ok(())
    }

    pub(super) fn revoke(&mut self, thread: usize, cap: CapId) -> Result<(), Error> {
        self.held(thread, cap)?;
        while let Some(&first) = self.caps.get(&cap).and_then(|cap| cap.children.first()) {
            let mut deepest = first;
            while let Some(&child) = self.caps[&deepest].children.first() {
                deepest = child;
            }
            self.fail_calls_using(deepest);
            self.close(deepest);
        }
        Ok(())
    }

    /// Calls that wait to be received through a capability, or carry it, fail.
    fn fail_calls_using(&mut self, cap: CapId) {
        for thread in 0..self.threads.len() {
            let Wait::Calling { endpoint, message, via, .. } = self.threads[thread].wait.clone() else {
                continue;
            };
            if via == cap || message.caps.iter().any(|sent| sent.cap == cap) {
                self.leave(endpoint, thread);
                self.thaw(&message.caps);
                self.answer(thread, Answer::Failed(Error::Revoked));
            }
        }
    }

    /// Ends a thread's wait from outside.
    fn stop_waiting(&mut self, thread: usize) {
        match self.threads[thread].wait.clone() {
            Wait::Calling { endpoint, message, .. } => {
                self.leave(endpoint, thread);
                self.thaw(&message.caps);
            }
            Wait::Receiving(endpoint) | Wait::Listening(endpoint) => self.leave(endpoint, thread),
            Wait::Bits(notification, _) => self.notifications[notification].waiter = None,
            Wait::Called | Wait::Nothing | Wait::Sleeping => {}
        }
    }

    pub(super) fn time_passes(&mut self) {
        self.now += 1;
        self.end_overdue_waits();
    }

    pub(super) fn end_overdue_waits(&mut self) {
        for thread in 0..self.threads.len() {
            let state = &self.threads[thread];
            if state.alive && state.deadline <= self.now && !matches!(state.wait, Wait::Nothing) {
                let answer = match self.threads[thread].wait {
                    Wait::Sleeping => Answer::Exactly(0),
                    _ => Answer::Failed(Error::TimedOut),
                };
                self.stop_waiting(thread);
                self.answer(thread, answer);
            }
        }
    }

    pub(super) fn kill(&mut self, process: usize, order: &[CapId]) {
        if !core::mem::replace(&mut self.processes[process].alive, false) {
            return;
        }
        for thread in 0..self.threads.len() {
            if self.threads[thread].process == process {
                self.stop_waiting(thread);
                self.threads[thread].alive = false;
                self.threads[thread].wait = Wait::Nothing;
                if let Some(bound) = self.threads[thread].bound.take() {
                    self.notifications[bound].bound = None;
                }
            }
        }
        let mut received_from = BTreeSet::new();
        for cap in order {
            let Some(held) = self.caps.get(cap) else { continue };
            if let Object::Endpoint(endpoint) = held.object
                && held.rights.contains(Rights::RECEIVE)
                && received_from.insert(endpoint)
            {
                self.endpoints[endpoint].generation += 1;
            }
            self.close(*cap);
        }
        self.end_what_it_created(process);
    }

    fn end_what_it_created(&mut self, process: usize) {
        for endpoint in 0..self.endpoints.len() {
            if self.endpoints[endpoint].owner == process {
                self.end_endpoint(endpoint);
            }
            self.endpoints[endpoint].posts.retain(|post| post.from != process);
        }
        for notification in 0..self.notifications.len() {
            if self.notifications[notification].owner == process && self.notifications[notification].alive {
                self.end_notification(notification);
            }
        }
        for (index, session) in self.sessions.iter_mut().enumerate() {
            if session.owner == process {
                session.alive = false;
                self.endpoints[session.endpoint].gone.retain(|&other| other != index);
            }
        }
    }
}
