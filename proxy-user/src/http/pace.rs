//! Clients that take nothing of their answers: over HTTP/2 and 3 each stream has a window of its own, which its client may keep
//! closed while the connection looks alive. A response whose next piece is not taken within `timeouts.send` is given up, and its
//! stream reset; the others of the connection go on. HTTP/1 has the socket alone, which the connection watches itself.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use proxy_core::abuse::Kind;

use crate::worker::connection::Connection;
use crate::worker::deadlines::Deadline;

/// Most bytes of one piece, so that who takes them slowly is seen to take something: with the default time half a kilobyte a
/// second is enough.
pub const PIECE: usize = 32 << 10;

/// Time that a client has for the piece that it is sent. Without a deadline until one has to be waited for.
pub struct Patience {
    connection: Rc<Connection>,
    deadline: Option<Deadline>,
}

impl Patience {
    /// With a client.
    pub fn new(connection: &Rc<Connection>) -> Self {
        Self { connection: Rc::clone(connection), deadline: None }
    }

    /// Another piece waits from now on.
    fn begin(&mut self) {
        let worker = &self.connection.worker;
        let deadline = self.deadline.get_or_insert_with(|| worker.deadlines.add());
        deadline.set(worker.live().snapshot.config.timeouts.send.0);
    }

    /// Nothing waits.
    fn end(&self) {
        if let Some(deadline) = &self.deadline {
            deadline.clear();
        }
    }

    /// Whether it is at its end, which is an abuse, unless others had the time.
    fn poll_lost(&mut self, cx: &Context<'_>, passed_over: impl Fn() -> bool) -> bool {
        let passed = |this: &Self| this.deadline.as_ref().is_some_and(|deadline| deadline.poll_passed(cx).is_ready());
        if passed(self) && passed_over() {
            self.begin();
        }
        let lost = passed(self);
        if lost {
            self.connection.abused(Kind::SlowRead);
        }
        lost
    }

    /// Sends a piece; None where it was not taken in time.
    pub async fn send<T>(&mut self, sending: impl Future<Output = T>) -> Option<T> {
        self.send_behind(sending, || false).await
    }

    /// The same, where the client may take other answers first: it has the time anew where one of them went, which `passed_over`
    /// says, since that was last asked.
    pub async fn send_behind<T>(
        &mut self,
        sending: impl Future<Output = T>,
        passed_over: impl Fn() -> bool,
    ) -> Option<T> {
        let mut sending = pin!(sending);
        let mut waits = false;
        poll_fn(|cx| {
            if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
                self.end();
                return Poll::Ready(Some(sent));
            }
            if !std::mem::replace(&mut waits, true) {
                self.begin();
            }
            if self.poll_lost(cx, &passed_over) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

/// Waits for something of a client, but no longer than that; None where it took longer. What is there at once costs no clock and no
/// deadline.
pub async fn within<T>(connection: &Connection, time: Duration, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    let mut deadline: Option<Deadline> = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = what.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        let deadline = deadline.get_or_insert_with(|| {
            let deadline = connection.worker.deadlines.add();
            deadline.set(time);
            deadline
        });
        deadline.poll_passed(cx).map(|()| None)
    })
    .await
}
