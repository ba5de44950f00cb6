//! Faults of meaning in routes: what the schema cannot say of them.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue, Method};

use super::limits::MAX_TIMEOUT;
use super::mirror::MAX_BODY as MAX_MIRRORED;
use super::{Condition, Config, HeaderChanges, Route, Span};
use crate::diagnostic::hint;
use crate::host::HostPattern;
use crate::json::join;
use crate::json::shape::Fault;
use crate::route::{PathMatch, Rule, Template, page};

/// Statuses of a redirect that clients follow.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

pub(super) fn faults(config: &Config, faults: &mut Vec<Fault>) {
    let mut seen: HashMap<(String, Rule), usize> = HashMap::new();
    for (index, route) in config.routes.iter().enumerate() {
        let at = format!("/routes/{index}");
        one(config, route, &at, faults);
        for (place, host) in route.hosts.iter().enumerate() {
            if let Err(message) = host.parse::<HostPattern>() {
                faults.push(Fault::at(format!("{at}/hosts/{place}"), message));
            }
        }
        let Ok(rule) = Rule::new(route) else { continue };
        let any = [String::new()];
        for host in if route.hosts.is_empty() { any.as_slice() } else { route.hosts.as_slice() } {
            if let Some(first) = seen.insert((host.to_ascii_lowercase(), rule.clone()), index) {
                let host = if host.is_empty() { "any host" } else { host };
                let message = format!("{host} with path `{}` is routed by /routes/{first} already", rule.path);
                faults.push(Fault::at(at.clone(), message));
            }
        }
    }
}

fn one(config: &Config, route: &Route, at: &str, faults: &mut Vec<Fault>) {
    let targets = [
        ("upstream", route.upstream.is_some()),
        ("split", !route.split.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("respond", route.respond.is_some()),
        ("files", route.files.is_some()),
    ];
    let set: Vec<&str> = targets.iter().filter(|(_, set)| *set).map(|(key, _)| *key).collect();
    match set.as_slice() {
        [_] => {}
        [] => {
            let message = "the route leads nowhere; set one of `upstream`, `split`, `redirect`, `respond` and `files`";
            faults.push(Fault::at(at, message));
        }
        [first, second, ..] => {
            let message = format!("the route has `{first}` already; what becomes of a request is said once");
            faults.push(Fault::at_key(format!("{at}/{second}"), message));
        }
    }
    for (key, name) in route.upstreams() {
        if !config.upstreams.contains_key(name) {
            let near = hint(name, config.upstreams.keys().map(String::as_str));
            faults.push(Fault::at(format!("{at}/{key}"), format!("there is no upstream `{name}`{near}")));
        }
    }
    if !route.split.is_empty() && route.split.iter().all(|share| share.weight == 0) {
        faults.push(Fault::at(format!("{at}/split"), "all weights are 0: no request could go anywhere"));
    }
    if let Some(by) = &route.split_by {
        let count = [&by.header, &by.cookie, &by.query].into_iter().flatten().count();
        if route.split.is_empty() {
            faults.push(Fault::at_key(format!("{at}/split_by"), "there is no `split` that it could be for"));
        } else if count != 1 {
            faults.push(Fault::at(format!("{at}/split_by"), "set one of `header`, `cookie` and `query`"));
        }
        by.header.iter().for_each(|name| field_name(name, format!("{at}/split_by/header"), faults));
    }
    if route.early_hints && !route.has_origin() {
        faults.push(Fault::at_key(format!("{at}/early_hints"), "no origin sees requests of this route"));
    }
    if let Some(mirror) = &route.mirror {
        let at = format!("{at}/mirror");
        if !route.has_origin() {
            faults.push(Fault::at_key(at.clone(), "no origin sees requests of this route"));
        }
        if let Some(by) = &mirror.by {
            if [&by.header, &by.cookie, &by.query].into_iter().flatten().count() != 1 {
                faults.push(Fault::at(format!("{at}/by"), "set one of `header`, `cookie` and `query`"));
            }
            by.header.iter().for_each(|name| field_name(name, format!("{at}/by/header"), faults));
        }
        if mirror.body.0 > MAX_MIRRORED {
            let message = format!("found {} bytes, expected at most 16MiB", mirror.body.0);
            faults.push(Fault::at(format!("{at}/body"), message));
        }
    }
    conditions(route, at, faults);
    match PathMatch::parse(&route.path) {
        Ok(path) => templates(route, &path, at, faults),
        Err(message) => faults.push(Fault::at(format!("{at}/path"), message)),
    }
    answers(route, at, faults);
    let times = &route.timeouts;
    let times = [
        ("connect", times.connect),
        ("response", times.response),
        ("body", times.body),
        ("read", times.read),
        ("tunnel", times.tunnel),
    ];
    for (key, time) in times {
        let Some(time) = time else { continue };
        if time.0.is_zero() || time.0 > MAX_TIMEOUT {
            let message = format!("found {time}, expected 1ms to {}", Span(MAX_TIMEOUT));
            faults.push(Fault::at(format!("{at}/timeouts/{key}"), message));
        }
    }
    if route.limits.body.is_some_and(|size| size.0 == 0) {
        faults.push(Fault::at(format!("{at}/limits/body"), "found 0, expected at least 1 byte"));
    }
    for (key, changes) in [("request_headers", &route.request_headers), ("response_headers", &route.response_headers)] {
        header_changes(changes, &format!("{at}/{key}"), faults);
    }
}

fn conditions(route: &Route, at: &str, faults: &mut Vec<Fault>) {
    for (index, method) in route.methods.iter().enumerate() {
        if Method::from_bytes(method.as_bytes()).is_err() || method.to_ascii_uppercase() != *method {
            let message = format!("`{method}` is not a method; methods are written as in `GET`");
            faults.push(Fault::at(format!("{at}/methods/{index}"), message));
        }
    }
    let headers = route.headers.iter().enumerate().map(|(index, condition)| ("headers", index, condition));
    let query = route.query.iter().enumerate().map(|(index, condition)| ("query", index, condition));
    for (key, index, condition) in headers.chain(query) {
        let at = format!("{at}/{key}/{index}");
        let Condition { name, value, prefix, absent } = condition;
        if [value.is_some(), prefix.is_some(), *absent].into_iter().filter(|set| *set).count() > 1 {
            faults.push(Fault::at(at.clone(), "set one of `value`, `prefix` and `absent`, or none of them"));
        }
        if key == "headers" {
            field_name(name, format!("{at}/name"), faults);
        } else if name.is_empty() {
            faults.push(Fault::at(format!("{at}/name"), "a parameter needs a name"));
        }
    }
}

fn templates(route: &Route, path: &PathMatch, at: &str, faults: &mut Vec<Fault>) {
    if let Some(text) = &route.rewrite {
        let key = format!("{at}/rewrite");
        if route.redirect.is_some() || route.respond.is_some() || route.files.is_some() {
            faults.push(Fault::at_key(key, "no origin sees requests of this route"));
        } else {
            match Template::parse(text, path) {
                Ok(_) if !text.starts_with(['/', '{']) => {
                    faults.push(Fault::at(
                        key,
                        format!("`{text}` is not a path: it begins with `/` or a name in braces"),
                    ));
                }
                Ok(_) if text.contains(['?', '#']) || text.contains("{query}") => {
                    faults.push(Fault::at(key, "a rewrite is of the path alone; the query stays as it is"));
                }
                Ok(_) => {}
                Err(message) => faults.push(Fault::at(key, message)),
            }
        }
    }
    if let Some(redirect) = &route.redirect {
        let key = format!("{at}/redirect");
        let whole = redirect.to.starts_with("http://") || redirect.to.starts_with("https://");
        if let Err(message) = Template::parse(&redirect.to, path) {
            faults.push(Fault::at(format!("{key}/to"), message));
        } else if let Some(capture) = captured_host(&redirect.to, path) {
            let message = format!("`{{{capture}}}` would let requests choose the host: captures belong behind its `/`");
            faults.push(Fault::at(format!("{key}/to"), message));
        } else if !whole && !redirect.to.starts_with(['/', '{']) {
            let message = format!("`{}` leads nowhere: write a path or a URL with http:// or https://", redirect.to);
            faults.push(Fault::at(format!("{key}/to"), message));
        }
        if !REDIRECTS.contains(&redirect.status) {
            let message = format!("found {}, expected 301, 302, 303, 307 or 308", redirect.status);
            faults.push(Fault::at(format!("{key}/status"), message));
        }
    }
}

/// A name in the host part of a URL that is filled from the request's path: `https://{tenant}.example` leads wherever who
/// wrote a link wants. The request's own host does not, nor what begins with a slash.
fn captured_host<'t>(to: &'t str, path: &PathMatch) -> Option<&'t str> {
    let (_, behind) = to.split_once("://")?;
    let host = behind.split(['/', '?', '#']).next()?;
    let mut names = host.match_indices('{').filter_map(|(at, _)| {
        let (name, rest) = host.get(at + 1..)?.split_once('}')?;
        let slashed = name == "path" || name == "rest" && matches!(path, PathMatch::Prefix(_));
        (name != "host" && !(slashed && rest.is_empty())).then_some(name)
    });
    names.next()
}

fn answers(route: &Route, at: &str, faults: &mut Vec<Fault>) {
    if let Some(respond) = &route.respond {
        field_value(&respond.content_type, format!("{at}/respond/content_type"), faults);
    }
    for (index, name) in route.files.iter().flat_map(|files| files.index.iter().enumerate()) {
        if name.is_empty() || name.contains('/') || name == ".." {
            let message = format!("`{name}` is not the name of a file");
            faults.push(Fault::at(format!("{at}/files/index/{index}"), message));
        }
    }
    for (status, page) in &route.error_pages {
        let at = join(&format!("{at}/error_pages"), status);
        if page::statuses(status).is_none() {
            let message = format!("`{status}` is neither a status from 400 to 599 nor `4xx` or `5xx`");
            faults.push(Fault::at_key(at.clone(), message));
        }
        if page.body.is_some() == page.file.is_some() {
            faults.push(Fault::at(at.clone(), "a page has either `body` or `file`"));
        }
        if page.intercept && !route.has_origin() {
            faults.push(Fault::at_key(format!("{at}/intercept"), "no origin answers requests of this route"));
        }
        field_value(&page.content_type, format!("{at}/content_type"), faults);
    }
}

fn header_changes(changes: &HeaderChanges, at: &str, faults: &mut Vec<Fault>) {
    for (index, name) in changes.remove.iter().enumerate() {
        field_name(name, format!("{at}/remove/{index}"), faults);
    }
    for (key, fields) in [("set", &changes.set), ("add", &changes.add)] {
        for (name, value) in fields {
            let at = join(&format!("{at}/{key}"), name);
            field_name(name, at.clone(), faults);
            field_value(value, at, faults);
        }
    }
}

fn field_name(name: &str, at: String, faults: &mut Vec<Fault>) {
    /// Those by which messages are framed and connections run (RFC 9110 section 7.6.1).
    const OURS: [&str; 6] = ["connection", "content-length", "keep-alive", "te", "transfer-encoding", "upgrade"];
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        faults.push(Fault::at(at, format!("`{name}` is not the name of a header field")));
    } else if OURS.contains(&name.to_ascii_lowercase().as_str()) {
        faults.push(Fault::at(at, format!("`{name}` belongs to the connection, which is Tidegate's own matter")));
    }
}

fn field_value(value: &str, at: String, faults: &mut Vec<Fault>) {
    if HeaderValue::from_str(value).is_err() {
        faults.push(Fault::at(at, format!("{value:?} cannot be the value of a header field")));
    }
}
