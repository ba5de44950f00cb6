//! Fields of requests by how they came before. Without a dynamic table a client writes a field alike each time: what came twice is not
//! taken out of Huffman's code and parsed again, neither line by line nor, behind the pseudo-header fields, all at once.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::qpack::Lines;
use crate::fields::field::Field;
use crate::fields::{Fields, Shared};
use crate::known::{Memory, digest, is_secret};

/// Bytes of a line that is remembered.
const MOST_OF_LINE: usize = 256;
/// Bytes of lines whose fields are remembered together.
const MOST_OF_REST: usize = 2 << 10;

thread_local! {
    static LINES: RefCell<Memory<(Field, usize), 128>> = const { RefCell::new(Memory::new()) };
    static RESTS: RefCell<Memory<(Arc<Shared>, u64), 32>> = const { RefCell::new(Memory::new()) };
}

/// The field of a line, and what it counts for: known, or else what `read` makes of it. That is to have its value in the memory that
/// it is given, if any: then it is kept.
pub(super) fn line(
    wire: &[u8],
    read: impl FnOnce(Option<&mut BytesMut>) -> Option<(Field, usize)>,
) -> Option<(Field, usize)> {
    if wire.len() > MOST_OF_LINE {
        return read(None);
    }
    let digest = digest(wire);
    let find =
        |lines: &Memory<(Field, usize), _>| lines.find(digest, |known, _| known == wire).map(|(_, line)| line.clone());
    if let Some(known) = LINES.with_borrow(find) {
        return Some(known);
    }
    if !LINES.with_borrow_mut(|lines| lines.missed(digest)) {
        return read(None);
    }
    let line = read(Some(&mut BytesMut::new()))?;
    let is_secret = matches!(&line.0, Field::Plain(name, _) if is_secret(name));
    if !is_secret && !wire.first().copied().is_some_and(is_never_indexed) {
        LINES.with_borrow_mut(|lines| lines.keep(Bytes::copy_from_slice(wire), digest, line.clone()));
    }
    Some(line)
}

/// Whether a line that begins so is of a field that the client wants nobody to keep (RFC 9204 section 7.1.3).
fn is_never_indexed(first: u8) -> bool {
    matches!(first, 0x30..0x40 | 0x70..0x80)
}

/// All the lines behind the pseudo-header fields.
pub(super) struct Rest<'b> {
    wire: &'b [u8],
    digest: u64,
}

impl<'b> Rest<'b> {
    /// These, if there are some and they are few enough to be remembered.
    pub(super) fn of(wire: &'b [u8]) -> Option<Self> {
        (!wire.is_empty() && wire.len() <= MOST_OF_REST).then(|| Self { wire, digest: digest(wire) })
    }

    /// Their fields, and what these count for, where they are known.
    pub(super) fn known(&self) -> Option<(Fields, u64)> {
        RESTS.with_borrow(|rests| {
            let (_, (shared, counts)) = rests.find(self.digest, |known, _| known == self.wire)?;
            Some((Fields::of(Arc::clone(shared)), *counts))
        })
    }

    /// Remembers them if it is worth it and they have these fields: read anew from a copy, so that no packet is held.
    pub(super) fn keep(&self, fields: &Fields) {
        if fields.keys().any(is_secret) || !RESTS.with_borrow_mut(|rests| rests.missed(self.digest)) {
            return;
        }
        let copy = Bytes::copy_from_slice(self.wire);
        if let Some((shared, counts)) = read(&copy) {
            RESTS.with_borrow_mut(|rests| rests.keep(copy, self.digest, (Arc::new(shared), counts)));
        }
    }
}

fn read(copy: &Bytes) -> Option<(Shared, u64)> {
    let mut fields = Fields::new();
    let mut lines = Lines::of(copy, u64::MAX);
    loop {
        if lines.first().is_some_and(is_never_indexed) {
            return None;
        }
        match lines.next().ok()? {
            Some(Field::Plain(name, value)) => fields.append(name, value),
            Some(_) => return None,
            None => return Some((Shared::of(&fields)?, u64::MAX - lines.left())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::qpack::{header, put, put_begin, put_secret};
    use super::*;
    use crate::fields::MOST_SHARED;

    type Put = fn(&[u8], &[u8], &mut BytesMut);

    /// A request's block with this behind its pseudo-header fields, and where that begins.
    fn block(rest: impl FnOnce(&mut BytesMut)) -> (Bytes, usize) {
        let mut out = BytesMut::new();
        put_begin(&mut out);
        for (name, value) in
            [(":method", "GET"), (":scheme", "https"), (":authority", "first.test"), (":path", "/some")]
        {
            put(name.as_bytes(), value.as_bytes(), &mut out);
        }
        let begin = out.len();
        rest(&mut out);
        (out.freeze(), begin)
    }

    /// Whether the rest, and the line that it is, are known when it has come three times.
    fn known(put: Put, name: &str, value: &str) -> [bool; 2] {
        let (block, begin) = block(|out| put(name.as_bytes(), value.as_bytes(), out));
        for _ in 0..3 {
            assert_eq!(header(&block, u64::MAX).unwrap().headers[name.to_owned()], value);
        }
        let wire = &block[begin..];
        [
            RESTS.with_borrow(|rests| rests.texts().any(|known| known == wire)),
            LINES.with_borrow(|lines| lines.texts().any(|known| known == wire)),
        ]
    }

    #[test]
    fn what_comes_twice_is_remembered_but_for_secrets() {
        assert_eq!(known(put, "x-plain", "said often"), [true; 2]);
        assert_eq!(known(put, "accept", "*/*"), [true, false], "it has nothing in Huffman's code");
        assert_eq!(known(put_secret, "x-own", "nobody is to keep it"), [false; 2]);
        for secret in ["cookie", "authorization"] {
            assert_eq!(known(put, secret, "said often"), [false; 2], "{secret}");
        }
        assert_eq!(known(put, "x-long", &"a".repeat(2 * MOST_OF_LINE)), [true, false]);
        assert_eq!(known(put, "x-long", &"a".repeat(2 * MOST_OF_REST)), [false; 2]);
    }

    #[test]
    fn so_many_are_not_remembered_together() {
        for (count, expected) in [(MOST_SHARED, true), (MOST_SHARED + 1, false)] {
            let (block, begin) = block(|out| (0..count).for_each(|_| put(b"x-many", b"1", out)));
            for _ in 0..3 {
                assert_eq!(header(&block, u64::MAX).unwrap().headers.len(), count);
            }
            let known = RESTS.with_borrow(|rests| rests.texts().any(|known| *known == block[begin..]));
            assert_eq!(known, expected, "{count}");
        }
    }

    #[test]
    fn what_is_remembered_holds_no_packet() {
        let (block, _) = block(|out| {
            put(b"accept", b"!{}", out);
            put(b"x-coded", b"aaaa", out);
        });
        let packet = block.as_ptr_range();
        for _ in 0..3 {
            header(&block, u64::MAX).unwrap();
        }
        let head = header(&block, u64::MAX).unwrap();
        for text in head.headers.values().map(http::HeaderValue::as_bytes).chain([head.uri.path().as_bytes()]) {
            assert!(!packet.contains(&text.as_ptr()), "{text:?}");
        }
    }
}
