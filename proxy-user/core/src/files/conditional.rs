//! Conditional requests (RFC 9110 section 13) on a file's entity tag and time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderName, HeaderValue};

use crate::fields::Fields;

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// Seconds since 1970.
    modified: u64,
    tag: String,
}

/// What the preconditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Goes,
    NotModified,
    Failed,
}

/// The last second of the year 9999.
const LAST_DATE: u64 = 253_402_300_799;

impl Validators {
    /// Of a file with this time (seconds since 1970) and size. The tag is strong, and the one that nginx gives.
    pub fn new(modified: u64, size: u64) -> Self {
        // Dates of HTTP have years of four digits (RFC 9110 section 5.6.7).
        let modified = modified.min(LAST_DATE);
        Self { modified, tag: format!("\"{modified:x}-{size:x}\"") }
    }

    /// For `ETag`, with its quotes.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// For `Last-Modified`.
    pub fn last_modified(&self) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.modified))
    }

    /// Section 13.2.2, steps 1 to 4, for GET and HEAD.
    pub(super) fn judge(&self, headers: &Fields) -> Outcome {
        if headers.contains_key(IF_MATCH) {
            if !is_listed(headers, &IF_MATCH, |tag| tag == self.tag) {
                return Outcome::Failed;
            }
        } else if date(headers.get(IF_UNMODIFIED_SINCE)).is_some_and(|since| self.modified > since) {
            return Outcome::Failed;
        }
        let unchanged = if headers.contains_key(IF_NONE_MATCH) {
            // Weak comparison (section 8.8.3.2).
            is_listed(headers, &IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == self.tag)
        } else {
            date(headers.get(IF_MODIFIED_SINCE)).is_some_and(|since| self.modified <= since)
        };
        if unchanged { Outcome::NotModified } else { Outcome::Goes }
    }

    /// Whether `Range` is to be looked at (section 13.1.5): strong comparison, and dates only as they were given.
    pub(super) fn range_applies(&self, headers: &Fields) -> bool {
        let Some(value) = headers.get(IF_RANGE) else { return true };
        match date(Some(value)) {
            Some(since) => since == self.modified,
            None => value.as_bytes() == self.tag.as_bytes(),
        }
    }
}

fn is_listed(headers: &Fields, name: &HeaderName, fits: impl Fn(&str) -> bool) -> bool {
    let lists = headers.get_all(name).filter_map(|value| value.to_str().ok());
    lists.flat_map(tags).any(|tag| tag == "*" || fits(tag))
}

/// The entity tags of a list; commas within quotes are theirs.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let split = list.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    split.map(str::trim)
}

/// An HTTP date in seconds since 1970.
fn date(value: Option<&HeaderValue>) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(value?.to_str().ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags() {
        assert_eq!(tags("\"a,b\" , W/\"c\",*").collect::<Vec<_>>(), ["\"a,b\"", "W/\"c\"", "*"]);
    }

    #[test]
    fn as_nginx_writes_them() {
        let validators = Validators::new(784_111_777, 10);
        assert_eq!(validators.tag(), "\"2ebc98a1-a\"");
        assert_eq!(validators.last_modified(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(Validators::new(u64::MAX, 0).last_modified(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
