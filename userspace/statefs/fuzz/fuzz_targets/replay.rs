//! Any bytes as an image: no panic, bounded time and memory. Checksums always agree here, so that every
//! field behind them is reached; the input is a list of patches to a store that was worked on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use statefs::{Entropy, Geometry, MemoryDevice, Options, Store};
use std::sync::OnceLock;

const GEOMETRY: Geometry = Geometry { unit: 4096, segment_units: 8, segments: 16 };
const ENTROPY: Entropy = Entropy([1, 2, 3, 4]);

/// A store with several groups, a checkpoint, an incarnation more, and the places that hold anything.
fn base() -> &'static (Vec<u8>, Vec<u32>) {
    static BASE: OnceLock<(Vec<u8>, Vec<u32>)> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut device = MemoryDevice::new(GEOMETRY.device_bytes() as usize);
        Store::format(&mut device, GEOMETRY, ENTROPY).expect("a legal geometry");
        let mut store = Store::open(device, Options::new(ENTROPY)).expect("opens");
        for at in 0..6u8 {
            store.put(format!("/state/key-{at}").as_bytes(), &vec![at; 700 * usize::from(at)]).expect("room");
        }
        store.checkpoint_now().expect("room");
        store.delete(b"/state/key-3").expect("there");
        let mut store = Store::open(store.into_device(), Options::new(ENTROPY)).expect("opens");
        store.put(b"/state/last", b"value").expect("room");
        let bytes = store.into_device().bytes().to_vec();
        let used = (0..bytes.len() as u32).step_by(4).filter(|at| bytes[*at as usize..][..4] != [0; 4]).collect();
        (bytes, used)
    })
}

fn word<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

/// Three kinds of patches: bytes at a used place, bytes anywhere, a unit copied elsewhere.
fn patch(image: &mut [u8], used: &[u32], input: &mut &[u8]) -> Option<()> {
    let [kind, count] = word::<2>(input)?;
    let place = u32::from_le_bytes(word::<4>(input)?) as usize;
    match kind % 3 {
        0 | 1 => {
            let at = if kind % 3 == 0 { used[place % used.len()] as usize + place / used.len() % 4 } else { place % image.len() };
            for at in at..(at + usize::from(count % 9)).min(image.len()) {
                image[at] = word::<1>(input)?[0];
            }
        }
        _ => {
            let units = image.len() / 4096;
            let (from, to) = (place % units * 4096, usize::from(count) % units * 4096);
            image.copy_within(from..from + 4096, to);
        }
    }
    Some(())
}

fuzz_target!(|data: &[u8]| {
    let (bytes, used) = base();
    let mut image = bytes.clone();
    let mut input = data;
    while patch(&mut image, used, &mut input).is_some() {}
    let Ok(mut store) = Store::open(MemoryDevice::from_bytes(image), Options::new(ENTROPY)) else { return };
    let _ = store.dump_groups(&mut |_| {});
    let _ = store.check_all(&mut |_, _| {});
    let _ = store.put(b"/state/new", b"value");
    let _ = store.delete(b"/state/key-1");
    let _ = store.checkpoint_now();
    let _ = store.accept_damage(&mut |_, _| {});
    let _ = Store::open(store.into_device(), Options::new(ENTROPY));
});
