//! Faults of meaning in the TLS part: what the schema cannot say of it.

use std::collections::HashMap;
use std::time::Duration;

use super::tls::{ClientAuthMode, Hsts};
use super::{Config, Span};
use crate::host::HostPattern;
use crate::json::shape::Fault;

/// What browsers' built-in lists want of `max_age`.
const PRELOAD_AGE: Duration = Duration::from_secs(365 * 86_400);
/// Shortest and longest life of a ticket; TLS 1.3 allows no longer (RFC 8446 section 4.6.1).
const TICKET_LIFE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(7 * 86_400));

pub(super) fn faults(config: &Config, faults: &mut Vec<Fault>) {
    let tls = &config.tls;
    let mut seen = HashMap::new();
    for (index, host) in tls.hosts.iter().enumerate() {
        for (place, name) in host.names.iter().enumerate() {
            let at = format!("/tls/hosts/{index}/names/{place}");
            if let Err(message) = name.parse::<HostPattern>() {
                faults.push(Fault::at(at, message));
            } else if let Some(first) = seen.insert(name.to_ascii_lowercase(), index) {
                faults.push(Fault::at(at, format!("`{name}` stands at /tls/hosts/{first} already")));
            }
        }
        if let Some(policy) = &host.hsts {
            hsts(policy, &format!("/tls/hosts/{index}/hsts"), faults);
        }
    }
    if let Some(policy) = &tls.hsts {
        hsts(policy, "/tls/hsts", faults);
    }
    for (pointer, auth) in tls.client_auths() {
        let off = auth.mode == ClientAuthMode::Off;
        if auth.ca.is_none() && !off {
            let message = "set `ca` to a PEM file of the authorities whose certificates are taken";
            faults.push(Fault::at(pointer.clone(), message));
        }
        for (key, path) in [("ca", &auth.ca), ("crl", &auth.crl)] {
            if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                faults.push(Fault::at(format!("{pointer}/{key}"), "the path is empty"));
            } else if path.is_some() && off {
                faults.push(Fault::at_key(format!("{pointer}/{key}"), "with `\"mode\": \"off\"` nobody is asked"));
            }
        }
    }
    if tls.early_data && !tls.tickets.enabled {
        let message = "early data comes with sessions that go on, and `tickets` are not `enabled`";
        faults.push(Fault::at_key("/tls/early_data", message));
    }
    let life = tls.tickets.lifetime;
    if life.0 < TICKET_LIFE.0 || life.0 > TICKET_LIFE.1 {
        let message = format!("found {life}, expected {} to {}", Span(TICKET_LIFE.0), Span(TICKET_LIFE.1));
        faults.push(Fault::at("/tls/tickets/lifetime", message));
    }
    if tls.tickets.keys.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        faults.push(Fault::at("/tls/tickets/keys", "the path is empty"));
    }
}

fn hsts(policy: &Hsts, at: &str, faults: &mut Vec<Fault>) {
    if policy.preload && (!policy.include_subdomains || policy.max_age.0 < PRELOAD_AGE) {
        let message = "the browsers' lists take `include_subdomains` and a `max_age` of at least \"365d\"";
        faults.push(Fault::at(format!("{at}/preload"), message));
    }
}
