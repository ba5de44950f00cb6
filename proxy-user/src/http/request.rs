//! A request of HTTP/2 or 3 as the stages take it.

use h2::ext::Protocol;
use http::header::CONTENT_LENGTH;
use http::{Request, Version, request};
use proxy_core::fields::message::Head;
use proxy_core::http1::decimal;

/// A header that has been read, and the length that its client declares; None where the protocol that it asks for is no text.
pub(super) fn parts(head: Head, version: Version) -> Option<(request::Parts, Option<u64>)> {
    let (mut parts, ()) = Request::new(()).into_parts();
    if let Some(protocol) = head.protocol {
        parts.extensions.insert(Protocol::from(std::str::from_utf8(&protocol).ok()?));
    }
    (parts.method, parts.uri, parts.headers, parts.version) = (head.method, head.uri, head.headers, version);
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
    Some((parts, length))
}
