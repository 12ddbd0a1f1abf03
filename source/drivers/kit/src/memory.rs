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

/// The row of this process, given once.
#[cfg(target_os = "none")]
mod row {
    use super::Row;
    use spin::Once;

    static ROW: Once<Row> = Once::new();

    pub(super) fn set(row: Row) {
        ROW.call_once(|| row);
    }

    pub(super) fn get() -> Option<&'static Row> {
        ROW.get()
    }
}

/// The row of the simulated process that runs now, given once.
#[cfg(not(target_os = "none"))]
mod row {
    use super::Row;
    use nexus_abi::system::host::{DEVICE_WORD, process_words, set_process_word};
    use std::boxed::Box;

    pub(super) fn set(row: Row) {
        let row = core::ptr::from_ref(Box::leak(Box::new(row)));
        set_process_word(DEVICE_WORD, row.expose_provenance());
    }

    pub(super) fn get() -> Option<&'static Row> {
        let row = core::ptr::with_exposed_provenance::<Row>(process_words()[DEVICE_WORD]);
        // SAFETY: the word is 0 or was set above in the same process, and what it names is never freed while that
        // process runs.
        unsafe { row.as_ref() }
    }
}

/// Whether this process has no device yet.
pub(crate) fn expect_none() -> Result<(), KitError> {
    if row::get().is_none() { Ok(()) } else { Err(KitError::SecondDevice) }
}

/// Creates and maps the memory of the process's device, which [`expect_none`] has found to be the first.
pub(crate) fn provide(environment: &Environment, window: Handle, pages: usize) -> Result<(), KitError> {
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
        row::get().and_then(|row| row.take(pages)).unwrap_or((0, NonNull::dangling()))
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
        match row::get().and_then(|row| row.address_of(buffer)) {
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
    fn test_reject_a_second_device_of_a_process() {
        assert_eq!(expect_none(), Ok(()));
        row::set(row());
        assert_eq!(expect_none(), Err(KitError::SecondDevice));
    }

    #[test]
    #[should_panic(expected = "cannot reach")]
    fn test_reject_sharing_without_memory_for_the_device() {
        // SAFETY: nothing is accessed.
        unsafe { DeviceMemory::share(buffer(0x4000, 1), BufferDirection::Both) };
    }
}
