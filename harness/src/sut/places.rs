//! How many requests a service handles at a time: what a pool of threads does.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds of a service that has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// The requests that are handled at a time.
    pub(crate) concurrency: u32,
    /// Those that wait for that; further ones are refused.
    pub(crate) queue: u32,
}

/// The places for requests of one service.
pub(super) struct Places {
    handled: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// The place of one request.
pub(super) struct Place {
    _handled: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(Capacity { concurrency, queue }: Capacity) -> Self {
        let places = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self { handled: places(concurrency), all: places(concurrency.saturating_add(queue)) }
    }

    /// Waits for a place among those that are handled; `None` if too many wait already.
    pub(super) async fn take(&self) -> Option<Place> {
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let handled = Arc::clone(&self.handled).acquire_owned().await.ok()?;
        Some(Place { _handled: handled, _all: all })
    }
}
