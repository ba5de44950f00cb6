//! Deadlines of one worker: cells that a sweep looks at every [`TICK`], instead of a timer for each request.
//!
//! Arming one is a store, so connections and requests may move theirs as often as they like. The price is the
//! precision of one tick. Decides nothing: what a missed deadline means is for its owner to say.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often the worker sweeps; the precision of every deadline.
pub const TICK: Duration = Duration::from_millis(100);

thread_local! {
    /// The time of this worker's thread, as it was read last.
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Reads the clock, for all that is done until the worker waits again: what has come has come by then.
pub fn read_clock() {
    NOW.set(Some(Instant::now()));
}

fn now() -> Instant {
    NOW.get().unwrap_or_else(|| {
        let now = Instant::now();
        NOW.set(Some(now));
        now
    })
}

/// All deadlines of one worker.
#[derive(Clone)]
pub struct Deadlines(Rc<Registry>);

struct Registry {
    entries: RefCell<Vec<Rc<Entry>>>,
}

struct Entry {
    at: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
    place: Cell<usize>,
}

/// One deadline; gone from the sweep when dropped.
pub struct Deadline {
    registry: Rc<Registry>,
    entry: Rc<Entry>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self(Rc::new(Registry { entries: RefCell::new(Vec::new()) }))
    }
}

impl Deadlines {
    /// A deadline that is not armed.
    pub fn add(&self) -> Deadline {
        let mut entries = self.0.entries.borrow_mut();
        let entry = Rc::new(Entry { at: Cell::new(None), waker: RefCell::new(None), place: Cell::new(entries.len()) });
        entries.push(Rc::clone(&entry));
        Deadline { registry: Rc::clone(&self.0), entry }
    }

    /// The time as of the last [`read_clock`], sweep or [`Self::set_now`]: at most a tick old, and free.
    pub fn now(&self) -> Instant {
        now()
    }

    /// Whoever has read the clock shares it.
    pub fn set_now(&self, now: Instant) {
        NOW.set(Some(now));
    }

    /// Wakes the owners of the deadlines that have passed.
    pub fn sweep(&self, now: Instant) {
        self.set_now(now);
        for entry in self.0.entries.borrow().iter() {
            if entry.at.get().is_some_and(|at| at <= now) {
                entry.wake();
            }
        }
    }

    /// Wakes every owner, so that each looks at the worker's state again (drain).
    pub fn wake_all(&self) {
        for entry in self.0.entries.borrow().iter() {
            entry.wake();
        }
    }
}

impl Entry {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Deadline {
    /// The time as [`Deadlines::now`] has it.
    pub fn now(&self) -> Instant {
        now()
    }

    /// Arms it `after` from now.
    pub fn set(&self, after: Duration) {
        self.entry.at.set(now().checked_add(after));
    }

    /// Arms it `after` from now unless it is armed.
    pub fn set_if_clear(&self, after: Duration) {
        if self.entry.at.get().is_none() {
            self.set(after);
        }
    }

    /// Disarms it.
    pub fn clear(&self) {
        self.entry.at.set(None);
    }

    /// Ready once it has passed; stays so until it is armed again or disarmed. Otherwise the task is woken when it passes.
    pub fn poll_passed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.entry.at.get().is_some_and(|at| at <= now()) {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut entries = self.registry.entries.borrow_mut();
        let place = self.entry.place.get();
        if place < entries.len() {
            entries.swap_remove(place);
            if let Some(moved) = entries.get(place) {
                moved.place.set(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_only_when_armed_and_due() {
        let deadlines = Deadlines::default();
        let start = deadlines.now();
        let first = deadlines.add();
        let second = deadlines.add();
        let third = deadlines.add();
        let cx = Context::from_waker(Waker::noop());
        first.set(Duration::from_secs(1));
        third.set(Duration::from_secs(5));
        deadlines.sweep(start + Duration::from_secs(2));
        assert!(first.poll_passed(&cx).is_ready());
        assert!(second.poll_passed(&cx).is_pending());
        assert!(third.poll_passed(&cx).is_pending());
        drop(first);
        drop(second);
        deadlines.sweep(start + Duration::from_secs(6));
        assert!(third.poll_passed(&cx).is_ready());
        third.clear();
        assert!(third.poll_passed(&cx).is_pending());
    }
}
