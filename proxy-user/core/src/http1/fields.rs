//! What header fields and lines are made of, for whoever reads or writes them: requests, responses, chunks.

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::fields::{ADDED, Fields};
use crate::special::Special;

/// Fields whose places are noted without an allocation.
const FEW: usize = 16;

/// Where the fields of a parsed header lie in its bytes, so that each value becomes a view of them and not a copy.
#[derive(Default)]
pub(super) struct Places(SmallVec<[(HeaderName, usize, usize); FEW]>);

impl Places {
    /// Notes fields within the bytes that begin at address `base`; `None` where a name is none. In place: this is large, and every
    /// message has one.
    pub(super) fn note(&mut self, parsed: &[httparse::Header<'_>], base: usize) -> Option<()> {
        self.0.reserve(parsed.len());
        for field in parsed {
            let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
            self.0.push((name, field.value.as_ptr().addr().wrapping_sub(base), field.value.len()));
        }
        Some(())
    }

    /// The fields, views of these bytes.
    pub(super) fn fields(&mut self, bytes: &Bytes) -> Option<Fields> {
        let mut fields = Fields::with_capacity(self.0.len() + ADDED);
        for (name, start, len) in self.0.drain(..) {
            fields.append(name, value_of(bytes, start, len)?);
        }
        Some(fields)
    }
}

/// A view of some of these bytes as a value.
pub(super) fn value_of(bytes: &Bytes, start: usize, len: usize) -> Option<HeaderValue> {
    // An empty value lies anywhere.
    let value = if len == 0 { Bytes::new() } else { bytes.slice(start..start + len) };
    HeaderValue::from_maybe_shared(value).ok()
}

/// A number as `Content-Length` has it (RFC 9110 section 8.6): digits and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?
    })
}

/// The length of a chunk in front of its extensions, which are ignored (RFC 9112 section 7.1.1).
pub fn chunk_length(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether a comma-separated list names `token`.
pub fn names(list: &HeaderValue, token: &str) -> bool {
    list.as_bytes().split(|b| *b == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether a line ends without CR, which some take for the end of a line and some do not (RFC 9112 section 2.2).
pub(super) fn has_lone_line_feed(lines: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', lines).any(|at| at.checked_sub(1).and_then(|before| lines.get(before)) != Some(&b'\r'))
}

/// Whether a connection goes on behind a message with these fields (RFC 9112 section 9.3).
pub(super) fn keeps(is_old: bool, fields: &Fields) -> bool {
    let special = fields.special();
    if !special.has(Special::OPTIONS) {
        return !is_old || special.has(Special::CONNECTION);
    }
    let says = |option| fields.get_all(CONNECTION).any(|list| names(list, option));
    if is_old { says("keep-alive") && !says("close") } else { !says("close") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!(
            ["0", "007", "18446744073709551615"].map(|text| decimal(text.as_bytes())),
            [Some(0), Some(7), Some(u64::MAX)]
        );
        assert_eq!(
            ["", "+1", "-1", " 1", "1a", "18446744073709551616"].map(|text| decimal(text.as_bytes())),
            [None; 6]
        );
    }

    #[test]
    fn chunks_have_hexadecimal_lengths() {
        assert_eq!(["0", "A ", "ff;a=b"].map(|line| chunk_length(line.as_bytes())), [Some(0), Some(10), Some(255)]);
        assert_eq!(
            ["", ";a", "+1", " 1", "g", "10000000000000000"].map(|line| chunk_length(line.as_bytes())),
            [None; 6]
        );
    }

    #[test]
    fn tokens_stand_between_commas() {
        let list = HeaderValue::from_static("a, Close ,x-close");
        assert!(names(&list, "close") && names(&list, "a"));
        assert!(!names(&list, "x") && !names(&list, "clos"));
    }
}
