//! What TLS has to do with requests: a connection is good only for hosts that ask no more of it than its handshake has
//! shown (RFC 9110 section 15.5.20), answers tell browsers to use TLS only (RFC 6797), and origins are told who the client's
//! certificate says it is (RFC 9440). What comes in early data goes on only where it does no harm twice (RFC 8470). Hosts and certificates are looked up; nothing is decided here by itself.

use std::sync::Arc;

use http::header::{STRICT_TRANSPORT_SECURITY, UPGRADE};
use http::{HeaderName, HeaderValue};
use proxy_core::config::StrictSni;

use super::exchange::Exchange;
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage};
use crate::http::fault::{Fault, Kind};
use crate::http::head::ResponseHead;
use crate::tls::secured::CLIENT_FIELDS;

/// The same fields as [`CLIENT_FIELDS`] to origins that take `_` and `-` for one (CGI and what follows it).
const LOOKALIKES: [HeaderName; 5] = [
    HeaderName::from_static("client_cert"),
    HeaderName::from_static("x_client_cert_subject"),
    HeaderName::from_static("x_client_cert_issuer"),
    HeaderName::from_static("x_client_cert_serial"),
    HeaderName::from_static("x_client_cert_fingerprint"),
];

/// Tells an origin that the request may be played again (RFC 8470 section 5.1).
pub(super) const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");

/// Whether a connection is good for a host, what may come in early data, and `Strict-Transport-Security`.
pub(super) struct Guard;

impl Stage for Guard {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        let tls = &site.config.tls;
        if !tls.hosts.is_empty() || tls.strict_sni != StrictSni::Off {
            hooks.entry(|exchange| {
                if is_good(exchange) {
                    return Flow::Continue;
                }
                let fault = Fault::downstream(Kind::Misdirected, "this connection was not opened for this host");
                Flow::Respond(exchange.fail(fault))
            });
        }
        if tls.early_data {
            hooks.entry(|exchange| {
                if !exchange.connection.is_early() || is_repeatable(exchange) {
                    return Flow::Continue;
                }
                let fault = Fault::downstream(Kind::TooEarly, "ask again when the handshake is done");
                Flow::Respond(exchange.fail(fault))
            });
        }
        if tls.hsts.is_some() || tls.hosts.iter().any(|host| host.hsts.is_some()) {
            hooks.response(promise);
        }
        Ok(())
    }
}

fn is_good(exchange: &Exchange) -> bool {
    if !exchange.connection.listener.tls {
        return true;
    }
    let host = exchange.host.as_str();
    let Some(secured) = exchange.connection.secured() else { return false };
    let asked = exchange.live.snapshot.hosts.security(Some(host));
    if !asked.is_some_and(|asked| Arc::ptr_eq(asked, &secured.security) || **asked == *secured.security) {
        return false;
    }
    let Some(tls) = exchange.worker.shared.tls.as_ref().map(|tls| tls.now()) else { return false };
    tls.strict == StrictSni::Off || secured.name.as_deref().is_some_and(|name| tls.table.covers(name, host))
}

/// Whether it changes nothing when it comes twice: a safe method (RFC 9110 section 9.2.1), and no tunnel behind it.
fn is_repeatable(exchange: &Exchange) -> bool {
    let request = &exchange.request;
    request.method.is_safe() && exchange.upgrade.is_none() && !request.headers.contains_key(UPGRADE)
}

fn promise(exchange: &mut Exchange, response: &mut ResponseHead) {
    if exchange.connection.listener.tls
        && let Some(value) = exchange.live.snapshot.hosts.hsts(exchange.host.as_str())
    {
        response.headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
    }
}

/// Tells origins of client certificates and early data. Behind the stage that removes what `Connection` names, so that no client can have
/// these fields removed.
pub(super) struct Introduce;

impl Stage for Introduce {
    fn name(&self) -> &'static str {
        "client_cert"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        if site.config.tls.client_auths().any(|(_, auth)| auth.forward) {
            hooks.upstream_request(introduce);
        }
        if site.config.tls.early_data {
            hooks.upstream_request(warn);
        }
        Ok(())
    }
}

fn introduce(exchange: &mut Exchange) -> Flow {
    let headers = &mut exchange.request.headers;
    for name in CLIENT_FIELDS.iter().chain(&LOOKALIKES) {
        headers.remove(name);
    }
    // A chain would be taken for one that was checked, and is not told.
    headers.remove("client-cert-chain");
    headers.remove("client_cert_chain");
    let client = exchange.connection.secured().and_then(|secured| secured.client.as_ref());
    for (name, value) in CLIENT_FIELDS.iter().zip(client.iter().flat_map(|client| &client.fields)) {
        headers.insert(name.clone(), value.clone());
    }
    Flow::Continue
}

/// What comes with the field already keeps it: another proxy has set it, and knows why.
fn warn(exchange: &mut Exchange) -> Flow {
    if exchange.connection.is_early() {
        exchange.request.headers.insert(EARLY_DATA, HeaderValue::from_static("1"));
    }
    Flow::Continue
}
