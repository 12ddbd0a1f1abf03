//! The whole engine in one program without a system: linked for RISC-V, the size of its `.text` is the code
//! that a service takes over with the engine. It is measured, never run.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;
use statefs::{Batch, BlockDevice, Entropy, Geometry, Options, Store, Write};

/// Everything that a service calls.
pub fn exercise(
    mut device: &mut dyn BlockDevice,
    key: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, statefs::Error> {
    let geometry = Geometry::for_device(device.length(), device.physical_block())?;
    let entropy = Entropy([value.len() as u64; 4]);
    Store::format(&mut device, geometry, entropy)?;
    let mut store = Store::open(device, Options::new(entropy))?;
    let writes = [Write { key, value: Some(value), expect: Some(0) }];
    store.stage(&Batch { writes: &writes, operation: None })?;
    for outcome in store.commit() {
        outcome?;
    }
    store.put(key, value)?;
    store.delete(key)?;
    store.maintain()?;
    store.seal()?;
    store.stat(key)?;
    let listed = store.list(key, None, 16).keys.len() as u64 + store.space().bytes + store.counters().groups;
    store.check_all(&mut |_, _| {});
    store.accept_damage(&mut |_, _| {})?;
    store.dump_groups(&mut |_| {})?;
    let mut found = store.get(key)?;
    found.extend(listed.to_le_bytes());
    Ok(found)
}

#[cfg(not(target_os = "none"))]
fn main() {
    let mut device = statefs::MemoryDevice::new(4 << 20);
    println!("{:?}", exercise(&mut device, b"/state/key", b"value"));
}

#[cfg(target_os = "none")]
mod bare {
    //! What linking needs where there is no system.

    use core::alloc::{GlobalAlloc, Layout};

    struct Unknown;

    // SAFETY: the program is linked and never run. The compiler must not know that no memory comes, or it
    // would leave out the engine.
    unsafe impl GlobalAlloc for Unknown {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::hint::black_box(core::ptr::null_mut())
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[global_allocator]
    static ALLOCATOR: Unknown = Unknown;

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {
            core::hint::spin_loop();
        }
    }

    // SAFETY: the linker's default entry; no other item has this name.
    #[unsafe(no_mangle)]
    extern "C" fn _start(length: usize) -> ! {
        let mut device = statefs::MemoryDevice::new(length);
        let done = super::exercise(&mut device, b"/state/key", b"value").is_ok();
        // Kept from being optimized away.
        core::hint::black_box(done);
        loop {
            core::hint::spin_loop();
        }
    }
}
