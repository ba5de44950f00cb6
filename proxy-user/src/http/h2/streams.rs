//! The requests of one connection, each a future that its task polls when it was woken, the urgent ones before the others.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream as _};
use proxy_core::http2::priority::LEVELS;

use super::session::Session;
use super::state::Stream;
use super::stream;
use crate::http::head::RequestHead;

/// Streams of one urgency.
type Level = FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>>;

/// All of them.
pub(super) struct Streams {
    session: Rc<Session>,
    /// By urgency; those that no request had are not there.
    levels: [Option<Box<Level>>; LEVELS],
    /// There are some that were never polled.
    added: bool,
}

impl Streams {
    /// None yet.
    pub(super) fn new(session: &Rc<Session>) -> Self {
        Self { session: Rc::clone(session), levels: Default::default(), added: false }
    }

    /// One more.
    pub(super) fn add(&mut self, head: RequestHead, stream: Rc<Stream>) {
        let Some(level) = self.levels.get_mut(stream.urgency().level()) else { return };
        level.get_or_insert_default().push(Box::pin(stream::serve(head, stream)));
        self.added = true;
    }

    /// Whether there are some that were never polled.
    pub(super) fn has_added(&self) -> bool {
        self.added
    }

    /// Polls those that were woken, and those that are new; but none behind more urgent ones that have handed something in, which
    /// goes out before. Whether there are such.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.added = false;
        let mut levels = self.levels.iter_mut().flatten();
        for level in levels.by_ref() {
            while let Poll::Ready(Some(())) = Pin::new(&mut **level).poll_next(cx) {}
            if self.session.turns.has_handed() {
                break;
            }
        }
        levels.any(|level| !level.is_empty())
    }
}
