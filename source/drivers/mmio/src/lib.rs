//! A device's register window: the one way in which drivers reach registers.
//!
//! What it is: volatile accesses within the window's bounds. On a host, where a driver runs in a simulator,
//! the accesses of a thread go to the [`host::Bus`] that it installed, and the driver is none the wiser.
//! What it is not: it maps nothing and knows no device.
#![cfg_attr(target_os = "none", no_std)]

#[cfg(not(target_os = "none"))]
pub mod host;

/// Mapped registers.
pub struct Window {
    base: *mut u8,
    bytes: usize,
}

impl Window {
    /// The window of so many bytes that begins at `base`.
    ///
    /// # Safety
    /// The bytes must be a device's mapped registers for as long as this lives, and nothing else may use them.
    pub const unsafe fn new(base: *mut u8, bytes: usize) -> Self {
        Window { base, bytes }
    }

    /// Reads the register of one byte at an offset.
    ///
    /// # Panics
    /// When the offset lies outside of the window: offsets are the driver's own constants.
    pub fn read_u8(&self, offset: usize) -> u8 {
        let address = self.address(offset);
        #[cfg(not(target_os = "none"))]
        if let Some(bus) = host::installed() {
            return bus.load(address.addr() as u64, 1) as u8;
        }
        // SAFETY: inside the window, which `new`'s caller promised is mapped and ours.
        unsafe { address.read_volatile() }
    }

    /// Writes the register of one byte at an offset.
    ///
    /// # Panics
    /// As [`Window::read_u8`].
    pub fn write_u8(&self, offset: usize, value: u8) {
        let address = self.address(offset);
        #[cfg(not(target_os = "none"))]
        if let Some(bus) = host::installed() {
            return bus.store(address.addr() as u64, 1, value.into());
        }
        // SAFETY: as above.
        unsafe { address.write_volatile(value) }
    }

    /// Writes the register of two bytes at an offset.
    ///
    /// # Panics
    /// When the offset is odd or the register does not lie inside of the window: offsets are the driver's own constants.
    pub fn write_u16(&self, offset: usize, value: u16) {
        let address = self.aligned::<u16>(offset);
        #[cfg(not(target_os = "none"))]
        if let Some(bus) = host::installed() {
            return bus.store(address.addr() as u64, 2, value.into());
        }
        // SAFETY: inside the window and aligned; `new`'s caller promised that it is mapped and ours.
        unsafe { address.write_volatile(value) }
    }

    /// Reads the register of four bytes at an offset.
    ///
    /// # Panics
    /// When the offset is not a multiple of four or the register does not lie inside of the window: offsets are
    /// the driver's own constants.
    pub fn read_u32(&self, offset: usize) -> u32 {
        let address = self.aligned::<u32>(offset);
        #[cfg(not(target_os = "none"))]
        if let Some(bus) = host::installed() {
            return bus.load(address.addr() as u64, 4) as u32;
        }
        // SAFETY: inside the window and aligned; `new`'s caller promised that it is mapped and ours.
        unsafe { address.read_volatile() }
    }

    /// Writes the register of four bytes at an offset.
    ///
    /// # Panics
    /// As [`Window::read_u32`].
    pub fn write_u32(&self, offset: usize, value: u32) {
        let address = self.aligned::<u32>(offset);
        #[cfg(not(target_os = "none"))]
        if let Some(bus) = host::installed() {
            return bus.store(address.addr() as u64, 4, value.into());
        }
        // SAFETY: as above.
        unsafe { address.write_volatile(value) }
    }

    /// Bytes of the window.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn address(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.bytes, "a register outside of its window");
        self.base.wrapping_add(offset)
    }

    fn aligned<T>(&self, offset: usize) -> *mut T {
        assert!(offset.is_multiple_of(size_of::<T>()), "a register that is not aligned");
        // Its last byte is inside, so all are.
        self.address(offset.saturating_add(size_of::<T>() - 1));
        self.address(offset).cast()
    }
}

/// Orders everything before it, in memory and in registers, before everything after it, as the device sees both.
/// A driver calls it between writing memory for its device and telling the device of it, and between hearing
/// of the device's work and looking at it.
pub fn barrier() {
    #[cfg(target_arch = "riscv64")]
    // SAFETY: a fence changes no register and no memory.
    unsafe {
        core::arch::asm!("fence iorw, iorw", options(nostack, preserves_flags))
    };
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Default)]
    struct Recorder(RefCell<Vec<(u64, u64)>>);

    impl host::Bus for Recorder {
        fn load(&self, address: u64, _bytes: u32) -> u64 {
            self.0.borrow_mut().push((address, 0));
            7
        }

        fn store(&self, address: u64, _bytes: u32, value: u64) {
            self.0.borrow_mut().push((address, value));
        }
    }

    #[test]
    fn accesses_go_to_memory_or_to_the_bus_that_is_installed() {
        let mut memory = [1u8, 2, 3];
        // SAFETY: memory of this test alone stands for registers.
        let window = unsafe { Window::new(memory.as_mut_ptr(), memory.len()) };
        window.write_u8(1, 9);
        assert_eq!((window.read_u8(0), window.read_u8(1)), (1, 9));
        let bus = Rc::new(Recorder::default());
        host::install(Some(bus.clone()));
        window.write_u8(2, 5);
        assert_eq!(window.read_u8(0), 7);
        host::install(None);
        let base = window.base.addr() as u64;
        assert_eq!(*bus.0.borrow(), [(base + 2, 5), (base, 0)]);
        assert_eq!(window.read_u8(2), 3);
    }

    #[test]
    fn words_go_to_memory_or_to_the_bus() {
        let mut memory = [1u32, 2];
        // SAFETY: memory of this test alone stands for registers.
        let window = unsafe { Window::new(memory.as_mut_ptr().cast(), 8) };
        window.write_u32(4, 9);
        assert_eq!((window.read_u32(0), window.read_u32(4)), (1, 9));
        let bus = Rc::new(Recorder::default());
        host::install(Some(bus.clone()));
        window.write_u32(4, 5);
        assert_eq!(window.read_u32(0), 7);
        host::install(None);
        let base = window.base.addr() as u64;
        assert_eq!(*bus.0.borrow(), [(base + 4, 5), (base, 0)]);
    }

    #[test]
    fn halfwords_go_to_memory_or_to_the_bus() {
        let mut memory = [1u16, 2];
        // SAFETY: memory of this test alone stands for registers.
        let window = unsafe { Window::new(memory.as_mut_ptr().cast(), 4) };
        window.write_u16(2, 0x1234);
        assert_eq!([window.read_u8(2), window.read_u8(3)], 0x1234u16.to_ne_bytes());
        let bus = Rc::new(Recorder::default());
        host::install(Some(bus.clone()));
        window.write_u16(0, 5);
        host::install(None);
        assert_eq!(*bus.0.borrow(), [(window.base.addr() as u64, 5)]);
    }

    #[test]
    #[should_panic(expected = "outside of its window")]
    fn test_reject_a_word_that_reaches_out_of_the_window() {
        // SAFETY: nothing is accessed.
        unsafe { Window::new(core::ptr::null_mut(), 6) }.read_u32(4);
    }

    #[test]
    #[should_panic(expected = "not aligned")]
    fn test_reject_a_word_that_is_not_aligned() {
        // SAFETY: nothing is accessed.
        unsafe { Window::new(core::ptr::null_mut(), 8) }.read_u32(2);
    }

    #[test]
    #[should_panic(expected = "outside of its window")]
    fn test_reject_a_register_outside_of_the_window() {
        // SAFETY: nothing is accessed.
        unsafe { Window::new(core::ptr::null_mut(), 8) }.read_u8(8);
    }
}
