//! A store shared between threads of a host: writers that wait share one flush.

use crate::device::BlockDevice;
use crate::error::Error;
use crate::store::Store;
use crate::write::{Batch, OperationId, Write};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// A change that waits for its group.
struct OwnedWrite {
    key: Box<[u8]>,
    value: Option<Box<[u8]>>,
    expect: Option<u64>,
}

struct Request {
    ticket: u64,
    writes: Vec<OwnedWrite>,
    operation: Option<OperationId>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Request>,
    answers: BTreeMap<u64, Result<u64, Error>>,
    next_ticket: u64,
    /// Someone is committing; who comes meanwhile waits for the next group.
    committing: bool,
}

/// A store behind a lock. One of the waiting writers commits for all of them.
pub struct SharedStore<D> {
    store: Mutex<Store<D>>,
    queue: Mutex<Queue>,
    done: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: BlockDevice> SharedStore<D> {
    /// Shares a store.
    pub fn new(store: Store<D>) -> SharedStore<D> {
        SharedStore { store: Mutex::new(store), queue: Mutex::default(), done: Condvar::new() }
    }

    /// The store itself, for reads; writers wait meanwhile.
    pub fn store(&self) -> MutexGuard<'_, Store<D>> {
        lock(&self.store)
    }

    /// Applies a batch; returns when it is durable.
    pub fn apply_batch(&self, batch: &Batch<'_>) -> Result<u64, Error> {
        let own = |write: &Write<'_>| OwnedWrite {
            key: write.key.into(),
            value: write.value.map(Into::into),
            expect: write.expect,
        };
        let writes = batch.writes.iter().map(own).collect();
        let mut queue = lock(&self.queue);
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push(Request { ticket, writes, operation: batch.operation });
        loop {
            if let Some(answer) = queue.answers.remove(&ticket) {
                return answer;
            }
            if queue.committing {
                queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.committing = true;
            let requests = core::mem::take(&mut queue.waiting);
            drop(queue);
            let answers = commit_all(&mut lock(&self.store), &requests);
            queue = lock(&self.queue);
            queue.answers.extend(answers);
            queue.committing = false;
            self.done.notify_all();
        }
    }

    /// Sets a key; returns its new version when it is durable.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<u64, Error> {
        let writes = [Write { key, value: Some(value), expect: None }];
        self.apply_batch(&Batch { writes: &writes, operation: None })
    }
}

/// Stages all requests, in as few groups as they fit in, and commits.
fn commit_all<D: BlockDevice>(store: &mut Store<D>, requests: &[Request]) -> Vec<(u64, Result<u64, Error>)> {
    let mut answers = Vec::with_capacity(requests.len());
    let mut staged: Vec<u64> = Vec::new();
    let mut commit = |store: &mut Store<D>, staged: &mut Vec<u64>| {
        answers.extend(staged.drain(..).zip(store.commit()));
    };
    let mut refused = Vec::new();
    for request in requests {
        let writes: Vec<Write<'_>> = request
            .writes
            .iter()
            .map(|write| Write { key: &write.key, value: write.value.as_deref(), expect: write.expect })
            .collect();
        let batch = Batch { writes: &writes, operation: request.operation };
        match store.stage(&batch) {
            Ok(_) => staged.push(request.ticket),
            Err(Error::GroupFull | Error::CheckpointNeeded) => {
                commit(store, &mut staged);
                refused.push((request.ticket, store.apply_batch(&batch)));
            }
            Err(error) => refused.push((request.ticket, Err(error))),
        }
    }
    commit(store, &mut staged);
    answers.extend(refused);
    answers
}
