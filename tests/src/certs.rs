//! Certificates of the tests: one authority a run directory, and leaves that it signs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A certificate authority, and where its leaves are written.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Serial number in hexadecimal, as `openssl x509 -serial` prints it.
    pub serial: String,
}

impl Authority {
    /// Makes an authority whose own certificate is at [`Self::pem`].
    pub fn new(dir: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Tidegate tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate, for clients.
    pub fn pem(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Writes `<file>.pem` and `<file>.key` for these names, over what lies there. `serial` tells leaves apart.
    pub fn leaf(&self, file: &str, names: &[&str], serial: u8) -> Result<Leaf> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or(file));
        params.serial_number = Some(vec![0x5e, serial].into());
        let leaf = Leaf {
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
            serial: format!("5E{serial:02X}"),
        };
        // Whole files appear at once, as a certificate manager would put them.
        replace(&leaf.key, &key.serialize_pem())?;
        replace(&leaf.cert, &params.signed_by(&key, &self.issuer)?.pem())?;
        Ok(leaf)
    }
}

fn replace(file: &Path, text: &str) -> Result<()> {
    let next = file.with_extension("next");
    std::fs::write(&next, text)?;
    Ok(std::fs::rename(next, file)?)
}
