//! A trace of a run, as Perfetto and Chrome's tracing page open it: a lane a process, a slice a system call,
//! an arrow from each call to the server that received it and from each answer back.

use crate::door::{Request, Response};
use crate::machine::TICKS_PER_SECOND;
use nexus_abi::SystemCall;
use nexus_abi::calls::SYSTEM_CALLS;
use nexus_abi::message::Arrival;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Events of a trace at the most; later ones are counted only.
pub const EVENTS_MAX: usize = 1 << 20;

/// The trace.
#[derive(Default)]
pub struct Trace {
    events: Vec<Value>,
    left_out: usize,
    named: BTreeSet<u64>,
    /// What each process asked for, and when.
    open: BTreeMap<u64, (u64, Request)>,
    arrows: u64,
    /// The arrow of each process's call on its way.
    calling: BTreeMap<u64, u64>,
    /// Whose call each Reply of each process answers.
    owed: BTreeMap<(u64, u64), u64>,
    /// The arrow of each process's answer on its way.
    answering: BTreeMap<u64, u64>,
}

impl Trace {
    /// A process asks for something.
    pub fn asked(&mut self, now: u64, process: u64, name: &str, request: Request) {
        if self.named.insert(process) {
            let text = format!("{name} ({process})");
            self.push(json!({"ph": "M", "name": "process_name", "pid": process, "args": {"name": text}}));
        }
        self.open.insert(process, (now, request));
        let Request::Message(call, registers) = request else { return };
        if call == SystemCall::Call {
            let arrow = self.arrow(now, process);
            self.calling.insert(process, arrow);
        }
        if matches!(call, SystemCall::Reply | SystemCall::ReplyReceive)
            && let Some(caller) = self.owed.remove(&(process, registers.reply.0))
        {
            let arrow = self.arrow(now, process);
            self.answering.insert(caller, arrow);
        }
    }

    /// A process goes on with an answer.
    pub fn answered(&mut self, now: u64, process: u64, asked: Request, response: &Response) {
        let Some((began, _)) = self.open.remove(&process) else { return };
        let (call, error) = match (asked, response) {
            (Request::Plain(call, _), Response::Plain(error, _)) => (call, *error),
            (Request::Message(call, _), Response::Message(registers)) => (call, registers.target),
            _ => return,
        };
        let name = SYSTEM_CALLS.iter().find(|other| other.call == call).map_or("?", |other| other.name);
        let outcome = nexus_abi::Error::from_number(error).map_or("ok", nexus_abi::Error::name);
        let (ts, duration) = (microseconds(began), microseconds(now - began));
        self.push(json!({"ph": "X", "name": name, "pid": process, "tid": 1, "ts": ts, "dur": duration,
            "args": {"outcome": outcome}}));
        let Response::Message(registers) = response else { return };
        if call == SystemCall::Call {
            let arrow = self.answering.remove(&process);
            self.land(arrow, now, process);
        } else if error == 0 && registers.header.arrival() == Some(Arrival::Call) {
            self.owed.insert((process, registers.reply.0), registers.process_id);
            let arrow = self.calling.remove(&registers.process_id);
            self.land(arrow, now, process);
        }
    }

    /// Something happens to a process.
    pub fn instant(&mut self, now: u64, process: u64, what: &str) {
        let ts = microseconds(now);
        self.push(json!({"ph": "i", "s": "p", "name": what, "pid": process, "tid": 1, "ts": ts}));
    }

    /// The whole trace, as JSON.
    pub fn json(&self) -> Value {
        json!({"traceEvents": self.events, "displayTimeUnit": "ms", "otherData": {"left_out": self.left_out}})
    }

    fn arrow(&mut self, now: u64, process: u64) -> u64 {
        self.arrows += 1;
        let (arrow, ts) = (self.arrows, microseconds(now));
        self.push(json!({"ph": "s", "cat": "message", "name": "message", "id": arrow, "pid": process,
            "tid": 1, "ts": ts}));
        arrow
    }

    fn land(&mut self, arrow: Option<u64>, now: u64, process: u64) {
        let Some(arrow) = arrow else { return };
        let ts = microseconds(now);
        self.push(json!({"ph": "f", "bp": "e", "cat": "message", "name": "message", "id": arrow,
            "pid": process, "tid": 1, "ts": ts}));
    }

    fn push(&mut self, event: Value) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        } else {
            self.left_out += 1;
        }
    }
}

fn microseconds(ticks: u64) -> f64 {
    ticks as f64 * 1e6 / TICKS_PER_SECOND as f64
}
