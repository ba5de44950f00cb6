//! A request's header and trailers from their blocks of fields (RFC 9114 sections 4.2 to 4.4): pseudo-header fields once, before the
//! others, and those that belong to its kind; names in lower case; nothing in a value that a value may not have.

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::qpack::{self, Name, Refused, Value};
use super::table;

/// Fields that a header has room for at once.
const FIELDS: usize = 12;

/// A request's header.
#[derive(Clone, Debug)]
pub struct Head {
    /// `:method`.
    pub method: Method,
    /// `:scheme`, `:authority` or else `Host`, `:path`; of a plain CONNECT the authority alone.
    pub uri: Uri,
    /// `:protocol` of an extended CONNECT (RFC 9220).
    pub protocol: Option<Bytes>,
    /// The other fields.
    pub headers: HeaderMap,
}

#[derive(Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<Bytes>,
}

/// Reads a header, whose fields together count for no more than `most` (section 4.2.2).
///
/// # Errors
/// It cannot be read, is too long, or is malformed.
pub fn header(block: &Bytes, most: u64) -> Result<Head, Refused> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::with_capacity(FIELDS);
    qpack::read(block, most, |name, value| match name_of(name)? {
        Either::Field(name) => append(&mut headers, name, value),
        Either::Pseudo(_) if !headers.is_empty() => Err(Refused::Malformed("a pseudo-header field behind others")),
        Either::Pseudo(name) => pseudo.take(name, value),
    })?;
    let (method, uri, protocol) = pseudo.into_target(&headers)?;
    Ok(Head { method, uri, protocol, headers })
}

/// Reads trailers.
///
/// # Errors
/// As for a header.
pub fn trailers(block: &Bytes, most: u64) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    qpack::read(block, most, |name, value| match name_of(name)? {
        Either::Field(name) => append(&mut headers, name, value),
        Either::Pseudo(_) => Err(Refused::Malformed("a pseudo-header field in the trailers")),
    })?;
    Ok(headers)
}

enum Either<'b> {
    Field(HeaderName),
    Pseudo(&'b [u8]),
}

fn name_of(name: Name<'_>) -> Result<Either<'_>, Refused> {
    const WRONG: Refused = Refused::Malformed("a field's name has what names may not");
    match name {
        Name::Known(index) => match table::made(index) {
            Some((Some(name), _)) => Ok(Either::Field(name.clone())),
            _ => Ok(Either::Pseudo(table::FIELDS.get(index).ok_or(WRONG)?.0.as_bytes())),
        },
        Name::Said(name @ [b':', ..]) => Ok(Either::Pseudo(name)),
        Name::Said(name) => HeaderName::from_lowercase(name).map(Either::Field).map_err(|_| WRONG),
    }
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: Value) -> Result<(), Refused> {
    let value = match value {
        Value::Known(index) => table::made(index).map(|(_, value)| value.clone()),
        Value::Said(bytes) => HeaderValue::from_maybe_shared(bytes).ok(),
    };
    let value = value.ok_or(Refused::Malformed("a field's value has what values may not"))?;
    headers.try_append(name, value).map(drop).map_err(|_| Refused::TooLong)
}

/// Puts what was made of a value where nothing stands yet.
fn once<T, E>(place: &mut Option<T>, made: Result<T, E>, wrong: &'static str) -> Result<(), Refused> {
    match (made, &place) {
        (Ok(made), None) => {
            *place = Some(made);
            Ok(())
        }
        (Ok(_), Some(_)) => Err(Refused::Malformed("a pseudo-header field twice")),
        (Err(_), _) => Err(Refused::Malformed(wrong)),
    }
}

impl Pseudo {
    fn take(&mut self, name: &[u8], value: Value) -> Result<(), Refused> {
        match name {
            b":method" => once(&mut self.method, Method::from_bytes(value.bytes()), "the method is none"),
            b":scheme" => {
                let scheme = Scheme::try_from(value.bytes()).ok().filter(|scheme| !scheme.as_str().is_empty());
                once(&mut self.scheme, scheme.ok_or(()), "the scheme is none")
            }
            b":authority" => {
                once(&mut self.authority, Authority::from_maybe_shared(value.into_bytes()), "the authority is none")
            }
            b":path" => {
                let known = matches!(value.bytes(), [b'/', ..] | b"*");
                let path = if known { PathAndQuery::from_maybe_shared(value.into_bytes()).ok() } else { None };
                once(&mut self.path, path.ok_or(()), "the path is none")
            }
            b":protocol" => once(&mut self.protocol, Ok::<_, ()>(value.into_bytes()), ""),
            _ => Err(Refused::Malformed("a pseudo-header field that requests do not have")),
        }
    }

    fn into_target(self, headers: &HeaderMap) -> Result<(Method, Uri, Option<Bytes>), Refused> {
        const WRONG: Refused = Refused::Malformed("pseudo-header fields that do not go together");
        let method = self.method.ok_or(Refused::Malformed("no :method"))?;
        let authority = match (self.authority, headers.get(HOST)) {
            (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
                return Err(Refused::Malformed("Host and :authority differ"));
            }
            (Some(authority), _) => authority,
            (None, Some(host)) if method != Method::CONNECT => Authority::try_from(host.as_bytes())
                .map_err(|_| Refused::Malformed("no :authority, and the host is none"))?,
            (None, _) => return Err(Refused::Malformed("no :authority")),
        };
        let mut parts = http::uri::Parts::default();
        parts.authority = Some(authority);
        match (method == Method::CONNECT, &self.protocol, self.scheme, self.path) {
            // Section 4.4.
            (true, None, None, None) => {}
            (true, Some(_), Some(scheme), Some(path)) | (false, None, Some(scheme), Some(path)) => {
                (parts.scheme, parts.path_and_query) = (Some(scheme), Some(path));
            }
            _ => return Err(WRONG),
        }
        Ok((method, Uri::from_parts(parts).map_err(|_| WRONG)?, self.protocol))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn block(fields: &[(&str, &str)]) -> Bytes {
        let mut out = BytesMut::new();
        qpack::put_begin(&mut out);
        for (name, value) in fields {
            qpack::put(name.as_bytes(), value.as_bytes(), &mut out);
        }
        out.freeze()
    }

    fn read(fields: &[(&str, &str)]) -> Result<Head, Refused> {
        header(&block(fields), 10_000)
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "first.test"), (":path", "/x?y")];

    #[test]
    fn a_request_is_put_together() {
        let head = read(&[&GET[..], &[("accept", "*/*"), ("x-own", "1"), ("x-own", "2")]].concat()).unwrap();
        assert_eq!((head.method, head.uri.to_string()), (Method::GET, "https://first.test/x?y".into()));
        assert_eq!(head.headers.get_all("x-own").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((head.headers.len(), head.headers.get("accept").unwrap()), (3, &HeaderValue::from_static("*/*")));

        let by_host = read(&[GET[0], GET[1], GET[3], ("host", "other.test:1")]).unwrap();
        assert_eq!(by_host.uri.authority().unwrap(), "other.test:1");
        let connect = read(&[(":method", "CONNECT"), (":authority", "a:1")]).unwrap();
        assert_eq!((connect.uri.to_string(), connect.uri.scheme()), ("a:1".into(), None));
        let extended = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]];
        assert_eq!(read(&extended).unwrap().protocol.unwrap(), "websocket");
        let star = read(&[(":method", "OPTIONS"), GET[1], GET[2], (":path", "*")]).unwrap();
        assert_eq!(star.uri.path(), "*");
        assert_eq!(trailers(&block(&[("x-sum", "1")]), 100).unwrap().len(), 1);
    }

    #[test]
    fn what_is_malformed() {
        let [method, scheme, authority, path] = GET;
        for wrong in [
            &[scheme, authority, path][..],
            &[method, authority, path],
            &[method, scheme, authority],
            &[method, scheme, path],
            &[method, method, scheme, authority, path],
            &[method, scheme, authority, path, path],
            &[method, scheme, authority, path, authority],
            &[method, scheme, authority, ("x", "y"), path],
            &[method, scheme, authority, path, (":x", "y")],
            &[method, scheme, authority, path, (":status", "200")],
            &[method, scheme, authority, path, (":protocol", "websocket")],
            &[method, scheme, authority, path, ("X-Up", "y")],
            &[method, scheme, authority, path, ("", "y")],
            &[method, scheme, authority, path, ("x y", "y")],
            &[method, scheme, authority, path, ("x", "y\nz")],
            &[method, scheme, authority, path, ("host", "evil")],
            &[method, scheme, authority, (":path", "")],
            &[method, scheme, authority, (":path", "x")],
            &[method, scheme, authority, (":path", "http://evil/")],
            &[method, scheme, authority, (":path", "/a b")],
            &[method, scheme, (":authority", ""), path],
            &[method, scheme, (":authority", "a b"), path],
            &[method, (":scheme", ""), authority, path],
            &[(":method", ""), scheme, authority, path],
            &[(":method", "A B"), scheme, authority, path],
            &[(":method", "CONNECT")],
            &[(":method", "CONNECT"), ("host", "a")],
            &[(":method", "CONNECT"), authority, path],
            &[(":method", "CONNECT"), scheme, authority, path],
            &[(":method", "CONNECT"), (":protocol", "websocket"), authority],
        ] {
            assert!(matches!(read(wrong), Err(Refused::Malformed(_))), "{wrong:?}");
        }
        assert_eq!(header(&block(&GET), 100).err(), Some(Refused::TooLong));
        assert!(matches!(trailers(&block(&[(":path", "/")]), 100), Err(Refused::Malformed(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_will_do(block in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = header(&[&[0, 0], &block[..]].concat().into(), 5_000);
        }
    }
}
