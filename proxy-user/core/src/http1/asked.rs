//! The header of a client's request, and how its body is framed (RFC 9112 sections 2, 3 and 6). What could be read in two ways is
//! told beside the request, so that whoever answers can refuse it by name; what is no request at all is an error.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING};
use http::{Method, Uri, Version};
use httparse::{Header, ParserConfig, Status};

use super::fields::{Places, has_lone_line_feed, keeps};
use super::lines::{Last, Lines};
use super::{Body, decimal, names};
use crate::fields::Fields;
use crate::special::Special;

/// Fields that are parsed without an allocation.
const FEW_FIELDS: usize = 128;
/// Bytes of a target; beyond, the URI type behind it has no room.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// Both framings in one head.
const BOTH: &str = "both Content-Length and Transfer-Encoding";
/// Several lengths, even equal ones.
const LENGTHS: &str = "more than one Content-Length";
/// A lone line feed ends a line.
const BARE_LF: &str = "a line of the header ends without CR";
/// The URI type behind this drops it (RFC 9112 section 3.2.1 has none).
const FRAGMENT: &str = "a fragment in the request's target";
/// HTTP/1.0 has no transfer codings (section 6.1).
const OLD_CODING: &str = "a transfer coding in HTTP/1.0";
/// The end of the body cannot be told (section 6.3).
const NOT_CHUNKED: &str = "a transfer coding that does not end in chunked";

/// How much of a header there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// A request's header.
#[derive(Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Its target in any of the four forms.
    pub target: Uri,
    /// 1.0 or 1.1.
    pub version: Version,
    /// Its fields.
    pub fields: Fields,
    /// How its body is framed; [`Body::None`] where that cannot be trusted.
    pub body: Body,
    /// Whether the client keeps the connection (section 9.3).
    pub keeps: bool,
    /// Whether the client waits for a 100 before it sends the body (RFC 9110 section 10.1.1).
    pub expects: bool,
    /// Whether it takes trailers (RFC 9110 section 10.1.4).
    pub trailers: bool,
    /// Why it cannot be trusted: it could be read in two ways. Nothing behind it can be, either.
    pub fault: Option<&'static str>,
}

/// Bytes that are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Neither a request line nor fields.
    Malformed,
    /// More bytes or fields than there may be.
    Long,
    /// A target of more than 65,534 bytes.
    LongTarget,
}

impl Refused {
    /// The same in words.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Malformed => "this is not HTTP/1",
            Self::Long => "the request's header is longer than allowed",
            Self::LongTarget => "the request's target is longer than allowed",
        }
    }
}

/// Reads headers of one connection as their bytes come.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes in which no header ended.
    looked_at: usize,
    last: Last,
}

impl Reader {
    /// Takes one header from the front of what came; `None` until it is there. Empty lines before it are skipped (RFC 9112 section
    /// 2.2), so that what is left then belongs to a header that has begun.
    ///
    /// # Errors
    /// See [`Refused`]; nothing that follows can be read.
    pub fn next(&mut self, came: &mut BytesMut, bounds: Bounds) -> Result<Option<Asked>, Refused> {
        while self.looked_at == 0 && came.starts_with(b"\r\n") {
            came.advance(2);
        }
        if came.is_empty() {
            return Ok(None);
        }
        // Who sends a byte at a time does not have the whole parsed for each of them.
        let first = self.looked_at == 0;
        let asked =
            if first || ends_within(came, self.looked_at) { parse(came, bounds, &mut self.last)? } else { None };
        self.looked_at = if asked.is_some() { 0 } else { came.len() };
        if asked.is_none() && came.len() >= bounds.bytes {
            return Err(Refused::Long);
        }
        Ok(asked)
    }
}

/// Whether an empty line ends in what came behind the first bytes.
fn ends_within(came: &[u8], looked_at: usize) -> bool {
    let new = came.get(looked_at.saturating_sub(3)..).unwrap_or_default();
    memchr::memmem::find(new, b"\n\r\n").is_some() || memchr::memmem::find(new, b"\n\n").is_some()
}

fn parse(came: &mut BytesMut, bounds: Bounds, last: &mut Last) -> Result<Option<Asked>, Refused> {
    if let Some((line, fields)) = by_lines(came, bounds, last) {
        return asked(line, fields, false).map(Some);
    }
    let mut few = [const { MaybeUninit::<Header<'_>>::uninit() }; FEW_FIELDS];
    let mut many = Vec::new();
    let room = if let Some(room) = few.get_mut(..bounds.fields) {
        room
    } else {
        many.resize_with(bounds.fields, MaybeUninit::uninit);
        &mut many[..]
    };
    let mut request = httparse::Request::new(&mut []);
    let length = match ParserConfig::default().parse_request_with_uninit_headers(&mut request, came, room) {
        Ok(Status::Complete(length)) if length > bounds.bytes => return Err(Refused::Long),
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::Long),
        Err(_) => return Err(Refused::Malformed),
    };
    let line = Line::of(&request)?;
    let mut places = Places::default();
    places.note(request.headers, came.as_ptr().addr()).ok_or(Refused::Malformed)?;
    let bytes = came.split_to(length).freeze();
    let fields = places.fields(&bytes).ok_or(Refused::Malformed)?;
    asked(line, fields, has_lone_line_feed(&bytes)).map(Some)
}

/// The same for a header of lines as nearly all are; nothing is taken where it is another one.
fn by_lines(came: &mut BytesMut, bounds: Bounds, last: &mut Last) -> Option<(Line, Fields)> {
    let mut lines = Lines::default();
    lines.find(came, bounds.fields, *last)?;
    if lines.length() > bounds.bytes {
        return None;
    }
    let mut request = httparse::Request::new(&mut []);
    // Without the fields, of which it says that they are not there yet.
    request.parse(lines.first(came)).ok()?;
    let line = Line::of(&request).ok()?;
    Some((line, lines.take(came, last)?))
}

/// A request line.
struct Line {
    method: Method,
    target: Bytes,
    has_fragment: bool,
    is_old: bool,
}

impl Line {
    fn of(request: &httparse::Request<'_, '_>) -> Result<Self, Refused> {
        let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
            return Err(Refused::Malformed);
        };
        if path.len() > MAX_TARGET {
            return Err(Refused::LongTarget);
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refused::Malformed)?;
        // A copy: where the fields are known nothing else holds what came.
        let target = Bytes::copy_from_slice(path.as_bytes());
        Ok(Self { method, has_fragment: target.contains(&b'#'), target, is_old: version == 0 })
    }
}

fn asked(line: Line, fields: Fields, bare_line_feed: bool) -> Result<Asked, Refused> {
    let special = fields.special();
    let Line { method, target, has_fragment, is_old } = line;
    let target = Uri::from_maybe_shared(target).map_err(|_| Refused::Malformed)?;
    let (body, fault) = match framing(is_old, &fields) {
        Ok(body) => (body, None),
        Err(fault) => (Body::None, Some(fault)),
    };
    let fault = fault.or(has_fragment.then_some(FRAGMENT)).or(bare_line_feed.then_some(BARE_LF));
    Ok(Asked {
        body: if fault.is_some() { Body::None } else { body },
        keeps: fault.is_none() && keeps(is_old, &fields),
        expects: !is_old
            && fields
                .get_special(Special::EXPECT, EXPECT)
                .is_some_and(|wish| wish.as_bytes().eq_ignore_ascii_case(b"100-continue")),
        trailers: special.has(Special::TE) && fields.get_all(TE).any(|list| names(list, "trailers")),
        method,
        target,
        version: if is_old { Version::HTTP_10 } else { Version::HTTP_11 },
        fields,
        fault,
    })
}

/// The end of the body (section 6.3), where there is but one way to read it.
fn framing(is_old: bool, fields: &Fields) -> Result<Body, &'static str> {
    if !fields.special().has(Special::CONTENT_LENGTH | Special::TRANSFER_ENCODING) {
        return Ok(Body::None);
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH);
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(LENGTHS);
    }
    let length = length.map(|length| decimal(length.as_bytes()).ok_or(LENGTHS)).transpose()?;
    let Some(coding) = fields.get_all(TRANSFER_ENCODING).next_back() else {
        return Ok(length.filter(|length| *length > 0).map_or(Body::None, Body::Length));
    };
    if is_old {
        return Err(OLD_CODING);
    }
    if length.is_some() {
        return Err(BOTH);
    }
    let last = coding.as_bytes().rsplit(|b| *b == b',').next().unwrap_or_default();
    if last.trim_ascii().eq_ignore_ascii_case(b"chunked") { Ok(Body::Chunked) } else { Err(NOT_CHUNKED) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 8 << 10, fields: 100 };

    fn read(wire: &str) -> Result<Option<Asked>, Refused> {
        Reader::default().next(&mut BytesMut::from(wire), BOUNDS)
    }

    #[test]
    fn clear_requests_pass() {
        for (wire, body, keeps) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Body::None, true),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Body::None, true),
            ("GET / HTTP/1.0\r\n\r\n", Body::None, false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", Body::None, true),
            ("GET / HTTP/1.1\r\nConnection: a, Close\r\n\r\n", Body::None, false),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", Body::Length(5), true),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Body::None, true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", Body::Chunked, true),
            // That it is not served is for others to say; where it ends is clear.
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Body::Chunked, true),
        ] {
            let asked = read(wire).unwrap().unwrap();
            assert_eq!((asked.body, asked.keeps, asked.fault), (body, keeps, None), "{wire:?}");
        }
    }

    #[test]
    fn ambiguous_requests_are_named() {
        for (wire, why) in [
            ("P / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BOTH),
            ("P / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\ncontent-length: 5\r\n\r\n", BOTH),
            ("P / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", LENGTHS),
            ("P / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", LENGTHS),
            ("P / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", LENGTHS),
            ("P / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", LENGTHS),
            ("P / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", OLD_CODING),
            ("P / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", NOT_CHUNKED),
            ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", NOT_CHUNKED),
            ("G / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", BARE_LF),
            ("\nG / HTTP/1.1\r\nHost: a\r\n\r\n", BARE_LF),
            ("G /a#b HTTP/1.1\r\nHost: a\r\n\r\n", FRAGMENT),
        ] {
            let asked = read(wire).unwrap().unwrap();
            assert_eq!((asked.fault, asked.body, asked.keeps), (Some(why), Body::None, false), "{wire:?}");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for wire in [
            "hello\r\n\r\n",
            "\x16\x03\x01\x02\x00",
            "GET / HTTP/2.0\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
        ] {
            assert_eq!(read(wire).unwrap_err(), Refused::Malformed, "{wire:?}");
        }
        let fields = "A: b\r\n".repeat(BOUNDS.fields + 1);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).unwrap_err(), Refused::Long);
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(8 << 10))).unwrap_err(), Refused::Long);
        let long = Bounds { bytes: 1 << 20, fields: 1_024 };
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_TARGET));
        assert_eq!(Reader::default().next(&mut BytesMut::from(&*target), long).unwrap_err(), Refused::LongTarget);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1_000));
        let asked = Reader::default().next(&mut BytesMut::from(&*many), long).unwrap().unwrap();
        assert_eq!(asked.fields.len(), 1_000);
    }

    #[test]
    fn what_follows_stays() {
        let mut came = BytesMut::from(
            "GET /1 HTTP/1.1\r\nA: b\r\n\r\nGET /2 HTTP/1.1\r\nExpect: 100-Continue\r\nTE: a, trailers\r\n\r\nx",
        );
        let mut reader = Reader::default();
        let first = reader.next(&mut came, BOUNDS).unwrap().unwrap();
        let second = reader.next(&mut came, BOUNDS).unwrap().unwrap();
        assert_eq!((first.target.path(), second.target.path(), &came[..]), ("/1", "/2", &b"x"[..]));
        assert_eq!(
            [(first.expects, first.trailers), (second.expects, second.trailers)],
            [(false, false), (true, true)]
        );
    }

    proptest! {
        /// Any bytes, in any pieces: no panic, and the pieces do not matter.
        #[test]
        fn pieces_do_not_matter(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "GET / HTTP/1.1\r\n", "\r\n", "\n", "\r", ":", " ", "Content-Length: 3\r\n", "Content-Length: +1\r\n",
                    "Transfer-Encoding: chunked\r\n", "A: b\r\n", "abc", "#", "\0", "\u{e9}", "\r\n\r\n", "\n\n",
                ]),
                0..40,
            ),
            cuts in proptest::collection::vec(1_usize..9, 1..20),
        ) {
            let wire = parts.concat();
            let show = |read: Result<Option<Asked>, Refused>| read.map(|asked| {
                asked.map(|asked| (asked.method, asked.target, asked.fields, asked.body, asked.fault))
            });
            let mut came = BytesMut::from(&*wire);
            let whole = show(Reader::default().next(&mut came, BOUNDS));
            let (mut split, mut rest) = (BytesMut::new(), wire.as_bytes());
            let (mut reader, mut piecewise) = (Reader::default(), Ok(None));
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || !matches!(piecewise, Ok(None)) {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                split.extend_from_slice(piece);
                piecewise = show(reader.next(&mut split, BOUNDS));
                rest = after;
            }
            // What is wrong with a header that has not ended may be found only when it ends.
            if piecewise != Ok(None) || whole == Ok(None) {
                prop_assert_eq!(piecewise, whole);
            }
        }
    }
}
