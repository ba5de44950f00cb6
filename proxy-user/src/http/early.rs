//! Early hints on their way to the client: to HTTP/1.1 clients they go before the answer on their connection, over HTTP/2 and 3
//! whoever serves the request's stream sends them. What is passed on [`proxy_core::route::hints`] decides.

use std::cell::RefCell;
use std::rc::Rc;

use http::StatusCode;
use proxy_core::fields::Fields;
use proxy_core::route::hints::{MAX_HINTS, passed_on, wire};
use tokio::sync::mpsc;

use super::h1::wire::Wire;

/// Where the hints of one request go.
pub enum Early {
    /// Before the answer, on its connection.
    Http1(Rc<RefCell<Wire>>),
    /// To its own task.
    Stream(mpsc::Sender<Fields>),
}

impl Early {
    /// Passes on what of an origin's interim answer goes on.
    pub fn hint(&self, status: StatusCode, fields: &Fields) {
        if let Some(fields) = passed_on(status, fields) {
            self.send(fields);
        }
    }

    /// Sends one, if the client takes it. Before the request's final answer is given only.
    fn send(&self, headers: Fields) {
        match self {
            Self::Http1(connection) => connection.borrow_mut().hint(&wire(&headers)),
            // Beyond the bound they are left out.
            Self::Stream(sender) => drop(sender.try_send(headers)),
        }
    }
}

/// Both ends for a request whose task sends them by itself.
pub fn channel() -> (Early, mpsc::Receiver<Fields>) {
    let (sender, receiver) = mpsc::channel(MAX_HINTS);
    (Early::Stream(sender), receiver)
}
