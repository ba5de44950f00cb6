//! Whose turn it is to send where not all can (RFC 9218): what the most urgent streams have goes out first, and while the socket
//! takes nothing more, those that are less urgent than one which has something to send hold theirs back. `h2` serves in turn
//! what it is given, so that giving it less is all that can be done; what a stream has given it before goes out among the others'.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use proxy_core::http2::priority::{LEVELS, Urgency};

/// The streams of one connection.
#[derive(Default)]
pub(super) struct Turns {
    /// The socket takes nothing now.
    blocked: Cell<bool>,
    /// Streams of each urgency that have a piece in hand.
    sending: [Cell<u32>; LEVELS],
    held: RefCell<Vec<Waker>>,
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
        if blocked || self.held.borrow().is_empty() {
            return false;
        }
        for waker in self.held.take() {
            waker.wake();
        }
        true
    }

    /// A stream has a piece in hand, until that is dropped.
    pub(super) fn piece(&self, urgency: Urgency) -> Option<Piece<'_>> {
        let sending = self.sending.get(urgency.level())?;
        sending.set(sending.get() + 1);
        Some(Piece(sending))
    }

    /// A stream has given `h2` something to send.
    pub(super) fn hand(&self) {
        self.handed.set(true);
    }

    /// Whether one has, since this was last asked.
    pub(super) fn has_handed(&self) -> bool {
        self.handed.take()
    }

    /// Whether a stream has to wait before it takes its next piece; it is woken then.
    pub(super) fn waits(&self, urgency: Urgency, cx: &Context<'_>) -> bool {
        let waits = self.blocked.get() && self.sending.iter().take(urgency.level()).any(|sending| sending.get() > 0);
        if waits {
            let mut held = self.held.borrow_mut();
            if !held.iter().any(|waker| waker.will_wake(cx.waker())) {
                held.push(cx.waker().clone());
            }
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_urgent_wait_only_for_a_socket_that_takes_nothing() {
        let cx = Context::from_waker(Waker::noop());
        let (first, last) = (Urgency::of(b"u=0"), Urgency::default());
        let turns = Turns::default();
        let piece = turns.piece(first);
        assert!(!turns.waits(last, &cx) && !turns.socket(true));
        assert!(turns.waits(last, &cx) && !turns.waits(first, &cx));
        assert!(turns.socket(false), "those that waited are woken");
        assert!(!turns.socket(true));
        drop(piece);
        assert!(!turns.waits(last, &cx), "nothing more urgent is there");
    }
}
