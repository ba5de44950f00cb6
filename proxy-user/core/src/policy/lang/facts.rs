//! Where values of fields come from. An answer of `None`, or no call at all, means that the value is missing.

use std::net::IpAddr;

use http::header::{ACCEPT_LANGUAGE, COOKIE, REFERER, USER_AGENT};
use http::{HeaderName, Version};
use smallvec::SmallVec;

use super::MAX_LANGUAGES;
use super::field::{CertField, FlagField, HttpInt, IntField, IpField, TextField};
use super::packet::{PacketTerm, Place};
use super::value::ProtoSet;
use crate::fields::Fields;
use crate::geo::Places;
use crate::policy::{RequestView, ResponseView};
use crate::ranges::number;

/// `x-forwarded-for`
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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
    /// Bits of a packet; nothing else has them.
    fn slice(&self, _: &Place) -> Option<u64> {
        None
    }
    /// Whether what only packets tell holds.
    fn packet(&self, _: &PacketTerm) -> bool {
        false
    }
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
            IntField::Http(HttpInt::BodySize) => self.body_size.map(Into::into),
            IntField::Http(HttpInt::Milliseconds) => Some(self.wall_ms.into()),
            IntField::Http(HttpInt::Asn) => self.connection.places?.asn(self.src).map(Into::into),
            IntField::Http(HttpInt::HelloLength) => self.connection.hello.map(|hello| hello.length.into()),
            IntField::Http(HttpInt::Abuse) => Some(self.connection.abuse.score.into()),
            IntField::Http(HttpInt::Link(field)) => {
                self.connection.link.and_then(|link| field.of(&link)).map(Into::into)
            }
            IntField::Http(HttpInt::Seconds) => Some((self.wall_ms / 1_000).into()),
            _ => None,
        }
    }

    fn proto(&self) -> Option<ProtoSet> {
        ProtoSet::by_name(if self.version == Version::HTTP_3 { b"udp" } else { b"tcp" })
    }

    fn flag(&self, field: FlagField) -> Option<bool> {
        match field {
            FlagField::Ssl => Some(self.scheme == "https"),
            FlagField::BodyTruncated => Some(self.body.truncated),
            FlagField::ClientVerified => Some(self.connection.client.is_some()),
            FlagField::EarlyData => Some(self.connection.early_data),
            FlagField::Fragment | FlagField::Tcp(_) => None,
        }
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
            TextField::UserAgent => first(self.headers, &USER_AGENT, test),
            TextField::Referer => first(self.headers, &REFERER, test),
            TextField::ForwardedFor => first(self.headers, &FORWARDED_FOR, test),
            TextField::Header(name) => self.headers.get_all(name).any(|value| test(value.as_bytes())),
            TextField::HeaderNames => self.headers.keys().any(|name| test(name.as_str().as_bytes())),
            TextField::HeaderValues => self.headers.values().any(|value| test(value.as_bytes())),
            TextField::CookieHeader => self.cookie_header(test),
            TextField::Cookie(wanted) => self.cookies().any(|(name, value)| name == &**wanted && test(value)),
            TextField::Languages => languages(self.headers).iter().any(|tag| test(tag)),
            TextField::FullUri => self.full_uri(test),
            TextField::Extension => self.extension(test),
            TextField::Arg(wanted) => {
                self.args().any(|(name, value)| name.as_bytes() == &**wanted && test(value.as_bytes()))
            }
            TextField::ArgNames => self.args().any(|(name, _)| test(name.as_bytes())),
            TextField::ArgValues => self.args().any(|(_, value)| test(value.as_bytes())),
            TextField::Listener => !self.listener.is_empty() && test(self.listener.as_bytes()),
            TextField::Country => self.place(|places, address| places.country(address), test),
            TextField::Continent => self.place(|places, address| places.continent(address), test),
            TextField::Cert(field) => self.connection.client.is_some_and(|client| match field {
                CertField::Subject => test(client.subject.as_bytes()),
                CertField::Issuer => test(client.issuer.as_bytes()),
                CertField::Serial => test(client.serial.as_bytes()),
                CertField::Fingerprint => test(client.fingerprint.as_bytes()),
                CertField::Names => client.names.iter().any(|name| test(name.as_bytes())),
            }),
            TextField::AbuseKind => self.connection.abuse.last.is_some_and(|kind| test(kind.name().as_bytes())),
            TextField::Body => self.body.bytes.is_some_and(test),
            TextField::Hello(field) => {
                self.connection.hello.is_some_and(|hello| super::hello::values(hello, *field, test))
            }
            TextField::ResponseHeader(_) | TextField::ResponseHeaderNames | TextField::ResponseHeaderValues => false,
        }
    }
}

impl Facts for ResponseView<'_> {
    fn ip(&self, field: IpField) -> Option<u128> {
        Some(number(match field {
            IpField::Src => self.src,
            IpField::Dst => self.dst.to_canonical(),
        }))
    }

    fn int(&self, field: IntField) -> Option<u128> {
        matches!(field, IntField::Http(HttpInt::Status)).then(|| self.status.as_u16().into())
    }

    fn proto(&self) -> Option<ProtoSet> {
        None
    }

    fn flag(&self, _: FlagField) -> Option<bool> {
        None
    }

    fn text(&self, field: &TextField, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match field {
            TextField::ResponseHeader(name) => self.headers.get_all(name).any(|value| test(value.as_bytes())),
            TextField::ResponseHeaderNames => self.headers.keys().any(|name| test(name.as_str().as_bytes())),
            TextField::ResponseHeaderValues => self.headers.values().any(|value| test(value.as_bytes())),
            _ => false,
        }
    }
}

fn first(headers: &Fields, name: &HeaderName, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    headers.get(name).is_some_and(|value| test(value.as_bytes()))
}

/// A weight (RFC 9110 section 12.4.2): `0` or `1`, and up to three digits behind a point.
fn thousandths(weight: &[u8]) -> Option<u32> {
    let (whole, behind) = match weight {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', behind @ ..] if behind.len() <= 3 => (whole, behind),
        _ => return None,
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    let mut value = digit(*whole)? * 1_000;
    for (byte, scale) in behind.iter().zip([100, 10, 1]) {
        value += digit(*byte)? * scale;
    }
    (value <= 1_000).then_some(value)
}

/// Tags of `accept-language` (RFC 9110 section 12.5.4), the most wanted first, those with `q=0` left out.
fn languages(headers: &Fields) -> SmallVec<[&[u8]; 8]> {
    let mut found: SmallVec<[(u32, &[u8]); 8]> = SmallVec::new();
    let values = headers.get_all(ACCEPT_LANGUAGE).flat_map(|value| value.as_bytes().split(|b| *b == b','));
    for item in values {
        let mut parts = item.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let tag = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        let weight = weight.map_or(Some(1_000), thousandths).unwrap_or(0);
        if !tag.is_empty() && weight > 0 && found.len() < MAX_LANGUAGES {
            found.push((1_000 - weight, tag));
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, tag)| tag).collect()
}

impl RequestView<'_> {
    /// The host without its root dot, which routing leaves out too: `a.example.` must not get around a rule on `a.example`.
    pub(crate) fn host_name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(self.host)
    }

    fn place(&self, of: fn(&dyn Places, IpAddr) -> Option<&str>, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.connection.places.and_then(|places| of(places, self.src)).is_some_and(|name| test(name.as_bytes()))
    }

    /// Names and values of the query, as sent; a name without `=` has an empty value.
    fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        let parts = self.query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        parts.map(|part| part.split_once('=').unwrap_or((part, "")))
    }

    /// Names and values of the cookies, as sent (RFC 6265 section 4.2.1); HTTP/2 and 3 may send one header each.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let values = self.headers.get_all(COOKIE);
        let pairs = values.flat_map(|value| value.as_bytes().split(|b| *b == b';')).map(<[u8]>::trim_ascii);
        pairs.filter_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            Some((pair.get(..at)?, pair.get(at + 1..)?))
        })
    }

    fn cookie_header(&self, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut values = self.headers.get_all(COOKIE);
        let (Some(one), second) = (values.next(), values.next()) else { return false };
        let Some(second) = second else { return test(one.as_bytes()) };
        let mut all = Buffer::from_slice(one.as_bytes());
        for value in std::iter::once(second).chain(values) {
            all.extend_from_slice(b"; ");
            all.extend_from_slice(value.as_bytes());
        }
        test(&all)
    }

    fn full_uri(&self, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if self.host_name().is_empty() {
            return false;
        }
        let mut uri = Buffer::from_slice(self.scheme.as_bytes());
        for part in ["://", self.host_name(), self.path] {
            uri.extend_from_slice(part.as_bytes());
        }
        if let Some(query) = self.query {
            uri.push(b'?');
            uri.extend_from_slice(query.as_bytes());
        }
        test(&uri)
    }

    fn extension(&self, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let Some((_, extension)) = name.rsplit_once('.').filter(|(_, extension)| !extension.is_empty()) else {
            return false;
        };
        let mut extension = Buffer::from_slice(extension.as_bytes());
        extension.make_ascii_lowercase();
        test(&extension)
    }
}
