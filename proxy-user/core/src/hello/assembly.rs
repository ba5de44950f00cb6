//! The crypto stream of a client's Initials put together: pieces come in any order, twice, and overlapping (RFC 9000
//! section 7.5). Those that say different things of one place are of nobody who means well: which of them TLS reads is not
//! known here, so that there is no hello then.

use smallvec::SmallVec;

use super::{Found, MAX_HELLO_BYTES, Transport, message};

/// Most pieces with gaps between them; browsers cut a hello into a few and shuffle those.
pub const MAX_PIECES: usize = 64;

/// What has come of one client's hello.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    bytes: Vec<u8>,
    /// What of `bytes` has come, as `start..end` in order, with gaps between.
    pieces: SmallVec<[(usize, usize); 4]>,
    full: bool,
    torn: bool,
}

impl Assembly {
    /// Takes a piece; what goes beyond the bounds makes the hello [`Found::TooLarge`], what contradicts an earlier one
    /// [`Found::Not`].
    pub fn add(&mut self, offset: u64, piece: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(piece.len());
        if end > MAX_HELLO_BYTES {
            self.full = true;
            return;
        }
        if piece.is_empty() {
            return;
        }
        self.torn |= self.pieces.iter().any(|&(from, to)| {
            let (from, to) = (from.max(start), to.min(end));
            from < to && self.bytes.get(from..to) != piece.get(from - start..to - start)
        });
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(start..end) {
            place.copy_from_slice(piece);
        }
        let apart = |(from, to): &(usize, usize)| *to < start || *from > end;
        let (mut from, mut to) = (start, end);
        self.pieces.retain(|known| {
            let kept = apart(known);
            if !kept {
                (from, to) = (from.min(known.0), to.max(known.1));
            }
            kept
        });
        let place = self.pieces.iter().position(|known| known.0 > from).unwrap_or(self.pieces.len());
        self.pieces.insert(place, (from, to));
        self.full |= self.pieces.len() > MAX_PIECES;
    }

    /// What it comes to so far.
    pub fn found(&self) -> Found {
        if self.torn {
            return Found::Not("pieces that contradict each other");
        }
        if self.full {
            return Found::TooLarge;
        }
        let whole = self.pieces.first().filter(|(start, _)| *start == 0).map_or(0, |(_, end)| *end);
        message(self.bytes.get(..whole).unwrap_or_default(), Transport::Quic)
    }
}
