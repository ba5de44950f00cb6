//! What rules do beside letting through and blocking: answers of their own, redirects, changes of a request and its
//! response. From the model to checked terms, and from those to what is to be done with one request.

use std::fmt;

use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::action::{Action, ActionKind, Side, SkippedPhase};
use super::lang::{Facts, Field, LangError, Lists, Source, Text, parse_value};
use crate::json::shape::Fault;

/// Most bytes of the body of a blocked answer.
pub const MAX_ANSWER_BYTES: u32 = 16_384;
/// Most rules that one `skip` names.
pub const MAX_SKIPPED: u32 = 1_024;
/// Longest path, query or place that a rule may make; a request whose value is longer is left as it is.
pub const MAX_MADE_BYTES: usize = 8_192;

/// Statuses that lead elsewhere (RFC 9110 section 15.4).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// Headers that say how a message is framed or where it goes (RFC 9110 sections 7.2 and 7.6.1, RFC 9112 section 6).
const UNTOUCHED: [&str; 7] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];

/// What may not stand in a URL (RFC 3986); escapes that are there stay.
const IN_URL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
/// What may not stand in a query.
const IN_QUERY: &AsciiSet = &IN_URL.add(b'#');
/// What may not stand in a path.
const IN_PATH: &AsciiSet = &IN_QUERY.add(b'?');

/// The answer of a blocking rule that has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `content-type`
    pub content_type: HeaderValue,
    /// The body.
    pub body: String,
}

/// A change that a rule makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another path, percent-encoded where it has to be.
    Path(String),
    /// Another query, without `?`; none where it is empty.
    Query(String),
    /// A header of the request, or that it goes.
    RequestHeader(HeaderName, Option<HeaderValue>),
    /// A header of the response, or that it goes.
    ResponseHeader(HeaderName, Option<HeaderValue>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header =
            |f: &mut fmt::Formatter<'_>, whose: &str, name: &HeaderName, value: &Option<HeaderValue>| match value {
                Some(value) => write!(f, "{whose} header {name}: {}", String::from_utf8_lossy(value.as_bytes())),
                None => write!(f, "{whose} header {name} goes"),
            };
        match self {
            Self::Path(path) => write!(f, "path {path}"),
            Self::Query(query) => write!(f, "query {query}"),
            Self::RequestHeader(name, value) => header(f, "request", name, value),
            Self::ResponseHeader(name, value) => header(f, "response", name, value),
        }
    }
}

/// What `skip` leaves out.
#[derive(Clone, Debug, Default)]
pub(super) struct Skip {
    /// Rules of the same policy, by id.
    pub rules: Vec<String>,
    /// Later policies, by id.
    pub policies: Vec<String>,
    /// Later rules of these phases, of all policies.
    pub phases: Vec<SkippedPhase>,
}

impl Skip {
    /// Whether it names nothing, and so means the rest of the policy.
    pub fn is_plain(&self) -> bool {
        self.rules.is_empty() && self.policies.is_empty() && self.phases.is_empty()
    }
}

/// Checked terms of an action.
#[derive(Clone, Debug, Default)]
pub(super) enum Deed {
    /// What the action's name says.
    #[default]
    Plain,
    /// A blocked answer of its own.
    Answer(Answer),
    /// Another place.
    Redirect { status: u16, to: Text, keep_query: bool },
    /// Another path or query.
    Rewrite { path: Option<Text>, query: Option<Text> },
    /// A header, or that it goes.
    Header { name: HeaderName, value: Option<Text>, side: Side },
    /// Rules that are left out; all that follow in the policy if none are named.
    Skip(Skip),
}

/// Checks an action's terms; `later` are the ids of the rules that follow in the policy.
pub(super) fn deed(action: &Action, lists: &Lists, pointer: &str, later: &[&str], faults: &mut Vec<Fault>) -> Deed {
    let kind = action.kind;
    for (key, kinds) in action.keys().filter(|(_, kinds)| !kinds.contains(&kind)) {
        let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
        let message = format!("`{key}` is for {}; `{}` does not take it", names.join(" and "), kind.name());
        faults.push(Fault::at_key(format!("{pointer}/{key}"), message));
    }
    let mut terms = Terms { pointer, lists, faults };
    match kind {
        ActionKind::Block => terms.block(action),
        ActionKind::Challenge => {
            terms.refusing(action);
            Deed::Plain
        }
        ActionKind::Redirect => terms.redirect(action),
        ActionKind::Rewrite => {
            let path = terms.value("path", action.path.as_deref(), action.path_expression.as_deref());
            if action.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
                terms.fault("path", "a path starts with `/`".to_owned());
            }
            let query = terms.value("query", action.query.as_deref(), action.query_expression.as_deref());
            if path.is_none() && query.is_none() {
                terms.fault("type", "`rewrite` needs `path`, `query`, or one of them as an expression".to_owned());
            }
            Deed::Rewrite { path, query }
        }
        ActionKind::SetHeader | ActionKind::RemoveHeader => terms.header(action),
        ActionKind::Score => {
            if action.points.is_none() {
                terms.fault("type", "`score` needs `points`".to_owned());
            }
            Deed::Plain
        }
        ActionKind::Skip => {
            for id in action.rules.iter().filter(|id| !later.contains(&id.as_str())) {
                let near = crate::diagnostic::hint(id, later.iter().copied());
                terms.fault("rules", format!("no rule `{id}` follows this one in the policy{near}"));
            }
            Deed::Skip(Skip {
                rules: action.rules.clone(),
                policies: action.policies.clone(),
                phases: action.phases.clone(),
            })
        }
        ActionKind::Allow | ActionKind::Drop | ActionKind::Log | ActionKind::Reset | ActionKind::Tarpit => Deed::Plain,
    }
}

struct Terms<'a> {
    pointer: &'a str,
    lists: &'a Lists,
    faults: &'a mut Vec<Fault>,
}

impl Terms<'_> {
    fn fault(&mut self, key: &str, message: String) {
        self.faults.push(Fault::at(format!("{}/{key}", self.pointer), message));
    }

    /// A value as it is, or as an expression.
    fn value(&mut self, key: &str, plain: Option<&str>, expression: Option<&str>) -> Option<Text> {
        match (plain, expression) {
            (Some(_), Some(_)) => {
                self.fault(key, format!("`{key}` and `{key}_expression` exclude each other"));
                None
            }
            (Some(plain), None) => Some(Text::new(Source::Literal(plain.as_bytes().into()))),
            (None, Some(expression)) => match parse_value(expression, self.lists) {
                Ok(value) => Some(value),
                Err(e) => {
                    self.expression(key, expression, &e);
                    None
                }
            },
            (None, None) => None,
        }
    }

    fn expression(&mut self, key: &str, expression: &str, e: &LangError) {
        let at = Fault::at(format!("{}/{key}_expression", self.pointer), e.render(expression));
        self.faults.push(Fault { inside: Some(e.at), ..at });
    }

    /// A status that refuses.
    fn refusing(&mut self, action: &Action) {
        if let Some(status) = action.status.filter(|status| *status < 400) {
            self.fault("status", format!("`{}` answers with 400 to 599, found {status}", action.kind.name()));
        }
    }

    fn block(&mut self, action: &Action) -> Deed {
        self.refusing(action);
        let Some(body) = &action.body else {
            if action.content_type.is_some() {
                self.fault("content_type", "there is no `body` that this could be the type of".to_owned());
            }
            return Deed::Plain;
        };
        let kind = action.content_type.as_deref().unwrap_or("text/plain; charset=utf-8");
        let json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(body) {
            self.fault("body", format!("this is no JSON, which `content_type` says: {error}"));
        }
        if let Ok(content_type) = HeaderValue::from_str(kind) {
            return Deed::Answer(Answer { content_type, body: body.clone() });
        }
        self.fault("content_type", "this cannot be the value of a header".to_owned());
        Deed::Plain
    }

    fn redirect(&mut self, action: &Action) -> Deed {
        let status = action.status.unwrap_or(302);
        if !REDIRECTS.contains(&status) {
            self.fault("status", format!("`redirect` answers with 301, 302, 303, 307 or 308, found {status}"));
        }
        let place = |to: &str| to.starts_with('/') || to.starts_with("https://") || to.starts_with("http://");
        if action.to.as_deref().is_some_and(|to| !place(to)) {
            self.fault("to", "write a path, or a URL with `https://` or `http://`".to_owned());
        }
        if action.to.is_none() && action.to_expression.is_none() {
            self.fault("type", "`redirect` needs `to` or `to_expression`".to_owned());
        }
        let to = self.value("to", action.to.as_deref(), action.to_expression.as_deref());
        to.map_or(Deed::Plain, |to| Deed::Redirect { status, to, keep_query: action.keep_query })
    }

    fn header(&mut self, action: &Action) -> Deed {
        let Some(name) = &action.header else {
            self.fault("type", format!("`{}` needs `header`", action.kind.name()));
            return Deed::Plain;
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            self.fault("header", format!("`{name}` cannot be the name of a header"));
            return Deed::Plain;
        };
        if UNTOUCHED.contains(&name.as_str()) {
            self.fault("header", format!("`{name}` says how a message is framed or where it goes; it stays"));
        }
        if action.value.as_deref().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
            self.fault("value", "this cannot be the value of a header".to_owned());
        }
        let value = self.value("value", action.value.as_deref(), action.value_expression.as_deref());
        if action.kind == ActionKind::SetHeader && action.value.is_none() && action.value_expression.is_none() {
            self.fault("type", "`set_header` needs `value` or `value_expression`".to_owned());
        }
        Deed::Header { name, value, side: action.on.unwrap_or(Side::Request) }
    }
}

impl Deed {
    /// Status and place of a redirect; None where its value is missing or no place.
    pub fn location<F: Facts>(&self, facts: &F, request_query: Option<&str>) -> Option<(u16, HeaderValue)> {
        let Self::Redirect { status, to, keep_query } = self else { return None };
        let mut place = made(to, facts, IN_URL)?;
        if let Some(query) = request_query.filter(|_| *keep_query) {
            place.push(if place.contains('?') { '&' } else { '?' });
            place.push_str(query);
        }
        Some((*status, HeaderValue::from_str(&place).ok()?))
    }

    /// Calls `see` with every field that its values come from.
    pub fn fields(&self, see: &mut dyn FnMut(Field)) {
        match self {
            Self::Redirect { to, .. } => to.fields(see),
            Self::Rewrite { path, query } => [path, query].into_iter().flatten().for_each(|text| text.fields(see)),
            Self::Header { value, .. } => value.iter().for_each(|text| text.fields(see)),
            Self::Plain | Self::Answer(_) | Self::Skip(_) => {}
        }
    }

    /// The changes that it makes; none where a value is missing.
    pub fn changes<F: Facts>(&self, facts: &F) -> Vec<Change> {
        match self {
            Self::Rewrite { path, query } => {
                let path =
                    path.as_ref().and_then(|path| made(path, facts, IN_PATH)).filter(|path| path.starts_with('/'));
                let query = query.as_ref().and_then(|query| made(query, facts, IN_QUERY));
                path.map(Change::Path).into_iter().chain(query.map(Change::Query)).collect()
            }
            Self::Header { name, value, side } => {
                let value = match value {
                    None => None,
                    Some(value) => match value.first(facts).and_then(|value| HeaderValue::from_bytes(&value).ok()) {
                        Some(value) => Some(value),
                        None => return Vec::new(),
                    },
                };
                vec![match side {
                    Side::Request => Change::RequestHeader(name.clone(), value),
                    Side::Response => Change::ResponseHeader(name.clone(), value),
                }]
            }
            Self::Plain | Self::Answer(_) | Self::Redirect { .. } | Self::Skip(_) => Vec::new(),
        }
    }
}

fn made<F: Facts>(value: &Text, facts: &F, escaped: &'static AsciiSet) -> Option<String> {
    let text = percent_encode(&value.first(facts)?, escaped).to_string();
    (text.len() <= MAX_MADE_BYTES).then_some(text)
}
