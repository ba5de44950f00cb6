//! What a handshake has shown of a connection, for its requests: what it was opened under, for which name, by whom.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use proxy_core::tls::{Identity, Security};
use rustls::pki_types::CertificateDer;

use super::Current;

/// Fields that tell an origin of a client's certificate, the first one by RFC 9440.
pub const CLIENT_FIELDS: [HeaderName; 5] = [
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("x-client-cert-subject"),
    HeaderName::from_static("x-client-cert-issuer"),
    HeaderName::from_static("x-client-cert-serial"),
    HeaderName::from_static("x-client-cert-fingerprint"),
];

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Secured {
    /// What was asked of the client.
    pub security: Arc<Security>,
    /// The name that it asked for.
    pub name: Option<Box<str>>,
    /// Who its certificate says it is.
    pub client: Option<Client>,
}

/// A client that has shown a certificate.
#[derive(Debug)]
pub struct Client {
    /// What is in it.
    pub identity: Identity,
    /// Values of [`CLIENT_FIELDS`]; none where origins are not told.
    pub fields: Vec<HeaderValue>,
}

impl Secured {
    /// From a handshake under the configuration `index`, for `name`.
    ///
    /// # Errors
    /// The name that was asked for has another configuration, or the certificate cannot be read.
    pub fn new(
        current: &Current,
        index: usize,
        name: Option<&str>,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Result<Self, &'static str> {
        let security = current.hosts.securities().get(index).ok_or("there is no such security")?;
        if current.hosts.security(name).is_none_or(|asked| asked.client_auth != security.client_auth) {
            return Err("the handshake was for another name than the one that it began with");
        }
        let leaf = chain.and_then(<[_]>::first);
        let client = leaf.map(|leaf| Client::read(leaf, security)).transpose()?;
        Ok(Self { security: Arc::clone(security), name: name.map(Into::into), client })
    }
}

impl Client {
    fn read(leaf: &CertificateDer<'_>, security: &Security) -> Result<Self, &'static str> {
        let identity = Identity::read(leaf)?;
        let mut fields = Vec::new();
        if security.client_auth.as_ref().is_some_and(|auth| auth.forward) {
            let certificate = format!(":{}:", identity.encoded);
            let texts = [&certificate, &identity.subject, &identity.issuer, &identity.serial, &identity.fingerprint];
            for text in texts {
                // All are escaped to printable ASCII.
                fields.push(HeaderValue::from_str(text).map_err(|_| "the client's certificate cannot be told")?);
            }
        }
        Ok(Self { identity, fields })
    }
}
