//! TLS towards origins: whom to trust, whom to ask for, and who we say we are. Sessions are resumed: all workers share the
//! configuration, and with it what origins gave them.

use std::path::Path;
use std::sync::Arc;

use proxy_core::config::{OriginVerify, TlsVersion, Upstream};
use proxy_core::digest::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::certificates::chain;

/// A configuration, and a digest of all that it was made of: connections of another one are not as good.
#[derive(Clone, Debug)]
pub struct OriginClient {
    /// What connections are opened with.
    pub config: Arc<ClientConfig>,
    /// Of settings and files.
    pub made_of: Digest,
}

/// How an upstream's servers are spoken to: HTTP/1.1, with the authorities in `ca` or the system's.
///
/// # Errors
/// What is wrong, behind the key that it is about.
pub fn config(upstream: &Upstream, base: &Path) -> Result<OriginClient, String> {
    let settings = &upstream.tls;
    let mut made_of = vec![format!("{:?} {:?}", settings.verify, settings.min_version).into_bytes()];
    let provider = super::provider();
    let versions: &[&SupportedProtocolVersion] =
        if settings.min_version == TlsVersion::V13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| format!("/tls: {error}"))?;
    let builder = match settings.verify {
        OriginVerify::Off => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        OriginVerify::Full => {
            let ca = upstream.ca.as_ref().map(|file| base.join(file));
            let roots = roots(ca.as_deref(), &mut made_of).map_err(|fault| format!("/ca: {fault}"))?;
            builder.with_root_certificates(roots)
        }
    };
    let mut config = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let (cert, key) = (base.join(cert), base.join(key));
            let chain = chain(&cert).map_err(|fault| format!("/tls/cert: {fault}"))?;
            let private = PrivateKeyDer::from_pem_file(&key)
                .map_err(|error| format!("/tls/key: {}: {error}; give a PEM file with a key", key.display()))?;
            made_of.extend(chain.iter().map(|certificate| certificate.to_vec()));
            made_of.push(private.secret_der().to_vec());
            builder.with_client_auth_cert(chain, private).map_err(|error| format!("/tls/cert: {error}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let made_of = Digest::of_parts(made_of.iter().map(Vec::as_slice));
    Ok(OriginClient { config: Arc::new(config), made_of })
}

/// The authorities of a file, or the system's; those of a file are added to what a configuration was made of.
pub(super) fn roots(ca: Option<&Path>, made_of: &mut Vec<Vec<u8>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca {
        let fault = |what: String| format!("{}: {what}; give a PEM file with certificate authorities", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| fault(error.to_string()))? {
            let certificate = certificate.map_err(|error| fault(error.to_string()))?;
            made_of.push(certificate.to_vec());
            roots.add(certificate).map_err(|error| fault(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(fault("no certificate in it".to_owned()));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err("the system has no certificate authorities; install ca-certificates or set `ca`".to_owned());
        }
    }
    Ok(roots)
}

/// Takes any certificate, but not one whose key the server does not have.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
