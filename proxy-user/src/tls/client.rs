//! TLS towards origins: whom to trust, and whom to ask for.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// A client configuration that trusts the authorities in `ca`, or the system's. HTTP/1.1 is spoken to origins.
pub fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca {
        let fault = |what: String| format!("{}: {what}; give a PEM file with certificate authorities", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| fault(error.to_string()))? {
            let certificate = certificate.map_err(|error| fault(error.to_string()))?;
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
    let mut config = ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
