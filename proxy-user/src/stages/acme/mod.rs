//! Pages for ACME servers (RFC 8555 section 8.3): answered before policies and routes are asked, but only while an order of
//! ours stands open, and only for its own tokens.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use proxy_core::config::AcmeChallenge;

use super::exchange::Exchange;
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage, path};

/// Where servers look.
const PLACE: &str = "/.well-known/acme-challenge/";

pub(super) struct Show;

impl Stage for Show {
    fn name(&self) -> &'static str {
        "acme"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        if site.config.acme.as_ref().is_some_and(|acme| acme.challenge == AcmeChallenge::Http) {
            hooks.entry(show);
        }
        Ok(())
    }
}

fn show(exchange: &mut Exchange) -> Flow {
    let Some(token) = path(&exchange.request).strip_prefix(PLACE) else { return Flow::Continue };
    let tls = exchange.worker.shared.tls.as_ref();
    match tls.and_then(|tls| tls.challenges().page(token)) {
        Some(text) if exchange.request.method == Method::GET => {
            let mut answer = Response::new(text);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            Flow::Respond(answer)
        }
        _ => Flow::Continue,
    }
}
