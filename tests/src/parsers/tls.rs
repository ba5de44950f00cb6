//! What TLS reads: keys of session tickets, OCSP responses, certificates of clients.

use anyhow::{Result, ensure};
use proxy_core::tls::{Identity, ocsp, tickets};
use rcgen::{CertificateParams, DnType, KeyPair};

pub(super) fn corpus() -> Vec<Vec<u8>> {
    let certificate = || -> Result<Vec<u8>> {
        let mut params = CertificateParams::new(vec!["a.test".to_owned(), "*.a.test".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "a, \"b\" +c");
        Ok(params.self_signed(&KeyPair::generate()?)?.der().to_vec())
    };
    let keys = format!("# keys\n{} 1700000000\n{}\n", "a1".repeat(32), "b2".repeat(32));
    let response = vec![0x30, 0x81, 5, 0x0a, 1, 0, 0xa0, 0];
    [keys.into_bytes(), response].into_iter().chain(certificate()).collect()
}

pub(super) fn read(bytes: &[u8]) -> Result<()> {
    if let Ok(keys) = tickets::parse(&String::from_utf8_lossy(bytes)) {
        ensure!(tickets::parse(&tickets::text(&keys)).as_ref() == Ok(&keys), "keys are not read as they are written");
    }
    ensure!(ocsp::check(bytes).is_err() || bytes.first() == Some(&0x30), "a response that is no sequence");
    if let Ok(identity) = Identity::read(bytes) {
        let texts = [&identity.subject, &identity.issuer, &identity.serial, &identity.fingerprint, &identity.encoded];
        for text in texts.into_iter().chain(&identity.names) {
            ensure!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "not for a header field: {text:?}");
        }
    }
    Ok(())
}
