//! What a process was given when it was created.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::message::Header;
use nexus_abi::start_page::{StartPage, StartPageError};
use nexus_abi::{Error, Handle, Kind, Rights, system};
use nexus_ipc::{Clock, Deadline};

/// The start page, and addresses that are still free for mappings.
pub struct Environment {
    page: &'static StartPage,
    /// Mappings grow down from the end of the heap's range, the heap grows up from its beginning.
    mappings_begin: AtomicU64,
}

/// Why memory or a device could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The process has no address range left for it.
    NoAddresses,
    /// The kernel refused.
    Kernel(Error),
}

impl core::fmt::Display for MapError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MapError::NoAddresses => formatter.write_str("no addresses are left"),
            MapError::Kernel(error) => write!(formatter, "{error}"),
        }
    }
}

impl From<Error> for MapError {
    fn from(error: Error) -> Self {
        MapError::Kernel(error)
    }
}

/// The upper half of the heap's range is for mappings, the lower for the heap.
pub(crate) fn heap_end(page: &StartPage) -> u64 {
    page.heap_base.saturating_add(page.heap_bytes / 2)
}

impl Environment {
    /// The environment that a start page describes.
    pub fn new(page: &'static StartPage) -> Self {
        let mappings_begin = AtomicU64::new(page.heap_base.saturating_add(page.heap_bytes));
        Environment { page, mappings_begin }
    }

    /// The capability with this name, which must be of this kind.
    pub fn capability(&self, name: &str, kind: Kind) -> Result<Handle, StartPageError> {
        self.page.find(name, kind)
    }

    /// Every capability of this kind whose name begins with `prefix`: the rest of the name, and the handle.
    pub fn capabilities<'a>(
        &'a self,
        prefix: &'a str,
        kind: Kind,
    ) -> impl Iterator<Item = (&'a str, Handle)> + 'a {
        self.page
            .entries()
            .filter(move |(_, entry)| entry.kind == kind as u32)
            .filter_map(move |(name, entry)| Some((name.strip_prefix(prefix)?, entry.handle)))
    }

    /// The whole start page.
    pub fn page(&self) -> &'static StartPage {
        self.page
    }

    /// The process's name.
    pub fn name(&self) -> &'static str {
        self.page.name()
    }

    /// Whether this word is among the arguments, as `selftest` or `console.origin=1`.
    pub fn has_argument(&self, word: &str) -> bool {
        self.page.arguments().split_ascii_whitespace().any(|argument| argument == word)
    }

    /// The machine's clock.
    pub fn clock(&self) -> Clock {
        Clock::new(self.page.ticks_per_second)
    }

    /// A deadline this long from now.
    pub fn deadline(&self, duration: Duration) -> Deadline {
        Deadline::after(&self.clock(), duration)
    }

    /// Lets this much time pass.
    pub fn sleep(&self, duration: Duration) {
        system::thread_sleep(self.deadline(duration).ticks());
    }

    /// Tells the supervisor that the endpoint answers. A process without a supervisor tells nobody.
    pub fn ready(&self) {
        if let Ok(supervisor) = self.capability("ready", Kind::Endpoint)
            && let Err(error) = system::post(supervisor, Header::new(READY_LABEL, 0, 0), [0; 8])
        {
            crate::error!("{}: the supervisor could not be told of readiness: {error}", self.name());
        }
    }

    /// Maps the first `bytes` of memory at addresses of its own; they stay mapped.
    pub fn map_memory(&self, vmo: Handle, bytes: usize, protection: Rights) -> Result<*mut u8, MapError> {
        let at = self.addresses(bytes)?;
        // SAFETY: the range was free and is handed out once.
        unsafe { system::vmo_map(Handle::NONE, vmo, at, 0, bytes.next_multiple_of(PAGE_SIZE), protection)? };
        Ok(at as *mut u8)
    }

    /// Maps a device's whole window at addresses of its own; it stays mapped. Yields its base and bytes.
    pub fn map_device(&self, device: Handle) -> Result<(*mut u8, usize), MapError> {
        let bytes = system::cap_query(device)?.bytes as usize;
        let at = self.addresses(bytes)?;
        // SAFETY: the range was free and is handed out once.
        unsafe { system::mmio_map(device, at, 0, bytes, Rights::READ.union(Rights::WRITE))? };
        Ok((at as *mut u8, bytes))
    }

    /// Takes a page-aligned range that nothing uses, with an unmapped page above it.
    pub fn addresses(&self, bytes: usize) -> Result<u64, MapError> {
        let whole = (bytes.next_multiple_of(PAGE_SIZE) + PAGE_SIZE) as u64;
        let lowest = heap_end(self.page);
        self.mappings_begin
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |begin| {
                begin.checked_sub(whole).filter(|&next| next >= lowest)
            })
            .map(|begin| begin - whole)
            .map_err(|_| MapError::NoAddresses)
    }
}

/// The label of the post by which a process says that it is ready.
pub const READY_LABEL: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(heap_bytes: u64) -> Environment {
        let mut page = Box::new(StartPage::new("sample", 7));
        page.heap_base = 0x10_0000;
        page.heap_bytes = heap_bytes;
        page.set_arguments("selftest console.origin=1");
        page.add("ring/a", Handle::new(1, 1), Kind::Vmo, Rights::READ).unwrap();
        page.add("ring/b", Handle::new(2, 1), Kind::Endpoint, Rights::CALL).unwrap();
        Environment::new(Box::leak(page))
    }

    #[test]
    fn address_ranges_are_disjoint_and_end_above_the_heap() {
        let environment = environment(0x10000);
        assert_eq!(environment.addresses(1), Ok(0x10_0000 + 0x10000 - 0x2000));
        assert_eq!(environment.addresses(0x2000), Ok(0x10_0000 + 0x10000 - 0x5000));
        assert_eq!(environment.addresses(0x4000), Err(MapError::NoAddresses));
    }

    #[test]
    fn arguments_match_whole_words() {
        let environment = environment(0);
        assert!(environment.has_argument("selftest") && environment.has_argument("console.origin=1"));
        assert!(!environment.has_argument("self") && !environment.has_argument("console.origin"));
    }

    #[test]
    fn capabilities_are_found_by_prefix_and_kind() {
        let environment = environment(0);
        let rings: Vec<_> = environment.capabilities("ring/", Kind::Vmo).collect();
        assert_eq!(rings, [("a", Handle::new(1, 1))]);
    }
}
