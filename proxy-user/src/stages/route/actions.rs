//! What a route says is done: redirect, fixed answer, rewrite, header fields, error pages. Each is read and checked at the
//! load; a route without one has no hook for it.

use bytes::Bytes;
use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode};
use proxy_core::config::{HeaderChanges, Redirect, Respond, Route};
use proxy_core::fields::Fields;
use proxy_core::route::{PathMatch, Template, page};

use crate::http::fault::Fault;
use crate::stages::exchange::Exchange;
use crate::stages::hooks::{self, Hooks, Page, Site};
use crate::stages::{Flow, path};

/// Adds what the route at `index` asks for.
pub(super) fn join(site: &Site<'_>, index: usize, route: &Route, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
    let at = |key: &str| format!("/routes/{index}/{key}");
    let form = PathMatch::parse(&route.path).map_err(|what| (at("path"), what))?;
    if let Some(redirect) = &route.redirect {
        redirect_to(redirect, &form, hooks).map_err(|what| (at("redirect"), what))?;
    }
    if let Some(respond) = &route.respond {
        answer_with(respond, hooks).map_err(|what| (at("respond"), what))?;
    }
    if let Some(rewrite) = &route.rewrite {
        let template = Template::parse(rewrite, &form).map_err(|what| (at("rewrite"), what))?;
        hooks.upstream_request(move |exchange| rewritten(exchange, &template, &form));
    }
    if !route.request_headers.is_default() {
        let changes = Changes::new(&route.request_headers).map_err(|what| (at("request_headers"), what))?;
        hooks.upstream_request(move |exchange| {
            changes.make(&mut exchange.request.headers);
            Flow::Continue
        });
    }
    if !route.response_headers.is_default() {
        let changes = Changes::new(&route.response_headers).map_err(|what| (at("response_headers"), what))?;
        hooks.response(move |_, head| changes.make(&mut head.headers));
    }
    // Single statuses before classes, which would take them.
    for (status, own) in route.error_pages.iter().filter(|(key, _)| !key.ends_with("xx")).chain(classes(route)) {
        let at = |key: &str| at(&format!("error_pages/{status}{key}"));
        let body = match &own.file {
            Some(file) => {
                let file = site.base.join(file);
                let text =
                    std::fs::read(&file).map_err(|error| (at("/file"), format!("{}: {error}", file.display())))?;
                Bytes::from(text)
            }
            None => Bytes::from(own.body.clone().unwrap_or_default()),
        };
        let content_type = value(&own.content_type).map_err(|what| (at("/content_type"), what))?;
        let statuses = page::statuses(status).ok_or_else(|| (at(""), "not a status".to_owned()))?;
        hooks.error_page(statuses, Page { body, content_type, intercept: own.intercept });
    }
    Ok(())
}

fn classes(route: &Route) -> impl Iterator<Item = (&String, &proxy_core::config::Page)> {
    route.error_pages.iter().filter(|(key, _)| key.ends_with("xx"))
}

fn redirect_to(redirect: &Redirect, form: &PathMatch, hooks: &mut Hooks) -> Result<(), String> {
    let (template, form) = (Template::parse(&redirect.to, form)?, form.clone());
    let status = StatusCode::from_u16(redirect.status).map_err(|error| error.to_string())?;
    hooks.request(move |exchange| {
        let uri = &exchange.request.uri;
        let location = template.location(&form, exchange.host.as_str(), uri.path(), uri.query());
        Flow::Respond(match HeaderValue::from_maybe_shared(Bytes::from(location)) {
            Ok(location) => {
                let mut answer = exchange.answer(status, "moved");
                answer.headers_mut().insert(LOCATION, location);
                answer
            }
            Err(_) => exchange.fail(Fault::bad_request("the path cannot be part of a redirect")),
        })
    });
    Ok(())
}

fn answer_with(respond: &Respond, hooks: &mut Hooks) -> Result<(), String> {
    let status = StatusCode::from_u16(respond.status).map_err(|error| error.to_string())?;
    let mut fixed = http::Response::new(Bytes::from(respond.body.clone()));
    *fixed.status_mut() = status;
    fixed.headers_mut().insert(http::header::CONTENT_TYPE, value(&respond.content_type)?);
    hooks.request(move |_| Flow::Respond(fixed.clone()));
    Ok(())
}

fn rewritten(exchange: &mut Exchange, template: &Template, form: &PathMatch) -> Flow {
    let query = exchange.request.uri.query();
    let mut target = template.path(form, exchange.host.as_str(), path(&exchange.request), query);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    match PathAndQuery::try_from(target) {
        Ok(target) => {
            exchange.target = Some(target);
            Flow::Continue
        }
        Err(_) => Flow::Respond(exchange.fail(Fault::bad_request("the path cannot be rewritten"))),
    }
}

/// Changes of header fields, ready to be made.
struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl Changes {
    fn new(changes: &HeaderChanges) -> Result<Self, String> {
        let field = |(key, text): (&String, &String)| Ok::<_, String>((name(key)?, value(text)?));
        Ok(Self {
            remove: changes.remove.iter().map(|key| name(key)).collect::<Result<_, _>>()?,
            set: changes.set.iter().map(field).collect::<Result<_, _>>()?,
            add: changes.add.iter().map(field).collect::<Result<_, _>>()?,
        })
    }

    fn make(&self, headers: &mut Fields) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

fn name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|error| format!("`{text}`: {error}"))
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|error| format!("`{text}`: {error}"))
}
