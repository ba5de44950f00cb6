//! Clients that have gone without a word: one that says nothing is asked for a sign of life (RFC 9113 section 6.7), also while a
//! header block of it stays unfinished, and given up when it gives none.

use std::task::Context;
use std::time::Duration;

use h2::{Ping, PingPong};

use super::wire::Wire;
use crate::worker::connection::Connection;
use crate::worker::deadlines::Deadline;

/// A client that has been silent for so long is asked.
const ASK_AFTER: Duration = Duration::from_secs(20);
/// And has this long to answer.
const WAIT: Duration = Duration::from_secs(20);

/// What is known of one client.
pub(super) struct Alive {
    pings: Option<PingPong>,
    deadline: Deadline,
    /// A ping is under way.
    asked: bool,
}

impl Alive {
    /// It has just said something.
    pub(super) fn new(connection: &Connection, pings: Option<PingPong>) -> Self {
        let deadline = connection.worker.deadlines.add();
        deadline.set(ASK_AFTER);
        Self { pings, deadline, asked: false }
    }

    /// Whether the client is gone. Whatever it says is a sign of life.
    pub(super) fn poll_lost<I>(&mut self, cx: &mut Context<'_>, wire: &Wire<I>) -> bool {
        while self.deadline.poll_passed(cx).is_ready() {
            let Some(pings) = &mut self.pings else { return false };
            if wire.has_heard() {
                // An answer that has not come yet keeps the next ping from being sent.
                self.asked = self.asked && pings.poll_pong(cx).is_pending();
                self.deadline.set(ASK_AFTER);
            } else if self.asked {
                return true;
            } else {
                self.asked = true;
                // Only a connection that ends takes none.
                let _ = pings.send_ping(Ping::opaque());
                self.deadline.set(WAIT);
            }
        }
        false
    }
}
