//! Wakes a connection's task, and not while that runs: its streams wake each other all the time, and each such wake would have the
//! runtime poll the task once more for nothing. Tells whether the streams or the socket were woken, so that only those are polled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The task.
#[derive(Default)]
struct Task {
    /// It runs, and will look.
    running: AtomicBool,
    waker: AtomicWaker,
}

/// One part of the task, and whether it was woken since it was polled.
struct Part {
    woken: AtomicBool,
    task: Arc<Task>,
}

/// A part as the task holds it.
pub(super) struct Signal {
    part: Arc<Part>,
    waker: Waker,
}

/// Wakes the task from outside, so that it sends what there is.
pub(super) struct Outside(Arc<Task>);

impl Outside {
    /// Nothing is done where it runs: it looks before it pauses.
    pub(super) fn wake(&self) {
        if !self.0.running.load(Ordering::Acquire) {
            self.0.waker.wake();
        }
    }
}

/// What the parts of a task are polled with.
pub(super) struct Signals {
    task: Arc<Task>,
    /// For the socket and what else is not a stream.
    pub(super) server: Signal,
    /// For the streams.
    pub(super) streams: Signal,
}

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        if !self.task.running.load(Ordering::Acquire) {
            self.task.waker.wake();
        }
    }
}

impl Signal {
    /// Of a part that is to be polled.
    fn new(task: &Arc<Task>) -> Self {
        let part = Arc::new(Part { woken: AtomicBool::new(true), task: Arc::clone(task) });
        Self { waker: Waker::from(Arc::clone(&part)), part }
    }

    /// What it is to be polled with.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether it is to be polled.
    pub(super) fn is_raised(&self) -> bool {
        self.part.woken.load(Ordering::Acquire)
    }

    /// The same; it is polled now.
    pub(super) fn take(&self) -> bool {
        self.is_raised() && self.part.woken.swap(false, Ordering::AcqRel)
    }
}

impl Signals {
    /// Of a task that does not run.
    pub(super) fn new() -> Self {
        let task = Arc::new(Task::default());
        Self { server: Signal::new(&task), streams: Signal::new(&task), task }
    }

    /// For those who hand in something to be sent.
    pub(super) fn outside(&self) -> Outside {
        Outside(Arc::clone(&self.task))
    }

    /// Whether any part is to be polled.
    pub(super) fn are_raised(&self) -> bool {
        self.server.is_raised() || self.streams.is_raised()
    }

    /// The task runs now.
    pub(super) fn begin(&self, cx: &Context<'_>) {
        self.task.waker.register(cx.waker());
        self.task.running.store(true, Ordering::Release);
    }

    /// The task pauses. What was woken and not polled has it polled again.
    pub(super) fn end(&self, cx: &Context<'_>) {
        self.task.running.store(false, Ordering::Release);
        if self.are_raised() {
            cx.waker().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_only_what_does_not_run() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&task);
        let signals = Signals::new();
        signals.begin(&cx);
        assert!(signals.server.take() && signals.streams.take(), "all is polled at first");
        signals.streams.waker().wake_by_ref();
        assert!(!signals.server.take() && signals.streams.take() && !signals.streams.take());
        signals.end(&cx);
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "it saw this itself");
        signals.server.waker().wake_by_ref();
        signals.streams.waker().wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "one poll is enough");
        signals.begin(&cx);
        signals.outside().wake();
        signals.end(&cx);
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "what was not polled is again");
        signals.outside().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 3, "there is something to be sent");
    }
}
