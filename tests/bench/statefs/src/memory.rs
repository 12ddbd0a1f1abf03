//! What a key costs in memory: an allocator that counts while it is asked to.

use crate::engines::Fault;
use crate::{Report, key};
use statefs::{Batch, Entropy, Geometry, KEYS_MAX_HOST, MemoryDevice, Options, Store, Write};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

static COUNTS: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);

struct Counting;

fn count(bytes: i64) {
    if COUNTS.load(Ordering::Relaxed) {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that are allocated for an open store of so many keys, made in the order of the numbers.
fn opened_bytes(numbers: &[usize]) -> Result<i64, Fault> {
    let entropy = Entropy([1, 2, 3, 4]);
    let mut device = MemoryDevice::new(64 << 20);
    Store::format(&mut device, Geometry::for_device(64 << 20, 4096)?, entropy)?;
    let options = Options { keys_max: KEYS_MAX_HOST as u64, ..Options::new(entropy) };
    let mut store = Store::open(device, options.clone())?;
    for part in numbers.chunks(100) {
        let keys: Vec<Vec<u8>> = part.iter().map(|number| key(*number)).collect();
        let writes: Vec<Write<'_>> =
            keys.iter().map(|key| Write { key, value: Some(b"value"), expect: None }).collect();
        store.apply_batch(&Batch { writes: &writes, operation: None })?;
    }
    let device = store.into_device();
    BYTES.store(0, Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    let store = Store::open(device, options)?;
    let bytes = BYTES.load(Ordering::Relaxed);
    COUNTS.store(false, Ordering::Relaxed);
    drop(store);
    Ok(bytes)
}

/// Bytes of memory for each key, the 17 bytes of the key among them.
pub fn per_key(report: &mut Report) -> Result<(), Fault> {
    let empty = opened_bytes(&[])?;
    report.add("statefs/memory/empty-store".into(), empty as u64, "bytes");
    for keys in [1_000, 10_000, 65_536] {
        let rising: Vec<usize> = (0..keys).collect();
        let mut mixed = rising.clone();
        mixed.sort_by_key(|number| (*number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for (order, numbers) in [("rising", rising), ("mixed", mixed)] {
            let each = (opened_bytes(&numbers)? - empty) / keys as i64;
            report.add(format!("statefs/memory/{keys}-keys-{order}"), each as u64, "bytes/key");
        }
    }
    Ok(())
}
