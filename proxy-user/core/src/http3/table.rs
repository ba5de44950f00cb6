//! QPACK's static table (RFC 9204 appendix A): fields by their index, and the index of a field.

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};

/// What is found of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it.
    Field(usize),
    /// A field of that name.
    Name(usize),
    /// Not even that.
    Nothing,
}

/// The table.
pub(super) const FIELDS: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];
/// Bytes of the longest name.
const LONGEST: usize = 32;

/// Indices in the order of their names' lengths.
const SORTED: [u8; FIELDS.len()] = sorted().0;
/// Where in it those of a length begin; they end where those of the next do.
const BEGIN: [u8; LONGEST + 2] = sorted().1;

/// Names and values as messages have them; none for pseudo-header fields.
static MADE: LazyLock<Vec<(Option<HeaderName>, HeaderValue)>> = LazyLock::new(|| {
    let made = |(name, value): (&'static str, &'static str)| {
        let name = (!name.starts_with(':')).then(|| HeaderName::from_static(name));
        (name, HeaderValue::from_static(value))
    };
    FIELDS.into_iter().map(made).collect()
});

const fn sorted() -> ([u8; FIELDS.len()], [u8; LONGEST + 2]) {
    let (mut sorted, mut begin) = ([0; FIELDS.len()], [0; LONGEST + 2]);
    let (mut place, mut length) = (0, 0);
    while length <= LONGEST {
        begin[length] = place as u8;
        let mut index = 0;
        while index < FIELDS.len() {
            if FIELDS[index].0.len() == length {
                sorted[place] = index as u8;
                place += 1;
            }
            index += 1;
        }
        length += 1;
    }
    begin[LONGEST + 1] = place as u8;
    (sorted, begin)
}

/// Looks a field up.
pub(super) fn find(name: &[u8], value: &[u8]) -> Found {
    let (Some(begin), Some(end)) = (BEGIN.get(name.len()), BEGIN.get(name.len() + 1)) else { return Found::Nothing };
    let mut found = Found::Nothing;
    for index in SORTED.get(usize::from(*begin)..usize::from(*end)).unwrap_or_default() {
        let index = usize::from(*index);
        let Some((known, with)) = FIELDS.get(index) else { continue };
        if known.as_bytes() == name {
            if with.as_bytes() == value {
                return Found::Field(index);
            }
            if found == Found::Nothing {
                found = Found::Name(index);
            }
        }
    }
    found
}

/// A field's name and value as a message has them; no name where it is a pseudo-header field's. None where there is no such index.
pub(super) fn made(index: usize) -> Option<&'static (Option<HeaderName>, HeaderValue)> {
    MADE.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        for (index, (name, value)) in FIELDS.into_iter().enumerate() {
            assert_eq!(find(name.as_bytes(), value.as_bytes()), Found::Field(index), "{name}: {value}");
            let Found::Name(first) = find(name.as_bytes(), b"\0") else { panic!("{name}") };
            assert!(FIELDS[first].0 == name && first <= index);
            assert_eq!(made(index).unwrap().1, value);
        }
        assert_eq!(find(b"x-other", b""), Found::Nothing);
        assert_eq!(find(&[b'x'; 400], b""), Found::Nothing);
        assert_eq!(find(b"", b""), Found::Nothing);
        // RFC 9204 appendix A, looked at.
        assert_eq!((find(b":status", b"500"), find(b"server", b"")), (Found::Field(71), Found::Field(92)));
    }
}
