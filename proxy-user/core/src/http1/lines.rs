//! Header fields read line by line, by what is known of lines and whole headers that came before. What is known is not parsed
//! again, and its values are shared.
//!
//! It is for headers as nearly all are: whole, each line ended by CRLF. Whatever is otherwise is left to the parser proper, so that
//! nothing is taken here that would be refused there.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::fields::value_of;
use crate::fields::{ADDED, Fields, Shared};
use crate::known::{Memory, digest, is_secret};
use crate::special::Special;

/// Bytes of a line that is remembered.
const MOST_OF_LINE: usize = 256;
/// Bytes of a header whose fields are remembered together.
const MOST_OF_HEAD: usize = 2 << 10;
/// Lines whose ends are noted without an allocation.
const FEW: usize = 24;

thread_local! {
    static LINES: RefCell<Memory<Field, 128>> = const { RefCell::new(Memory::new()) };
    static HEADS: RefCell<Memory<Arc<Shared>, 32>> = const { RefCell::new(Memory::new()) };
}

/// A field.
struct Field {
    name: HeaderName,
    value: HeaderValue,
    special: Special,
}

/// Where the fields that a connection has brought last are remembered, if they are: they often come again, and are then known
/// without a look at each of their bytes. A place and nothing more, so that an idle connection holds none of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Last(Option<usize>);

impl Last {
    /// Bytes of these fields, where they are what stands in front here and are not more than so many.
    fn again(self, rest: &[u8], most: usize) -> Option<usize> {
        HEADS.with_borrow(|heads| {
            let (text, shared) = heads.at(self.0?)?;
            (rest.starts_with(text) && shared.len() <= most).then_some(text.len())
        })
    }

    fn fields(self) -> Option<Fields> {
        HEADS.with_borrow(|heads| heads.at(self.0?).map(|(_, shared)| Fields::of(Arc::clone(shared))))
    }
}

/// Where the lines of a whole header end.
#[derive(Default)]
pub(super) struct Lines {
    /// The first line's, and each field's; of the fields that came last, the last one's alone.
    ends: SmallVec<[usize; FEW]>,
    /// They are those.
    again: bool,
}

impl Lines {
    /// Finds those of the header in front; none where it is not whole, has more fields, begins with an empty line, or where a line
    /// feed stands alone. In place: this is large, and every message has one.
    pub(super) fn find(&mut self, came: &[u8], fields: usize, last: Last) -> Option<()> {
        if last.0.is_some() {
            let first = memchr::memchr(b'\n', came)?;
            let rest = came.get(first + 1..).unwrap_or_default();
            if let Some(length) = last.again(rest, fields) {
                self.again = true;
                self.ends_at(came, first, 0)?;
                if let Some(lines) = length.checked_sub(b"\r\n".len()).filter(|lines| *lines > 0) {
                    self.ends.push(first + 1 + lines);
                }
                return Some(());
            }
        }
        // Lines are short: eight bytes at a time is less work than a search of its own for each.
        let (words, rest) = came.as_chunks();
        for (nth, word) in words.iter().enumerate() {
            let mut feeds = line_feeds(u64::from_le_bytes(*word));
            while feeds != 0 {
                let at = nth * size_of::<u64>() + (feeds.trailing_zeros() / u8::BITS) as usize;
                if self.ends_at(came, at, fields)? {
                    return Some(());
                }
                feeds &= feeds - 1;
            }
        }
        for (nth, byte) in rest.iter().enumerate() {
            if *byte == b'\n' && self.ends_at(came, came.len() - rest.len() + nth, fields)? {
                return Some(());
            }
        }
        None
    }

    /// Takes note of a line feed; whether the header ends there.
    fn ends_at(&mut self, came: &[u8], at: usize, fields: usize) -> Option<bool> {
        came.get(at.checked_sub(1)?).filter(|byte| **byte == b'\r')?;
        let start = self.ends.last().copied().unwrap_or_default();
        if at == start + 1 {
            return (start > 0).then_some(true);
        }
        if self.ends.len() > fields {
            return None;
        }
        self.ends.push(at + 1);
        Some(false)
    }

    /// The first line.
    pub(super) fn first<'c>(&self, came: &'c [u8]) -> &'c [u8] {
        self.ends.first().and_then(|end| came.get(..*end)).unwrap_or_default()
    }

    /// Bytes of the header.
    pub(super) fn length(&self) -> usize {
        self.ends.last().map_or(0, |last| last + b"\r\n".len())
    }

    /// Takes the header from the front of what came. What has a line that is no field stays.
    pub(super) fn take(&self, came: &mut BytesMut, last: &mut Last) -> Option<Fields> {
        let fields = if self.again {
            last.fields()?
        } else {
            let text = self.text(came)?;
            let digest = digest(text);
            let find = |heads: &Memory<_, _>| heads.find(digest, |known, _| known == text).map(|(place, _)| place);
            *last = Last(HEADS.with_borrow(find));
            let Some(fields) = last.fields() else { return self.read(came, digest) };
            fields
        };
        came.advance(self.length());
        Some(fields)
    }

    fn read(&self, came: &mut BytesMut, digest: u64) -> Option<Fields> {
        let bytes = came.split_to(self.length()).freeze();
        if let Some(fields) = self.fields(&bytes) {
            self.remember(&bytes, digest, &fields);
            return Some(fields);
        }
        let mut back = BytesMut::from(&bytes[..]);
        back.unsplit(std::mem::take(came));
        *came = back;
        None
    }

    /// The bytes of the fields.
    fn text<'c>(&self, came: &'c [u8]) -> Option<&'c [u8]> {
        came.get(*self.ends.first()?..self.length())
    }

    fn fields(&self, bytes: &Bytes) -> Option<Fields> {
        let mut fields = Fields::with_capacity(self.ends.len() + ADDED);
        LINES.with_borrow_mut(|lines| {
            for ends in self.ends.windows(2) {
                let &[start, end] = ends else { continue };
                let line = bytes.get(start..end)?;
                let digest = digest(line);
                if let Some((_, known)) = lines.find(digest, |known, _| known == line) {
                    fields.append_known(known.name.clone(), known.value.clone(), known.special);
                    continue;
                }
                let (name, value) = parse(line)?;
                let own = value_of(bytes, start + value.start, value.len())?;
                let special = Special::one(&name, &own);
                if line.len() <= MOST_OF_LINE && lines.missed(digest) && !is_secret(&name) {
                    let text = Bytes::copy_from_slice(line);
                    let value = value_of(&text, value.start, value.len())?;
                    lines.keep(text, digest, Field { name: name.clone(), value, special });
                }
                fields.append_known(name, own, special);
            }
            Some(fields)
        })
    }

    /// Remembers the fields of a header in these bytes, if it is worth it: read anew from a copy, so that no buffer is held.
    fn remember(&self, bytes: &Bytes, digest: u64, fields: &Fields) {
        if bytes.len() > MOST_OF_HEAD {
            return;
        }
        if HEADS.with_borrow_mut(|heads| heads.missed(digest)) && !fields.keys().any(is_secret) {
            let copy = Bytes::copy_from_slice(bytes);
            let shared = self.fields(&copy).and_then(|fields| Shared::of(&fields));
            if let (Some(shared), Some(start)) = (shared, self.ends.first()) {
                HEADS.with_borrow_mut(|heads| heads.keep(copy.slice(start..), digest, Arc::new(shared)));
            }
        }
    }
}

/// The highest bit of each byte that is a line feed (Warren, Hacker's Delight, section 6-1).
fn line_feeds(word: u64) -> u64 {
    const LOW: u64 = u64::MAX / 255 * 0x7f;
    let other = word ^ u64::from_ne_bytes([b'\n'; 8]);
    !(((other & LOW) + LOW) | other | LOW)
}

/// A line's name and where its value stands, as httparse and the types of a field would have it: a token, a colon, and a value
/// without the blanks around it. What may be in the value is seen where it is made.
fn parse(line: &[u8]) -> Option<(HeaderName, Range<usize>)> {
    let line = line.strip_suffix(b"\r\n")?;
    let colon = memchr::memchr(b':', line)?;
    let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let value = line.get(colon + 1..)?;
    let end = value.iter().rposition(is_text).map_or(0, |last| last + 1);
    let start = value.iter().take(end).position(is_text).unwrap_or_default();
    Some((name, colon + 1 + start..colon + 1 + end))
}

#[cfg(test)]
mod tests;
