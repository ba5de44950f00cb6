//! Certificates: read from files, chosen by the name that the client asks for, and of several for one name by what the client
//! can check. A table is only exchanged for another one that was read whole; a broken file never takes a working
//! certificate away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_core::config::Certificate;
use proxy_core::tls::{Names, ocsp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::store::files::read_bounded;

/// Certificates by the names inside them.
#[derive(Debug, Default)]
pub struct Table {
    names: Names<Group>,
    /// For clients that name none, or an unknown one.
    default: Group,
}

/// Certificates for one name: the smaller ones before RSA, for all that can check them.
type Group = Vec<Arc<CertifiedKey>>;

/// Chooses from a table.
#[derive(Debug)]
pub struct Resolver {
    /// The certificates.
    pub table: Arc<Table>,
    /// Whether clients that name none, or an unknown one, get none.
    pub refuse_unknown: bool,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.table.find(hello.server_name(), hello.signature_schemes(), self.refuse_unknown).map(Arc::clone)
    }
}

impl Table {
    /// Reads the files. The error names every certificate that cannot be used, with its place in the config. Those `issued` by
    /// an ACME server come behind them, as far as they are there.
    pub fn read(certificates: &[Certificate], issued: &[Certificate], base: &Path) -> Result<Self, String> {
        let mut table = Self::default();
        let mut faults = Vec::new();
        for (index, entry) in certificates.iter().enumerate() {
            match read(entry, base) {
                Ok((key, names)) => table.add(&key, &names),
                Err(fault) => faults.push(format!("/certificates/{index}: {fault}")),
            }
        }
        for entry in issued.iter().filter(|entry| base.join(&entry.cert).exists()) {
            match read(entry, base) {
                Ok((key, names)) => table.add(&key, &names),
                Err(fault) => {
                    tracing::warn!(fault, "an issued certificate is not used; remove it to have it asked for again");
                }
            }
        }
        if faults.is_empty() { Ok(table) } else { Err(faults.join("\n")) }
    }

    fn add(&mut self, key: &Arc<CertifiedKey>, names: &[String]) {
        let is_first = self.default.is_empty();
        if is_first {
            self.default.push(Arc::clone(key));
        }
        for name in names {
            let group = self.names.entry(name);
            // With others for the name of the default it is chosen among them.
            let of_default = group.iter().any(|known| self.default.iter().any(|first| Arc::ptr_eq(known, first)));
            join(group, key);
            if of_default {
                join(&mut self.default, key);
            }
        }
    }

    /// Exact name, then wildcard of the parent domain, then the default; of each the first that the client can check, or the
    /// first of all where it can check none.
    fn find(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
        refuse_unknown: bool,
    ) -> Option<&Arc<CertifiedKey>> {
        // rustls hands the name over in lower case and checked.
        let named = name.map_or([None, None], |name| self.names.of_certificates(name));
        let default = (!refuse_unknown || named.iter().any(Option::is_some)).then_some(&self.default);
        let mut groups = named.into_iter().flatten().chain(default);
        let all = groups.clone().flatten();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        all.clone().find(fits).or_else(|| groups.next()?.first())
    }

    /// Whether a certificate is for this name.
    pub fn knows(&self, name: &str) -> bool {
        self.names.of_certificates(name).iter().any(Option::is_some)
    }

    /// Whether a connection that was opened for one name is good for a host: one certificate is for both.
    pub fn covers(&self, opened_for: &str, host: &str) -> bool {
        let keys = |name| self.names.of_certificates(name).into_iter().flatten().flatten();
        keys(host).any(|key| keys(opened_for).any(|other| Arc::ptr_eq(key, other)))
    }
}

/// Adds a certificate to those for a name; of two with the same kind of key the first written stands.
fn join(group: &mut Group, key: &Arc<CertifiedKey>) {
    let kind = key.key.algorithm();
    if !group.iter().any(|known| known.key.algorithm() == kind) {
        group.push(Arc::clone(key));
        group.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
    }
}

fn read(entry: &Certificate, base: &Path) -> Result<(Arc<CertifiedKey>, Vec<String>), String> {
    let (cert, key) = (base.join(&entry.cert), base.join(&entry.key));
    let chain = chain(&cert)?;
    let leaf = chain.first().ok_or_else(|| no_certificate(&cert))?;
    let names = names(leaf).map_err(|error| format!("{}: {error}", cert.display()))?;
    let mut pair = pair(chain, &cert, &key)?;
    pair.ocsp = staple(entry, base)?;
    Ok((Arc::new(pair), names))
}

fn no_certificate(file: &Path) -> String {
    format!("{}: no certificate in it; give a PEM file with the chain, leaf first", file.display())
}

/// The certificates of a PEM file.
pub(super) fn chain(cert: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: {error}; give a PEM file with the chain, leaf first", cert.display()))?;
    if chain.is_empty() { Err(no_certificate(cert)) } else { Ok(chain) }
}

/// A chain with the key of a PEM file, which must belong to it.
pub(super) fn pair(chain: Vec<CertificateDer<'static>>, cert: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("{}: {error}; give a PEM file with a PKCS#8, PKCS#1 or SEC1 key", key.display()))?;
    CertifiedKey::from_der(chain, private, &super::provider())
        .map_err(|error| format!("{} and {}: {error}", cert.display(), key.display()))
}

/// The file of a certificate's OCSP response: the one named, or what lies beside the chain.
pub(super) fn ocsp_file(entry: &Certificate, base: &Path) -> PathBuf {
    let beside = || {
        let mut beside = entry.cert.clone().into_os_string();
        beside.push(".ocsp");
        beside.into()
    };
    base.join(entry.ocsp.clone().unwrap_or_else(beside))
}

fn staple(entry: &Certificate, base: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = ocsp_file(entry, base);
    let der = match read_bounded(&file, ocsp::MAX_OCSP_BYTES as u64) {
        Ok(der) => der,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && entry.ocsp.is_none() => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    ocsp::check(&der).map_err(|fault| format!("{}: {fault}", file.display()))?;
    Ok(Some(der))
}

/// DNS names of the leaf, wildcards among them.
fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    Ok(webpki::EndEntityCert::try_from(leaf)?.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

    fn certificate(names: &[&str], kind: &'static rcgen::SignatureAlgorithm) -> (Arc<CertifiedKey>, Vec<String>) {
        let signer = rcgen::KeyPair::generate_for(kind).unwrap();
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&signer).unwrap();
        let der = made.der().clone();
        let found = super::names(&der).unwrap();
        let key = PrivateKeyDer::try_from(signer.serialize_der()).unwrap();
        (Arc::new(CertifiedKey::from_der(vec![der], key, &crate::tls::provider()).unwrap()), found)
    }

    fn table(keys: &[&(Arc<CertifiedKey>, Vec<String>)]) -> Table {
        let mut table = Table::default();
        for (key, names) in keys {
            table.add(key, names);
        }
        table
    }

    #[test]
    fn chosen_by_name() {
        let first = certificate(&["default.test"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let second = certificate(&["shop.example", "*.shop.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let table = table(&[&first, &second]);
        let found = |name: Option<&str>| {
            let found = table.find(name, &[ECDSA], false).unwrap();
            if Arc::ptr_eq(found, &first.0) { 1 } else { 2 }
        };
        assert_eq!(found(None), 1);
        assert_eq!(found(Some("unknown.test")), 1);
        assert_eq!(found(Some("shop.example")), 2);
        assert_eq!(found(Some("www.shop.example")), 2);
        assert_eq!(found(Some("a.www.shop.example")), 1);
        assert!(table.find(Some("unknown.test"), &[ECDSA], true).is_none() && table.find(None, &[], true).is_none());
        assert!(table.find(Some("www.shop.example"), &[ECDSA], true).is_some());
        assert!(table.knows("www.shop.example") && !table.knows("x.test"));
        assert!(table.covers("shop.example", "www.shop.example") && !table.covers("shop.example", "default.test"));
    }

    #[test]
    fn chosen_by_what_the_client_can_check() {
        let rsa = certificate(&["a.test", "r.test"], &rcgen::PKCS_RSA_SHA256);
        let ecdsa = certificate(&["*.a.test", "a.test"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let other = certificate(&["a.test"], &rcgen::PKCS_ECDSA_P256_SHA256);
        let table = table(&[&rsa, &ecdsa, &other]);
        let found = |name: Option<&str>, schemes: &[SignatureScheme]| {
            let found = table.find(name, schemes, false).unwrap();
            [&rsa, &ecdsa, &other].into_iter().position(|key| Arc::ptr_eq(&key.0, found)).unwrap()
        };
        assert_eq!(found(Some("a.test"), &[RSA, ECDSA]), 1, "the smaller one where both will do");
        assert_eq!(found(Some("a.test"), &[RSA]), 0);
        assert_eq!(found(Some("a.test"), &[]), 1);
        assert_eq!((found(None, &[ECDSA]), found(None, &[RSA])), (1, 0), "the default is a name's, too");
        assert_eq!(found(Some("r.test"), &[ECDSA]), 1, "another name is better than no handshake");
    }

    #[test]
    fn every_broken_file_is_named() {
        let entry = |path: &str| Certificate { cert: path.into(), key: path.into(), ocsp: None };
        let error =
            Table::read(&[entry("none-1.pem"), entry("none-2.pem")], &[], Path::new("/nonexistent")).unwrap_err();
        assert!(error.contains("/certificates/0: /nonexistent/none-1.pem"), "{error}");
        assert!(error.contains("/certificates/1: /nonexistent/none-2.pem"), "{error}");
    }
}
