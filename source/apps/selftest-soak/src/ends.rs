//! The longest stretch without a look at interrupts while many things end at once: calls through a capability that is
//! revoked, at an endpoint that is sealed or goes, copies that are taken back, and a capability that is handed over
//! with all that derives from it. For `nx bench`, where an instruction takes a nanosecond.

use crate::PATIENCE;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use nexus_abi::limits::{DERIVATIONS_MAX, FOREVER, PAGE_SIZE};
use nexus_abi::message::{Buffers, CapabilityTransfer, Header, Registers};
use nexus_abi::{Error, Handle, Rights, system};
use nexus_rt::{Environment, info};

/// Copies of one capability, beside its threads.
const COPIES_A_THREAD: u64 = 4;
/// In this time every thread has begun to wait.
const SETTLED: Duration = Duration::from_millis(200);

/// What threads share.
struct Crowd {
    target: AtomicU64,
    /// How many calls ended, by the number of the error.
    ended: [AtomicU64; 64],
}

/// Lets so many threads, and more copies, end in every way; tells the longest stretch after each.
pub fn measure(environment: &Environment, control: Handle, threads: u64) -> Result<(), String> {
    let crowd: &'static Crowd =
        Box::leak(Box::new(Crowd { target: AtomicU64::new(0), ended: [const { AtomicU64::new(0) }; 64] }));
    let stacks = environment
        .map_memory(
            system::vmo_create(Handle::NONE, threads as usize * PAGE_SIZE).map_err(told("stacks"))?,
            threads as usize * PAGE_SIZE,
            Rights::READ | Rights::WRITE,
        )
        .map_err(|error| format!("stacks: {error}"))?
        .expose_provenance() as u64;
    let tell = |what: &str| -> Result<(), String> {
        let ticks = system::system_info(control).map_err(told("figures"))?.longest_ticks;
        let longest = environment.clock().duration(ticks).as_nanos();
        info!("BENCH: longest/{what}/{threads} {longest} instructions");
        Ok(())
    };
    tell("before")?;
    for (what, error) in [("revoked", Error::Revoked), ("sealed", Error::Sealed), ("gone", Error::PeerGone)] {
        let endpoint = system::endpoint_create(0, 64, 0).map_err(told("an endpoint"))?;
        let target = system::cap_dup(endpoint, Rights::CALL).map_err(told("a copy"))?;
        crowd.target.store(target.0, Relaxed);
        let before = crowd.ended[error as usize].load(Relaxed);
        for thread in 0..threads {
            begin(crowd, stacks + (thread + 1) * PAGE_SIZE as u64).map_err(told("a thread"))?;
        }
        environment.sleep(SETTLED);
        let ended = match error {
            Error::Revoked => system::cap_revoke(endpoint),
            Error::Sealed => system::endpoint_seal(endpoint),
            _ => system::cap_close(target).and_then(|()| system::cap_close(endpoint)),
        };
        ended.map_err(told(what))?;
        environment.sleep(SETTLED);
        let count = crowd.ended[error as usize].load(Relaxed) - before;
        if count != threads {
            return Err(format!("{count} of {threads} calls ended with {error}"));
        }
        tell(what)?;
    }
    copies(environment, threads * COPIES_A_THREAD)?;
    tell("copies")
}

/// A wide tree and a deep one, handed over and taken back.
fn copies(environment: &Environment, count: u64) -> Result<(), String> {
    let peer = environment.to_call("soak").map_err(|error| format!("{error}"))?;
    let memory = system::vmo_create(Handle::NONE, PAGE_SIZE).map_err(told("memory"))?;
    let wide = (0..count).map(|_| system::cap_dup(memory, Rights::READ)).collect::<Result<Vec<_>, _>>();
    let wide = wide.map_err(told("copies"))?;
    let mut deep = *wide.first().ok_or("no copies")?;
    for _ in 1..DERIVATIONS_MAX {
        deep = system::cap_dup(deep, Rights::READ).map_err(told("a copy of a copy"))?;
    }
    let mut registers = Registers { header: Header::new(1, 0, 1), ..Registers::default() };
    let mut buffers = Buffers::default();
    buffers.send_capabilities[0] = CapabilityTransfer::moved(memory, Rights::READ);
    let deadline = environment.deadline(PATIENCE).ticks();
    // SAFETY: the buffers name no memory but themselves.
    unsafe { system::call(peer, &mut registers, Some(&mut buffers), deadline) }
        .map_err(told("handing over"))?;
    let came = buffers.received_capabilities[0];
    system::cap_revoke(came).map_err(told("taking back"))?;
    match system::cap_query(deep) {
        Err(Error::StaleHandle) => Ok(()),
        other => Err(format!("a copy that was taken back: {other:?}")),
    }
}

/// Starts a thread whose call waits for as long as there is something to wait for.
fn begin(crowd: &'static Crowd, stack: u64) -> nexus_abi::Result<()> {
    let class = system::thread_qos(Handle::NONE)?;
    let argument = core::ptr::from_ref(crowd).expose_provenance() as u64;
    let entry = wait_for_the_end as extern "C" fn(u64) -> !;
    // SAFETY: `wait_for_the_end` takes what lives for ever and ends the thread; the page below `stack` is this thread's
    // alone: threads of the round before have ended.
    let thread =
        unsafe { system::thread_create(Handle::NONE, entry as usize as u64, stack, argument, class)? };
    system::cap_close(thread)
}

extern "C" fn wait_for_the_end(crowd: u64) -> ! {
    // SAFETY: `begin` passes a reference that lives for ever.
    let crowd: &'static Crowd = unsafe { &*core::ptr::with_exposed_provenance(crowd as usize) };
    let mut registers = Registers::default();
    // SAFETY: without buffers.
    let outcome = unsafe { system::call(Handle(crowd.target.load(Relaxed)), &mut registers, None, FOREVER) };
    if let Err(error) = outcome
        && let Some(count) = crowd.ended.get(error as usize)
    {
        count.fetch_add(1, Relaxed);
    }
    system::thread_exit()
}

fn told(what: &str) -> impl Fn(Error) -> String + use<'_> {
    move |error| format!("{what}: {error}")
}
