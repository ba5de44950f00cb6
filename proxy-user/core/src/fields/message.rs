//! A request's header and trailers from their fields (RFC 9113 sections 8.1 to 8.3, RFC 9114 sections 4.2 to 4.4): pseudo-header fields
//! once, before the others, and those that belong to its kind.

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Uri};

use super::Refused;
use super::field::Field;
use crate::fields::Fields;
use crate::special::Special;

/// Fields that a header has room for at once.
const FIELDS: usize = 12;

/// A request's header.
#[derive(Clone, Debug)]
pub struct Head {
    /// `:method`.
    pub method: Method,
    /// `:scheme`, `:authority` or else `Host`, `:path`; of a plain CONNECT the authority alone.
    pub uri: Uri,
    /// `:protocol` of an extended CONNECT (RFC 8441, RFC 9220).
    pub protocol: Option<Bytes>,
    /// The other fields.
    pub headers: Fields,
}

/// A header as far as its fields have come.
#[derive(Debug, Default)]
pub struct Header {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<Bytes>,
    headers: Fields,
}

/// Puts a value where nothing stands yet.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Refused> {
    if place.replace(value).is_some() {
        return Err(Refused::Malformed("a pseudo-header field twice"));
    }
    Ok(())
}

impl Header {
    /// Takes the next field.
    ///
    /// # Errors
    /// It makes the header malformed, or there are too many.
    pub fn take(&mut self, field: Field) -> Result<(), Refused> {
        let (name, value) = match field {
            Field::Plain(name, value) => (name, value),
            Field::Wrong(_, why) => return Err(Refused::Malformed(why)),
            _ if !self.headers.is_empty() => return Err(Refused::Malformed("a pseudo-header field behind others")),
            Field::Method(method) => return once(&mut self.method, method),
            Field::Scheme(scheme) => return once(&mut self.scheme, scheme),
            Field::Authority(authority) => return once(&mut self.authority, authority),
            Field::Path(path) => return once(&mut self.path, path),
            Field::Protocol(protocol) => return once(&mut self.protocol, protocol),
        };
        if self.headers.is_empty() {
            self.headers = Fields::with_capacity(FIELDS);
        }
        self.headers.append(name, value);
        Ok(())
    }

    /// Takes all that stand behind the pseudo-header fields.
    pub(crate) fn take_rest(&mut self, headers: Fields) {
        self.headers = headers;
    }

    /// Those that were taken and are no pseudo-header fields.
    pub(crate) fn headers(&self) -> &Fields {
        &self.headers
    }

    /// The header, when all have come.
    ///
    /// # Errors
    /// It is malformed.
    pub fn finish(self) -> Result<Head, Refused> {
        const WRONG: Refused = Refused::Malformed("pseudo-header fields that do not go together");
        let method = self.method.ok_or(Refused::Malformed("no :method"))?;
        let authority = match (self.authority, self.headers.get_special(Special::HOST, HOST)) {
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
            // RFC 9113 section 8.5, RFC 9114 section 4.4.
            (true, None, None, None) => {}
            (true, Some(_), Some(scheme), Some(path)) | (false, None, Some(scheme), Some(path)) => {
                (parts.scheme, parts.path_and_query) = (Some(scheme), Some(path));
            }
            _ => return Err(WRONG),
        }
        let uri = Uri::from_parts(parts).map_err(|_| WRONG)?;
        Ok(Head { method, uri, protocol: self.protocol, headers: self.headers })
    }
}

/// Takes a field of trailers.
///
/// # Errors
/// It makes them malformed, or there are too many.
pub fn take_trailer(headers: &mut HeaderMap, field: Field) -> Result<(), Refused> {
    match field {
        Field::Plain(name, value) => headers.try_append(name, value).map(drop).map_err(|_| Refused::TooLong),
        Field::Wrong(_, why) => Err(Refused::Malformed(why)),
        _ => Err(Refused::Malformed("a pseudo-header field in the trailers")),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Head, Refused> {
        let mut header = Header::default();
        for (name, value) in fields {
            header.take(Field::said(name.as_bytes(), Bytes::copy_from_slice(value.as_bytes())))?;
        }
        header.finish()
    }

    fn trailers(name: &str, value: &'static str) -> Result<HeaderMap, Refused> {
        let mut headers = HeaderMap::new();
        take_trailer(&mut headers, Field::said(name.as_bytes(), Bytes::from_static(value.as_bytes())))?;
        Ok(headers)
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "first.test"), (":path", "/x?y")];

    #[test]
    fn a_request_is_put_together() {
        let head = read(&[&GET[..], &[("accept", "*/*"), ("x-own", "1"), ("x-own", "2")]].concat()).unwrap();
        assert_eq!((head.method, head.uri.to_string()), (Method::GET, "https://first.test/x?y".into()));
        assert_eq!(head.headers.get_all("x-own").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((head.headers.len(), head.headers.get("accept").unwrap()), (3, &HeaderValue::from_static("*/*")));

        let by_host = read(&[GET[0], GET[1], GET[3], ("host", "other.test:1")]).unwrap();
        assert_eq!(by_host.uri.authority().unwrap(), "other.test:1");
        let connect = read(&[(":method", "CONNECT"), (":authority", "a:1")]).unwrap();
        assert_eq!((connect.uri.to_string(), connect.uri.scheme()), ("a:1".into(), None));
        let extended = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]];
        assert_eq!(read(&extended).unwrap().protocol.unwrap(), "websocket");
        let star = read(&[(":method", "OPTIONS"), GET[1], GET[2], (":path", "*")]).unwrap();
        assert_eq!(star.uri.path(), "*");
        assert_eq!(trailers("x-sum", "1").unwrap().len(), 1);
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
        assert!(matches!(trailers(":path", "/"), Err(Refused::Malformed(_))));
        assert!(matches!(trailers("X-Up", "/"), Err(Refused::Malformed(_))));
    }
}
