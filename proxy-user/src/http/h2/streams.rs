//! The streams of one connection, each a future that its task polls when it was woken, the urgent ones before the others.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream as _};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderName, Request};
use proxy_core::http2::priority::{LEVELS, Urgency};

use super::stream;
use super::turns::Turns;
use crate::worker::connection::Connection;

/// How urgent a request is to its client (RFC 9218 section 5).
const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// Streams of one urgency.
type Level = FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>>;

/// All of them.
pub(super) struct Streams {
    connection: Rc<Connection>,
    turns: Rc<Turns>,
    /// By urgency; those that no request had are not there.
    levels: [Option<Box<Level>>; LEVELS],
}

impl Streams {
    /// None yet.
    pub(super) fn new(connection: &Rc<Connection>) -> Self {
        Self { connection: Rc::clone(connection), turns: Rc::default(), levels: Default::default() }
    }

    /// Whose turn it is.
    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// One more.
    pub(super) fn add(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let urgency =
            request.headers().get(PRIORITY).map_or_else(Urgency::default, |said| Urgency::of(said.as_bytes()));
        let Some(level) = self.levels.get_mut(urgency.level()) else { return };
        let (connection, turns) = (Rc::clone(&self.connection), Rc::clone(&self.turns));
        let serving = Box::pin(stream::serve(connection, request, respond, turns, urgency));
        level.get_or_insert_default().push(serving);
    }

    /// Polls those that were woken, and those that are new; but none behind more urgent ones that have handed something in, which
    /// goes out before. Whether there are such.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut levels = self.levels.iter_mut().flatten();
        for level in levels.by_ref() {
            while let Poll::Ready(Some(())) = Pin::new(&mut **level).poll_next(cx) {}
            if self.turns.has_handed() {
                break;
            }
        }
        levels.any(|level| !level.is_empty())
    }
}
