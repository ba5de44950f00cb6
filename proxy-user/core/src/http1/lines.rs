//! Header fields read line by line, by what is known of lines and whole headers that came before. What is known is not parsed
//! again, and its values are shared.
//!
//! It is for headers as nearly all are: whole, each line ended by CRLF. Whatever is otherwise is left to the parser proper, so that
//! nothing is taken here that would be refused there.

use std::cell::RefCell;
use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::fields::{ADDED, value_of};
use crate::known::{Memory, digest, is_secret};
use crate::special::Special;

/// Bytes of a line that is remembered.
const MOST_OF_LINE: usize = 256;
/// Bytes of a header whose fields are remembered together.
const MOST_OF_HEAD: usize = 2 << 10;
/// Most fields that are put into a map one by one: a map's clone has no room for more, and growing costs as much as so many.
const APPENDED: usize = 5;
/// Lines whose ends are noted without an allocation, and that are remembered together.
const FEW: usize = 24;

thread_local! {
    static LINES: RefCell<Memory<Field, 128>> = const { RefCell::new(Memory::new()) };
    static HEADS: RefCell<Memory<Fields, 32>> = const { RefCell::new(Memory::new()) };
}

/// A field.
struct Field {
    name: HeaderName,
    value: HeaderValue,
    special: Special,
}

/// All of a header, and which special ones they have.
pub(super) type Fields = (HeaderMap, Special);

/// Where the fields that a connection has brought last are remembered, if they are: they often come again, and are then known
/// without a look at each of their bytes. A place and nothing more, so that an idle connection holds none of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Last(Option<usize>);

impl Last {
    /// Bytes of these fields, where they are what stands in front here and are not more than so many.
    fn again(self, rest: &[u8], most: usize) -> Option<usize> {
        HEADS.with_borrow(|heads| {
            let (text, (fields, _)) = heads.at(self.0?)?;
            (rest.starts_with(text) && fields.len() <= most).then_some(text.len())
        })
    }

    fn copy(self) -> Option<Fields> {
        HEADS.with_borrow(|heads| heads.at(self.0?).map(|(_, fields)| copy(fields)))
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
            last.copy()?
        } else {
            let text = self.text(came)?;
            let digest = digest(text);
            let find = |heads: &Memory<_, _>| {
                heads.find(digest, |known, _| known == text).map(|(place, fields)| (place, copy(fields)))
            };
            let known = HEADS.with_borrow(find);
            *last = Last(known.as_ref().map(|(place, _)| *place));
            let Some((_, fields)) = known else { return self.read(came, digest) };
            fields
        };
        came.advance(self.length());
        Some(fields)
    }

    fn read(&self, came: &mut BytesMut, digest: u64) -> Option<Fields> {
        let bytes = came.split_to(self.length()).freeze();
        if let Some(fields) = self.fields(&bytes) {
            self.remember(&bytes, digest, &fields.0);
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
        let mut fields = HeaderMap::with_capacity(self.ends.len() + ADDED);
        let mut all = Special::empty();
        LINES.with_borrow_mut(|lines| {
            for ends in self.ends.windows(2) {
                let &[start, end] = ends else { continue };
                let line = bytes.get(start..end)?;
                let digest = digest(line);
                if let Some((_, known)) = lines.find(digest, |known, _| known == line) {
                    fields.append(known.name.clone(), known.value.clone());
                    all |= known.special;
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
                fields.append(name, own);
                all |= special;
            }
            Some((fields, all))
        })
    }

    /// Remembers the fields of a header in these bytes, if it is worth it: read anew from a copy, so that no buffer is held.
    fn remember(&self, bytes: &Bytes, digest: u64, fields: &HeaderMap) {
        if bytes.len() > MOST_OF_HEAD || self.ends.len() > FEW {
            return;
        }
        if HEADS.with_borrow_mut(|heads| heads.missed(digest)) && !fields.keys().any(is_secret) {
            let copy = Bytes::copy_from_slice(bytes);
            if let (Some(fields), Some(start)) = (self.fields(&copy), self.ends.first()) {
                HEADS.with_borrow_mut(|heads| heads.keep(copy.slice(start..), digest, fields));
            }
        }
    }
}

/// A header's fields for a message of their own, with room for what is added.
fn copy((fields, special): &Fields) -> Fields {
    if fields.len() > APPENDED {
        return (fields.clone(), *special);
    }
    let mut copy = HeaderMap::with_capacity(fields.len() + ADDED);
    for (name, value) in fields {
        copy.append(name.clone(), value.clone());
    }
    (copy, *special)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the parser proper makes of fields.
    fn parsed(fields: &[u8]) -> Option<HeaderMap> {
        let mut room = [httparse::EMPTY_HEADER; 100];
        let Ok(httparse::Status::Complete((length, parsed))) = httparse::parse_headers(fields, &mut room) else {
            return None;
        };
        assert_eq!(length, fields.len());
        let pairs = parsed.iter().map(|field| {
            Some((HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?))
        });
        pairs.collect()
    }

    fn found(came: &[u8], fields: usize, last: Last) -> Option<Lines> {
        let mut lines = Lines::default();
        lines.find(came, fields, last).map(|()| lines)
    }

    /// The same by lines, and what is left; anew, known half, known, and the same as last.
    fn by_lines(fields: &[u8]) -> [Option<HeaderMap>; 4] {
        let whole = [b"GET / HTTP/1.1\r\n", fields, b"body"].concat();
        let mut last = Last::default();
        [(); 4].map(|()| {
            let mut came = BytesMut::from(&whole[..]);
            let lines = found(&came, 100, last)?;
            assert_eq!(lines.first(&came), b"GET / HTTP/1.1\r\n");
            assert_eq!(lines.again, last.0.is_some());
            let taken = lines.take(&mut came, &mut last);
            assert_eq!(&came[..], if taken.is_some() { b"body" } else { &whole[..] });
            taken.map(|(fields, special)| {
                assert_eq!(special, Special::of(&fields));
                fields
            })
        })
    }

    #[test]
    fn each_byte_is_taken_where_the_parser_takes_it() {
        for byte in 0..=u8::MAX {
            for line in [
                &[b'a', byte, b':', b'b'][..],
                &[byte, b':', b'b'],
                &[b'a', b':', b'b', byte, b'c'],
                &[b'a', b':', byte],
            ] {
                let fields = [line, b"\r\n\r\n"].concat();
                let expected = if byte == b'\n' { None } else { parsed(&fields) };
                assert_eq!(by_lines(&fields), [(); 4].map(|()| expected.clone()), "{:?}", line.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_not_whole_or_not_plain_is_left_alone() {
        for head in
            ["", "\r\n", "\r\n\r\n", "a\r\n", "a\r\nb: c\r\n", "a\nb: c\r\n\r\n", "a\r\nb: c\n\r\n", "a\r\nb: c\r\n\n"]
        {
            assert!(found(head.as_bytes(), 100, Last::default()).is_none(), "{head:?}");
        }
        let many = format!("a\r\n{}\r\n", "b: c\r\n".repeat(3));
        assert!(found(many.as_bytes(), 2, Last::default()).is_none());
        assert_eq!(found(many.as_bytes(), 3, Last::default()).unwrap().length(), many.len());
    }

    #[test]
    fn only_what_came_last_is_the_same_as_last() {
        let fields = "x-last: a\r\nx-last: b\r\n\r\n";
        by_lines(fields.as_bytes());
        let mut last = Last::default();
        let mut came = BytesMut::from(&*format!("a\r\n{fields}"));
        found(&came, 100, last).unwrap().take(&mut came, &mut last).unwrap();
        assert!(last.0.is_some());
        let again = |head: &str, most| found(head.as_bytes(), most, last).map(|lines| (lines.again, lines.length()));
        let length = |first: &str| first.len() + fields.len();
        for (first, expected) in
            [("a b\r\n", Some((true, length("a b\r\n")))), ("\r\n", None), ("\n", None), ("a b\n", None)]
        {
            assert_eq!(again(&format!("{first}{fields}body"), 2), expected, "{first:?}");
        }
        assert_eq!(again(&format!("a\r\n{fields}"), 1), None);
        // Not whole yet, or other ones.
        assert_eq!(again(&format!("a\r\n{}", &fields[..fields.len() - 1]), 2), None);
        for other in ["x-last: a\r\nx-last: c\r\n\r\n", "x-last: a\r\n\r\n", "y: z\r\nx-last: a\r\nx-last: b\r\n\r\n"] {
            assert_eq!(again(&format!("a\r\n{other}"), 100), Some((false, 3 + other.len())), "{other:?}");
        }
        let other = BytesMut::from("a\r\nx-other: c\r\n\r\n");
        found(&other, 100, last).unwrap().take(&mut other.clone(), &mut last).unwrap();
        assert!(last.0.is_none());
    }

    #[test]
    fn secrets_and_long_lines_are_not_remembered() {
        let long = format!("x-long: {}\r\n", "x".repeat(MOST_OF_LINE));
        for (line, kept) in [("x-plain: said twice\r\n", true), ("Cookie: said=twice\r\n", false), (&*long, false)] {
            let fields = format!("{line}\r\n");
            by_lines(fields.as_bytes());
            assert_eq!(LINES.with_borrow(|lines| lines.texts().any(|text| text == line.as_bytes())), kept, "{line}");
            let together = line.len() > MOST_OF_LINE || kept;
            assert_eq!(
                HEADS.with_borrow(|heads| heads.texts().any(|text| text == fields.as_bytes())),
                together,
                "{line}"
            );
        }
        for long in [format!("x-long: {}\r\n\r\n", "x".repeat(MOST_OF_HEAD)), "x: y\r\n".repeat(FEW) + "\r\n"] {
            by_lines(long.as_bytes());
            assert!(!HEADS.with_borrow(|heads| heads.texts().any(|text| text == long.as_bytes())));
        }
    }

    #[test]
    fn line_feeds_are_found_wherever_they_stand() {
        for word in [*b"abcdefgh", *b"\n\x0b\n\n\x8a\x00\xff\n", [b'\n'; 8], [0x8a; 8], [0x0b; 8]] {
            let expected: Vec<u32> = (0..8).filter(|at| word[*at as usize] == b'\n').collect();
            let mut feeds = line_feeds(u64::from_le_bytes(word));
            let mut found = Vec::new();
            while feeds != 0 {
                found.push(feeds.trailing_zeros() / 8);
                feeds &= feeds - 1;
            }
            assert_eq!(found, expected, "{word:?}");
        }
    }

    proptest! {
        /// Whatever the fields are made of: the same as the parser proper has, or nothing where it has nothing.
        #[test]
        fn lines_are_what_the_parser_says(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "a", "Host", "connection", "Content-Length", ":", ": ", " ", "\t", "\r", "\r\n", "\r\n", "\u{e9}", "\0", "\"",
                    "Host: a\r\n", "TE: trailers\r\n", "x-a:b\r\n", "x-a: \r\n", "x-a:\t b \t\r\n", "close",
                ]),
                0..20,
            ),
        ) {
            let mut fields = parts.concat();
            // Up to the end that comes first.
            fields.push_str("\r\n\r\n");
            let end = if fields.starts_with("\r\n") { 2 } else { fields.find("\r\n\r\n").map_or(0, |at| at + 4) };
            let fields = &fields.as_bytes()[..end];
            let expected = parsed(fields);
            prop_assert_eq!(by_lines(fields), [(); 4].map(|()| expected.clone()));
        }
    }
}
