//! A request of HTTP/2 or 3 as the stages take it.

use http::Version;
use http::header::CONTENT_LENGTH;
use proxy_core::fields::message::Head;
use proxy_core::http1::decimal;
use proxy_core::special::Special;

use crate::http::head::RequestHead;

/// A header that has been read, and the length that its client declares; none where the protocol that it asks for is no text.
pub(super) fn parts(head: Head, version: Version) -> Option<(RequestHead, Option<u64>)> {
    let Head { method, uri, protocol, headers } = head;
    if protocol.as_ref().is_some_and(|protocol| std::str::from_utf8(protocol).is_err()) {
        return None;
    }
    let declared = headers.get_special(Special::CONTENT_LENGTH, CONTENT_LENGTH);
    let length = declared.and_then(|length| decimal(length.as_bytes()));
    Some((RequestHead { method, uri, version, headers, protocol }, length))
}
