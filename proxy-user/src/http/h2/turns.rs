//! Whose turn it is to send where not all can (RFC 9218): what the most urgent streams have goes out first, and while the socket
//! takes nothing more, those that are less urgent than one which has something to send hold theirs back. Among equals who has sent
//! nothing for longer is first.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use proxy_core::http2::priority::{LEVELS, Urgency};

/// The streams of one connection.
#[derive(Default)]
pub(super) struct Turns {
    /// The socket takes nothing now.
    blocked: Cell<bool>,
    /// As much waits for it as may.
    full: Cell<bool>,
    /// Streams of each urgency that have a piece in hand.
    sending: [Cell<u32>; LEVELS],
    /// Those that wait: how urgent each is, and whether it has sent in this round.
    held: RefCell<Vec<(Urgency, bool, Waker)>>,
    /// Something was handed in since this was last asked.
    handed: Cell<bool>,
}

/// A stream has a piece in hand.
pub(super) struct Piece<'t>(&'t Cell<u32>);

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Turns {
    /// Whether the socket takes anything; whether streams were woken that have waited for it.
    pub(super) fn socket(&self, blocked: bool) -> bool {
        self.blocked.set(blocked);
        if blocked {
            return false;
        }
        self.full.set(false);
        let mut held = self.held.take();
        // They are polled in the order in which they are woken.
        held.sort_by_key(|(urgency, sent, _)| (*urgency, *sent));
        let any = !held.is_empty();
        for (_, _, waker) in held {
            waker.wake();
        }
        any
    }

    /// A stream has a piece in hand, until that is dropped.
    pub(super) fn piece(&self, urgency: Urgency) -> Option<Piece<'_>> {
        let sending = self.sending.get(urgency.level())?;
        sending.set(sending.get() + 1);
        Some(Piece(sending))
    }

    /// A stream has handed in something to be sent, and as much waits now as may or not.
    pub(super) fn hand(&self, full: bool) {
        self.handed.set(true);
        self.full.set(full);
    }

    /// Whether one has, since this was last asked.
    pub(super) fn has_handed(&self) -> bool {
        self.handed.take()
    }

    /// Whether a stream has to wait before it hands in more; it is woken then. `sent` where it has handed something in before.
    pub(super) fn waits(&self, urgency: Urgency, sent: bool, cx: &Context<'_>) -> bool {
        let behind = || self.sending.iter().take(urgency.level()).any(|sending| sending.get() > 0);
        let waits = self.full.get() || self.blocked.get() && behind();
        if waits {
            let mut held = self.held.borrow_mut();
            if !held.iter().any(|(.., waker)| waker.will_wake(cx.waker())) {
                held.push((urgency, sent, cx.waker().clone()));
            }
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn the_less_urgent_wait_only_for_a_socket_that_takes_nothing() {
        let cx = Context::from_waker(Waker::noop());
        let (first, last) = (Urgency::of(b"u=0"), Urgency::default());
        let turns = Turns::default();
        let piece = turns.piece(first);
        assert!(!turns.waits(last, false, &cx) && !turns.socket(true));
        assert!(turns.waits(last, false, &cx) && !turns.waits(first, false, &cx));
        assert!(turns.socket(false), "those that waited are woken");
        assert!(!turns.socket(true));
        drop(piece);
        assert!(!turns.waits(last, false, &cx), "nothing more urgent is there");
        turns.hand(true);
        assert!(turns.waits(first, true, &cx) && !turns.socket(true) && turns.waits(first, true, &cx));
        assert!(turns.socket(false) && !turns.waits(first, true, &cx));
    }

    /// When it was woken.
    struct Order(Arc<AtomicUsize>, AtomicUsize);

    impl Wake for Order {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    #[test]
    fn who_has_sent_is_behind_who_has_not_and_both_behind_the_urgent() {
        let count = Arc::new(AtomicUsize::new(1));
        let [sent, other, urgent] = [(); 3].map(|()| Arc::new(Order(Arc::clone(&count), AtomicUsize::new(0))));
        let turns = Turns::default();
        turns.hand(true);
        let waits = |order: &Arc<Order>, urgency, sent| {
            turns.waits(urgency, sent, &Context::from_waker(&Waker::from(Arc::clone(order))))
        };
        let usual = Urgency::default();
        assert!(waits(&sent, usual, true) && waits(&other, usual, false) && waits(&urgent, Urgency::of(b"u=1"), true));
        assert!(turns.socket(false));
        assert_eq!([sent, other, urgent].map(|order| order.1.load(Ordering::Relaxed)), [3, 2, 1]);
    }
}
