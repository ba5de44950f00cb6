//! The admin API's requests: method, path, query and body become a [`Call`], or a [`Refusal`] that says what is wrong.
//!
//! Pure: no socket, no daemon. What a call does stands in `admin`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proxy_core::config::Span;
use proxy_core::store::Texts;
use serde::de::DeserializeOwned;

use super::serve::MAX_BODY_BYTES;
use super::wire::{Apply, EditList, NewLogFilter, NewVerdict, NewVerdicts, Question, Rollback};
use crate::events::ask::Ask;
use crate::events::record::from_hex;
use crate::kernel::MAX_TTL;

/// Longest text of a verdict's source, in bytes; an IPv6 address with prefix length has at most 49.
pub const MAX_SOURCE_BYTES: usize = 64;
/// Verdicts listed unless `?limit=` asks for another number.
pub const DEFAULT_LIST_LIMIT: usize = 10_000;
/// Most verdicts listed in one answer.
pub const MAX_LIST_LIMIT: usize = 1_048_576;

/// Most sources of one `POST /v1/verdicts/load`.
pub const MAX_LOAD: usize = 50_000;
/// Most bytes of its body: as many of the longest sources, quoted.
const MAX_LOAD_BYTES: usize = MAX_LOAD * (MAX_SOURCE_BYTES + 3) + 128;
/// Where many verdicts are added.
pub const LOAD_PATH: &str = "/v1/verdicts/load";
/// Longest id of a request.
const MAX_REQUEST_ID: usize = 64;
/// Longest name of a list, with its policy's.
const MAX_LIST_NAME: usize = 256;
/// Longest filter of the log, in bytes.
const MAX_LOG_FILTER: usize = 1_024;
/// Where policies are loaded.
pub const APPLY_PATH: &str = "/v1/policies/apply";
/// Most bytes of its body: a list of a million hosts has about 16 MiB.
const MAX_APPLY_BYTES: usize = 96 << 20;

/// What in a source needs no percent-encoding in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b':').remove(b'-').remove(b'_');

/// One request of the admin API, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `GET /v1/status`.
    Status,
    /// `GET /v1/verdicts?limit=N`.
    Verdicts {
        /// Most verdicts to list.
        limit: usize,
    },
    /// `POST /v1/verdicts`.
    AddVerdict {
        /// Address or IPv6 prefix, as text that parses.
        source: String,
        /// How long it stands.
        ttl: Duration,
    },
    /// `POST /v1/verdicts/load`.
    LoadVerdicts {
        /// Likewise, many.
        sources: Sources,
        /// How long they stand.
        ttl: Duration,
    },
    /// `DELETE /v1/verdicts/{source}`.
    RemoveVerdict {
        /// Address or IPv6 prefix, as text that parses.
        source: String,
    },
    /// `GET /v1/counters`.
    Counters,
    /// `GET /v1/events?reason=A,B&rule=R&source=NET&sample=N&packets`: lines without end.
    Events(Ask),
    /// `POST /v1/explain`.
    Explain {
        /// First bytes of a packet, from its link header on.
        packet: Vec<u8>,
        /// Bytes that it has on the wire.
        length: usize,
        /// Interface that it came in on.
        interface: Option<String>,
    },
    /// `POST /v1/reload`.
    Reload,
    /// `POST /v1/policies/apply`; what the config's files hold unless texts are given.
    ApplyPolicies(Option<Policies>),
    /// `POST /v1/policies/rollback`, to a revision or the one before.
    Rollback(Option<u64>),
    /// `GET /v1/requests/{id}`.
    Request(String),
    /// `GET /v1/rules`.
    Rules,
    /// `GET /v1/lists`, and `/v1/lists/{policy/list}` with its edits.
    Lists(Option<String>),
    /// `POST /v1/lists/{policy/list}`.
    EditList(EditedList),
    /// `GET /v1/policies/revisions`.
    Revisions,
    /// `GET /v1/policies/revisions/{n}`, or `current`.
    Revision(Option<u64>),
    /// `GET /v1/openapi.json`.
    OpenApi,
    /// `GET /v1/log`.
    Log,
    /// `POST /v1/log`.
    SetLog {
        /// The filter.
        filter: String,
        /// How long it stands; until it is changed again unless given.
        time: Option<Duration>,
    },
    /// `GET /v1/workers`.
    Workers,
    /// `POST /v1/workers/{n}/stop`.
    StopWorker(u32),
    /// `POST /v1/workers/{n}/start`.
    StartWorker(u32),
}

/// The sources of a load; the log of changes gets their number.
#[derive(Clone, PartialEq, Eq)]
pub struct Sources(pub Vec<String>);

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of them", self.0.len())
    }
}

/// Texts of policies; the log of changes gets their number.
#[derive(Clone, PartialEq, Eq)]
pub struct Policies(pub Texts);

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files, {} lists", self.0.files.len(), self.0.lists.len())
    }
}

/// An edit of a list; the log of changes gets the number of items.
#[derive(Clone, PartialEq, Eq)]
pub struct EditedList {
    /// `policy/list`
    pub list: String,
    /// Items to put in.
    pub add: Vec<String>,
    /// Items to take out.
    pub remove: Vec<String>,
    /// How long it lasts.
    pub ttl: Option<Duration>,
}

impl std::fmt::Debug for EditedList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} in, {} out", self.list, self.add.len(), self.remove.len())
    }
}

/// Most bytes of the body for a path.
pub fn max_body(path: &str) -> usize {
    match path {
        LOAD_PATH => MAX_LOAD_BYTES,
        APPLY_PATH => MAX_APPLY_BYTES,
        _ if path.starts_with("/v1/lists/") => MAX_LOAD_BYTES,
        _ => MAX_BODY_BYTES,
    }
}

/// Why a call is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 4xx or 5xx.
    pub status: StatusCode,
    /// What is wrong.
    pub error: String,
    /// What to do next.
    pub hint: String,
    /// Methods that the path has, where another was used (RFC 9110 section 15.5.6).
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal without `Allow`.
    pub fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into(), allow: None }
    }

    /// A refusal of what was asked.
    pub fn bad(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }
}

impl Call {
    /// Reads one request. `path` is as sent, `body` complete.
    ///
    /// # Errors
    /// 400, 404 or 405 with the reason.
    pub fn parse(method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Result<Self, Refusal> {
        let mut segments = path.strip_prefix("/v1/").unwrap_or_default().split('/');
        let parts = [segments.next(), segments.next(), segments.next(), segments.next()];
        match parts {
            [Some("status"), None, ..] => only(method, "GET", || Ok(Self::Status)),
            [Some("counters"), None, ..] => only(method, "GET", || Ok(Self::Counters)),
            [Some("explain"), None, ..] => only(method, "POST", || explain(body)),
            [Some("events"), None, ..] => only(method, "GET", || events(query)),
            [Some("workers"), None, ..] => only(method, "GET", || Ok(Self::Workers)),
            [Some("reload"), None, ..] => only(method, "POST", || Ok(Self::Reload)),
            [Some("log"), None, ..] => match method.as_str() {
                "GET" => Ok(Self::Log),
                "POST" => set_log(body),
                _ => Err(not_allowed(method, "GET, POST")),
            },
            [Some("openapi.json"), None, ..] => only(method, "GET", || Ok(Self::OpenApi)),
            [Some("rules"), None, ..] => only(method, "GET", || Ok(Self::Rules)),
            [Some("requests"), Some(id), None, _] => only(method, "GET", || request_id(id).map(Self::Request)),
            [Some("lists"), None, ..] => only(method, "GET", || Ok(Self::Lists(None))),
            [Some("lists"), Some(name), None, _] => match method.as_str() {
                "GET" => list_name(name).map(|name| Self::Lists(Some(name))),
                "POST" => edit_list(name, body),
                _ => Err(not_allowed(method, "GET, POST")),
            },
            [Some("policies"), Some("apply"), None, _] => only(method, "POST", || apply(body)),
            [Some("policies"), Some("rollback"), None, _] => only(method, "POST", || rollback(body)),
            [Some("policies"), Some("revisions"), None, _] => only(method, "GET", || Ok(Self::Revisions)),
            [Some("policies"), Some("revisions"), Some(number), None] => {
                only(method, "GET", || revision(number).map(Self::Revision))
            }
            [Some("verdicts"), None, ..] => match method.as_str() {
                "GET" => Ok(Self::Verdicts { limit: limit(query)? }),
                "POST" => add_verdict(body),
                _ => Err(not_allowed(method, "GET, POST")),
            },
            [Some("verdicts"), Some("load"), None, _] => only(method, "POST", || load_verdicts(body)),
            [Some("verdicts"), Some(source), None, _] => {
                only(method, "DELETE", || Ok(Self::RemoveVerdict { source: source_from_segment(source)? }))
            }
            [Some("workers"), Some(number), Some("stop"), None] => {
                only(method, "POST", || worker(number).map(Self::StopWorker))
            }
            [Some("workers"), Some(number), Some("start"), None] => {
                only(method, "POST", || worker(number).map(Self::StartWorker))
            }
            _ => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "no such path in the admin API",
                "paths are /v1/status, /v1/verdicts, /v1/counters, /v1/events, /v1/explain, /v1/lists, /v1/log, /v1/openapi.json, /v1/policies, /v1/reload, /v1/requests, /v1/rules and /v1/workers",
            )),
        }
    }

    /// Whether the call changes something, and so belongs in the audit log.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Status
                | Self::Verdicts { .. }
                | Self::Counters
                | Self::Events(_)
                | Self::Explain { .. }
                | Self::Request(_)
                | Self::Rules
                | Self::Lists(_)
                | Self::Log
                | Self::OpenApi
                | Self::Revisions
                | Self::Revision(_)
                | Self::Workers
        )
    }
}

/// `source` as one path segment.
pub fn encode_segment(source: &str) -> Cow<'_, str> {
    utf8_percent_encode(source, SEGMENT).into()
}

fn only(method: &Method, allow: &'static str, call: impl FnOnce() -> Result<Call, Refusal>) -> Result<Call, Refusal> {
    if method.as_str() == allow { call() } else { Err(not_allowed(method, allow)) }
}

fn not_allowed(method: &Method, allow: &'static str) -> Refusal {
    // An extension method may be long and is the client's text: it is not repeated.
    let named = if method.as_str().len() <= 7 { method.as_str() } else { "this method" };
    let mut refusal =
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{named} is not for this path"), format!("use {allow}"));
    refusal.allow = Some(allow);
    refusal
}

fn limit(query: Option<&str>) -> Result<usize, Refusal> {
    let Some(query) = query.filter(|q| !q.is_empty()) else { return Ok(DEFAULT_LIST_LIMIT) };
    let refusal = || {
        Refusal::bad(
            "the query is not understood",
            format!("use ?limit=N with N from 1 to {MAX_LIST_LIMIT}, or nothing"),
        )
    };
    let number: usize = query.strip_prefix("limit=").and_then(|n| n.parse().ok()).ok_or_else(refusal)?;
    if (1..=MAX_LIST_LIMIT).contains(&number) { Ok(number) } else { Err(refusal()) }
}

fn events(query: Option<&str>) -> Result<Call, Refusal> {
    let hint = "use ?reason=NAME,NAME&rule=POLICY/RULE&source=PREFIX&sample=N&packets, any of them or nothing";
    Ask::parse(query).map(Call::Events).map_err(|error| Refusal::bad(error, hint))
}

fn explain(body: &[u8]) -> Result<Call, Refusal> {
    let hint = r#"send {"packet": "<hex from the Ethernet header on>", "length": <bytes on the wire>, "interface": "eth0"}; all but the packet may be left out"#;
    let question: Question = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not what is expected: {error}"), hint))?;
    let packet = from_hex(&question.packet).map_err(|error| Refusal::bad(format!("the packet: {error}"), hint))?;
    let length = question.length.map_or(packet.len(), |length| length as usize);
    if length < packet.len() {
        return Err(Refusal::bad(format!("{} bytes of a packet of {length}", packet.len()), hint));
    }
    Ok(Call::Explain { packet, length, interface: question.interface })
}

fn request_id(segment: &str) -> Result<String, Refusal> {
    let plain =
        !segment.is_empty() && segment.len() <= MAX_REQUEST_ID && segment.bytes().all(|b| b.is_ascii_hexdigit());
    let hint = "it stands in `x-request-id`, in the access log and in the text of a blocked answer";
    if plain { Ok(segment.to_owned()) } else { Err(Refusal::bad("this is not the id of a request", hint)) }
}

fn list_name(segment: &str) -> Result<String, Refusal> {
    let hint = "write POLICY%2FLIST, one path segment; GET /v1/lists shows them";
    let name =
        percent_decode_str(segment).decode_utf8().map_err(|_| Refusal::bad("the list's name is not UTF-8", hint))?;
    if name.len() > MAX_LIST_NAME || !name.contains('/') {
        return Err(Refusal::bad("this is not the name of a list", hint));
    }
    Ok(name.into_owned())
}

fn edit_list(segment: &str, body: &[u8]) -> Result<Call, Refusal> {
    let list = list_name(segment)?;
    let hint = r#"send {"add": ["192.0.2.1"], "remove": [], "ttl": "2h"}; what is empty may be left out"#;
    let asked: EditList = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not what is expected: {error}"), hint))?;
    let EditList { add, remove, ttl } = asked;
    if add.len() + remove.len() > MAX_LOAD || add.len() + remove.len() == 0 {
        let error = format!("{} items in one request", add.len() + remove.len());
        return Err(Refusal::bad(error, format!("send 1 to {MAX_LOAD} at once")));
    }
    let span = |text: String| match text.parse::<Span>() {
        Ok(span) if !span.0.is_zero() => Ok(span.0),
        Ok(_) => Err(Refusal::bad("a time of zero would end at once", hint)),
        Err(error) => Err(Refusal::bad(error, hint)),
    };
    let ttl = ttl.map(span).transpose()?;
    Ok(Call::EditList(EditedList { list, add, remove, ttl }))
}

fn set_log(body: &[u8]) -> Result<Call, Refusal> {
    let hint = r#"send {"filter": "info,proxy_user::tls=debug", "for": "10m"}; without `for` it stays"#;
    let asked: NewLogFilter = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not what is expected: {error}"), hint))?;
    if asked.filter.len() > MAX_LOG_FILTER {
        return Err(Refusal::bad(format!("the filter is longer than {MAX_LOG_FILTER} bytes"), hint));
    }
    let time = asked.r#for.map(|text| text.parse::<Span>()).transpose().map_err(|error| Refusal::bad(error, hint))?;
    Ok(Call::SetLog { filter: asked.filter, time: time.map(|span| span.0) })
}

fn apply(body: &[u8]) -> Result<Call, Refusal> {
    let asked: Apply = or_nothing(body).map_err(|error| {
        let hint =
            r#"send {"policies": {"files": [["name.json", "<its text>"]], "lists": []}}, or {} for the config's files"#;
        Refusal::bad(format!("the body is not what is expected: {error}"), hint)
    })?;
    Ok(Call::ApplyPolicies(asked.policies.map(Policies)))
}

fn rollback(body: &[u8]) -> Result<Call, Refusal> {
    let asked: Rollback = or_nothing(body).map_err(|error| {
        Refusal::bad(format!("the body is not what is expected: {error}"), r#"send {"revision": 12}, or {}"#)
    })?;
    Ok(Call::Rollback(asked.revision))
}

/// A body in which everything may be left out.
fn or_nothing<T: Default + DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    if body.is_empty() { Ok(T::default()) } else { serde_json::from_slice(body) }
}

fn revision(segment: &str) -> Result<Option<u64>, Refusal> {
    if segment == "current" {
        return Ok(None);
    }
    segment.parse().map(Some).map_err(|_| {
        let error = "the revision is neither a number nor `current`";
        Refusal::bad(error, "GET /v1/policies/revisions lists them")
    })
}

fn add_verdict(body: &[u8]) -> Result<Call, Refusal> {
    let new: NewVerdict = serde_json::from_slice(body).map_err(|e| {
        Refusal::bad(format!("the body is not what is expected: {e}"), r#"send {"source": "192.0.2.1", "ttl": "10m"}"#)
    })?;
    let ttl = ttl(&new.ttl)?;
    Ok(Call::AddVerdict { source: source(&new.source)?, ttl })
}

fn ttl(text: &str) -> Result<Duration, Refusal> {
    let ttl = text.parse::<Span>().map_err(|e| Refusal::bad(e, "the time must be longer than nothing"))?.0;
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(Refusal::bad(
            format!("`{text}` is not a time that a verdict can stand"),
            "give more than nothing and at most 30d; what shall stand longer belongs in a policy",
        ));
    }
    Ok(ttl)
}

fn load_verdicts(body: &[u8]) -> Result<Call, Refusal> {
    let new: NewVerdicts = serde_json::from_slice(body).map_err(|e| {
        let hint = r#"send {"sources": ["192.0.2.1", ...], "ttl": "10m"}"#;
        Refusal::bad(format!("the body is not what is expected: {e}"), hint)
    })?;
    if new.sources.len() > MAX_LOAD {
        let error = format!("{} sources in one request", new.sources.len());
        return Err(Refusal::bad(error, format!("send at most {MAX_LOAD} at once")));
    }
    let checked = new.sources.iter().map(|text| source(text)).collect::<Result<_, _>>()?;
    Ok(Call::LoadVerdicts { sources: Sources(checked), ttl: ttl(&new.ttl)? })
}

fn source_from_segment(segment: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| {
        Refusal::bad("the source in the path is not UTF-8", "percent-encode an address, e.g. 2001%3Adb8%3A%3A1")
    })?;
    source(&decoded)
}

/// Checks that `text` names an address or a prefix.
///
/// # Errors
/// 400, with what is expected.
pub fn source(text: &str) -> Result<String, Refusal> {
    let hint = "give an IPv4 or IPv6 address, or a prefix such as 192.0.2.0/24 or 2001:db8::/64; those of other lengths go into a policy's deny list";
    if text.len() > MAX_SOURCE_BYTES {
        return Err(Refusal::bad(format!("the source is longer than {MAX_SOURCE_BYTES} bytes"), hint));
    }
    let known = text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    if known { Ok(text.to_owned()) } else { Err(Refusal::bad(format!("`{text}` is not a source"), hint)) }
}

fn worker(number: &str) -> Result<u32, Refusal> {
    number.parse().map_err(|_| {
        Refusal::bad("the worker is not a number", "workers are counted from 0; GET /v1/workers lists them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, path: &str, body: &str) -> Result<Call, Refusal> {
        Call::parse(&Method::from_bytes(method.as_bytes()).unwrap(), path, None, body.as_bytes())
    }

    #[test]
    fn every_path_has_its_call() {
        assert_eq!(parse("GET", "/v1/status", ""), Ok(Call::Status));
        assert_eq!(parse("GET", "/v1/verdicts", ""), Ok(Call::Verdicts { limit: DEFAULT_LIST_LIMIT }));
        assert_eq!(parse("GET", "/v1/counters", ""), Ok(Call::Counters));
        assert_eq!(parse("GET", "/v1/workers", ""), Ok(Call::Workers));
        assert_eq!(parse("GET", "/v1/events", ""), Ok(Call::Events(Ask::default())));
        assert_eq!(
            parse("POST", "/v1/explain", r#"{"packet":"0a0b","length":60}"#),
            Ok(Call::Explain { packet: vec![10, 11], length: 60, interface: None })
        );
        assert_eq!(parse("POST", "/v1/reload", ""), Ok(Call::Reload));
        assert_eq!(parse("POST", "/v1/policies/apply", ""), Ok(Call::ApplyPolicies(None)));
        let texts = Texts { files: vec![("p.json".into(), "{}".into())], lists: Vec::new() };
        assert_eq!(
            parse("POST", "/v1/policies/apply", r#"{"policies":{"files":[["p.json","{}"]]}}"#),
            Ok(Call::ApplyPolicies(Some(Policies(texts))))
        );
        assert_eq!(parse("POST", "/v1/policies/rollback", "{}"), Ok(Call::Rollback(None)));
        assert_eq!(parse("POST", "/v1/policies/rollback", r#"{"revision":3}"#), Ok(Call::Rollback(Some(3))));
        assert_eq!(parse("GET", "/v1/rules", ""), Ok(Call::Rules));
        assert_eq!(parse("GET", "/v1/requests/0aF9", ""), Ok(Call::Request("0aF9".into())));
        assert_eq!(parse("GET", "/v1/lists", ""), Ok(Call::Lists(None)));
        assert_eq!(parse("GET", "/v1/lists/edge%2Fbad", ""), Ok(Call::Lists(Some("edge/bad".into()))));
        let edit = EditedList {
            list: "edge/bad".into(),
            add: vec!["192.0.2.1".into()],
            remove: Vec::new(),
            ttl: Some(Duration::from_secs(7_200)),
        };
        let body = r#"{"add":["192.0.2.1"],"ttl":"2h"}"#;
        assert_eq!(parse("POST", &format!("/v1/lists/{}", encode_segment("edge/bad")), body), Ok(Call::EditList(edit)));
        assert_eq!(parse("GET", "/v1/policies/revisions", ""), Ok(Call::Revisions));
        assert_eq!(parse("GET", "/v1/policies/revisions/7", ""), Ok(Call::Revision(Some(7))));
        assert_eq!(parse("GET", "/v1/policies/revisions/current", ""), Ok(Call::Revision(None)));
        assert_eq!(parse("POST", "/v1/workers/3/stop", ""), Ok(Call::StopWorker(3)));
        assert_eq!(parse("POST", "/v1/workers/0/start", ""), Ok(Call::StartWorker(0)));
        assert_eq!(
            parse("POST", "/v1/verdicts", r#"{"source":"192.0.2.1","ttl":"10m"}"#),
            Ok(Call::AddVerdict { source: "192.0.2.1".into(), ttl: Duration::from_secs(600) })
        );
        for source in ["192.0.2.1", "2001:db8::1", "2001:db8::/64"] {
            let path = format!("/v1/verdicts/{}", encode_segment(source));
            assert_eq!(parse("DELETE", &path, ""), Ok(Call::RemoveVerdict { source: source.into() }), "{path}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_status() {
        let rows = [
            ("GET", "/", "", 404),
            ("GET", "/v1/", "", 404),
            ("GET", "/v2/status", "", 404),
            ("GET", "/v1/status/x", "", 404),
            ("POST", "/v1/workers/1/restart", "", 404),
            ("POST", "/v1/workers/1/stop/now", "", 404),
            ("POST", "/v1/status", "", 405),
            ("GET", "/v1/reload", "", 405),
            ("GET", "/v1/policies", "", 404),
            ("GET", "/v1/requests/x-y", "", 400),
            ("GET", "/v1/requests", "", 404),
            ("DELETE", "/v1/lists/a%2Fb", "", 405),
            ("GET", "/v1/lists/a", "", 400),
            ("POST", "/v1/lists/a%2Fb", "{}", 400),
            ("POST", "/v1/lists/a%2Fb", r#"{"add":["x"],"ttl":"0s"}"#, 400),
            ("POST", "/v1/lists/a%2Fb", r#"{"add":["x"],"for":"2h"}"#, 400),
            ("GET", "/v1/policies/apply", "", 405),
            ("POST", "/v1/policies/revisions/1", "", 405),
            ("POST", "/v1/policies/apply", r#"{"policies":[]}"#, 400),
            ("POST", "/v1/policies/apply", r#"{"files":[]}"#, 400),
            ("POST", "/v1/policies/rollback", r#"{"revision":-1}"#, 400),
            ("GET", "/v1/policies/revisions/last", "", 400),
            ("GET", "/v1/explain", "", 405),
            ("POST", "/v1/explain", "{}", 400),
            ("POST", "/v1/explain", r#"{"packet":"0g"}"#, 400),
            ("POST", "/v1/explain", r#"{"packet":"0a0b","length":1}"#, 400),
            ("POST", "/v1/events", "", 405),
            ("PUT", "/v1/verdicts", "", 405),
            ("GET", "/v1/verdicts/192.0.2.1", "", 405),
            ("POST", "/v1/workers/one/stop", "", 400),
            ("POST", "/v1/workers/-1/stop", "", 400),
            ("GET", "/v1/verdicts/load", "", 405),
            ("POST", "/v1/verdicts/load", r#"{"sources":["example.com"],"ttl":"1m"}"#, 400),
            ("POST", "/v1/verdicts/load", r#"{"sources":[],"ttl":"0s"}"#, 400),
            ("DELETE", "/v1/verdicts/", "", 400),
            ("DELETE", "/v1/verdicts/192.0.2.0%2F33", "", 400),
            ("DELETE", "/v1/verdicts/%ff", "", 400),
            ("POST", "/v1/verdicts", "", 400),
            ("POST", "/v1/verdicts", "[]", 400),
            ("POST", "/v1/verdicts", r#"{"source":"192.0.2.1"}"#, 400),
            ("POST", "/v1/verdicts", r#"{"source":"192.0.2.1","ttl":"0s"}"#, 400),
            ("POST", "/v1/verdicts", r#"{"source":"192.0.2.1","ttl":"31d"}"#, 400),
            ("POST", "/v1/verdicts", r#"{"source":"192.0.2.1","ttl":"soon"}"#, 400),
            ("POST", "/v1/verdicts", r#"{"source":"example.com","ttl":"1m"}"#, 400),
            ("POST", "/v1/verdicts", r#"{"source":"192.0.2.1","ttl":"1m","rule":"x"}"#, 400),
        ];
        for (method, path, body, status) in rows {
            let refusal = parse(method, path, body).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{method} {path} {body}: {}", refusal.error);
            assert!(!refusal.error.is_empty() && !refusal.hint.is_empty());
            assert_eq!(refusal.allow.is_some(), status == 405, "{method} {path}");
        }
    }

    #[test]
    fn the_longest_time_is_the_kernel_halfs() {
        assert_eq!(MAX_TTL, Duration::from_secs(30 * 24 * 3600), "the hint of `add_verdict` names it");
        let call = parse("POST", "/v1/verdicts", r#"{"source":"192.0.2.1","ttl":"30d"}"#);
        assert!(matches!(call, Ok(Call::AddVerdict { ttl, .. }) if ttl == MAX_TTL));
    }

    #[test]
    fn the_list_limit_is_bounded() {
        let list = |query| Call::parse(&Method::GET, "/v1/verdicts", Some(query), b"");
        assert_eq!(list("limit=5"), Ok(Call::Verdicts { limit: 5 }));
        for query in ["limit=0", "limit=1048577", "limit=", "limit=x", "page=2"] {
            assert!(list(query).is_err(), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_a_call_or_a_refusal(
            method in "[A-Z]{1,12}",
            path in "(/v1/(status|verdicts|workers|reload|events)?)?[ -~]{0,80}",
            query in proptest::option::of("(limit=)?[ -~]{0,20}"),
            body in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            if let Err(refusal) = Call::parse(&method, &path, query.as_deref(), &body) {
                proptest::prop_assert!((400..500).contains(&refusal.status.as_u16()));
                proptest::prop_assert!(!refusal.hint.is_empty());
            }
        }

        #[test]
        fn every_address_survives_the_path(address: IpAddr) {
            let path = format!("/v1/verdicts/{}", encode_segment(&address.to_string()));
            proptest::prop_assert_eq!(
                Call::parse(&Method::DELETE, &path, None, b""),
                Ok(Call::RemoveVerdict { source: address.to_string() })
            );
        }
    }
}
