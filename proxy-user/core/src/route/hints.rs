//! Early hints (103, RFC 8297): what of an origin's interim answer goes on to the client, which does not know yet whether the
//! final one will have the same fields.

use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, LINK};

use crate::fields::Fields;

/// Interim answers of one request that are passed on; the rest are left out.
pub const MAX_HINTS: usize = 8;
/// Bytes of names and values of one; a larger one is left out.
const MAX_BYTES: usize = 16 << 10;

/// The fields that go on: those that browsers heed before the answer. None where the interim answer is another one, has none of
/// them, or too much.
pub fn passed_on(status: StatusCode, headers: &Fields) -> Option<Fields> {
    if status != StatusCode::EARLY_HINTS || !headers.contains_key(LINK) {
        return None;
    }
    let mut kept = Fields::new();
    let mut bytes = 0;
    for name in [LINK, CONTENT_SECURITY_POLICY] {
        for value in headers.get_all(&name) {
            bytes += name.as_str().len() + value.len();
            kept.append(name.clone(), value.clone());
        }
    }
    (bytes <= MAX_BYTES).then_some(kept)
}

/// How an HTTP/1.1 client gets them.
pub fn wire(headers: &Fields) -> Vec<u8> {
    let mut wire = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
    headers.put_lines(&mut wire, |_| false);
    wire.extend_from_slice(b"\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> Fields {
        fields.iter().fold(Fields::new(), |mut map, (name, value)| {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
            map
        })
    }

    #[test]
    fn links_go_on_and_nothing_that_the_answer_should_say() {
        let fields = map(&[
            ("link", "</a.css>; rel=preload"),
            ("link", "</b.js>; rel=preload"),
            ("set-cookie", "a=b"),
            ("connection", "x-secret"),
            ("x-secret", "1"),
        ]);
        let kept = passed_on(StatusCode::EARLY_HINTS, &fields).expect("links");
        assert_eq!(
            String::from_utf8(wire(&kept)).expect("text"),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n"
        );
        assert_eq!(passed_on(StatusCode::CONTINUE, &fields), None);
        assert_eq!(passed_on(StatusCode::PROCESSING, &fields), None);
        assert_eq!(passed_on(StatusCode::EARLY_HINTS, &map(&[("x-secret", "1")])), None);
        assert_eq!(passed_on(StatusCode::EARLY_HINTS, &map(&[("link", &"x".repeat(MAX_BYTES))])), None);
    }
}
