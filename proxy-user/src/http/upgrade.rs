//! A change of protocol: which requests may ask for one, how the origin is asked, and what the client is told. `websocket` is
//! the only protocol that is let through: with others (such as `h2c`) requests could pass the stages unseen. A WebSocket over
//! HTTP/2 (RFC 8441) or 3 (RFC 9220) is asked for at the origin as one over HTTP/1.1 (RFC 6455).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderValue, Method, StatusCode, Version};
use proxy_core::fields::Fields;
use proxy_core::http1::names;

use super::fault::{Fault, Kind};
use crate::http::head::{RequestHead, ResponseHead};
use crate::stages::exchange::Journey;
use crate::upstream::tunnel::OriginStream;

/// The protocol that connections are handed over to.
const WEBSOCKET: &str = "websocket";
/// The one version there is (RFC 6455 section 4.1).
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// What an accepted key is hashed with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key of Tidegate's own (section 4.1).
const KEY_BYTES: usize = 16;

/// What a request asks for besides an answer.
#[derive(Debug)]
pub struct Upgrade {
    /// The client waits on a stream of HTTP/2 or 3.
    stream: bool,
    /// What the origin has to say to the key that it gets.
    accept: Option<HeaderValue>,
}

/// A connection that has changed its protocol.
pub struct Tunnel {
    /// The origin's end.
    pub origin: OriginStream,
    /// The request that it came from; its log line is written when the tunnel ends.
    pub journey: Journey,
}

impl Upgrade {
    /// Takes a request of HTTP/2 or 3 that is an extended CONNECT for a WebSocket for the GET that it would be in HTTP/1.1, so that
    /// policies and routes see no other.
    ///
    /// # Errors
    /// It is another CONNECT.
    pub fn from_connect(request: &mut RequestHead) -> Result<Self, Fault> {
        const REFUSED: Fault = Fault::downstream(Kind::NotImplemented, "this method is not served");
        let protocol = request.protocol.take().ok_or(REFUSED)?;
        if !matches!(request.version, Version::HTTP_2 | Version::HTTP_3) || protocol != WEBSOCKET {
            return Err(REFUSED);
        }
        request.method = Method::GET;
        Ok(Self { stream: true, accept: None })
    }

    /// What an HTTP/1.1 request asks for whose `Connection` names `upgrade`, with its `Upgrade` fields. Others than GET, and
    /// those with a body, are requests like all others.
    pub fn from_fields(request: &RequestHead, protocol: &HeaderValue) -> Option<Self> {
        let framed = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| request.headers.contains_key(name));
        let asked = request.version == Version::HTTP_11
            && request.method == Method::GET
            && !framed
            && protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes());
        asked.then_some(Self { stream: false, accept: None })
    }

    /// Whether the client waits on a stream of HTTP/2 or 3, where any 2xx would open it.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// Asks the origin: the fields that belong to its connection, and a key where the client's version has none.
    pub fn ask(&mut self, headers: &mut Fields) -> Result<(), Fault> {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        if self.is_stream() {
            let mut bytes = [0; KEY_BYTES];
            let fault = Fault::internal(Kind::Connect, "no random key could be made");
            getrandom::fill(&mut bytes).map_err(|_| fault)?;
            let key = STANDARD.encode(bytes);
            self.accept = accept_of(&key);
            headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).map_err(|_| fault)?);
            headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
        } else if let Some(key) = headers.get(SEC_WEBSOCKET_KEY) {
            self.accept = key.to_str().ok().and_then(accept_of);
        }
        Ok(())
    }

    /// Whether an origin's 101 is the answer to what it was asked (RFC 6455 section 4.1).
    pub fn is_granted(&self, headers: &Fields) -> bool {
        let says = |name, word| headers.get_all(name).any(|list| names(list, word));
        says(CONNECTION, "upgrade")
            && says(UPGRADE, WEBSOCKET)
            && self.accept.is_some()
            && headers.get(SEC_WEBSOCKET_ACCEPT) == self.accept.as_ref()
    }

    /// What the client is told when the origin has granted it; after the stages, which take such fields away.
    pub fn grant(&self, head: &mut ResponseHead) {
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        if self.is_stream() {
            head.status = StatusCode::OK;
            head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        } else {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        }
    }
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 section 4.2.2).
fn accept_of(key: &str) -> Option<HeaderValue> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    HeaderValue::from_str(&STANDARD.encode(context.finish())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted_as_it_says() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_101_has_to_fit_the_question() {
        let mut asked = Fields::new();
        asked.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let mut upgrade = Upgrade { stream: false, accept: None };
        upgrade.ask(&mut asked).unwrap();
        let answer = |accept: &'static str, protocol: &'static str| {
            Fields::from_iter([
                (CONNECTION, HeaderValue::from_static("keep-alive, Upgrade")),
                (UPGRADE, HeaderValue::from_static(protocol)),
                (SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept)),
            ])
        };
        assert!(upgrade.is_granted(&answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "WebSocket")));
        assert!(!upgrade.is_granted(&answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "h2c")));
        assert!(!upgrade.is_granted(&answer("AAAALMBiTxaQ9kYGzzhZRbK+xOo=", "websocket")));
        assert!(!upgrade.is_granted(&Fields::new()));
    }

    #[test]
    fn only_a_plain_get_asks_for_an_upgrade() {
        let parts = |method: &str, version, length: bool| {
            let fields = length.then(|| (CONTENT_LENGTH, HeaderValue::from_static("0")));
            RequestHead {
                method: method.parse().unwrap(),
                uri: "/".parse().unwrap(),
                version,
                headers: fields.into_iter().collect(),
                protocol: None,
            }
        };
        let asks = |request: RequestHead, protocol| {
            Upgrade::from_fields(&request, &HeaderValue::from_static(protocol)).is_some()
        };
        assert!(asks(parts("GET", Version::HTTP_11, false), "WebSocket"));
        assert!(!asks(parts("GET", Version::HTTP_11, false), "h2c"));
        assert!(!asks(parts("GET", Version::HTTP_11, false), "websocket, h2c"));
        assert!(!asks(parts("GET", Version::HTTP_10, false), "websocket"));
        assert!(!asks(parts("GET", Version::HTTP_11, true), "websocket"));
        assert!(!asks(parts("POST", Version::HTTP_11, false), "websocket"));
    }
}
