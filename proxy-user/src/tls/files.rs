//! Which files TLS is made of: certificates, keys, authorities of clients, keys of tickets. It reads none of them.

use std::path::{Path, PathBuf};

use proxy_core::config::Config;

use super::acme;
use super::certificates::ocsp_file;

/// The files that a config leads to.
pub fn files(config: &Config, base: &Path) -> Vec<PathBuf> {
    let certificates = config.certificates.iter();
    let certificates =
        certificates.flat_map(|entry| [base.join(&entry.cert), base.join(&entry.key), ocsp_file(entry, base)]);
    let clients = config.tls.client_auths().flat_map(|(_, auth)| [&auth.ca, &auth.crl]);
    let issued = acme::certificates(config, base).into_iter().map(|issued| issued.cert);
    let named = clients.chain([&config.tls.tickets.keys]).flatten();
    certificates.chain(issued).chain(named.map(|file| base.join(file))).collect()
}
