//! Patterns with `*`, which stands for any bytes, none included. Nothing is ever tried twice: each literal piece is searched
//! for once, from the left, because the pieces between stars may take the first place they find.

use super::MAX_WILDCARDS;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wildcard {
    /// What stands between the stars; at least one, the outer ones may be empty.
    pieces: Vec<Box<[u8]>>,
    ignore_case: bool,
}

impl Wildcard {
    /// `\*` is a star and `\\` a backslash. Two stars side by side are refused.
    pub fn new(pattern: &[u8], ignore_case: bool) -> Result<Self, String> {
        let mut pieces = vec![Vec::new()];
        let mut bytes = pattern.iter().copied().peekable();
        let mut after_star = false;
        while let Some(byte) = bytes.next() {
            let star = byte == b'*';
            if star && after_star {
                return Err("`**` means no more than `*`; write one".to_owned());
            }
            after_star = star;
            if star {
                pieces.push(Vec::new());
                continue;
            }
            let literal = if byte == b'\\' {
                bytes.next_if(|b| matches!(b, b'*' | b'\\')).ok_or("`\\` stands before `*` or `\\` only")?
            } else {
                byte
            };
            if let Some(piece) = pieces.last_mut() {
                piece.push(if ignore_case { literal.to_ascii_lowercase() } else { literal });
            }
        }
        if pieces.len() > MAX_WILDCARDS + 1 {
            return Err(format!("{} stars; at most {MAX_WILDCARDS} are taken", pieces.len() - 1));
        }
        Ok(Self { pieces: pieces.into_iter().map(Vec::into_boxed_slice).collect(), ignore_case })
    }

    /// The same as a regular expression with a group for each star, of the fewest bytes from the left.
    pub fn to_regex(&self) -> String {
        let flags = if self.ignore_case { "(?si-u)" } else { "(?s-u)" };
        let escaped = |piece: &[u8]| piece.iter().fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"));
        let pieces: Vec<String> = self.pieces.iter().map(|piece| escaped(piece)).collect();
        format!("{flags}^{}$", pieces.join("(.*?)"))
    }

    /// What stands between the stars.
    pub fn pieces(&self) -> &[Box<[u8]>] {
        &self.pieces
    }

    /// Whether the whole text fits the pattern.
    pub fn matches(&self, text: &[u8]) -> bool {
        let [first, middle @ .., last] = self.pieces.as_slice() else {
            // No star: the one piece is the whole text.
            return self.pieces.first().is_some_and(|piece| self.same(piece, text));
        };
        if text.len() < first.len() + last.len() {
            return false;
        }
        let (start, rest) = text.split_at(first.len());
        let (mut rest, end) = rest.split_at(rest.len() - last.len());
        if !self.same(first, start) || !self.same(last, end) {
            return false;
        }
        for piece in middle {
            let Some(at) = self.find(piece, rest) else { return false };
            rest = rest.get(at + piece.len()..).unwrap_or_default();
        }
        true
    }

    fn same(&self, piece: &[u8], text: &[u8]) -> bool {
        if self.ignore_case { piece.eq_ignore_ascii_case(text) } else { piece == text }
    }

    fn find(&self, piece: &[u8], text: &[u8]) -> Option<usize> {
        if self.ignore_case {
            return text.windows(piece.len().max(1)).position(|window| piece.eq_ignore_ascii_case(window));
        }
        memchr::memmem::find(text, piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        let fits = |pattern: &str, text: &str| {
            Wildcard::new(pattern.as_bytes(), true).expect(pattern).matches(text.as_bytes())
        };
        assert!(fits("shop.*", "SHOP.example"));
        assert!(fits("*", ""));
        assert!(fits("a*b*c", "aXbYbZc"));
        assert!(!fits("a*a", "a"));
        assert!(fits(r"a\*b", "a*b") && !fits(r"a\*b", "axb"));
        assert!(Wildcard::new(b"a**", true).is_err() && Wildcard::new(br"a\x", true).is_err());
        assert!(Wildcard::new("*a".repeat(17).as_bytes(), true).is_err());
        assert!(!Wildcard::new(b"A", false).expect("pattern").matches(b"a"));
    }

    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            [byte, rest @ ..] => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn as_the_naive_version(pattern in "[ab]{0,3}(\\*[ab]{1,2}){0,3}\\*?", text in "[ab]{0,9}") {
            let compiled = Wildcard::new(pattern.as_bytes(), false).expect("pattern");
            prop_assert_eq!(compiled.matches(text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
