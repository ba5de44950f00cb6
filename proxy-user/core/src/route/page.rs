//! Error pages: which statuses one is for, and what is left of the header of an origin's answer that one takes the place of.

use std::ops::RangeInclusive;

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, TRAILER,
};

use crate::fields::Fields;

/// Fields that speak of the content that came (RFC 9110 sections 8 and 14.3), its digests (RFC 9530) among them.
const OF_CONTENT: [HeaderName; 14] = [
    ACCEPT_RANGES,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    LAST_MODIFIED,
    TRAILER,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("content-md5"),
];

/// The statuses that a key of `error_pages` stands for: `503`, or a class as `5xx`. None where it is neither.
pub fn statuses(key: &str) -> Option<RangeInclusive<u16>> {
    match key {
        "4xx" => Some(400..=499),
        "5xx" => Some(500..=599),
        _ if key.len() == 3 => key.parse().ok().filter(|one| (400..600).contains(one)).map(|one| one..=one),
        _ => None,
    }
}

/// Takes away what speaks of content that is not sent. `Retry-After`, `WWW-Authenticate`, cookies and the rest stay.
pub fn without_content(headers: &mut Fields) {
    for name in &OF_CONTENT {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn keys_are_statuses_and_classes() {
        assert_eq!(
            (statuses("404"), statuses("5xx"), statuses("4xx")),
            (Some(404..=404), Some(500..=599), Some(400..=499))
        );
        for bad in ["", "3xx", "399", "600", "0404", "+40", "40", "5XX", "abc"] {
            assert_eq!(statuses(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_speaks_of_the_content_goes() {
        let mut headers: Fields = [
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
            ("content-length", "9"),
            ("etag", "\"a\""),
            ("repr-digest", "sha-256=:AA==:"),
            ("retry-after", "7"),
            ("set-cookie", "a=b"),
            ("www-authenticate", "Basic"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        without_content(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["retry-after", "set-cookie", "www-authenticate"]);
    }
}
