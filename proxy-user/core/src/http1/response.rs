//! The header of a response as it is written to a client (RFC 9112 sections 4, 6 and 9).

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::fields::Fields;

/// How the end of a response's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is no body, and what the fields say of one stands: HEAD, 304.
    Bare,
    /// There can be none, and nothing may be said of one: 1xx, 204 (RFC 9110 section 8.6).
    Never,
    /// After so many bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// With the connection.
    Close,
}

/// What is said of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: it goes on as HTTP/1.1 does.
    Implied,
    /// It goes on, for a client of HTTP/1.0.
    KeepAlive,
    /// It ends.
    Close,
    /// What the fields say: it goes on as another protocol.
    Changed,
}

/// Writes a header behind what `out` holds.
pub fn encode_response(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &Fields,
    ending: Ending,
    persistence: Persistence,
) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    fields.put_lines(out, |name| match *name {
        CONTENT_LENGTH => ending != Ending::Bare,
        TRANSFER_ENCODING => true,
        CONNECTION => persistence != Persistence::Changed,
        _ => false,
    });
    match ending {
        Ending::Bare | Ending::Never | Ending::Close => {}
        Ending::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Ending::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    match persistence {
        Persistence::Implied | Persistence::Changed => {}
        Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn written(status: u16, fields: &[(&str, &str)], ending: Ending, persistence: Persistence) -> String {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()));
        let mut out = Vec::new();
        let status = StatusCode::from_u16(status).unwrap();
        encode_response(&mut out, status, &fields.collect(), ending, persistence);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_end_of_the_body_is_said_once() {
        let said = [("content-length", "7"), ("transfer-encoding", "chunked"), ("connection", "x"), ("a", "b")];
        for (ending, persistence, rest) in [
            (Ending::Length(3), Persistence::Implied, "content-length: 3\r\n"),
            (Ending::Chunked, Persistence::Implied, "transfer-encoding: chunked\r\n"),
            (Ending::Close, Persistence::Close, "connection: close\r\n"),
            (Ending::Never, Persistence::KeepAlive, "connection: keep-alive\r\n"),
        ] {
            let expected = format!("HTTP/1.1 200 OK\r\na: b\r\n{rest}\r\n");
            assert_eq!(written(200, &said, ending, persistence), expected);
        }
        assert_eq!(
            written(304, &said, Ending::Bare, Persistence::Implied),
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\na: b\r\n\r\n"
        );
        assert_eq!(
            written(101, &[("connection", "upgrade")], Ending::Never, Persistence::Changed),
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n"
        );
        assert_eq!(
            written(599, &[("a", "b")], Ending::Length(0), Persistence::Implied),
            "HTTP/1.1 599 \r\na: b\r\ncontent-length: 0\r\n\r\n"
        );
    }
}
