//! HTTP/1 framing as it stands on the wire. hyper resolves ambiguous heads by itself and does not tell; this follows
//! the bytes beside it and remembers which request's head could be read in two ways, so that it can be refused
//! (RFC 9112 sections 2.2, 6.1 and 6.3). Pure: bytes in, a verdict out.

use proxy_core::http1::chunk_length;

/// Longest line that is put together over several reads; a longer one cannot be judged and is refused.
const MAX_LINE: usize = 64 << 10;

/// Both framings in one head.
const BOTH: &str = "both Content-Length and Transfer-Encoding";
/// Several lengths, even equal ones.
const LENGTHS: &str = "more than one Content-Length";
/// A lone line feed ends a line.
const BARE_LF: &str = "a line of the header ends without CR";
/// The URI type behind this drops it (RFC 9112 section 3.2.1 has none).
const FRAGMENT: &str = "a fragment in the request's target";
/// The body's framing could not be followed.
const LOST: &str = "the request's framing is not valid";

/// Follows one connection's requests.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    line: Vec<u8>,
    heads: u64,
    head: Head,
    bad: Option<(u64, &'static str)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a head.
    #[default]
    Head,
    /// So many bytes of body left.
    Body(u64),
    /// Before a chunk's size.
    ChunkSize,
    /// So many bytes of a chunk left, with the line end after it.
    Chunk(u64),
    /// In the trailers.
    Trailers,
    /// Nothing is looked at any more.
    Done,
}

#[derive(Debug, Default, Clone, Copy)]
struct Head {
    begun: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// Why the `ordinal`th request (from 1) or one before it cannot be trusted.
    pub fn fault(&self, ordinal: u64) -> Option<&'static str> {
        self.bad.filter(|(bad, _)| *bad <= ordinal).map(|(_, why)| why)
    }

    /// Whether the bytes so far end within a head that has begun.
    pub fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.begun || !self.line.is_empty())
    }

    /// Takes the next bytes from the client.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Done => return,
                State::Body(left) | State::Chunk(left) => {
                    let taken = left.min(bytes.len() as u64);
                    bytes = bytes.get(taken as usize..).unwrap_or_default();
                    let left = left - taken;
                    self.state = match self.state {
                        State::Body(_) if left == 0 => State::Head,
                        State::Body(_) => State::Body(left),
                        _ if left == 0 => State::ChunkSize,
                        _ => State::Chunk(left),
                    };
                }
                State::Head | State::ChunkSize | State::Trailers => bytes = self.line(bytes),
            }
        }
    }

    /// Takes one line, or the part of it that is there; returns what follows.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.line.extend_from_slice(bytes);
            if self.line.len() > MAX_LINE {
                self.fail(LOST);
            }
            return &[];
        };
        let (line, rest) = bytes.split_at(end + 1);
        if self.line.is_empty() {
            self.complete(line);
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.complete(&whole);
            whole.clear();
            self.line = whole;
        }
        rest
    }

    /// A whole line with its line feed.
    fn complete(&mut self, line: &[u8]) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let Some(text) = text.strip_suffix(b"\r") else {
            return self.fail(BARE_LF);
        };
        match self.state {
            State::Head if text.is_empty() => self.head_ended(),
            State::Head => self.field(text),
            State::ChunkSize => match chunk_length(text) {
                Some(0) => self.state = State::Trailers,
                // The chunk's own line end goes with it.
                Some(size) => self.state = State::Chunk(size.saturating_add(2)),
                None => self.fail(LOST),
            },
            State::Trailers if text.is_empty() => self.state = State::Head,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Done => {}
        }
    }

    fn field(&mut self, line: &[u8]) {
        if !self.head.begun {
            self.head.begun = true;
            self.heads += 1;
            if memchr::memchr(b'#', line).is_some() {
                self.fail(FRAGMENT);
            }
            return;
        }
        // Only two names matter; both are told by their first letter and length.
        let Some(first @ (b'c' | b'C' | b't' | b'T')) = line.first().copied() else { return };
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        if matches!(first, b'c' | b'C') && name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() {
                return self.fail(LENGTHS);
            }
            let value = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
            match value.parse() {
                Ok(length) => self.head.length = Some(length),
                Err(_) => return self.fail(LENGTHS),
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.chunked = true;
        }
        if self.head.chunked && self.head.length.is_some() {
            self.fail(BOTH);
        }
    }

    fn head_ended(&mut self) {
        // Empty lines before a request line are allowed (section 2.2).
        if !self.head.begun {
            return;
        }
        let head = std::mem::take(&mut self.head);
        self.state = match (head.chunked, head.length) {
            (true, _) => State::ChunkSize,
            (false, Some(length)) if length > 0 => State::Body(length),
            (false, _) => State::Head,
        };
    }

    fn fail(&mut self, why: &'static str) {
        // In a body the fault shows in the next request: this one's head was clear.
        let ordinal = if self.state == State::Head && self.head.begun { self.heads } else { self.heads + 1 };
        self.bad = Some((ordinal, why));
        self.state = State::Done;
        self.line = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the whole, and also byte by byte; both must agree.
    fn judge(wire: &str) -> (u64, Option<(u64, &'static str)>, State) {
        let mut whole = Framing::default();
        whole.feed(wire.as_bytes());
        let mut split = Framing::default();
        for byte in wire.as_bytes() {
            split.feed(std::slice::from_ref(byte));
        }
        assert_eq!((whole.heads, whole.bad, whole.state), (split.heads, split.bad, split.state), "{wire:?}");
        (whole.heads, whole.bad, whole.state)
    }

    #[test]
    fn clear_requests_pass() {
        for (wire, heads) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                2,
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nA \r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                2,
            ),
        ] {
            assert_eq!(judge(wire), (heads, None, State::Head), "{wire:?}");
        }
    }

    #[test]
    fn ambiguous_requests_are_named() {
        for (wire, at, why) in [
            ("P / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 1, BOTH),
            ("P / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\ncontent-length: 5\r\n\r\n", 1, BOTH),
            ("P / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 1, LENGTHS),
            ("P / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", 1, LENGTHS),
            ("G / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 1, BARE_LF),
            ("G /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 1, FRAGMENT),
            ("G / HTTP/1.1\r\n\r\nG / HTTP/1.1\r\nHost: a\n\r\n", 2, BARE_LF),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 2, LOST),
        ] {
            assert_eq!(judge(wire).1, Some((at, why)), "{wire:?}");
        }
    }

    #[test]
    fn a_fault_holds_for_its_request_and_all_after() {
        let mut framing = Framing::default();
        framing.feed(b"G / HTTP/1.1\r\n\r\nG / HTTP/1.1\r\nHost: a\n\r\n");
        assert_eq!([framing.fault(1), framing.fault(2), framing.fault(3)], [None, Some(BARE_LF), Some(BARE_LF)]);
    }

    #[test]
    fn a_head_is_seen_while_it_lasts() {
        let mut framing = Framing::default();
        assert!(!framing.in_head());
        framing.feed(b"GE");
        assert!(framing.in_head());
        framing.feed(b"T / HTTP/1.1\r\n");
        assert!(framing.in_head());
        framing.feed(b"\r\n");
        assert!(!framing.in_head());
    }

    proptest::proptest! {
        /// Any bytes, in any pieces: no panic, and the pieces do not matter.
        #[test]
        fn pieces_do_not_matter(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "GET / HTTP/1.1", "\r\n", "\n", "\r", ":", " ", "Content-Length: 3", "Content-Length: +1", "Transfer-Encoding: chunked",
                    "transfer-encoding", "abc", "0", "5;x", "ffffffffffffffff", "fffffffffffffffff", "\0", "\u{e9}",
                ]),
                0..40,
            ),
            cuts in proptest::collection::vec(1_usize..9, 1..20),
        ) {
            let wire = parts.concat();
            let (heads, bad, state) = judge(&wire);
            let mut framing = Framing::default();
            let mut rest = wire.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                framing.feed(piece);
                rest = after;
            }
            proptest::prop_assert_eq!((framing.heads, framing.bad, framing.state), (heads, bad, state));
        }
    }
}
