//! Where values of fields come from. An answer of `None`, or no call at all, means that the value is missing.

use std::net::IpAddr;

use http::Version;
use smallvec::SmallVec;

use super::expr::ProtoSet;
use super::field::{FlagField, IntField, IpField, TextField};
use crate::policy::RequestView;
use crate::ranges::number;

/// Bytes that fit on the stack while a value is put together.
pub(super) const INLINE_BYTES: usize = 512;
/// A value that had to be put together.
pub(super) type Buffer = SmallVec<[u8; INLINE_BYTES]>;

/// What an expression is evaluated against.
pub(crate) trait Facts {
    /// An address as a v4-mapped number.
    fn ip(&self, field: IpField) -> Option<u128>;
    /// A number.
    fn int(&self, field: IntField) -> Option<u128>;
    /// The transport protocol, where it has a name.
    fn proto(&self) -> Option<ProtoSet>;
    /// A boolean.
    fn flag(&self, field: FlagField) -> Option<bool>;
    /// Calls `test` with each value until it says true; says whether it did.
    fn text(&self, field: &TextField, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// Name of an HTTP version in expressions.
pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

impl Facts for RequestView<'_> {
    fn ip(&self, field: IpField) -> Option<u128> {
        Some(number(match field {
            IpField::Src => self.src,
            IpField::Dst => match self.dst.ip() {
                IpAddr::V6(v6) => v6.to_canonical(),
                v4 @ IpAddr::V4(_) => v4,
            },
        }))
    }

    fn int(&self, field: IntField) -> Option<u128> {
        let udp = self.version == Version::HTTP_3;
        match field {
            IntField::TcpDst if !udp => Some(self.dst.port().into()),
            IntField::UdpDst if udp => Some(self.dst.port().into()),
            _ => None,
        }
    }

    fn proto(&self) -> Option<ProtoSet> {
        ProtoSet::by_name(if self.version == Version::HTTP_3 { b"udp" } else { b"tcp" })
    }

    fn flag(&self, _: FlagField) -> Option<bool> {
        None
    }

    fn text(&self, field: &TextField, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match field {
            TextField::Method => test(self.method.as_str().as_bytes()),
            TextField::Uri => match self.query {
                None => test(self.path.as_bytes()),
                Some(query) => {
                    let mut uri = Buffer::from_slice(self.path.as_bytes());
                    uri.push(b'?');
                    uri.extend_from_slice(query.as_bytes());
                    test(&uri)
                }
            },
            TextField::Path => test(self.path.as_bytes()),
            TextField::Query => self.query.is_some_and(|query| test(query.as_bytes())),
            TextField::Version => test(version_name(self.version).as_bytes()),
            TextField::Scheme => test(self.scheme.as_bytes()),
            TextField::Host => !self.host_name().is_empty() && test(self.host_name().as_bytes()),
            TextField::UserAgent => {
                self.headers.get(http::header::USER_AGENT).is_some_and(|value| test(value.as_bytes()))
            }
            TextField::Header(name) => self.headers.get_all(name).iter().any(|value| test(value.as_bytes())),
            TextField::HeaderNames => self.headers.keys().any(|name| test(name.as_str().as_bytes())),
            TextField::Arg(wanted) => {
                self.args().any(|(name, value)| name.as_bytes() == &**wanted && test(value.as_bytes()))
            }
            TextField::ArgNames => self.args().any(|(name, _)| test(name.as_bytes())),
            TextField::Listener => !self.listener.is_empty() && test(self.listener.as_bytes()),
        }
    }
}

impl RequestView<'_> {
    /// The host without its root dot, which routing leaves out too: `a.example.` must not get around a rule on `a.example`.
    pub(crate) fn host_name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(self.host)
    }

    /// Names and values of the query, as sent; a name without `=` has an empty value.
    fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        let parts = self.query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        parts.map(|part| part.split_once('=').unwrap_or((part, "")))
    }
}
