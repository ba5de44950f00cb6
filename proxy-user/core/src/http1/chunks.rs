//! The chunked coding (RFC 9112 section 7.1), read piece by piece.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;

use super::fields::has_lone_line_feed;
use super::{MAX_FIELDS, Wrong, chunk_length};

/// Bytes of a line with a chunk's size, extensions included.
pub const MAX_CHUNK_LINE: usize = 4 << 10;
/// Bytes of all trailers.
pub const MAX_TRAILERS: usize = 16 << 10;

/// How far a body of chunks has been read.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a chunk's size.
    #[default]
    Size,
    /// So many bytes of a chunk left.
    Data(u64),
    /// Before the line end behind a chunk.
    LineEnd,
    /// Behind the last chunk.
    Trailers,
    /// Everything was read.
    Ended,
}

/// A part of a body.
#[derive(Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// The fields behind it; the body has ended.
    Trailers(HeaderMap),
    /// The body has ended without.
    End,
}

impl Chunks {
    /// Whether the end was read.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes the next piece from the front of what came; `None` until more comes.
    ///
    /// # Errors
    /// See [`Wrong`]; the connection is of no more use.
    pub fn next(&mut self, came: &mut BytesMut) -> Result<Option<Piece>, Wrong> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = line(came)? else { return Ok(None) };
                    // A lone carriage return ends no line either.
                    let size = chunk_length(&line).filter(|_| !line.contains(&b'\r')).ok_or(Wrong::Chunk)?;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(_) if came.is_empty() => return Ok(None),
                State::Data(left) => {
                    let taken = left.min(came.len() as u64);
                    self.state = if taken == left { State::LineEnd } else { State::Data(left - taken) };
                    return Ok(Some(Piece::Data(came.split_to(taken as usize).freeze())));
                }
                State::LineEnd => {
                    if !came.iter().zip(b"\r\n").all(|(came, wanted)| came == wanted) {
                        return Err(Wrong::Chunk);
                    }
                    if came.len() < 2 {
                        return Ok(None);
                    }
                    drop(came.split_to(2));
                    self.state = State::Size;
                }
                State::Trailers => {
                    let piece = trailers(came)?;
                    if piece.is_some() {
                        self.state = State::Ended;
                    }
                    return Ok(piece);
                }
                State::Ended => return Ok(Some(Piece::End)),
            }
        }
    }

    /// The same, also behind a chunk whose line end is already there: so that the end of a body is known with its last bytes.
    pub fn settle(&mut self, came: &mut BytesMut) -> Result<Option<Piece>, Wrong> {
        match self.state {
            State::LineEnd | State::Trailers => self.next_unless_data(came),
            State::Size | State::Data(_) | State::Ended => Ok(None),
        }
    }

    fn next_unless_data(&mut self, came: &mut BytesMut) -> Result<Option<Piece>, Wrong> {
        if self.state == State::LineEnd && !came.starts_with(b"\r\n0\r\n") {
            return Ok(None);
        }
        self.next(came)
    }
}

/// The line at the front without its end.
fn line(came: &mut BytesMut) -> Result<Option<BytesMut>, Wrong> {
    let Some(end) = memchr::memchr(b'\n', came) else {
        return if came.len() > MAX_CHUNK_LINE { Err(Wrong::Chunk) } else { Ok(None) };
    };
    if end > MAX_CHUNK_LINE {
        return Err(Wrong::Chunk);
    }
    let mut line = came.split_to(end + 1);
    line.truncate(end);
    // A lone line feed ends no line here.
    if line.last() != Some(&b'\r') {
        return Err(Wrong::Chunk);
    }
    line.truncate(end - 1);
    Ok(Some(line))
}

fn trailers(came: &mut BytesMut) -> Result<Option<Piece>, Wrong> {
    if came.starts_with(b"\r\n") {
        drop(came.split_to(2));
        return Ok(Some(Piece::End));
    }
    let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(came, &mut room) {
        Ok(Status::Complete((length, _)))
            if length > MAX_TRAILERS || has_lone_line_feed(came.get(..length).unwrap_or_default()) =>
        {
            Err(Wrong::Trailers)
        }
        Ok(Status::Complete((length, parsed))) => {
            let mut fields = HeaderMap::with_capacity(parsed.len());
            for field in parsed {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Wrong::Trailers)?;
                fields.append(name, HeaderValue::from_bytes(field.value).map_err(|_| Wrong::Trailers)?);
            }
            drop(came.split_to(length));
            Ok(Some(if fields.is_empty() { Piece::End } else { Piece::Trailers(fields) }))
        }
        Ok(Status::Partial) if came.len() > MAX_TRAILERS => Err(Wrong::Trailers),
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err(Wrong::Trailers),
    }
}
