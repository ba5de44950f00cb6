//! Fields of answers as QPACK writes them, by what was written before. Without a dynamic table a field is written alike each time and
//! to each client: what came twice is not put into Huffman's code again.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};

use super::qpack;
use crate::known::{Memory, is_secret};
use crate::mix::of_field;

/// Bytes of a name and a value that are remembered.
const MOST: usize = 256;

thread_local! {
    static LINES: RefCell<Memory<Line, 128>> = const { RefCell::new(Memory::new()) };
}

/// A field that was written.
struct Line {
    /// Bytes of the name, behind which the value stands.
    name: usize,
    written: Bytes,
}

/// Writes a field.
pub(super) fn put(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    let (text, with) = (name.as_str().as_bytes(), value.as_bytes());
    if value.is_sensitive() || is_secret(name) {
        return qpack::put_secret(text, with, out);
    }
    if text.len() + with.len() > MOST {
        return qpack::put(text, with, out);
    }
    let digest = of_field(text, with);
    LINES.with_borrow_mut(|lines| {
        let is = |known: &[u8], line: &Line| known.split_at_checked(line.name) == Some((text, with));
        if let Some((_, line)) = lines.find(digest, is) {
            return out.extend_from_slice(&line.written);
        }
        let begin = out.len();
        qpack::put(text, with, out);
        if lines.missed(digest)
            && let Some(written) = out.get(begin..)
        {
            let line = Line { name: text.len(), written: Bytes::copy_from_slice(written) };
            lines.keep([text, with].concat().into(), digest, line);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of a field each of three times, and whether it is known then.
    fn written(name: &'static str, value: &HeaderValue) -> ([BytesMut; 3], bool) {
        let name = HeaderName::from_static(name);
        let written = [(); 3].map(|()| {
            let mut out = BytesMut::from(&b"before"[..]);
            put(&name, value, &mut out);
            out.split_off(b"before".len())
        });
        let text = [name.as_str().as_bytes(), value.as_bytes()].concat();
        let known = LINES.with_borrow(|lines| lines.texts().any(|known| known == text));
        (written, known)
    }

    #[test]
    fn what_was_written_before_is_the_same() {
        for (name, value) in [("server", "nginx"), ("x-a", "bc"), ("x-ab", "c"), ("age", "0"), ("x-empty", "")] {
            let mut anew = BytesMut::new();
            qpack::put(name.as_bytes(), value.as_bytes(), &mut anew);
            let expected = [(); 3].map(|()| anew.clone());
            assert_eq!(written(name, &HeaderValue::from_static(value)), (expected, true), "{name}");
        }
    }

    #[test]
    fn secrets_and_long_ones_are_not_remembered() {
        let mut own = HeaderValue::from_static("said once");
        own.set_sensitive(true);
        let long = HeaderValue::from_str(&"x".repeat(MOST)).unwrap();
        for (name, value) in [("x-own", own), ("set-cookie", HeaderValue::from_static("a=b")), ("x-long", long)] {
            assert!(!written(name, &value).1, "{name}");
        }
        let mut out = BytesMut::new();
        put(&http::header::SET_COOKIE, &HeaderValue::from_static("a=b"), &mut out);
        // Its name is the 14th of the static table, and nobody is to keep the value.
        assert_eq!(out, [0x7e, 3, b'a', b'=', b'b'][..]);
    }
}
