//! Events out of random bytes: mostly sensible, sometimes not. What a byte means depends on what there is.

use crate::model::{CapId, Event, LeaseCopy, Lent, Message, NEVER, Object, PERIODS, Plain, Sent};
use crate::{Bench, Lockstep, PAGE, Seed};
use alloc::vec::Vec;
use nexus_abi::limits::VMO_PAGES_MAX;
use nexus_abi::{Kind, Rights};

impl<B: Bench> Lockstep<B> {
    /// Makes an event out of a seed: mostly sensible, sometimes not.
    pub(crate) fn event(&mut self, seed: Seed) -> Option<Event> {
        let (kind, who, a, b, c, d) = seed;
        if kind < 192 && kind % 64 == 63 {
            let process = usize::from(who) % 4;
            return (c < 64).then(|| Event::Kill { process, order: self.table_order(process) });
        }
        if kind < 192 && kind % 64 >= 58 {
            return Some(Event::TimePasses);
        }
        let ready: Vec<usize> = (0..self.model.threads.len()).filter(|&t| self.model.can_act(t)).collect();
        let thread = *ready.get(usize::from(who) % ready.len().max(1))?;
        let deadline = match d % 8 {
            0 => 0,
            1..=3 => self.model.now + u64::from(d / 8 % 3),
            _ => NEVER,
        };
        if kind >= 192 {
            return self.seldom(kind % 64, thread, (a, b, c, d));
        }
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

    /// An event of the kinds that come less often.
    fn seldom(&mut self, kind: u8, thread: usize, (a, b, c, d): (u8, u8, u8, u8)) -> Option<Event> {
        let memory = |object: &Object| matches!(object, Object::Memory(_));
        let process = |object: &Object| matches!(object, Object::Process(_));
        let reply = |object: &Object| matches!(object, Object::Reply(..));
        let any = |_: &Object| true;
        let is_one = |wanted: Kind| move |object: &Object| object.kind() == wanted;
        let own_order = |model: &Self| model.table_order(model.model.threads[thread].process);
        let offset =
            [0, 8, 4_088, 4_096, 3 * PAGE, 39 * PAGE + 8, 2 * PAGE, u64::MAX - 7][usize::from(b % 8)];
        let bytes = if c % 16 == 0 { 65_537 } else { 8 };
        let call = match kind {
            0..=5 => {
                let (process, cap) = (self.pick(thread, a, process)?, self.pick(thread, b, any)?);
                Plain::Transfer { process, cap, rights: self.rights(cap, c) }
            }
            6..=11 => Plain::Query { cap: self.pick(thread, a, any)? },
            12..=17 => self.holders(thread, (a, b, c, d))?,
            18..=20 => {
                let control = self.pick(thread, a, is_one(Kind::SystemControl))?;
                let (process, first) = (self.alive(b)?, u32::from(c % 40));
                let order = self.entries_from(process, first);
                Plain::List { control, process, first, order }
            }
            21..=23 => Plain::Status { process: self.pick(thread, a, process)? },
            24..=27 => Plain::Class { thread: self.maybe(thread, a, is_one(Kind::Thread)) },
            28..=35 => Plain::SetClass {
                thread: self.maybe(thread, a, is_one(Kind::Thread)),
                class: u64::from(c % 5),
                authority: self.maybe(thread, b, is_one(Kind::QosAuthority)),
            },
            36 | 37 => {
                let period = if b < 128 { PERIODS[0] } else { PERIODS[usize::from(b % 3)] };
                let ticks = [period, 0, period + 1, 1][usize::from(c % 4)];
                // A budget that is used up would hold the machine's threads up.
                let (ticks, period) =
                    if c % 8 == 1 { (0, 0) } else { (ticks.max(period * u64::from(c % 4 == 3)), period) };
                Plain::Budget { process: self.pick(thread, a, process)?, ticks, period }
            }
            38..=41 => {
                let is_range =
                    |object: &Object| matches!(object, Object::Identities(..) | Object::Urgency(_));
                let authority = self.pick(thread, a, is_range)?;
                let base = match self.model.caps.get(&authority)?.object {
                    Object::Identities(first, _) => first,
                    _ => 0,
                };
                let first = (base + u64::from(b % 4)).wrapping_sub(u64::from(d % 8 == 0));
                Plain::Narrow { authority, first, last: base + u64::from(c % 5) }
            }
            42..=45 => {
                let sizes =
                    [0, 1, PAGE, PAGE + 1, 4 * PAGE, 40 * PAGE, (VMO_PAGES_MAX as u64 + 1) * PAGE, u64::MAX];
                Plain::Resize { memory: self.pick(thread, a, memory)?, bytes: sizes[usize::from(b % 8)] }
            }
            46..=48 => Plain::Read { memory: self.pick(thread, a, memory)?, offset, bytes },
            49..=51 => {
                self.tag += 1;
                Plain::Write { memory: self.pick(thread, a, memory)?, offset, bytes, word: self.tag }
            }
            52 | 53 => Plain::LeaseQuery { reply: self.pick(thread, a, reply)?, index: usize::from(b % 3) },
            54 | 55 => self.creation((a, b, c))?,
            56 if b < 64 => {
                let process = self.pick(thread, a, process)?;
                let order = match self.model.caps.get(&process)?.object {
                    Object::Process(process) => self.table_order(process),
                    _ => Vec::new(),
                };
                Plain::Kill { process, order, code: c.into() }
            }
            57 if b < 16 => return Some(Event::Exit { thread, order: own_order(self), code: c.into() }),
            58..=60 => return Some(Event::Sleep { thread, deadline: self.model.now + u64::from(b % 3) }),
            _ => return None,
        };
        Some(Event::Plain { thread, call })
    }

    /// As [`Lockstep::pick`]; now and then none at all.
    fn maybe(&self, thread: usize, choice: u8, fits: impl Fn(&Object) -> bool) -> Option<CapId> {
        if choice.is_multiple_of(3) { None } else { self.pick(thread, choice, fits) }
    }

    fn alive(&self, choice: u8) -> Option<usize> {
        let process = usize::from(choice) % self.model.processes.len();
        self.model.processes[process].alive.then_some(process)
    }

    fn holders(&self, thread: usize, (a, b, c, d): (u8, u8, u8, u8)) -> Option<Plain> {
        let control = self.pick(thread, a, |object| object.kind() == Kind::SystemControl)?;
        let (process, holder, first) = (self.alive(b)?, self.alive(d)?, u32::from(d / 4 % 16));
        let held: Vec<CapId> =
            self.holders.iter().filter(|(_, holder)| **holder == process).map(|(&cap, _)| cap).collect();
        let cap = *held.get(usize::from(c) % held.len().max(1))?;
        let mut order = self.entries_from(holder, first);
        for later in holder + 1..self.model.processes.len() {
            order.extend(self.table_order(later));
        }
        Some(Plain::Holders { control, process, cap, holder, first, order })
    }

    /// A new object, while there are few.
    fn creation(&self, (a, b, c): (u8, u8, u8)) -> Option<Plain> {
        let model = &self.model;
        Some(match a % 3 {
            0 if model.endpoints.len() < 8 => Plain::CreateEndpoint {
                rank: u32::from(b % 24),
                bytes: [0, 64, 4_096, 65_537][usize::from(c % 4)],
                caps: u32::from(c / 4 % 6),
            },
            1 if model.notifications.len() < 8 => Plain::CreateNotification,
            2 if model.memories.len() < 6 => Plain::CreateMemory {
                bytes: [0, 1, 2 * PAGE, (VMO_PAGES_MAX as u64 + 1) * PAGE][usize::from(c % 4)],
            },
            _ => return None,
        })
    }

    /// What stands in a process's table from an entry on.
    fn entries_from(&self, process: usize, first: u32) -> Vec<CapId> {
        let order = self.table_order(process).into_iter();
        order.filter(|cap| self.handles[cap] as u32 >= first).collect()
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
