//! A ClientHello in the records of a TCP stream (RFC 8446 section 5.1), which may cut it anywhere.

use super::cursor::Cursor;
use super::{Found, MAX_HELLO_BYTES, Transport, message};

/// Most bytes of a stream that are looked at: a hello of the largest size in four records to the KiB.
pub const MAX_STREAM_BYTES: usize = MAX_HELLO_BYTES + MAX_HELLO_BYTES / 256 * HEADER_BYTES;

/// Type, version and length of a record.
const HEADER_BYTES: usize = 5;
/// `handshake`
const HANDSHAKE: u8 = 22;
/// First byte of every version that is spoken.
const MAJOR: u8 = 3;
/// Longest record (RFC 8446 section 5.1).
const MAX_RECORD: u16 = 1 << 14;

/// What the first bytes of a stream, as many as have come, are.
pub fn from_stream(bytes: &[u8]) -> Found {
    let mut rest = Cursor(bytes);
    let mut gathered: Vec<u8> = Vec::new();
    loop {
        if rest.0.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.0.get(1).is_some_and(|major| *major != MAJOR) {
            return Found::Not("no TLS handshake");
        }
        let Some(&[_, _, _, high, low]) = rest.0.get(..HEADER_BYTES) else { break };
        let length = u16::from_be_bytes([high, low]);
        if length == 0 || length > MAX_RECORD {
            return Found::Not("a record of a length that none has");
        }
        let content = rest.0.get(HEADER_BYTES..).unwrap_or_default();
        let whole = content.get(..length.into());
        let part = whole.unwrap_or(content);
        // Mostly it is one record, which is read where it lies.
        let found = if gathered.is_empty() {
            message(part, Transport::Tcp)
        } else {
            gathered.extend_from_slice(part);
            message(&gathered, Transport::Tcp)
        };
        if found != Found::More {
            return found;
        }
        let Some(whole) = whole else { break };
        if gathered.is_empty() {
            gathered.extend_from_slice(whole);
        }
        rest = Cursor(content.get(whole.len()..).unwrap_or_default());
    }
    if bytes.len() >= MAX_STREAM_BYTES { Found::TooLarge } else { Found::More }
}
