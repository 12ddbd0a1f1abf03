//! Events out of random bytes: mostly sensible, sometimes not. What a byte means depends on what there is.

use crate::model::{CapId, Event, LeaseCopy, Lent, Message, NEVER, Object, Sent};
use crate::{Bench, Lockstep, Seed};
use alloc::vec::Vec;
use nexus_abi::Rights;

impl<B: Bench> Lockstep<B> {
    /// Makes an event out of a seed: mostly sensible, sometimes not.
    pub(crate) fn event(&mut self, seed: Seed) -> Option<Event> {
        let (kind, who, a, b, c, d) = seed;
        if kind % 64 == 63 {
            let process = usize::from(who) % 4;
            return (c < 64).then(|| Event::Kill { process, order: self.table_order(process) });
        }
        if kind % 64 >= 58 {
            return Some(Event::TimePasses);
        }
        let ready: Vec<usize> = (0..self.model.threads.len()).filter(|&t| self.model.can_act(t)).collect();
        let thread = *ready.get(usize::from(who) % ready.len().max(1))?;
        let deadline = match d % 8 {
            0 => 0,
            1..=3 => self.model.now + u64::from(d / 8 % 3),
            _ => NEVER,
        };
        let endpoint = |object: &Object| matches!(object, Object::Endpoint(_));
        let notification = |object: &Object| matches!(object, Object::Notification(_));
        let reply = |object: &Object| matches!(object, Object::Reply(..));
        let any = |_: &Object| true;
        Some(match kind % 64 {
            0..=13 => {
                let via = self.pick(thread, a, endpoint)?;
                let message = Message { leases: self.leases(thread, d), ..self.message(thread, b, c) };
                let plain = message.plain && message.leases.is_empty();
                Event::Call { thread, via, message: Message { plain, ..message }, deadline }
            }
            14..=23 => Event::Receive {
                thread,
                via: self.pick(thread, a, endpoint)?,
                plain: b.is_multiple_of(2),
                deadline,
            },
            30 => {
                let (index, offset) = (usize::from(b % 3), u64::from(c % 32));
                let bytes = [0, 8, 24, 70_000][usize::from(c / 64)];
                let reply = self.pick(thread, a, reply)?;
                Event::LeaseCopy { thread, copy: LeaseCopy { reply, index, offset, bytes, into: d % 2 == 1 } }
            }
            24..=29 => {
                let reply = self.pick(thread, a, reply)?;
                Event::Reply { thread, reply, message: self.message(thread, b, c) }
            }
            31..=34 => {
                let (via, reply) = (self.pick(thread, a, endpoint)?, self.pick(thread, b, reply)?);
                Event::ReplyReceive { thread, via, reply, message: self.message(thread, b, c), deadline }
            }
            35..=38 => {
                let via = self.pick(thread, a, endpoint)?;
                Event::Post { thread, via, message: self.message(thread, b / 2, c) }
            }
            39..=42 => {
                let notification = self.pick(thread, a, notification)?;
                Event::Signal { thread, notification, bits: u64::from(b % 8) }
            }
            44 => {
                let notification = self.pick(thread, a, notification)?;
                Event::Poll { thread, notification, mask: u64::from(b % 8) }
            }
            43 => {
                let notification = self.pick(thread, a, notification)?;
                Event::Wait { thread, notification, mask: u64::from(b % 8), deadline }
            }
            45 => {
                let notification =
                    if b % 4 == 0 { None } else { Some(self.pick(thread, a, notification)?) };
                Event::Bind { thread, notification }
            }
            46..=48 => {
                let cap = self.pick(thread, a, any)?;
                Event::Copy { thread, cap, rights: self.rights(cap, b) }
            }
            49..=51 => {
                let cap = self.pick(thread, a, endpoint)?;
                let rights = [Rights::CALL, Rights::POST, Rights::CALL | Rights::POST, Rights::RECEIVE];
                Event::Mint { thread, cap, badge: u64::from(b % 5), rights: rights[usize::from(c % 4)] }
            }
            52..=55 => Event::Close { thread, cap: self.pick(thread, a, any)? },
            56 if b < 32 => Event::Seal { thread, cap: self.pick(thread, a, endpoint)? },
            56 | 57 => Event::Revoke { thread, cap: self.pick(thread, a, any)? },
            _ => return None,
        })
    }

    /// One of the thread's capabilities that fits; now and then one that does not, or that is closed.
    fn pick(&self, thread: usize, choice: u8, fits: impl Fn(&Object) -> bool) -> Option<CapId> {
        let process = self.model.threads[thread].process;
        let sensible = choice % 16 != 15;
        let candidates: Vec<CapId> = self
            .holders
            .iter()
            .filter(|(cap, holder)| {
                let live = self.model.caps.get(cap);
                **holder == process && (!sensible || live.is_some_and(|cap| fits(&cap.object)))
            })
            .map(|(&cap, _)| cap)
            .collect();
        candidates.get(usize::from(choice) / 16 * 7 % candidates.len().max(1)).copied()
    }

    fn rights(&self, cap: CapId, choice: u8) -> Rights {
        let all = self.model.caps.get(&cap).map_or(Rights::empty(), |cap| cap.rights);
        match choice % 8 {
            0 => Rights::READ,
            1 => all & !(Rights::CALL | Rights::WRITE | Rights::MINT),
            2 => all & !Rights::RECEIVE,
            _ => all,
        }
    }

    fn message(&mut self, thread: usize, shape: u8, choice: u8) -> Message {
        self.tag += 1;
        let bytes = [0, 8, 64, 64, 8, 65, 4_096, 4_097][usize::from(shape % 8)];
        let count = match shape / 8 % 16 {
            0..=7 => 0,
            8..=11 => 1,
            12..=14 => 2,
            _ => 5,
        };
        let caps: Vec<Sent> = (0..count)
            .filter_map(|index: u8| {
                let replies = choice % 8 == 5;
                let cap = self.pick(thread, choice.wrapping_mul(7).wrapping_add(index * 37), |object| {
                    matches!(object, Object::Reply(..)) == replies
                })?;
                Some(Sent { cap, rights: self.rights(cap, choice.wrapping_add(3)), moved: choice & 1 == 1 })
            })
            .collect();
        let plain = bytes <= 64 && caps.is_empty() && choice.is_multiple_of(2);
        Message { tag: self.tag, plain, bytes, caps, leases: Vec::new() }
    }

    /// What a call lends: mostly nothing.
    fn leases(&self, thread: usize, shape: u8) -> Vec<Lent> {
        let count = [0, 0, 0, 1, 1, 2, 2, 5][usize::from(shape % 8)];
        let lent = |index: u8| {
            let choice = shape.wrapping_mul(11).wrapping_add(index * 59);
            let on = self.pick(thread, choice, |object| matches!(object, Object::Reply(..)));
            let on = on.filter(|_| choice % 4 == 1).map(|reply| (reply, usize::from(choice % 3), 8));
            let rights = [Rights::READ, Rights::WRITE, Rights::READ | Rights::WRITE, Rights::EXECUTE];
            Lent { on, bytes: u64::from(choice % 5) * 24, rights: rights[usize::from(choice / 64)] }
        };
        (0..count).map(lent).collect()
    }

    /// The process's capabilities in the order in which its end closes them.
    pub(crate) fn table_order(&self, process: usize) -> Vec<CapId> {
        let held = self.model.caps.iter().filter(|(_, cap)| cap.holder == process);
        let mut order: Vec<CapId> = held.map(|(&cap, _)| cap).collect();
        order.sort_by_key(|cap| self.handles[cap] as u32);
        order
    }
}
