//! What an ACME server is shown so that it believes that a name is ours: pages (RFC 8555 section 8.3) and certificates
//! (RFC 8737), for as long as an order takes.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The protocol that an ACME server asks for.
const ALPN: &[u8] = b"acme-tls/1";

/// Handshakes with ACME servers: the certificate of the challenge and nothing behind it, whatever else is asked of clients.
pub fn answering(challenges: &Arc<Challenges>) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(challenges) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// All that stand open.
#[derive(Debug, Default)]
pub struct Challenges {
    /// By token.
    pages: ArcSwap<HashMap<String, Bytes>>,
    /// By name.
    certificates: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificates.load().get(hello.server_name()?).map(Arc::clone)
    }
}

impl Challenges {
    /// The text of the page for a token.
    pub fn page(&self, token: &str) -> Option<Bytes> {
        self.pages.load().get(token).cloned()
    }

    /// Shows a page.
    pub(super) fn show_page(&self, token: &str, text: &str) -> Shown<'_> {
        let text = Bytes::from(text.to_owned());
        changed(&self.pages, |pages| drop(pages.insert(token.to_owned(), text.clone())));
        Shown { challenges: self, what: What::Page(token.to_owned()) }
    }

    /// Shows a certificate with the digest of what the server gave.
    pub(super) fn show_certificate(&self, name: &str, digest: &[u8]) -> anyhow::Result<Shown<'_>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let private = crate::tls::provider().key_provider.load_private_key(private);
        // `from_der` would read the certificate, and refuse its critical extension.
        let pair = CertifiedKey::new(
            vec![certificate.der().clone()],
            private.context("the key of a challenge cannot be used")?,
        );
        let (name, pair) = (name.to_ascii_lowercase(), Arc::new(pair));
        changed(&self.certificates, |all| drop(all.insert(name.clone(), Arc::clone(&pair))));
        Ok(Shown { challenges: self, what: What::Certificate(name, pair) })
    }
}

/// A challenge that is shown, until this is dropped. Another order's is left alone: after a reload the old one may still be
/// on its way out.
#[must_use]
pub(super) struct Shown<'c> {
    challenges: &'c Challenges,
    what: What,
}

enum What {
    Page(String),
    Certificate(String, Arc<CertifiedKey>),
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        match &self.what {
            What::Page(token) => changed(&self.challenges.pages, |pages| drop(pages.remove(token))),
            What::Certificate(name, pair) => changed(&self.challenges.certificates, |all| {
                if all.get(name).is_some_and(|shown| Arc::ptr_eq(shown, pair)) {
                    all.remove(name);
                }
            }),
        }
    }
}

/// Exchanges a table for one with a change.
fn changed<T: Clone>(table: &ArcSwap<HashMap<String, T>>, change: impl Fn(&mut HashMap<String, T>)) {
    table.rcu(|before| {
        let mut after = HashMap::clone(before);
        change(&mut after);
        after
    });
}
