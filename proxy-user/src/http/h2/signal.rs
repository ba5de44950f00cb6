//! Wakes a connection's task, and not while that runs: its streams and `h2` wake each other all the time, and each such wake would
//! have the runtime poll the task once more for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// What the task's parts are polled with.
pub(super) struct Signal {
    state: Arc<State>,
    waker: Waker,
}

struct State {
    /// Something was woken that has not been polled since.
    raised: AtomicBool,
    /// The task runs, and will look.
    running: AtomicBool,
    task: AtomicWaker,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        if !self.running.load(Ordering::Acquire) {
            self.task.wake();
        }
    }
}

impl Signal {
    /// Of a task that does not run.
    pub(super) fn new() -> Self {
        let state = State { raised: AtomicBool::new(false), running: AtomicBool::new(false), task: AtomicWaker::new() };
        let state = Arc::new(state);
        Self { waker: Waker::from(Arc::clone(&state)), state }
    }

    /// The task runs now; what its parts are to be polled with.
    pub(super) fn begin(&self, cx: &Context<'_>) -> Waker {
        self.state.task.register(cx.waker());
        self.state.running.store(true, Ordering::Release);
        self.waker.clone()
    }

    /// What was woken so far is polled now.
    pub(super) fn clear(&self) {
        self.state.raised.store(false, Ordering::Relaxed);
    }

    /// Whether anything was woken since.
    pub(super) fn is_raised(&self) -> bool {
        self.state.raised.load(Ordering::Acquire)
    }

    /// The task pauses. What was woken and not polled has it polled again.
    pub(super) fn end(&self, cx: &Context<'_>) {
        self.state.running.store(false, Ordering::Release);
        if self.is_raised() {
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
        let signal = Signal::new();
        let waker = signal.begin(&cx);
        signal.clear();
        waker.wake_by_ref();
        assert!(signal.is_raised());
        signal.clear();
        signal.end(&cx);
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "it saw this itself");
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "one poll is enough");
        drop(signal.begin(&cx));
        signal.end(&cx);
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "what came while it ran and was not polled");
    }
}
