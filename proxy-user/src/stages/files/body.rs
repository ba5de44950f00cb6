//! A file, or parts of it, as a response body: read piece by piece as the client takes them.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use http::HeaderValue;
use proxy_core::files::Span;

use super::open::Opened;

/// Most bytes that are read at once.
const PIECE: u64 = 256 << 10;

/// What is left to be sent.
pub struct FileBody {
    file: File,
    left: u64,
    steps: VecDeque<Step>,
}

enum Step {
    /// Between parts.
    Text(Bytes),
    /// From this byte on, so many.
    Range(u64, u64),
}

impl FileBody {
    pub(super) fn whole(opened: Opened) -> Self {
        let size = opened.size;
        Self::new(opened, [Step::Range(0, size)])
    }

    pub(super) fn part(opened: Opened, span: Span) -> Self {
        Self::new(opened, [Step::Range(span.first, span.len())])
    }

    /// `multipart/byteranges` (RFC 9110 section 14.6).
    pub(super) fn parts(opened: Opened, spans: &[Span], boundary: &str, kind: &HeaderValue) -> Self {
        let (kind, size) = (kind.to_str().unwrap_or_default(), opened.size);
        let steps = spans.iter().flat_map(|span| {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {}-{}/{size}\r\n\r\n",
                span.first, span.last
            );
            [Step::Text(Bytes::from(head)), Step::Range(span.first, span.len())]
        });
        let end = Step::Text(Bytes::from(format!("\r\n--{boundary}--\r\n")));
        Self::new(opened, steps.chain([end]))
    }

    fn new(opened: Opened, steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: VecDeque<Step> = steps.into_iter().collect();
        let length = |step: &Step| match step {
            Step::Text(text) => text.len() as u64,
            Step::Range(_, left) => *left,
        };
        let left = steps.iter().map(length).sum();
        Self { file: opened.file, left, steps }
    }

    /// Bytes that are still to be sent.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The file cannot be read, or became shorter than it was.
    pub fn read(&mut self) -> std::io::Result<Option<Bytes>> {
        let Some(step) = self.steps.front_mut() else { return Ok(None) };
        let piece = match step {
            Step::Text(text) => std::mem::take(text),
            Step::Range(_, 0) => Bytes::new(),
            Step::Range(at, left) => {
                let mut piece = vec![0; (*left).min(PIECE) as usize];
                let read = self.file.read_at(&mut piece, *at)?;
                if read == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                piece.truncate(read);
                (*at, *left) = (*at + read as u64, *left - read as u64);
                Bytes::from(piece)
            }
        };
        if !matches!(step, Step::Range(_, left) if *left > 0) {
            self.steps.pop_front();
        }
        self.left -= piece.len() as u64;
        if piece.is_empty() { self.read() } else { Ok(Some(piece)) }
    }
}
