//! Decisions about files that are served as they are: conditional requests, ranges, which encoding. Pure: a file is its
//! size and its time here, and nothing is opened.

mod conditional;
mod encoding;
mod name;
mod range;

use http::Method;

use crate::fields::Fields;

pub use conditional::Validators;
pub use encoding::{Coding, preferred};
pub use name::{Name, local};
pub use range::{MAX_RANGES, Span};

use conditional::Outcome;
use range::Asked;

/// What a request for a file that is there gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 200 with all of it.
    Whole,
    /// 206 with one part.
    Part(Span),
    /// 206 with several parts, as `multipart/byteranges`.
    Parts(Vec<Span>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    NotSatisfiable,
}

/// Decides in the order of RFC 9110 section 13.2.2: preconditions, then `If-Range`, then `Range`. `method` is GET or HEAD.
pub fn decide(method: &Method, headers: &Fields, validators: &Validators, size: u64) -> Reply {
    match validators.judge(headers) {
        Outcome::NotModified => return Reply::NotModified,
        Outcome::Failed => return Reply::PreconditionFailed,
        Outcome::Goes => {}
    }
    // Ranges are defined for GET alone (section 14.2).
    if *method != Method::GET || !validators.range_applies(headers) {
        return Reply::Whole;
    }
    match range::asked(headers, size) {
        Asked::All => Reply::Whole,
        Asked::None => Reply::NotSatisfiable,
        Asked::One(span) => Reply::Part(span),
        Asked::Many(spans) => Reply::Parts(spans),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn reply(method: &Method, fields: &[(&'static str, &str)]) -> Reply {
        let headers: Fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        // Sun, 06 Nov 1994 08:49:37 GMT
        decide(method, &headers, &Validators::new(784_111_777, 10), 10)
    }

    const TAG: &str = "\"2ebc98a1-a\"";
    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn preconditions_come_first() {
        let get = |fields: &[(&'static str, &str)]| reply(&Method::GET, fields);
        assert_eq!(get(&[]), Reply::Whole);
        for (fields, expected) in [
            (&[("if-none-match", TAG)][..], Reply::NotModified),
            (&[("if-none-match", "W/\"2ebc98a1-a\"")], Reply::NotModified),
            (&[("if-none-match", "\"x\", \"2ebc98a1-a\"")], Reply::NotModified),
            (&[("if-none-match", "*")], Reply::NotModified),
            (&[("if-none-match", "\"x\"")], Reply::Whole),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AT)], Reply::Whole),
            (&[("if-modified-since", AT)], Reply::NotModified),
            (&[("if-modified-since", BEFORE)], Reply::Whole),
            (&[("if-modified-since", "yesterday")], Reply::Whole),
            (&[("if-match", TAG)], Reply::Whole),
            (&[("if-match", "*")], Reply::Whole),
            (&[("if-match", "W/\"2ebc98a1-a\"")], Reply::PreconditionFailed),
            (&[("if-match", "\"x\"")], Reply::PreconditionFailed),
            (&[("if-unmodified-since", BEFORE)], Reply::PreconditionFailed),
            (&[("if-unmodified-since", AT)], Reply::Whole),
            (&[("if-match", TAG), ("if-unmodified-since", BEFORE)], Reply::Whole),
            (&[("if-match", "\"x\""), ("if-none-match", TAG)], Reply::PreconditionFailed),
            (&[("range", "bytes=0-1"), ("if-none-match", TAG)], Reply::NotModified),
        ] {
            assert_eq!(get(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn ranges_follow() {
        let part = |first, last| Reply::Part(Span { first, last });
        for (fields, expected) in [
            (&[("range", "bytes=0-4")][..], part(0, 4)),
            (&[("range", "bytes=0-4"), ("if-range", TAG)], part(0, 4)),
            (&[("range", "bytes=0-4"), ("if-range", AT)], part(0, 4)),
            (&[("range", "bytes=0-4"), ("if-range", BEFORE)], Reply::Whole),
            (&[("range", "bytes=0-4"), ("if-range", "\"x\"")], Reply::Whole),
            (&[("range", "bytes=0-4"), ("if-range", "W/\"2ebc98a1-a\"")], Reply::Whole),
            (&[("range", "bytes=10-")], Reply::NotSatisfiable),
        ] {
            assert_eq!(reply(&Method::GET, fields), expected, "{fields:?}");
        }
        assert_eq!(reply(&Method::HEAD, &[("range", "bytes=0-4")]), Reply::Whole);
    }
}
