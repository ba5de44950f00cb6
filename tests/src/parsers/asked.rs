//! What requests of HTTP/1 clients are read by, and what it promises.

use anyhow::{Result, ensure};
use bytes::BytesMut;
use proxy_core::http1::{Body, Bounds, Piece, Reader, Refused, Rest, Wrong};

use super::texts;

/// Requests that are read of one input: what follows would be read in the same way.
const MAX_REQUESTS: usize = 8;
/// As a config may have it.
const BOUNDS: Bounds = Bounds { bytes: 8 << 10, fields: 100 };

pub(super) fn corpus() -> Vec<Vec<u8>> {
    texts([
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nTrail: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        "\r\nGET http://a#b HTTP/1.0\r\nConnection: keep-alive\r\nTE: trailers\n\r\n",
    ])
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Refused(Refused),
    Fault(&'static str),
    Body(Wrong),
}

/// What is read of some bytes.
#[derive(Debug, PartialEq, Eq, Default)]
struct Seen {
    requests: Vec<(String, Body, bool)>,
    body: Vec<u8>,
    end: Option<End>,
}

/// Reads requests of which each piece comes alone.
fn seen<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let (mut seen, mut came) = (Seen::default(), BytesMut::new());
    let (mut reader, mut rest) = (Reader::default(), Rest::Ended);
    for piece in pieces {
        came.extend_from_slice(piece);
        while seen.end.is_none() && seen.requests.len() < MAX_REQUESTS {
            if rest.is_ended() {
                match reader.next(&mut came, BOUNDS) {
                    Ok(None) => break,
                    Ok(Some(asked)) => {
                        rest = asked.body.into();
                        seen.requests.push((format!("{} {}", asked.method, asked.target), asked.body, asked.keeps));
                        seen.end = asked.fault.map(End::Fault);
                    }
                    Err(refused) => seen.end = Some(End::Refused(refused)),
                }
            } else {
                match rest.take(&mut came) {
                    Ok(None) => break,
                    Ok(Some(Piece::Data(data))) => seen.body.extend_from_slice(&data),
                    Ok(Some(Piece::Trailers(_) | Piece::End)) => {}
                    Err(wrong) => seen.end = Some(End::Body(wrong)),
                }
            }
        }
    }
    seen
}

/// However the bytes come, they mean the same, except that what is no request may be found only when it ends or becomes too long.
pub(super) fn read(bytes: &[u8]) -> Result<()> {
    let whole = seen(std::iter::once(bytes));
    for size in [1, 3, 17] {
        let split = seen(bytes.chunks(size));
        let differ = || format!("{whole:?} at once, {split:?} in pieces of {size} bytes");
        ensure!(whole.requests == split.requests && whole.body == split.body, differ());
        let late = matches!(whole.end, Some(End::Refused(_)));
        ensure!(whole.end == split.end || late, differ());
    }
    if let Some(End::Fault(why)) = whole.end {
        let last = whole.requests.last().map(|(_, body, keeps)| (*body, *keeps));
        ensure!(last == Some((Body::None, false)) && !why.is_empty(), "{whole:?} goes on behind a fault");
    }
    Ok(())
}
