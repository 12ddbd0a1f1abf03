//! What the kernel proves of its harts: that a call makes one look and nothing else does, and what an idle one
//! takes over. The threads of these tests run in user mode, on the other harts, by the ordinary ways.

use super::{BASE, Bench, EXECUTE, PAGE, READ, Test, WINDOW};
use crate::arch::Arch;
use crate::harts::{CallError, HartShared, STOLEN_MAX};
use crate::memory::Id;
use crate::memory::list::LinksOf;
use crate::object::Thread;
use crate::object::thread::Queue;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::SystemCall;
use nexus_abi::capability::Qos;
use nexus_abi::limits::HARTS_MAX;

/// The hart that the tests call: there are at least two.
const OTHER: usize = 1;
/// Where the program of [`CODE`] ends at once, and where it goes on for ever.
const ENDS: u64 = WINDOW;
const SPINS: u64 = WINDOW + 8;
/// `li a7, thread_exit; ecall; j .`
const CODE: [u32; 3] = [0x0000_0893 | (SystemCall::ThreadExit as u32) << 20, 0x0000_0073, 0x0000_006f];
/// Parts of a second for which a hart that nobody called must stay where it is.
const QUIET: u64 = 100;
/// Seconds after which something that must happen did not.
const PATIENCE: u64 = 20;

/// The tests, for a machine with several harts.
pub fn tests<A: Arch>() -> [(&'static str, Test<A>); 8] {
    [
        ("smp online", all_online),
        ("ipi counterfactual", uncalled),
        ("ipi resched", called),
        ("test_reject_invalid_ipi_target_cpu", no_such_hart),
        ("test_reject_offline_cpu_resched", offline),
        ("work stealing", stealing),
        ("test_reject_steal_above_bound", steal_above_bound),
        ("test_reject_steal_higher_qos", steal_above_class),
    ]
}

fn all_online<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    let expected = bench.kernel.figures.harts;
    if bench.kernel.online() as u64 == expected {
        Ok(())
    } else {
        Err("a hart of the device tree is missing")
    }
}

/// Requests, interrupts sent, interrupts taken, requests seen to.
fn chain(hart: &HartShared) -> [u64; 4] {
    [&hart.requested, &hart.sent, &hart.taken, &hart.acknowledged].map(|count| count.load(Relaxed))
}

/// Lets the other harts in until something holds.
fn until<A: Arch>(
    bench: &mut Bench<'_, '_, A>,
    holds: impl Fn(&mut Bench<'_, '_, A>) -> bool,
    what: &'static str,
) -> Result<(), &'static str> {
    let arch = &bench.kernel.arch;
    let patience = arch.now() + PATIENCE * arch.ticks_per_second();
    while !holds(bench) {
        if bench.kernel.arch.now() > patience {
            return Err(what);
        }
        outside(bench, 1_000);
    }
    Ok(())
}

/// Stays outside of the kernel for a part of a second.
fn outside<A: Arch>(bench: &mut Bench<'_, '_, A>, part: u64) {
    bench.kernel.go_out(bench.hart);
    let until = bench.kernel.arch.now() + bench.kernel.arch.ticks_per_second() / part;
    while bench.kernel.arch.now() < until {
        core::hint::spin_loop();
    }
    bench.kernel.come_in(bench.hart, bench.held);
}

/// Maps [`CODE`].
fn program<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    bench.memory(1)?;
    let written = bench.kernel.write_record(&mut bench.held.above(), bench.process, BASE, &CODE);
    written.map_err(|_| "its memory cannot be written")?;
    let vmo = bench.call(SystemCall::VmoCreate, &[0, PAGE]).map_err(|_| "vmo_create")?;
    let bytes = size_of_val(&CODE) as u64;
    bench.call(SystemCall::VmoWrite, &[vmo, 0, BASE, bytes]).map_err(|_| "vmo_write")?;
    let map = [0, vmo, WINDOW, 0, PAGE, READ | EXECUTE];
    bench.call(SystemCall::VmoMap, &map).map_err(|_| "vmo_map")?;
    Ok(())
}

/// Makes a thread ready that may run on these harts, as if it had run on `home` last.
fn ready<A: Arch>(
    bench: &mut Bench<'_, '_, A>,
    (entry, class): (u64, Qos),
    harts: u32,
    home: usize,
) -> Result<Id<Thread>, &'static str> {
    let thread = bench.kernel.new_thread(bench.held, bench.process, [entry, BASE + PAGE, 0], class);
    let thread = thread.map_err(|_| "thread_create")?;
    let (mut body, _) = bench.kernel.lock(bench.held, thread).ok_or("its thread is gone")?;
    body.shared().affinity.store(harts, Relaxed);
    body.shared().home.store(home as u32, Relaxed);
    bench.kernel.make_ready(bench.hart, thread, &mut body);
    Ok(thread)
}

fn is_idle<A: Arch>(bench: &mut Bench<'_, '_, A>) -> bool {
    bench.kernel.asleep.load(Relaxed) >> OTHER & 1 != 0
}

fn waits_in_queue<A: Arch>(bench: &Bench<'_, '_, A>, thread: Id<Thread>) -> bool {
    bench.kernel.memory.shared(thread).is_some_and(|shared| Queue::links(shared).linked())
}

fn uncalled<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    program(bench)?;
    until(bench, is_idle, "the other hart is never idle")?;
    let thread = ready(bench, (ENDS, Qos::Normal), 1 << OTHER, OTHER)?;
    let before = chain(&bench.kernel.harts[OTHER]);
    // What making it ready asked for is withheld.
    if core::mem::take(&mut bench.hart.calls) != 1 << OTHER {
        return Err("a thread for another hart asks for no call");
    }
    outside(bench, QUIET);
    if before != chain(&bench.kernel.harts[OTHER]) {
        return Err("a hart that nobody called counted a call");
    }
    if !waits_in_queue(bench, thread) {
        return Err("a hart that nobody called looked");
    }
    Ok(())
}

fn called<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    program(bench)?;
    until(bench, is_idle, "the other hart is never idle")?;
    let before = chain(&bench.kernel.harts[OTHER]);
    let thread = ready(bench, (ENDS, Qos::Normal), 1 << OTHER, OTHER)?;
    let is_gone = |bench: &mut Bench<'_, '_, A>| bench.kernel.memory.shared(thread).is_none();
    until(bench, is_gone, "a hart that was called ran nothing")?;
    if chain(&bench.kernel.harts[OTHER]) == before.map(|count| count + 1) {
        Ok(())
    } else {
        Err("a call was not requested, sent, taken and seen to once each")
    }
}

fn refuses<A: Arch>(
    bench: &mut Bench<'_, '_, A>,
    index: usize,
    error: CallError,
    what: &'static str,
) -> Result<(), &'static str> {
    let counts = |bench: &mut Bench<'_, '_, A>| bench.kernel.harts.each_ref().map(chain);
    let before = counts(bench);
    if bench.kernel.call_hart(index) != Err(error) || counts(bench) != before {
        return Err(what);
    }
    Ok(())
}

fn no_such_hart<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    for index in [HARTS_MAX, usize::MAX] {
        refuses(bench, index, CallError::NoSuchHart, "a hart that cannot be was called")?;
    }
    Ok(())
}

fn offline<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    for index in bench.kernel.online()..HARTS_MAX {
        refuses(bench, index, CallError::Offline, "a hart that is not online was called")?;
    }
    Ok(())
}

/// The bench's own thread counts as running on this hart; two others wait behind it.
fn stealing<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    program(bench)?;
    until(bench, is_idle, "the other hart is never idle")?;
    let stolen = |bench: &Bench<'_, '_, A>| bench.kernel.harts[OTHER].stolen.load(Relaxed);
    let before = stolen(bench);
    let (me, own) = (bench.thread, bench.hart.index);
    for _ in 0..2 {
        ready(bench, (SPINS, Qos::Normal), u32::MAX, own)?;
    }
    bench.kernel.note_running(bench.hart, Some(me));
    let took = |bench: &mut Bench<'_, '_, A>| stolen(bench) > before && !is_idle(bench);
    let outcome = until(bench, took, "an idle hart took nothing over");
    bench.kernel.note_running(bench.hart, None);
    outcome
}

/// Asks for a steal while so many threads of a class are ready; yields how many are still.
fn steal_from<A: Arch>(
    bench: &mut Bench<'_, '_, A>,
    count: usize,
    class: Qos,
) -> Result<(usize, bool), &'static str> {
    let (me, own) = (bench.thread, bench.hart.index);
    let mut threads = [me; 2];
    for thread in threads.iter_mut().take(count) {
        *thread = ready(bench, (ENDS, class), u32::MAX, own)?;
    }
    bench.kernel.note_running(bench.hart, Some(me));
    let stolen = bench.kernel.steal(OTHER);
    bench.kernel.note_running(bench.hart, None);
    bench.hart.reschedule = false;
    let left = threads[..count].iter().filter(|&&thread| waits_in_queue(bench, thread)).count();
    Ok((left, stolen.is_some()))
}

fn steal_above_bound<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    match steal_from(bench, 2, Qos::Normal)? {
        (left, true) if left == 2 - STOLEN_MAX => Ok(()),
        (_, true) => Err("a hart took over more than it may"),
        _ => Err("a hart took over nothing"),
    }
}

fn steal_above_class<A: Arch>(bench: &mut Bench<'_, '_, A>) -> Result<(), &'static str> {
    match steal_from(bench, 1, Qos::Interactive)? {
        (1, false) => Ok(()),
        _ => Err("a hart took over what is about to run where it is"),
    }
}
