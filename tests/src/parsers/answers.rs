//! What responses of origins are read by, and what it promises.

use anyhow::{Result, ensure};
use bytes::BytesMut;
use http::Method;
use proxy_core::http1::{Chunks, Framing, Last, MAX_FIELDS, Piece, Wrong, parse};

use super::texts;

/// Headers that are read of one input: what follows would be read in the same way.
const MAX_ANSWERS: usize = 4;

pub(super) fn corpus() -> Vec<Vec<u8>> {
    texts([
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfirst",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
        "HTTP/1.0 304 Not Modified\r\nConnection: keep-alive\r\nContent-Length: 7, 7\r\n\r\n",
        "HTTP/1.1 200\r\nTransfer-Encoding: gzip, chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\na: b\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\na: b\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 0\r\na: b\r\n\r\n",
    ])
}

/// What is read of some bytes: the answers' statuses and framings, the bytes of their bodies, and what ended it.
#[derive(Debug, PartialEq, Eq, Default)]
struct Seen {
    heads: Vec<(u16, Framing)>,
    body: Vec<u8>,
    wrong: Option<Wrong>,
}

/// Reads answers of which each piece comes alone.
fn seen<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let (mut seen, mut came, mut chunks, mut left) = (Seen::default(), BytesMut::new(), None, Some(0_u64));
    let mut last = Last::default();
    for piece in pieces {
        if seen.heads.len() >= MAX_ANSWERS {
            break;
        }
        came.extend_from_slice(piece);
        loop {
            let before = (came.len(), seen.heads.len(), chunks.is_some());
            if let Err(wrong) = step(&mut seen, &mut came, &mut chunks, &mut left, &mut last) {
                seen.wrong = Some(wrong);
                return seen;
            }
            if before == (came.len(), seen.heads.len(), chunks.is_some()) || seen.heads.len() >= MAX_ANSWERS {
                break;
            }
        }
    }
    seen
}

fn step(
    seen: &mut Seen,
    came: &mut BytesMut,
    chunks: &mut Option<Chunks>,
    left: &mut Option<u64>,
    last: &mut Last,
) -> std::result::Result<(), Wrong> {
    if let Some(reader) = chunks {
        match reader.next(came)? {
            Some(Piece::Data(data)) => seen.body.extend_from_slice(&data),
            Some(Piece::Trailers(_) | Piece::End) => *chunks = None,
            None => {}
        }
        return Ok(());
    }
    let taken = left.unwrap_or(u64::MAX).min(came.len() as u64);
    if taken > 0 {
        seen.body.extend_from_slice(&came.split_to(taken as usize));
        *left = left.map(|left| left - taken);
    } else if *left == Some(0)
        && let Some(head) = parse(came, &Method::GET, last)?
    {
        seen.heads.push((head.status.as_u16(), head.framing));
        match head.framing {
            Framing::Length(length) => *left = Some(length),
            Framing::Close => *left = None,
            Framing::Chunked => *chunks = Some(Chunks::default()),
        }
    }
    Ok(())
}

/// However the bytes come, they mean the same; and nothing is taken for a header that is longer than allowed.
pub(super) fn read(bytes: &[u8]) -> Result<()> {
    let whole = seen(std::iter::once(bytes));
    let split = seen(bytes.chunks(1));
    ensure!(whole.heads == split.heads, "{whole:?} at once, {split:?} byte by byte");
    // An error may be found before the bytes in front of it were handed out, but not in place of them.
    ensure!(
        whole.wrong == split.wrong || whole.heads.len() >= MAX_ANSWERS,
        "{whole:?} at once, {split:?} byte by byte"
    );
    ensure!(whole.body == split.body || whole.heads.len() >= MAX_ANSWERS, "{whole:?} at once, {split:?} byte by byte");
    let mut came = BytesMut::from(bytes);
    if let Ok(Some(head)) = parse(&mut came, &Method::GET, &mut Last::default()) {
        ensure!(head.fields.len() <= MAX_FIELDS, "{} fields", head.fields.len());
        ensure!(came.len() < bytes.len(), "a header of nothing");
    }
    Ok(())
}
