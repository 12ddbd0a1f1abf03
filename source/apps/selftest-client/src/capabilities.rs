//! Capabilities: what a query tells, and that a handle never names another object.

use crate::{Subject, expect, trying};
use alloc::string::String;
use nexus_abi::capability::Qos;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Error, Handle, Kind, Rights, system};

/// A query tells kind, rights and size, also of a copy with fewer rights, which cannot be widened again.
pub fn query_vmo(_subject: &Subject<'_>) -> Result<(), String> {
    let vmo = trying("creating memory", system::vmo_create(Handle::NONE, 3 * PAGE_SIZE))?;
    let whole = trying("the query", system::cap_query(vmo))?;
    expect("the kind", whole.kind, Kind::Vmo as u32)?;
    expect("the size", whole.bytes, 3 * PAGE_SIZE as u64)?;
    expect("the rights", whole.rights, (Kind::Vmo.rights() - Rights::PHYSICAL).bits())?;
    let narrow = trying("copying", system::cap_dup(vmo, Rights::READ))?;
    let info = trying("the query of the copy", system::cap_query(narrow))?;
    expect("the copy's rights", info.rights, Rights::READ.bits())?;
    expect("widening the copy", system::cap_dup(narrow, Rights::WRITE).map(drop), Err(Error::NotPermitted))?;
    expect("writing by the copy", system::vmo_write(narrow, 0, &[1]), Err(Error::NotPermitted))?;
    trying("closing the copy", system::cap_close(narrow))?;
    trying("closing", system::cap_close(vmo))
}

/// A closed handle stays an error, also after its place in the table was used again.
pub fn stale_handle(_subject: &Subject<'_>) -> Result<(), String> {
    let first = trying("creating", system::notification_create())?;
    trying("signalling", system::notification_signal(first, 1))?;
    trying("closing", system::cap_close(first))?;
    expect("signalling the closed one", system::notification_signal(first, 1), Err(Error::StaleHandle))?;
    let second = trying("creating again", system::notification_create())?;
    expect("whether the handle is new", second == first, false)?;
    expect("signalling the old one", system::notification_signal(first, 1), Err(Error::StaleHandle))?;
    expect("closing the old one", system::cap_close(first), Err(Error::StaleHandle))?;
    expect("what the new one got", system::notification_poll(second, u64::MAX), Err(Error::WouldBlock))?;
    trying("closing the new one", system::cap_close(second))
}

/// The class that one begins with, what may be asked for without an authority, and that a refusal changes nothing.
pub fn qos(_subject: &Subject<'_>) -> Result<(), String> {
    let class = || trying("asking for the class", system::thread_qos(Handle::NONE));
    let set = |class: u64| system::thread_set_qos(Handle::NONE, class, Handle::NONE);
    // As the recipe has it.
    expect("the class", class()?, Qos::Interactive as u64)?;
    expect("asking for the same", set(Qos::Interactive as u64), Ok(()))?;
    expect("raising", set(Qos::PerfBurst as u64), Err(Error::NotPermitted))?;
    expect("a class that there is not", set(4), Err(Error::InvalidArgument))?;
    expect("the class after refusals", class()?, Qos::Interactive as u64)
}
