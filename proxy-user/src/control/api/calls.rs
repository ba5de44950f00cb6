//! Which call a method and a path are, and what they say in the query.

use http::{Method, StatusCode};

use super::bodies::{
    add_verdict, apply, edit_list, explain, list_name, load_verdicts, request_id, revision, rollback, set_log,
    source_from_segment, worker,
};
use super::{Call, DEFAULT_LIST_LIMIT, MAX_LIST_LIMIT, Refusal};
use crate::events::ask::Ask;

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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use proxy_core::store::Texts;

    use super::*;
    use crate::control::api::{EditedList, Policies, encode_segment};
    use crate::kernel::MAX_TTL;

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
