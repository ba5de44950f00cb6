//! Clients that have gone without a word: one that says nothing is asked for a sign of life (RFC 9113 section 6.7), also while a
//! header block of it stays unfinished, and given up when it gives none.

use std::task::Context;
use std::time::Duration;

use proxy_core::http2::write::{self, Payload};

use super::session::Session;
use crate::worker::connection::Connection;
use crate::worker::deadlines::Deadline;

/// A client that has been silent for so long is asked.
const ASK_AFTER: Duration = Duration::from_secs(20);
/// And has this long to answer.
const WAIT: Duration = Duration::from_secs(20);
/// What it is asked.
const ASKED: Payload = *b"are you?";

/// What is known of one client.
pub(super) struct Alive {
    deadline: Deadline,
    /// A ping is under way.
    asked: bool,
}

impl Alive {
    /// It has just said something.
    pub(super) fn new(connection: &Connection) -> Self {
        let deadline = connection.worker.deadlines.add();
        deadline.set(ASK_AFTER);
        Self { deadline, asked: false }
    }

    /// Whether the client is gone. Whatever it says is a sign of life; `heard` is whether it has said something since it was last
    /// asked for, and is taken away.
    pub(super) fn poll_lost(&mut self, cx: &Context<'_>, session: &Session, heard: &mut bool) -> bool {
        while self.deadline.poll_passed(cx).is_ready() {
            if std::mem::take(heard) {
                self.asked = false;
                self.deadline.set(ASK_AFTER);
            } else if self.asked {
                return true;
            } else {
                self.asked = true;
                session.write(|out| write::ping(ASKED, false, out));
                self.deadline.set(WAIT);
            }
        }
        false
    }
}
