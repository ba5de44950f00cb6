//! Which of the fields that a proxy acts on a header has, known from reading it. Most headers have few of them or none, and looking
//! for each by itself means a look at all the others.

use bitflags::bitflags;
use http::header::{ALT_SVC, CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue};

bitflags! {
    /// A set of such fields.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Special: u32 {
        /// `Connection`.
        const CONNECTION = 1;
        /// `Keep-Alive`.
        const KEEP_ALIVE = 1 << 1;
        /// `Proxy-Connection`.
        const PROXY_CONNECTION = 1 << 2;
        /// `TE`.
        const TE = 1 << 3;
        /// `Transfer-Encoding`.
        const TRANSFER_ENCODING = 1 << 4;
        /// `Upgrade`.
        const UPGRADE = 1 << 5;
        /// `Content-Length`.
        const CONTENT_LENGTH = 1 << 6;
        /// `Expect`.
        const EXPECT = 1 << 7;
        /// `Proxy`, which CGI programs take for the environment variable `HTTP_PROXY`.
        const PROXY = 1 << 8;
        /// `X-Forwarded-For`.
        const X_FORWARDED_FOR = 1 << 9;
        /// `Cookie`.
        const COOKIE = 1 << 10;
        /// A `Connection` that says anything else than `keep-alive`, which is what nearly all say and is only of HTTP/1.0 news.
        const OPTIONS = 1 << 11;
        /// `Host`.
        const HOST = 1 << 12;
        /// `Date`.
        const DATE = 1 << 13;
        /// `Priority`.
        const PRIORITY = 1 << 14;
        /// `X-Forwarded-Proto`.
        const X_FORWARDED_PROTO = 1 << 15;
        /// `X-Request-Id`.
        const X_REQUEST_ID = 1 << 16;
        /// `Alt-Svc`.
        const ALT_SVC = 1 << 17;
        /// What ends at each hop whatever `Connection` names (RFC 9110 section 7.6.1).
        const HOP_BY_HOP = Self::CONNECTION.bits() | Self::KEEP_ALIVE.bits() | Self::PROXY_CONNECTION.bits()
            | Self::TE.bits() | Self::TRANSFER_ENCODING.bits() | Self::UPGRADE.bits();
        /// What HTTP/2 and 3 do not allow (RFC 9113 section 8.2.2).
        const OF_HTTP1 = Self::HOP_BY_HOP.bits() & !Self::TE.bits();
    }
}

impl Special {
    /// Whether there is one of these.
    pub fn has(self, any: Self) -> bool {
        self.intersects(any)
    }

    /// What this field is.
    pub fn one(name: &HeaderName, value: &HeaderValue) -> Self {
        match Self::of(name) {
            Self::CONNECTION if !value.as_bytes().eq_ignore_ascii_case(b"keep-alive") => {
                Self::CONNECTION | Self::OPTIONS
            }
            other => other,
        }
    }

    /// What a field of this name is, whatever its value.
    pub fn of(name: &HeaderName) -> Self {
        match *name {
            CONNECTION => Self::CONNECTION,
            TE => Self::TE,
            TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            UPGRADE => Self::UPGRADE,
            CONTENT_LENGTH => Self::CONTENT_LENGTH,
            EXPECT => Self::EXPECT,
            COOKIE => Self::COOKIE,
            HOST => Self::HOST,
            DATE => Self::DATE,
            ALT_SVC => Self::ALT_SVC,
            _ => match name.as_str() {
                "keep-alive" => Self::KEEP_ALIVE,
                "proxy-connection" => Self::PROXY_CONNECTION,
                "proxy" => Self::PROXY,
                "x-forwarded-for" => Self::X_FORWARDED_FOR,
                "x-forwarded-proto" => Self::X_FORWARDED_PROTO,
                "x-request-id" => Self::X_REQUEST_ID,
                "priority" => Self::PRIORITY,
                _ => Self::empty(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;

    #[test]
    fn each_is_found_among_others() {
        let names = [
            ("connection", Special::CONNECTION | Special::OPTIONS),
            ("keep-alive", Special::KEEP_ALIVE),
            ("proxy-connection", Special::PROXY_CONNECTION),
            ("te", Special::TE),
            ("transfer-encoding", Special::TRANSFER_ENCODING),
            ("upgrade", Special::UPGRADE),
            ("content-length", Special::CONTENT_LENGTH),
            ("expect", Special::EXPECT),
            ("proxy", Special::PROXY),
            ("x-forwarded-for", Special::X_FORWARDED_FOR),
            ("cookie", Special::COOKIE),
            ("host", Special::HOST),
            ("date", Special::DATE),
            ("alt-svc", Special::ALT_SVC),
            ("x-forwarded-proto", Special::X_FORWARDED_PROTO),
            ("x-request-id", Special::X_REQUEST_ID),
            ("priority", Special::PRIORITY),
        ];
        let mut fields = Fields::new();
        fields.insert("x-forwarded", HeaderValue::from_static("a"));
        fields.insert("accept", HeaderValue::from_static("b"));
        let mut all = Special::empty();
        for (name, one) in names {
            assert_eq!(fields.special(), all, "before {name}");
            fields.insert(name, HeaderValue::from_static("c"));
            all |= one;
        }
        assert_eq!((fields.special(), all), (all, Special::all()));
        assert!(!Special::OF_HTTP1.has(Special::TE) && Special::HOP_BY_HOP.has(Special::TE));
    }
}
