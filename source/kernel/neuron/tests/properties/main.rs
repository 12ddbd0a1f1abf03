//! What the kernel's data structures promise, each against a model that is too simple to be wrong.

mod capabilities;
mod deadlines;
mod device_memory;
mod device_tree;
mod event_ring;
mod frame_pool;
mod memory_objects;
mod page_table;
mod run_queue;

use neuron::memory::Memory;
use neuron::object::account::Account;

/// A small memory with a full pool, and an account that may use all of it.
fn small_memory(frames: u32) -> (Memory, Account) {
    let memory = neuron::testing::memory(frames as usize);
    (1..frames).for_each(|frame| memory.release(frame));
    (memory, Account::new(u64::from(frames)))
}
