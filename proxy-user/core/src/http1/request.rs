//! The header of a request as it goes to an origin (RFC 9112 sections 3 and 6).

use std::io::Write as _;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
    FORWARDED, HOST, MAX_FORWARDS, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Method};

use super::{Wrong, decimal};
use crate::fields::{Fields, put_line};

/// How a request's body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks, for nobody knows how many bytes there are.
    Chunked,
}

/// How a body is sent of which the header fields may say the length, and of which `known` may be known.
///
/// # Errors
/// The fields' length is none, or another one.
pub fn body_of(fields: &Fields, known: Option<u64>) -> Result<Body, Wrong> {
    let Some(length) = fields.get(CONTENT_LENGTH) else {
        return Ok(known.map_or(Body::Chunked, Body::Length));
    };
    let said = decimal(length.as_bytes()).ok_or(Wrong::Framing)?;
    if known.is_some_and(|known| known != said) { Err(Wrong::Framing) } else { Ok(Body::Length(said)) }
}

/// Writes a request's header behind what `out` holds. The framing's fields are written as `body` has it.
pub fn encode(out: &mut Vec<u8>, method: &Method, target: &str, fields: &Fields, body: Body) {
    out.reserve(target.len() + fields.len() * 48 + 64);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // A body's own framing stands below; a length without a body says that there is none.
    fields.put_lines(out, |name| *name == TRANSFER_ENCODING || (*name == CONTENT_LENGTH && body != Body::None));
    match body {
        Body::None => {}
        // Writing to a Vec cannot fail.
        Body::Length(length) => drop(write!(out, "content-length: {length}\r\n")),
        Body::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk.
pub fn chunk_size(out: &mut Vec<u8>, bytes: usize) {
    drop(write!(out, "{bytes:x}\r\n"));
}

/// The last chunk and the trailers that may follow it.
pub fn encode_trailers(out: &mut Vec<u8>, fields: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in fields.into_iter().flatten().filter(|(name, _)| may_be_trailer(name)) {
        put_line(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a field may stand behind a body: none that says how to read, route or admit a message (RFC 9110 section 6.5.1), or who
/// sent it, for there are origins that take trailers for header fields.
pub fn may_be_trailer(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 15] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        FORWARDED,
        HOST,
        MAX_FORWARDS,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    !NEVER.contains(name) && !name.as_str().starts_with("x-forwarded-")
}
