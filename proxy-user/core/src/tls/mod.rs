//! Decisions of TLS: what holds for which name, which requests came over the wrong connection, when keys of session tickets
//! are exchanged, who a client's certificate says it is. Opens nothing and asks no clock.

pub mod identity;
mod names;
pub mod ocsp;
pub mod renewal;
pub mod tickets;

use std::sync::Arc;

use http::HeaderValue;

pub use identity::Identity;
pub use names::Names;

use crate::config::{ClientAuth, ClientAuthMode, Hsts, Tls, TlsVersion};

/// What a client must bring to a host. A connection is good for all hosts that ask the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Security {
    /// Oldest version.
    pub min_version: TlsVersion,
    /// Whose certificates are taken; none where nobody is asked.
    pub client_auth: Option<ClientAuth>,
}

/// What holds for which host.
#[derive(Debug, Default)]
pub struct Hosts {
    /// The first one is for names of which nothing is said.
    securities: Vec<Arc<Security>>,
    names: Names<usize>,
    hsts: Option<HeaderValue>,
    hsts_names: Names<Option<HeaderValue>>,
}

impl Hosts {
    /// As a config says.
    pub fn new(tls: &Tls) -> Self {
        let mut hosts = Self { hsts: tls.hsts.as_ref().and_then(field), ..Self::default() };
        hosts.index(tls.min_version, tls.client_auth.as_ref());
        for host in &tls.hosts {
            let auth = host.client_auth.as_ref().or(tls.client_auth.as_ref());
            let index = hosts.index(host.min_version.unwrap_or(tls.min_version), auth);
            let promise = host.hsts.as_ref().map_or_else(|| hosts.hsts.clone(), field);
            for name in &host.names {
                hosts.names.insert(name, index);
                hosts.hsts_names.insert(name, promise.clone());
            }
        }
        hosts
    }

    fn index(&mut self, min_version: TlsVersion, auth: Option<&ClientAuth>) -> usize {
        let client_auth = auth.filter(|auth| auth.mode != ClientAuthMode::Off).cloned();
        let security = Security { min_version, client_auth };
        self.securities.iter().position(|known| **known == security).unwrap_or_else(|| {
            self.securities.push(Arc::new(security));
            self.securities.len() - 1
        })
    }

    /// All that differ, in the order of [`Hosts::index_of`].
    pub fn securities(&self) -> &[Arc<Security>] {
        &self.securities
    }

    /// Which of [`Hosts::securities`] is for a host, lower case, without port.
    pub fn index_of(&self, host: Option<&str>) -> usize {
        if self.securities.len() < 2 {
            return 0;
        }
        host.and_then(|host| self.names.find(host)).copied().unwrap_or(0)
    }

    /// What is asked of clients of a host.
    pub fn security(&self, host: Option<&str>) -> Option<&Arc<Security>> {
        self.securities.get(self.index_of(host))
    }

    /// Whether hosts differ in what they ask for.
    pub fn differ(&self) -> bool {
        self.securities.len() > 1
    }

    /// Whether hosts differ in whose certificates they take, which is all that may differ over QUIC.
    pub fn differ_in_clients(&self) -> bool {
        let mut auths = self.securities.iter().map(|security| &security.client_auth);
        let first = auths.next();
        auths.any(|auth| Some(auth) != first)
    }

    /// Whether any client is asked for a certificate.
    pub fn ask_clients(&self) -> bool {
        self.securities.iter().any(|security| security.client_auth.is_some())
    }

    /// Whether any origin is told of client certificates.
    pub fn forward_clients(&self) -> bool {
        self.securities.iter().any(|security| security.client_auth.as_ref().is_some_and(|auth| auth.forward))
    }

    /// Whether any host has `Strict-Transport-Security`.
    pub fn have_hsts(&self) -> bool {
        self.hsts.is_some() || self.hsts_names.values().any(Option::is_some)
    }

    /// `Strict-Transport-Security` of a host's answers.
    pub fn hsts(&self, host: &str) -> Option<&HeaderValue> {
        self.hsts_names.find(host).unwrap_or(&self.hsts).as_ref()
    }
}

/// The value is made of digits and words, so there always is a field.
fn field(hsts: &Hsts) -> Option<HeaderValue> {
    HeaderValue::try_from(hsts.value()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hosts(tls: serde_json::Value) -> Hosts {
        Hosts::new(&serde_json::from_value(tls).unwrap())
    }

    #[test]
    fn names_have_what_they_are_given_and_the_rest_of_all() {
        let hosts = hosts(json!({
            "hsts": { "max_age": "365d" },
            "hosts": [
                { "names": ["new.test", "*.new.test"], "min_version": "1.3", "hsts": { "max_age": "0ms" } },
                { "names": ["staff.test"], "client_auth": { "ca": "ca.pem" } },
                { "names": ["same.test"], "min_version": "1.2" },
            ],
        }));
        let of = |name: &str| hosts.security(Some(name)).unwrap();
        assert_eq!(hosts.securities().len(), 3);
        assert_eq!(of("other.test").min_version, TlsVersion::V12);
        assert!(Arc::ptr_eq(of("other.test"), of("same.test")) && Arc::ptr_eq(of("a.b.new.test"), of("new.test")));
        assert_eq!(of("new.test").min_version, TlsVersion::V13);
        assert!(of("staff.test").client_auth.is_some() && of("x.staff.test").client_auth.is_none());
        assert_eq!(hosts.index_of(None), 0);
        assert!(hosts.differ() && hosts.differ_in_clients() && hosts.ask_clients() && !hosts.forward_clients());
        assert_eq!(hosts.hsts("staff.test").unwrap(), "max-age=31536000");
        assert_eq!(hosts.hsts("www.new.test").unwrap(), "max-age=0");
    }

    #[test]
    fn a_host_may_ask_nobody_where_others_are_asked() {
        let hosts = hosts(json!({
            "client_auth": { "ca": "ca.pem", "mode": "optional", "forward": true },
            "hosts": [{ "names": ["open.test"], "client_auth": { "mode": "off" } }],
        }));
        assert!(hosts.security(None).unwrap().client_auth.is_some() && hosts.forward_clients());
        assert_eq!(hosts.security(Some("open.test")).unwrap().client_auth, None);
        let plain = super::Hosts::new(&Tls::default());
        assert!(!plain.differ() && !plain.differ_in_clients() && !plain.ask_clients() && !plain.have_hsts());
    }
}
