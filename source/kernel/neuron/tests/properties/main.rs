//! What the kernel's data structures promise, each against a model that is too simple to be wrong.

mod event_ring;
mod frame_pool;
mod page_table;
