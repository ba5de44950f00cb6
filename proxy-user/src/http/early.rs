//! Early hints on their way to the client. hyper's server sends no interim answers: to HTTP/1.1 clients they are written
//! between its messages, where the stream passes by here; over HTTP/2 and 3 whoever serves the request's stream sends them. What is
//! passed on [`proxy_core::route::hints`] decides.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use proxy_core::route::hints::{MAX_HINTS, passed_on, wire};
use tokio::sync::mpsc;

use crate::worker::connection::Connection;

/// What stands between the messages of an HTTP/1.1 connection.
#[derive(Default)]
pub struct Between {
    waiting: RefCell<VecDeque<Bytes>>,
    /// One was written in part: nothing else may be before the rest.
    begun: Cell<bool>,
}

/// Where the hints of one request go.
pub enum Early {
    /// Between the messages of its connection.
    Http1(Rc<Connection>),
    /// To its own task.
    Stream(mpsc::Sender<HeaderMap>),
}

impl Early {
    /// Passes on what of an origin's interim answer goes on.
    pub fn hint(&self, status: StatusCode, fields: &HeaderMap) {
        if let Some(fields) = passed_on(status, fields) {
            self.send(fields);
        }
    }

    /// Sends one, if the client takes it. Before the request's final answer is given only.
    fn send(&self, headers: HeaderMap) {
        match self {
            Self::Http1(connection) => connection.between.push(wire(&headers).into()),
            // Beyond the bound they are left out.
            Self::Stream(sender) => drop(sender.try_send(headers)),
        }
    }
}

/// Both ends for a request whose task sends them by itself.
pub fn channel() -> (Early, mpsc::Receiver<HeaderMap>) {
    let (sender, receiver) = mpsc::channel(MAX_HINTS);
    (Early::Stream(sender), receiver)
}

impl Between {
    fn push(&self, wire: Bytes) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < MAX_HINTS {
            waiting.push_back(wire);
        }
    }

    /// The final answer is there: what has not been begun is of no use any more.
    pub fn over(&self) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.truncate(usize::from(self.begun.get()));
    }

    /// What is to be written before a message goes on that was begun before.
    pub fn rest(&self) -> Option<Bytes> {
        if self.begun.get() { self.next() } else { None }
    }

    /// What is to be written where one message has ended and the next one has not begun.
    pub fn next(&self) -> Option<Bytes> {
        self.waiting.borrow().front().cloned()
    }

    /// So many bytes of that were written.
    pub fn wrote(&self, count: usize) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(first) = waiting.front_mut() {
            drop(first.split_to(count.min(first.len())));
            let left = !first.is_empty();
            self.begun.set(left);
            if !left {
                waiting.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_ended_and_the_rest_is_dropped_with_the_answer() {
        let between = Between::default();
        (0..MAX_HINTS + 3).for_each(|_| between.push(Bytes::from_static(b"hint")));
        assert_eq!((between.waiting.borrow().len(), between.rest()), (MAX_HINTS, None));
        between.wrote(4);
        assert_eq!(between.rest(), None);
        between.wrote(1);
        between.over();
        assert_eq!(between.rest().as_deref(), Some(&b"int"[..]));
        between.wrote(3);
        assert_eq!((between.rest(), between.next()), (None, None));
        between.push(Bytes::from_static(b"hint"));
        between.over();
        assert_eq!(between.next(), None);
    }
}
