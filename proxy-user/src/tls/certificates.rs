//! Certificates: read from files, chosen by the name that the client asks for. A table is only exchanged for another
//! one that was read whole; a broken file never takes a working certificate away.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use proxy_core::config::Certificate;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates in force.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Table>);

/// Certificates by the names inside them.
#[derive(Debug, Default)]
pub struct Table {
    /// Lower case; a wildcard as `*.example.com`.
    names: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name none, or an unknown one.
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// With a first table.
    pub fn new(table: Table) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(table)))
    }

    /// New handshakes take the new table.
    pub fn replace(&self, table: Table) {
        self.0.store(Arc::new(table));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().find(hello.server_name()).map(Arc::clone)
    }
}

impl Table {
    /// Reads the files. The error names every certificate that cannot be used, with its place in the config.
    pub fn read(certificates: &[Certificate], base: &Path) -> Result<Self, String> {
        let mut table = Self::default();
        let mut faults = Vec::new();
        for (index, entry) in certificates.iter().enumerate() {
            match read(&base.join(&entry.cert), &base.join(&entry.key)) {
                Ok((key, names)) => table.add(&key, names),
                Err(fault) => faults.push(format!("/certificates/{index}: {fault}")),
            }
        }
        if faults.is_empty() { Ok(table) } else { Err(faults.join("\n")) }
    }

    fn add(&mut self, key: &Arc<CertifiedKey>, names: Vec<String>) {
        self.default.get_or_insert_with(|| Arc::clone(key));
        for name in names {
            // Of two with the same name the first written stands.
            self.names.entry(name).or_insert_with(|| Arc::clone(key));
        }
    }

    /// Exact name, then wildcard of the parent domain, then the default.
    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        // rustls hands the name over in lower case and checked.
        let named = name.and_then(|name| {
            self.names.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.names.get(&format!("*.{parent}"))
            })
        });
        named.or(self.default.as_ref())
    }
}

fn read(cert: &Path, key: &Path) -> Result<(Arc<CertifiedKey>, Vec<String>), String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: {error}; give a PEM file with the chain, leaf first", cert.display()))?;
    let Some(leaf) = chain.first() else {
        return Err(format!("{}: no certificate in it; give a PEM file with the chain, leaf first", cert.display()));
    };
    let names = names(leaf).map_err(|error| format!("{}: {error}", cert.display()))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("{}: {error}; give a PEM file with a PKCS#8, PKCS#1 or SEC1 key", key.display()))?;
    let key = CertifiedKey::from_der(chain, private, &super::provider())
        .map_err(|error| format!("{} and {}: {error}", cert.display(), key.display()))?;
    Ok((Arc::new(key), names))
}

/// DNS names of the leaf, wildcards among them.
fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    Ok(webpki::EndEntityCert::try_from(leaf)?.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> (Arc<CertifiedKey>, Vec<String>) {
        let made =
            rcgen::generate_simple_self_signed(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let der = made.cert.der().clone();
        let found = super::names(&der).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        (Arc::new(CertifiedKey::from_der(vec![der], key, &crate::tls::provider()).unwrap()), found)
    }

    #[test]
    fn chosen_by_name() {
        let mut table = Table::default();
        let first = certificate(&["default.test"]);
        let second = certificate(&["shop.example", "*.shop.example"]);
        table.add(&first.0, first.1);
        table.add(&second.0, second.1);
        let found = |name: Option<&str>| {
            let found = table.find(name).unwrap();
            if Arc::ptr_eq(found, &first.0) { 1 } else { 2 }
        };
        assert_eq!(found(None), 1);
        assert_eq!(found(Some("unknown.test")), 1);
        assert_eq!(found(Some("shop.example")), 2);
        assert_eq!(found(Some("www.shop.example")), 2);
        assert_eq!(found(Some("a.www.shop.example")), 1);
    }

    #[test]
    fn every_broken_file_is_named() {
        let entry = |path: &str| Certificate { cert: path.into(), key: path.into() };
        let error = Table::read(&[entry("none-1.pem"), entry("none-2.pem")], Path::new("/nonexistent")).unwrap_err();
        assert!(error.contains("/certificates/0: /nonexistent/none-1.pem"), "{error}");
        assert!(error.contains("/certificates/1: /nonexistent/none-2.pem"), "{error}");
    }
}
