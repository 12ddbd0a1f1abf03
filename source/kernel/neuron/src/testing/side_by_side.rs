//! Several harts: each is a machine of its own around the same kernel, on a thread of the computer that runs the test.
//!
//! A hart is inside of the kernel, alone, between [`Machine::come_in`] and [`Machine::go_out`]; only there the other
//! functions of [`Machine`] may be called. Outside it runs a thread: whoever tests changes that thread's registers as
//! its program would, and [`Machine::enter`] makes the call that they ask for, beside other harts if it can.

use super::{Actor, Machine};
use crate::arch::host::Host;
use crate::kernel::{Hart, Kernel};
use crate::object::Process;
use crate::object::thread::Context;
use crate::sync::Held;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

impl Machine {
    /// Another hart of a machine; it is outside of the kernel and runs nothing.
    pub fn hart_of(kernel: &'static Kernel<Host>, index: usize) -> Machine {
        let (hart, held) = (Hart::new(index), Held::at_entry());
        Machine { kernel, hart, held, next_service: 0, begun: BTreeMap::new() }
    }

    /// The hart comes into the kernel, alone.
    pub fn come_in(&mut self) {
        self.kernel.come_in(&mut self.hart, &mut self.held);
    }

    /// The hart leaves the kernel.
    pub fn go_out(&mut self) {
        self.kernel.go_out(&mut self.hart);
    }

    /// The thread that the hart runs, and its process.
    pub fn current(&self) -> Option<Actor> {
        let thread = self.hart.current?;
        let process = self.kernel.memory.shared(thread)?.process.load(Relaxed);
        Some(Actor { process: self.kernel.memory.id_at::<Process>(process)?, thread })
    }

    /// Does something with the registers of the thread that the hart runs, from outside.
    pub fn with_context<R>(&mut self, change: impl FnOnce(&mut Context) -> R) -> Option<R> {
        let thread = self.hart.current?;
        self.kernel.lock(&mut self.held, thread).map(|(mut body, _)| change(&mut body.context))
    }

    /// From outside: interrupts are taken if there are any, and whoever is to run next runs. Yields whether somebody
    /// does.
    pub fn go_on(&mut self) -> bool {
        let is_called =
            self.kernel.arch.interrupted.lock().expect("nobody died in it").remove(&self.hart.index);
        let is_due = self.kernel.arch.clock.load(Relaxed) >= self.hart.timer;
        if self.hart.current.is_some() && !self.hart.reschedule && !is_called && !is_due {
            return true;
        }
        self.come_in();
        if is_called || is_due {
            self.kernel.take_interrupts(&mut self.hart, &mut self.held);
        }
        let runs = self.kernel.choose(&mut self.hart, &mut self.held).is_some();
        if !runs {
            self.kernel.idle(&mut self.hart, &mut self.held);
        }
        self.go_out();
        runs
    }

    /// The thread that runs makes the call that its registers ask for.
    pub fn enter(&mut self) {
        let Some(thread) = self.hart.current else { return };
        let door = self.kernel.entrance.door(self.hart.index);
        if let Some(_inside) = door.beside()
            && self.kernel.enter_fast(&mut self.hart, &mut self.held, thread)
        {
            return;
        }
        self.come_in();
        // It may have been stopped on the way in: its process has ended.
        if self.hart.current == Some(thread) {
            self.kernel.system_call(&mut self.hart, &mut self.held);
        }
        if self.kernel.choose(&mut self.hart, &mut self.held).is_none() {
            self.kernel.idle(&mut self.hart, &mut self.held);
        }
        self.go_out();
    }

    /// From outside: the hart runs nothing any more, and stays inside.
    pub fn stop(&mut self) {
        self.come_in();
        self.kernel.yield_current(&mut self.hart, &mut self.held);
        self.kernel.queue_woken(&mut self.hart, &mut self.held);
        (self.hart.reschedule, self.hart.handoff) = (false, None);
        self.kernel.load_kernel_space(&mut self.hart);
    }

    /// Where threads made the calls that they may have to make anew, by their raw ids.
    pub fn set_begun(&mut self, begun: BTreeMap<u64, u64>) {
        self.begun = begun;
    }
}
