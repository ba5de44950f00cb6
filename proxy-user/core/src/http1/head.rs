//! The header of a response, and how its body is framed (RFC 9112 sections 4 to 6).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use httparse::{ParserConfig, Status};

use super::fields::{Places, keeps};
use super::lines::{Last, Lines};
use super::{Wrong, decimal};
use crate::fields::Fields;
use crate::special::Special;

/// Bytes that a header may have.
pub const MAX_HEAD: usize = 256 << 10;
/// Fields that it may have.
pub const MAX_FIELDS: usize = 100;

/// A response's header.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: Fields,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the origin keeps the connection (RFC 9112 section 9.3).
    pub keeps: bool,
}

/// Where a body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// By chunks.
    Chunked,
    /// With the connection.
    Close,
}

/// Takes one header, final or interim, from the front of what came; `None` until it is there. `last` is the connection's.
///
/// # Errors
/// See [`Wrong`]; the connection is of no more use.
pub fn parse(came: &mut BytesMut, asked: &Method, last: &mut Last) -> Result<Option<Head>, Wrong> {
    if let Some((status, is_old, fields)) = by_lines(came, last) {
        return head(status, asked, is_old, fields).map(Some);
    }
    let mut room = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, came, &mut room);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if came.len() >= MAX_HEAD => return Err(Wrong::Long),
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Wrong::Long),
        Err(_) => return Err(Wrong::Head),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Wrong::Head)?;
    let is_old = response.version == Some(0);
    let mut places = Places::default();
    places.note(response.headers, came.as_ptr().addr()).ok_or(Wrong::Head)?;
    let fields = places.fields(&came.split_to(length).freeze()).ok_or(Wrong::Head)?;
    head(status, asked, is_old, fields).map(Some)
}

/// The same for a header of lines as nearly all are; nothing is taken where it is another one.
fn by_lines(came: &mut BytesMut, last: &mut Last) -> Option<(StatusCode, bool, Fields)> {
    let mut lines = Lines::default();
    lines.find(came, MAX_FIELDS, *last)?;
    let (status, is_old) = match lines.first(came) {
        // What most say.
        b"HTTP/1.1 200 OK\r\n" => (StatusCode::OK, false),
        other => status_line(other)?,
    };
    Some((status, is_old, lines.take(came, last)?))
}

/// Status, and whether it is of HTTP/1.0.
fn status_line(line: &[u8]) -> Option<(StatusCode, bool)> {
    let mut response = httparse::Response::new(&mut []);
    // Without the fields, of which it says that they are not there yet.
    response.parse(line).ok()?;
    let (code, version) = (response.code.filter(|_| response.reason.is_some())?, response.version?);
    Some((StatusCode::from_u16(code).ok()?, version == 0))
}

fn head(status: StatusCode, asked: &Method, is_old: bool, fields: Fields) -> Result<Head, Wrong> {
    let framing = framing(status, asked, is_old, &fields)?;
    let keeps = framing != Framing::Close && keeps(is_old, &fields);
    Ok(Head { status, fields, framing, keeps })
}

fn framing(status: StatusCode, asked: &Method, is_old: bool, fields: &Fields) -> Result<Framing, Wrong> {
    let special = fields.special();
    let coded = special.has(Special::TRANSFER_ENCODING);
    let length = if special.has(Special::CONTENT_LENGTH) { length(fields)? } else { None };
    // A transfer coding is none of HTTP/1.0's, and beside a length somebody on the way may have believed the length.
    if coded && (is_old || length.is_some()) {
        return Err(Wrong::Framing);
    }
    let bare = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if bare || asked == Method::HEAD {
        return Ok(Framing::Length(0));
    }
    if coded {
        let mut codings = fields.get_all(TRANSFER_ENCODING);
        let only = codings.next().is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        return if only && codings.next().is_none() { Ok(Framing::Chunked) } else { Err(Wrong::Framing) };
    }
    Ok(length.map_or(Framing::Close, Framing::Length))
}

/// The one length there is; equal ones, also in one field, are one (RFC 9110 section 8.6).
fn length(fields: &Fields) -> Result<Option<u64>, Wrong> {
    let mut found = None;
    for field in fields.get_all(CONTENT_LENGTH) {
        for item in field.as_bytes().split(|b| *b == b',') {
            let length = decimal(item.trim_ascii()).ok_or(Wrong::Framing)?;
            if found.is_some_and(|other| other != length) {
                return Err(Wrong::Framing);
            }
            found = Some(length);
        }
    }
    Ok(found)
}
