//! A request's body as it came over its stream and was not read yet.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::session::STREAM_WINDOW;

/// Pieces of content that are put together: each would hold the room that it was read into.
const SMALL: usize = 2 << 10;

/// A request's body on its way.
pub(super) struct Coming {
    pieces: VecDeque<Bytes>,
    /// Small pieces behind those.
    small: BytesMut,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) ended: bool,
    /// There is somebody to read it.
    pub(super) wanted: bool,
    /// What the client may still send, and what was taken of that and not given back.
    pub(super) room: u32,
    pub(super) taken: u32,
    /// What it has declared and not sent.
    pub(super) length: Option<u64>,
    pub(super) waker: Option<Waker>,
}

impl Coming {
    /// One of which nothing has come; `length` is what the client declared.
    pub(super) fn new(length: Option<u64>) -> Self {
        Self {
            pieces: VecDeque::new(),
            small: BytesMut::new(),
            trailers: None,
            ended: false,
            wanted: true,
            room: STREAM_WINDOW,
            taken: 0,
            length,
            waker: None,
        }
    }

    /// Lets the pieces go.
    pub(super) fn clear(&mut self) {
        (self.pieces, self.small) = Default::default();
    }

    /// Takes a piece.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() < SMALL {
            return self.small.extend_from_slice(&piece);
        }
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
        self.pieces.push_back(piece);
    }

    /// The next piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.pieces.pop_front().or_else(|| (!self.small.is_empty()).then(|| self.small.split().freeze()))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }

    /// Bytes that nobody has read.
    pub(super) fn held(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.small.len()
    }
}
