//! Where things stand in the text of a document that `serde_json` has already accepted. On other text the answers are
//! meaningless, but nothing panics or runs away: each loop moves forward over the bytes.

use std::collections::HashSet;

/// Byte offsets of a value and of the key it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// First byte of the value.
    pub value: usize,
    /// Opening quote of the key, for members of objects.
    pub key: Option<usize>,
}

/// Line and column (characters), both from 1.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Finds what a JSON pointer names.
pub fn find(text: &str, pointer: &str) -> Option<Place> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    let mut place = Place { value: scanner.at, key: None };
    for segment in pointer.split('/').skip(1) {
        let wanted = segment.replace("~1", "/").replace("~0", "~");
        place = match scanner.peek()? {
            b'{' => scanner.member(&wanted)?,
            b'[' => scanner.element(wanted.parse().ok()?)?,
            _ => return None,
        };
    }
    Some(place)
}

/// Offset of the byte that decodes to byte `inside` of the string literal that starts at `start`.
pub fn inside_string(text: &str, start: usize, inside: usize) -> usize {
    let mut decoded = 0;
    let mut at = start + 1;
    while decoded < inside {
        let Some(rest) = text.get(at..) else { return start };
        let (raw, length) = match rest.as_bytes() {
            [b'"', ..] | [] => break,
            [b'\\', b'u', ..] => escaped_unicode(rest),
            [b'\\', ..] => (2, 1),
            _ => rest.chars().next().map_or((1, 1), |c| (c.len_utf8(), c.len_utf8())),
        };
        decoded += length;
        at += raw;
    }
    at
}

/// Raw and decoded length of a `\uXXXX` escape, a surrogate pair counted as one.
fn escaped_unicode(rest: &str) -> (usize, usize) {
    let unit = |from: usize| rest.get(from..from + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    match unit(2) {
        Some(0xd800..=0xdbff) => (12, 4),
        Some(code) => (6, char::from_u32(code).map_or(3, char::len_utf8)),
        None => (2, 1),
    }
}

/// Pointer and key offset of every key that stands in its object already.
pub fn duplicate_keys(text: &str) -> Vec<(String, usize)> {
    let mut scanner = Scanner { text, at: 0 };
    let mut found = Vec::new();
    scanner.duplicates("", 0, &mut found);
    found
}

/// Deeper than `serde_json` goes.
const MAX_DEPTH: usize = 130;

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Steps over one byte and the space behind it.
    fn step(&mut self) {
        self.at += 1;
        self.space();
    }

    /// Reads a string literal and the space behind it.
    fn string(&mut self) -> String {
        let start = self.at;
        self.skip_string();
        let raw = self.text.get(start..self.at).unwrap_or_default();
        self.space();
        serde_json::from_str(raw).unwrap_or_default()
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(b) = self.peek() {
            self.at += if b == b'\\' { 2 } else { 1 };
            if b == b'"' {
                break;
            }
        }
    }

    /// Skips one value and the space behind it.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        while let Some(b) = self.peek() {
            match b {
                b'"' => self.skip_string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' | b',' if depth == 0 => return,
                b'}' | b']' => {
                    depth -= 1;
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// From an opening brace to the value of a key; the last one counts, as it does for `serde_json`.
    fn member(&mut self, wanted: &str) -> Option<Place> {
        self.step();
        while self.peek()? == b'"' {
            let key = self.at;
            let name = self.string();
            self.step();
            if name == wanted {
                return Some(Place { value: self.at, key: Some(key) });
            }
            self.skip();
            if self.peek()? == b',' {
                self.step();
            }
        }
        None
    }

    /// From an opening bracket to an element.
    fn element(&mut self, index: usize) -> Option<Place> {
        self.step();
        for _ in 0..index {
            self.skip();
            if self.peek()? != b',' {
                return None;
            }
            self.step();
        }
        Some(Place { value: self.at, key: None })
    }

    fn duplicates(&mut self, pointer: &str, depth: usize, found: &mut Vec<(String, usize)>) {
        self.space();
        if depth > MAX_DEPTH {
            return self.skip();
        }
        match self.peek() {
            Some(b'{') => {
                let mut seen = HashSet::new();
                self.step();
                while self.peek() == Some(b'"') {
                    let at = self.at;
                    let key = self.string();
                    let inner = super::join(pointer, &key);
                    if !seen.insert(key) {
                        found.push((inner.clone(), at));
                    }
                    self.step();
                    self.duplicates(&inner, depth + 1, found);
                    if self.peek() == Some(b',') {
                        self.step();
                    }
                }
                self.step();
            }
            Some(b'[') => {
                self.step();
                let mut index = 0_usize;
                // A closing brace is no element and ends a list that is not valid: nothing would step over it.
                while self.peek().is_some_and(|b| b != b']' && b != b'}') {
                    // Long lists hold strings: those need no pointer.
                    if matches!(self.peek(), Some(b'{' | b'[')) {
                        self.duplicates(&format!("{pointer}/{index}"), depth + 1, found);
                    } else {
                        self.skip();
                    }
                    index += 1;
                    if self.peek() == Some(b',') {
                        self.step();
                    }
                }
                self.step();
            }
            _ => self.skip(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{ \"a\" : [1, {\"x~/y\": \"tü\\\"\\u00e9z\"}],\n\"b\":true}";

    #[test]
    fn finds_values_and_keys() {
        let at = |p: &str| find(TEXT, p).map(|place| TEXT[place.value..].chars().next().unwrap_or(' '));
        assert_eq!(at(""), Some('{'));
        assert_eq!(at("/a"), Some('['));
        assert_eq!(at("/a/0"), Some('1'));
        assert_eq!(at("/a/1/x~0~1y"), Some('"'));
        assert_eq!(at("/b"), Some('t'));
        assert_eq!(at("/c"), None);
        assert_eq!(at("/a/7"), None);
        assert_eq!(find(TEXT, "/b").and_then(|p| p.key).map(|k| line_column(TEXT, k)), Some((2, 1)));
    }

    #[test]
    fn finds_bytes_of_decoded_strings() {
        let start = find(TEXT, "/a/1/x~0~1y").expect("there").value;
        let decoded = "tü\"éz";
        let z = inside_string(TEXT, start, decoded.find('z').expect("there"));
        assert_eq!(TEXT.get(z..=z), Some("z"));
        let quote = inside_string(TEXT, start, decoded.find('"').expect("there"));
        assert_eq!(TEXT.get(quote..quote + 2), Some("\\\""));
    }

    /// Found by `never_panics`, which did not end.
    #[test]
    fn a_list_closed_by_a_brace_ends() {
        for text in ["[}", "[1}", "[,}", "{\"a\":[}}", "[[}]", "[{]}"] {
            assert_eq!(duplicate_keys(text), []);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*", pointer in "(/[a0-9~]*)*", at in 0_usize..40) {
            let _ = find(&text, &pointer);
            let _ = duplicate_keys(&text);
            let _ = line_column(&text, at);
            let _ = inside_string(&text, at, 7);
        }
    }
}
