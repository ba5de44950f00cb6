//! One field of a block, read once: tables keep it as it is, and a message that refers to it need not read it again.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method};

/// What a field counts for beside its name and its value (RFC 7541 section 4.1, RFC 9114 section 4.2.2).
const OVERHEAD: usize = 32;

/// What a field counts for whose name and value have so many bytes.
pub const fn counts(name: usize, value: usize) -> usize {
    name + value + OVERHEAD
}

/// A field of a request.
#[derive(Clone, Debug)]
pub enum Field {
    /// One that is no pseudo-header field.
    Plain(HeaderName, HeaderValue),
    /// `:method`.
    Method(Method),
    /// `:scheme`.
    Scheme(Scheme),
    /// `:authority`.
    Authority(Authority),
    /// `:path`.
    Path(PathAndQuery),
    /// `:protocol` (RFC 8441, RFC 9220).
    Protocol(Bytes),
    /// One that no request may have, with its name, and why: tables keep such ones too.
    Wrong(Bytes, &'static str),
}

impl Field {
    /// One whose name and value are written out.
    pub fn said(name: &[u8], value: Bytes) -> Self {
        let wrong = |why| Self::Wrong(Bytes::copy_from_slice(name), why);
        match name {
            b":method" => Method::from_bytes(&value).map_or_else(|_| wrong("the method is none"), Self::Method),
            b":scheme" => match Scheme::try_from(&*value) {
                Ok(scheme) if !scheme.as_str().is_empty() => Self::Scheme(scheme),
                _ => wrong("the scheme is none"),
            },
            b":authority" => {
                Authority::from_maybe_shared(value).map_or_else(|_| wrong("the authority is none"), Self::Authority)
            }
            b":path" if matches!(&*value, [b'/', ..] | b"*") => {
                PathAndQuery::from_maybe_shared(value).map_or_else(|_| wrong("the path is none"), Self::Path)
            }
            b":path" => wrong("the path is none"),
            b":protocol" => Self::Protocol(value),
            [b':', ..] => wrong("a pseudo-header field that requests do not have"),
            _ => match HeaderName::from_lowercase(name) {
                Ok(known) => Self::plain(known, value),
                Err(_) => wrong("a field's name has what names may not"),
            },
        }
    }

    fn plain(name: HeaderName, value: Bytes) -> Self {
        match HeaderValue::from_maybe_shared(value) {
            Ok(value) => Self::Plain(name, value),
            Err(_) => {
                Self::Wrong(Bytes::copy_from_slice(name.as_str().as_bytes()), "a field's value has what values may not")
            }
        }
    }

    /// One of the same name with another value.
    #[must_use]
    pub fn with(&self, value: Bytes) -> Self {
        match self {
            Self::Plain(name, _) => Self::plain(name.clone(), value),
            other => Self::said(other.name(), value),
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Plain(name, _) => name.as_str().as_bytes(),
            Self::Method(_) => b":method",
            Self::Scheme(_) => b":scheme",
            Self::Authority(_) => b":authority",
            Self::Path(_) => b":path",
            Self::Protocol(_) => b":protocol",
            Self::Wrong(name, _) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_what_it_is() {
        let value = || Bytes::from_static(b"/x");
        for name in
            ["host", "x-own", ":method", ":scheme", ":authority", ":path", ":protocol", ":status", "X-Up", "", "a b"]
        {
            let field = Field::said(name.as_bytes(), value());
            assert_eq!(field.name(), name.as_bytes());
            let other = field.with(Bytes::from_static(b"a"));
            assert_eq!(other.name(), name.as_bytes());
            let wrong = matches!(other, Field::Wrong(..));
            assert_eq!(wrong, [":path", ":status", "X-Up", "", "a b"].contains(&name), "{name}");
        }
        assert!(matches!(Field::said(b"x", Bytes::from_static(b"a\nb")), Field::Wrong(..)));
    }
}
