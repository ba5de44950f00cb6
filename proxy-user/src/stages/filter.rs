//! Bodies on their way through stages, piece by piece, in both directions. Where no stage asked for a body there is no
//! filter, and the body does not come by here.

use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use crate::http::fault::Fault;

/// What polling a body gives.
pub type Polled = Poll<Option<Result<Frame<Bytes>, Fault>>>;

/// What a stage does with one body. A hook makes it for each body, so that it has state of its own.
///
/// Whoever changes the length takes `Content-Length` out of the header, in the hook that makes the filter or before.
pub trait BodyFilter {
    /// The next piece, never empty; returns what goes on, which may be empty. A fault ends the body and the request.
    fn piece(&mut self, piece: Bytes) -> Result<Bytes, Fault>;

    /// After the last piece: what was held back.
    fn end(&mut self) -> Result<Bytes, Fault> {
        Ok(Bytes::new())
    }
}

/// The filters of one body, in the order in which it passes them.
#[derive(Default)]
pub struct Filters {
    list: Vec<Box<dyn BodyFilter>>,
    /// Trailers that came while filters had data left.
    trailers: Option<Box<HeaderMap>>,
}

impl Filters {
    /// Adds the last one.
    pub fn push(&mut self, filter: Box<dyn BodyFilter>) {
        self.list.push(filter);
    }

    /// Whether nothing is done with the body, or nothing more.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.trailers.is_none()
    }

    /// The next frame that they leave something of; `next` polls the body. After a fault they are done.
    pub fn poll(&mut self, mut next: impl FnMut() -> Polled) -> Polled {
        loop {
            if self.list.is_empty() {
                return match self.trailers.take() {
                    Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(*trailers)))),
                    None => next(),
                };
            }
            let passed = match ready!(next()) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.piece(piece),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok().map(Box::new);
                        self.end()
                    }
                },
                Some(Err(fault)) => Err(fault),
                None => self.end(),
            };
            match passed {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Err(fault) => {
                    *self = Self::default();
                    return Poll::Ready(Some(Err(fault)));
                }
            }
        }
    }

    /// Takes a piece through all of them.
    fn piece(&mut self, piece: Bytes) -> Result<Bytes, Fault> {
        self.list
            .iter_mut()
            .try_fold(piece, |piece, filter| if piece.is_empty() { Ok(piece) } else { filter.piece(piece) })
    }

    /// Ends all of them; what one held back still passes those behind it. They are gone afterwards.
    fn end(&mut self) -> Result<Bytes, Fault> {
        std::mem::take(&mut self.list).into_iter().try_fold(Bytes::new(), |before, mut filter| {
            let piece = if before.is_empty() { before } else { filter.piece(before)? };
            let rest = filter.end()?;
            Ok(match (piece.is_empty(), rest.is_empty()) {
                (_, true) => piece,
                (true, _) => rest,
                _ => {
                    let mut both = BytesMut::from(piece);
                    both.extend_from_slice(&rest);
                    both.freeze()
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds everything back until the end.
    #[derive(Default)]
    struct Hold(Vec<u8>);

    impl BodyFilter for Hold {
        fn piece(&mut self, piece: Bytes) -> Result<Bytes, Fault> {
            self.0.extend_from_slice(&piece);
            Ok(Bytes::new())
        }

        fn end(&mut self) -> Result<Bytes, Fault> {
            Ok(std::mem::take(&mut self.0).into())
        }
    }

    /// Doubles every byte and ends with a mark.
    struct Double;

    impl BodyFilter for Double {
        fn piece(&mut self, piece: Bytes) -> Result<Bytes, Fault> {
            Ok(piece.iter().flat_map(|byte| [*byte; 2]).collect())
        }

        fn end(&mut self) -> Result<Bytes, Fault> {
            Ok(Bytes::from_static(b"."))
        }
    }

    struct Refuse;

    impl BodyFilter for Refuse {
        fn piece(&mut self, _: Bytes) -> Result<Bytes, Fault> {
            Err(Fault::bad_request("refused"))
        }
    }

    fn through(filters: Vec<Box<dyn BodyFilter>>, pieces: &[&'static str]) -> Result<Vec<String>, Fault> {
        let mut filters = Filters { list: filters, trailers: None };
        let mut frames = pieces.iter().map(|piece| match piece.strip_prefix("t:") {
            Some(value) => {
                Frame::trailers(HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static(value))]))
            }
            None => Frame::data(Bytes::from_static(piece.as_bytes())),
        });
        let mut out = Vec::new();
        while let Poll::Ready(Some(frame)) = filters.poll(|| Poll::Ready(frames.next().map(Ok))) {
            out.push(match frame?.into_data() {
                Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                Err(frame) => format!("t:{}", frame.into_trailers().unwrap()["etag"].to_str().unwrap()),
            });
        }
        assert!(filters.is_empty());
        Ok(out)
    }

    #[test]
    fn what_is_held_back_still_passes_those_behind() {
        let hold = || Box::new(Hold::default());
        assert_eq!(through(vec![], &["a", "b"]).unwrap(), ["a", "b"]);
        assert_eq!(through(vec![Box::new(Double)], &["ab"]).unwrap(), ["aabb", "."]);
        assert_eq!(through(vec![hold(), Box::new(Double)], &["a", "b"]).unwrap(), ["aabb."]);
        assert_eq!(through(vec![Box::new(Double), hold()], &["a", "b"]).unwrap(), ["aabb."]);
        assert_eq!(through(vec![hold(), Box::new(Double)], &["a", "t:x"]).unwrap(), ["aa.", "t:x"]);
        assert_eq!(through(vec![hold()], &["t:x"]).unwrap(), ["t:x"]);
        assert!(through(vec![Box::new(Refuse)], &["a"]).is_err());
        assert!(through(vec![hold(), Box::new(Refuse)], &["a"]).is_err());
        assert_eq!(through(vec![hold(), Box::new(Refuse)], &[]).unwrap(), [""; 0]);
    }
}
