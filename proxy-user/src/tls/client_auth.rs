//! Certificates of clients: whose are taken, as the TLS library checks it.

use std::path::Path;
use std::sync::Arc;

use proxy_core::config::{ClientAuth, ClientAuthMode};
use proxy_core::digest::Digest;
use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::certificates::chain;

/// How one kind of host checks its clients.
#[derive(Debug)]
pub struct ClientCheck {
    /// What the TLS library asks.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// Of all that decides: sessions of other checks are not resumed, or a client that was never asked would stay so.
    pub binding: Digest,
}

impl ClientCheck {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong, behind the key that it is about.
    pub fn read(auth: Option<&ClientAuth>, base: &Path) -> Result<Self, String> {
        let Some((auth, ca)) = auth.and_then(|auth| Some((auth, auth.ca.as_ref()?))) else {
            return Ok(Self { verifier: WebPkiClientVerifier::no_client_auth(), binding: Digest::of(b"") });
        };
        let mut roots = RootCertStore::empty();
        let mode: &[u8] = if auth.mode == ClientAuthMode::Required { b"required" } else { b"optional" };
        let mut deciding = vec![mode.to_vec()];
        for certificate in chain(&base.join(ca)).map_err(|fault| format!("/ca: {fault}"))? {
            deciding.push(certificate.to_vec());
            roots.add(certificate).map_err(|error| format!("/ca: {}: {error}", ca.display()))?;
        }
        let mut lists = Vec::new();
        if let Some(file) = &auth.crl {
            let fault = |error| format!("/crl: {}: {error}; give a PEM file with revocation lists", file.display());
            let found: Vec<_> = CertificateRevocationListDer::pem_file_iter(base.join(file))
                .and_then(Iterator::collect)
                .map_err(|error| fault(error.to_string()))?;
            if found.is_empty() {
                return Err(fault("no revocation list in it".to_owned()));
            }
            deciding.extend(found.iter().map(|list| list.to_vec()));
            lists = found;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider());
        if !lists.is_empty() {
            builder = builder.with_crls(lists).allow_unknown_revocation_status();
        }
        if auth.mode == ClientAuthMode::Optional {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| format!(": {error}"))?;
        let lengths: Vec<_> = deciding.iter().map(|part| part.len().to_be_bytes()).collect();
        let parts = lengths.iter().zip(&deciding).flat_map(|(length, part)| [&length[..], part]);
        Ok(Self { verifier, binding: Digest::of_parts(parts) })
    }
}
