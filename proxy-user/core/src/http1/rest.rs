//! What is left of a message's body on a connection, whichever side sends it (RFC 9112 section 6).

use bytes::BytesMut;
use http::HeaderMap;

use super::{Body, Chunks, Framing, Piece, Wrong};

/// How much of a body is still to come.
#[derive(Debug)]
pub enum Rest {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunks(Chunks),
    /// All that comes before the connection ends.
    Close,
    /// Trailers, which are there already.
    Trailers(HeaderMap),
    /// Nothing.
    Ended,
}

impl From<Framing> for Rest {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunks(Chunks::default()),
            Framing::Close => Self::Close,
        }
    }
}

impl From<Body> for Rest {
    fn from(body: Body) -> Self {
        match body {
            Body::None | Body::Length(0) => Self::Ended,
            Body::Length(length) => Self::Length(length),
            Body::Chunked => Self::Chunks(Chunks::default()),
        }
    }
}

impl Rest {
    /// Whether nothing more comes.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Bytes of it, where that is known.
    pub fn exact(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Ended => Some(0),
            Self::Chunks(_) | Self::Close | Self::Trailers(_) => None,
        }
    }

    /// Takes the next piece from the front of what came; `None` until more comes. The end is known with the last piece wherever the
    /// bytes behind it tell.
    ///
    /// # Errors
    /// See [`Wrong`]; the connection is of no more use.
    pub fn take(&mut self, came: &mut BytesMut) -> Result<Option<Piece>, Wrong> {
        match self {
            Self::Ended => Ok(Some(Piece::End)),
            Self::Trailers(fields) => {
                let fields = std::mem::take(fields);
                *self = Self::Ended;
                Ok(Some(Piece::Trailers(fields)))
            }
            Self::Length(_) | Self::Close if came.is_empty() => Ok(None),
            Self::Close => Ok(Some(Piece::Data(came.split().freeze()))),
            Self::Length(left) => {
                let taken = (*left).min(came.len() as u64);
                *left -= taken;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Some(Piece::Data(came.split_to(taken as usize).freeze())))
            }
            Self::Chunks(chunks) => {
                let Some(piece) = chunks.next(came)? else { return Ok(None) };
                // What is wrong behind a piece is told when it is asked for.
                if let Piece::Data(_) = &piece
                    && let Ok(Some(Piece::Trailers(fields))) = chunks.settle(came)
                {
                    *self = Self::Trailers(fields);
                } else if chunks.is_ended() {
                    *self = Self::Ended;
                }
                Ok(Some(piece))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mut rest: Rest, came: &str) -> (Vec<String>, bool, usize) {
        let mut came = BytesMut::from(came);
        let mut pieces = Vec::new();
        while let Some(piece) = rest.take(&mut came).unwrap() {
            match piece {
                Piece::Data(data) => pieces.push(String::from_utf8(data.to_vec()).unwrap()),
                Piece::Trailers(fields) => pieces.push(format!("{fields:?}")),
                Piece::End => break,
            }
        }
        (pieces, rest.is_ended(), came.len())
    }

    #[test]
    fn each_framing_takes_what_is_its_own() {
        let text = |text: &str| vec![text.to_owned()];
        assert_eq!(taken(Body::Length(3).into(), "abcd"), (text("abc"), true, 1));
        assert_eq!(taken(Body::Length(5).into(), "abcd"), (text("abcd"), false, 0));
        assert_eq!(taken(Body::None.into(), "abcd"), (vec![], true, 4));
        assert_eq!(taken(Framing::Close.into(), "abcd"), (text("abcd"), false, 0));
        assert_eq!(taken(Body::Chunked.into(), "2\r\nab\r\n0\r\n\r\nx"), (text("ab"), true, 1));
        let (pieces, ended, left) = taken(Body::Chunked.into(), "2\r\nab\r\n0\r\nA: b\r\n\r\n");
        assert_eq!((pieces.len(), pieces[1].contains("\"a\": \"b\""), ended, left), (2, true, true, 0));
    }

    #[test]
    fn the_end_is_known_with_the_last_bytes() {
        let mut rest = Rest::from(Body::Chunked);
        let mut came = BytesMut::from("2\r\nab\r\n0\r\n\r\n");
        assert!(matches!(rest.take(&mut came), Ok(Some(Piece::Data(_)))));
        assert_eq!((rest.is_ended(), rest.exact()), (true, Some(0)));
    }
}
