//! Clients that a `tarpit` rule keeps waiting: each takes one of a worker's `limits.tarpit` places, and whoever finds none is
//! not held at all.

use std::time::Duration;

use super::Worker;

/// One of a worker's places.
struct Place<'w>(&'w Worker);

impl<'w> Place<'w> {
    fn take(worker: &'w Worker) -> Option<Self> {
        let held = worker.held.get();
        (held < worker.live().snapshot.config.limits.tarpit).then(|| {
            worker.held.set(held + 1);
            Self(worker)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get().saturating_sub(1));
    }
}

/// Waits as long as a client is to be held: not at all where all places are taken, and not beyond the worker's drain.
pub async fn hold(worker: &Worker, time: Duration) {
    let Some(_place) = Place::take(worker) else { return };
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = worker.drained() => {}
    }
}
