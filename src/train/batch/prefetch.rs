//! Batches made ahead of need, handed out in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Batch, BatchMaker};
use crate::error::{Error, ErrorKind, Result};

/// The batches of one epoch, in order. Its threads end when it is dropped.
pub struct Batches {
    shared: Arc<Prefetcher>,
    workers: Vec<JoinHandle<()>>,
}

struct Prefetcher {
    work: Arc<BatchMaker>,
    order: Vec<usize>,
    epoch: u64,
    /// Batches of the epoch.
    count: usize,
    /// How many batches may be ready or in the making ahead of need.
    ahead: usize,
    state: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    /// The next batch to make, and the next to hand out.
    make: usize,
    give: usize,
    ready: BTreeMap<usize, Result<Batch>>,
    stop: bool,
}

impl Batches {
    pub(super) fn new(work: Arc<BatchMaker>, order: Vec<usize>, epoch: u64, skip: usize) -> Self {
        let count = order.len().div_ceil(work.options.batch_size.max(1));
        let threads = work.options.workers.min(count.saturating_sub(skip));
        let state = Queue { make: skip, give: skip, ready: BTreeMap::new(), stop: false };
        let shared = Arc::new(Prefetcher {
            work,
            order,
            epoch,
            count,
            ahead: threads + 1,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let start = |_| {
            let shared = shared.clone();
            // A system that gives no more threads leaves the work to the others, or to the caller.
            std::thread::Builder::new().name("samlora-loader".to_owned()).spawn(move || shared.run()).ok()
        };
        Self { workers: (0..threads).filter_map(start).collect(), shared }
    }
}

impl Prefetcher {
    fn state(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What a worker does.
    fn run(&self) {
        loop {
            let mut state = self.state();
            while !state.stop && state.make < self.count && state.make >= state.give + self.ahead {
                state = self.wait(state);
            }
            if state.stop || state.make >= self.count {
                return;
            }
            let number = state.make;
            state.make += 1;
            drop(state);
            let batch = self.make(number);
            self.state().ready.insert(number, batch);
            self.changed.notify_all();
        }
    }

    fn make(&self, number: usize) -> Result<Batch> {
        // A panic would leave the caller waiting for this batch for ever.
        catch_unwind(AssertUnwindSafe(|| self.work.batch(&self.order, self.epoch, number))).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Invalid, format!("making batch {number} of epoch {} failed", self.epoch)))
        })
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.shared.state();
        let number = state.give;
        if number >= self.shared.count {
            return None;
        }
        if self.workers.is_empty() {
            state.give += 1;
            drop(state);
            return Some(self.shared.make(number));
        }
        loop {
            if let Some(batch) = state.ready.remove(&number) {
                state.give += 1;
                drop(state);
                self.shared.changed.notify_all();
                return Some(batch);
            }
            state = self.shared.wait(state);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.shared.count.saturating_sub(self.shared.state().give);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its own panics; there is nothing to tell.
            let _ = worker.join();
        }
    }
}
