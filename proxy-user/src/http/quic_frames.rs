//! The QUIC connections of a worker, looked at from time to time for frames that cost more than they bring: quinn counts them
//! by itself and takes them all. Who overdoes it is named, and its connection ends.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Instant;

use proxy_core::abuse::quic::Frames;
use proxy_core::http3::Code;

use super::h3::said;
use crate::worker::connection::Connection;

/// All of one worker's.
#[derive(Default)]
pub struct Followed(RefCell<Vec<(Weak<Connection>, Frames)>>);

impl Followed {
    /// One more, whose handshake is done.
    pub fn add(&self, connection: &Rc<Connection>, resets: u32) {
        let frames = Frames::new(resets, connection.worker.deadlines.now());
        self.0.borrow_mut().push((Rc::downgrade(connection), frames));
    }

    /// Looks at all of them; a client may reset so many streams a second.
    pub fn sweep(&self, resets: u32, now: Instant) {
        let mut found = Vec::new();
        self.0.borrow_mut().retain_mut(|(connection, frames)| {
            let Some(connection) = connection.upgrade() else { return false };
            let Some(seen) = connection.link.seen() else { return false };
            if let Some(kind) = frames.judge(seen, resets, now) {
                found.push((connection, kind));
                return false;
            }
            true
        });
        for (connection, kind) in found {
            connection.abused(kind);
            connection.link.close(said(Code::ExcessiveLoad));
        }
    }
}
