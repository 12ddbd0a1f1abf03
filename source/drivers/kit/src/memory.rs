//! Memory that the device reaches by itself, as `virtio-drivers` asks for it.

use crate::KitError;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use nexus_abi::limits::PAGE_SIZE;
use nexus_abi::{Handle, Rights, system};
use nexus_rt::Environment;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// All memory of the process's device: one row of frames, handed out from its beginning.
struct Row {
    /// Where the process sees it.
    base: usize,
    /// Where the device sees it.
    address: PhysAddr,
    pages: usize,
    taken: AtomicUsize,
}

/// The row of this process.
#[cfg(target_os = "none")]
mod row {
    use super::Row;
    use spin::Once;

    static ROW: Once<Row> = Once::new();

    /// Whether there was none before.
    pub(super) fn is_first() -> bool {
        !ROW.is_completed()
    }

    pub(super) fn set(row: Row) {
        ROW.call_once(|| row);
    }

    pub(super) fn with<T>(act: impl FnOnce(&Row) -> Option<T>) -> Option<T> {
        ROW.get().and_then(act)
    }
}

/// On a host a thread simulates several processes in turn: each has a row, by the word that is its own. No heap
/// holds them, for what runs here has that of its process.
#[cfg(not(target_os = "none"))]
mod row {
    use super::Row;
    use nexus_abi::system::host::process_word;
    use std::cell::RefCell;

    /// Drivers that begin during the life of one, at the most: then its row makes place.
    const ROWS_MAX: usize = 256;

    struct Rows {
        rows: [Option<(usize, Row)>; ROWS_MAX],
        next: usize,
    }

    std::thread_local! {
        static ROWS: RefCell<Rows> = const { RefCell::new(Rows { rows: [const { None }; ROWS_MAX], next: 0 }) };
    }

    /// A process that begins where one ended has its word: its row is a new one.
    pub(super) fn is_first() -> bool {
        true
    }

    pub(super) fn set(row: Row) {
        let own = process_word();
        ROWS.with_borrow_mut(|rows| {
            let same =
                rows.rows.iter().position(|place| place.as_ref().is_some_and(|(word, _)| *word == own));
            let place = same.unwrap_or(rows.next % ROWS_MAX);
            rows.rows[place] = Some((own, row));
            rows.next = if same.is_none() { place + 1 } else { rows.next };
        });
    }

    pub(super) fn with<T>(act: impl FnOnce(&Row) -> Option<T>) -> Option<T> {
        let own = process_word();
        ROWS.with_borrow(|rows| {
            let found = rows.rows.iter().flatten().find(|(word, _)| *word == own);
            found.and_then(|(_, row)| act(row))
        })
    }
}

/// Creates and maps the memory of the process's device.
pub(crate) fn provide(environment: &Environment, window: Handle, pages: usize) -> Result<(), KitError> {
    if !row::is_first() {
        return Err(KitError::SecondDevice);
    }
    let bytes = pages.saturating_mul(PAGE_SIZE);
    let memory = system::dma_create(window, bytes)?;
    let address = system::dma_address(memory)?;
    let base = environment.map_memory(memory, bytes, Rights::READ | Rights::WRITE)?;
    row::set(Row { base: base.expose_provenance(), address, pages, taken: AtomicUsize::new(0) });
    Ok(())
}

impl Row {
    /// Takes pages that nobody else has.
    fn take(&self, pages: usize) -> Option<(PhysAddr, NonNull<u8>)> {
        let fits = |taken: usize| taken.checked_add(pages).filter(|&end| end <= self.pages);
        let first = self.taken.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        let offset = first * PAGE_SIZE;
        let place = NonNull::new(core::ptr::with_exposed_provenance_mut(self.base + offset))?;
        Some((self.address + offset as u64, place))
    }

    /// Where the device sees a buffer; `None` when it is not all in this memory.
    fn address_of(&self, buffer: NonNull<[u8]>) -> Option<PhysAddr> {
        let offset = buffer.cast::<u8>().addr().get().checked_sub(self.base)?;
        let end = offset.checked_add(buffer.len())?;
        (end <= self.pages * PAGE_SIZE).then(|| self.address + offset as u64)
    }
}

/// The memory of the process's device. Buffers that a driver shares must lie in what it took from here: nothing is
/// copied on the way.
pub struct DeviceMemory;

// SAFETY: `dma_alloc` yields each page once, mapped for good, page-aligned; the kernel zeroed them when they were
// created and nobody had them since.
unsafe impl Hal for DeviceMemory {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // The address 0 is how it is refused.
        row::with(|row| row.take(pages)).unwrap_or((0, NonNull::dangling()))
    }

    // SAFETY: nothing is asked of the caller; the pages are given to nobody else.
    unsafe fn dma_dealloc(_address: PhysAddr, _place: NonNull<u8>, _pages: usize) -> i32 {
        // The device may still know of it: it stays the device's until init has reset that.
        0
    }

    // SAFETY: nothing is asked of the caller, for nothing is yielded.
    unsafe fn mmio_phys_to_virt(_address: PhysAddr, _bytes: usize) -> NonNull<u8> {
        // No address would be the right one.
        panic!("only devices on PCI are looked for so, and the kit drives none")
    }

    // SAFETY: the caller's, that the buffer is alive; its address is only compared.
    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        match row::with(|row| row.address_of(buffer)) {
            Some(address) => address,
            // A device that is told another address writes into someone else's memory.
            None => panic!("a buffer that the device cannot reach"),
        }
    }

    // SAFETY: nothing is asked of the caller; nothing was copied, so nothing is copied back.
    unsafe fn unshare(_address: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row { base: 0x4000, address: 0x8000_0000, pages: 3, taken: AtomicUsize::new(0) }
    }

    fn buffer(at: usize, bytes: usize) -> NonNull<[u8]> {
        let start = NonNull::new(core::ptr::without_provenance_mut(at)).unwrap();
        NonNull::slice_from_raw_parts(start, bytes)
    }

    #[test]
    fn pages_are_given_once_and_seen_by_both_sides() {
        let row = row();
        assert_eq!(row.take(1), Some((0x8000_0000, NonNull::new(0x4000 as *mut u8).unwrap())));
        assert_eq!(row.take(2), Some((0x8000_1000, NonNull::new(0x5000 as *mut u8).unwrap())));
    }

    #[test]
    fn test_reject_more_pages_than_there_are() {
        let row = row();
        assert_eq!(row.take(4), None);
        assert_eq!(row.take(usize::MAX), None);
        assert!(row.take(3).is_some());
        assert_eq!(row.take(1), None);
    }

    #[test]
    fn a_buffer_is_where_its_page_is() {
        assert_eq!(row().address_of(buffer(0x4010, 16)), Some(0x8000_0010));
        assert_eq!(row().address_of(buffer(0x4000, 0x3000)), Some(0x8000_0000));
    }

    #[test]
    fn test_reject_buffers_outside_of_the_devices_memory() {
        assert_eq!(row().address_of(buffer(0x3fff, 1)), None);
        assert_eq!(row().address_of(buffer(0x6fff, 2)), None);
        assert_eq!(row().address_of(buffer(0x4000, usize::MAX / 2)), None);
    }

    #[test]
    #[should_panic(expected = "cannot reach")]
    fn test_reject_sharing_without_memory_for_the_device() {
        // SAFETY: nothing is accessed.
        unsafe { DeviceMemory::share(buffer(0x4000, 1), BufferDirection::Both) };
    }
}
