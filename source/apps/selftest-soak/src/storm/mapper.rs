//! Memory that is sent and lent while a thread unmaps it, maps it again and changes what may be done with it; and
//! memory that is read by the program itself, while it becomes writable and not writable again.

use super::caller::{Caller, Gear, Pair, failed};
use super::counts::What;
use super::pattern::{PAGE_WORDS, bytes, fill, word};
use super::{NOT_THERE, wander};
use crate::chance::Chance;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::Lease;
use nexus_abi::{Error, Handle, Rights, system};
use nexus_rt::{Environment, thread};

/// Pages of the memory.
const PAGES: usize = 16;
/// Between two changes of mappings a thread gives way so often at the most.
const YIELDS_MAX: u64 = 8;

/// The memory: mapped twice, here and there.
struct Shown {
    memory: Handle,
    /// Where it comes and goes.
    here: u64,
    /// Where it stays.
    there: u64,
    number: u64,
    changes: AtomicU64,
}

/// The program; ends only with a failure.
pub fn run(environment: &Environment) -> u64 {
    match storm(environment) {
        Ok(()) => 0,
        Err(reason) => failed(&format!("the mapper: {reason}")),
    }
}

fn storm(environment: &Environment) -> Result<(), String> {
    let gear = Gear::new(environment)?;
    let seed = gear.seed;
    let shown = show(environment, seed)?;
    let spawn = |body: &'static (dyn Fn() + Sync)| {
        thread::spawn(environment, body).map_err(|error| format!("a thread: {error}"))
    };
    spawn(Box::leak(Box::new(move || {
        if let Err(error) = come_and_go(shown, seed) {
            failed(&format!("the mapper's changes: {error}"));
        }
    })))?;
    spawn(Box::leak(Box::new(move || read(shown))))?;
    let mut caller = Caller::new(gear, Pair::new(environment)?, 1)?;
    let mut chance = Chance::new(seed);
    environment.ready();
    for round in 0u64.. {
        let pages = 1 + chance.below(PAGES as u64) as usize;
        let is_missing = if chance.below(2) == 0 {
            // SAFETY: nobody ever writes there.
            let came =
                unsafe { caller.echo_from(shown.here as *const u64, pages * PAGE_SIZE, shown.number)? };
            came == Some(Error::Fault)
        } else {
            let lease = Lease {
                address: shown.here,
                bytes: (pages * PAGE_SIZE) as u64,
                rights: Rights::READ.bits(),
                ..Lease::default()
            };
            lend(&mut caller, &lease, shown.number)?
        };
        caller.counts.more(What::Unmapped, is_missing.into());
        if round % 32 == 0 {
            caller.counts.more(What::Mappings, shown.changes.swap(0, Relaxed));
            caller.tell()?;
            wander(chance.draw());
        }
    }
    Ok(())
}

fn lend(caller: &mut Caller, lease: &Lease, number: u64) -> Result<bool, String> {
    Ok(caller.lend_it(lease, number)? == Some(NOT_THERE))
}

fn show(environment: &Environment, seed: u64) -> Result<&'static Shown, String> {
    let kernel = |error: Error| format!("memory: {error}");
    let size = PAGES * PAGE_SIZE;
    let memory = system::vmo_create(Handle::NONE, size).map_err(kernel)?;
    let mut words = vec![0; PAGES * PAGE_WORDS];
    let number = 0x5eed_0000 | seed;
    fill(&mut words, number);
    system::vmo_write(memory, 0, bytes(&words)).map_err(kernel)?;
    let here = environment.addresses(size).map_err(|error| format!("{error}"))?;
    let there =
        environment.map_memory(memory, size, Rights::READ).map_err(|error| format!("{error}"))? as u64;
    Ok(Box::leak(Box::new(Shown { memory, here, there, number, changes: AtomicU64::new(0) })))
}

/// Maps and unmaps one range, and changes the protection of both.
fn come_and_go(shown: &Shown, seed: u64) -> Result<(), Error> {
    let mut chance = Chance::new(seed << 8 | 1);
    let mut is_mapped = false;
    let either = [Rights::READ, Rights::READ | Rights::WRITE];
    loop {
        let rights = either[chance.below(2) as usize];
        // SAFETY: nobody makes anything of the range that comes and goes, and the other stays readable.
        unsafe {
            match chance.below(4) {
                0 => system::vmo_protect(Handle::NONE, shown.there, rights)?,
                1 if is_mapped => system::vmo_protect(Handle::NONE, shown.here, rights)?,
                _ if is_mapped => {
                    system::vmo_unmap(Handle::NONE, shown.here)?;
                    is_mapped = false;
                }
                _ => {
                    system::vmo_map(Handle::NONE, shown.memory, shown.here, 0, PAGES * PAGE_SIZE, rights)?;
                    is_mapped = true;
                }
            }
        }
        shown.changes.fetch_add(1, Relaxed);
        // Longer while it is there, or nobody would ever see all of it.
        for _ in 0..chance.below(if is_mapped { YIELDS_MAX * 8 } else { YIELDS_MAX }) {
            system::thread_yield();
        }
    }
}

/// Reads what stays, one word of each page at a time.
fn read(shown: &Shown) {
    for round in 0usize.. {
        for page in 0..PAGES {
            let place = page * PAGE_WORDS + round % PAGE_WORDS;
            // SAFETY: the place is in the range that stays mapped and readable.
            let came = unsafe { (shown.there as *const u64).add(place).read_volatile() };
            if came != word(shown.number, place) {
                failed(&format!("the mapper reads {came:#x} at word {place}"));
            }
        }
        system::thread_yield();
    }
}
