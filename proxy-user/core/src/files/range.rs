//! `Range` (RFC 9110 section 14): what is asked for of a file, or that all of it is to be sent.

use http::header::RANGE;

use crate::fields::Fields;

/// Most ranges of one request; with more, all of the file is sent.
pub const MAX_RANGES: usize = 64;

/// Bytes of a file, both ends among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

impl Span {
    /// How many bytes.
    pub const fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// Never: a span has a byte.
    pub const fn is_empty(self) -> bool {
        false
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    All,
    One(Span),
    Many(Vec<Span>),
    /// No range has a byte of the file.
    None,
}

/// What is malformed, in another unit, too many, or more than the file itself is not heeded.
pub(super) fn asked(headers: &Fields, size: u64) -> Asked {
    let mut fields = headers.get_all(RANGE);
    let (Some(field), None) = (fields.next(), fields.next()) else { return Asked::All };
    let Some(list) = field.to_str().ok().and_then(|text| {
        let (unit, list) = text.split_once('=')?;
        unit.trim().eq_ignore_ascii_case("bytes").then_some(list)
    }) else {
        return Asked::All;
    };
    let mut spans = Vec::new();
    let mut seen = 0;
    for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        seen += 1;
        match span(text, size) {
            _ if seen > MAX_RANGES => return Asked::All,
            Err(()) => return Asked::All,
            Ok(found) => spans.extend(found),
        }
    }
    // Ranges that overlap could ask for many times the file (section 14.2).
    let total = spans.iter().fold(0_u64, |sum, span| sum.saturating_add(span.len()));
    match spans.as_slice() {
        // Of an empty file nothing can be asked for; it is sent, as it is all that there is.
        [] if seen == 0 || size == 0 => Asked::All,
        [] => Asked::None,
        [one] => Asked::One(*one),
        _ if total > size => Asked::All,
        _ => Asked::Many(spans),
    }
}

/// One range: none where the file has no byte of it, an error where it is malformed.
fn span(text: &str, size: u64) -> Result<Option<Span>, ()> {
    let (first, last) = text.split_once('-').ok_or(())?;
    let number = |text: &str| -> Result<Option<u64>, ()> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.trim() {
            "" => Ok(None),
            // Beyond any file, which is as good as the largest number.
            _ if digits => Ok(Some(text.parse().unwrap_or(u64::MAX))),
            _ => Err(()),
        }
    };
    let end = size.checked_sub(1);
    Ok(match (number(first)?, number(last)?) {
        (None, None) => return Err(()),
        (None, Some(suffix)) => {
            end.filter(|_| suffix > 0).map(|last| Span { first: size.saturating_sub(suffix), last })
        }
        (Some(first), Some(last)) if first > last => return Err(()),
        (Some(first), last) => {
            let last = end.map(|end| end.min(last.unwrap_or(u64::MAX)));
            last.filter(|last| first <= *last).map(|last| Span { first, last })
        }
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str, size: u64) -> Asked {
        HeaderValue::from_str(text).map_or(Asked::All, |value| asked(&Fields::from_iter([(RANGE, value)]), size))
    }

    #[test]
    fn ranges() {
        let one = |first, last| Asked::One(Span { first, last });
        for (text, expected) in [
            ("bytes=0-0", one(0, 0)),
            ("bytes=5-", one(5, 9)),
            ("bytes=5-100", one(5, 9)),
            ("bytes=-3", one(7, 9)),
            ("bytes=-30", one(0, 9)),
            ("BYTES= 1-2 ", one(1, 2)),
            ("bytes=9-99999999999999999999999", one(9, 9)),
            ("bytes=10-", Asked::None),
            ("bytes=-0", Asked::None),
            ("bytes=20-30, 15-", Asked::None),
            ("bytes=0-0,20-30", one(0, 0)),
            ("bytes=0-0,,-1", Asked::Many(vec![Span { first: 0, last: 0 }, Span { first: 9, last: 9 }])),
            ("bytes=5-4", Asked::All),
            ("bytes=", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes=a-b", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("bytes 0-1", Asked::All),
            ("lines=0-1", Asked::All),
            ("bytes=0-8,1-9", Asked::All),
        ] {
            assert_eq!(of(text, 10), expected, "{text}");
        }
        assert_eq!(of("bytes=0-", 0), Asked::All);
        assert_eq!(of(&format!("bytes={}", vec!["0-0"; MAX_RANGES + 1].join(",")), 1_000), Asked::All);
    }

    proptest! {
        #[test]
        fn within_the_file_and_never_more_than_it(text in "bytes=[0-9,-]{0,40}", size in 0_u64..50) {
            let spans = match of(&text, size) {
                Asked::One(span) => vec![span],
                Asked::Many(spans) => spans,
                Asked::All | Asked::None => vec![],
            };
            for span in &spans {
                prop_assert!(span.first <= span.last && span.last < size);
            }
            prop_assert!(spans.iter().map(|span| span.len()).sum::<u64>() <= size);
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = of(&text, 100);
        }
    }
}
