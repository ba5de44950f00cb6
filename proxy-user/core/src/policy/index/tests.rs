//! The look-ups against asking every rule: generated rules, generated requests.
//!
//! `TIDEGATE_CASES` says how many requests are asked about in all; without it a short slice is.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::fields::Fields;
use crate::policy::RequestView;
use crate::policy::lang::{Lists, parse};

/// Requests asked about without `TIDEGATE_CASES`.
const CASES: usize = 20_000;
/// Rules of one generated set.
const RULES: usize = 40;
/// Requests for each set.
const REQUESTS: usize = 50;

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "B", "ab", "login", "Login", "admin", "/a", "/login", ".php", "x.y", "%41"])
        .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "http.request.uri.path",
        "http.host",
        "http.user_agent",
        "http.request.uri.query",
        "http.request.headers[\"x\"][0]",
        "http.request.headers[\"x\"]",
        "http.request.uri.args[\"q\"]",
        "http.request.cookies[\"c\"]",
    ]);
    let wrap = prop::sample::select(vec![
        "$",
        "$",
        "$",
        "lower($)",
        "upper($)",
        "url_decode($)",
        "lower(url_decode($))",
        "concat(\"a\", $)",
        "substring($, 1)",
    ]);
    (field, wrap).prop_map(|(field, wrap)| wrap.replace('$', field))
}

fn leaf() -> impl Strategy<Value = String> {
    let order = prop::sample::select(vec!["eq", "ne", "contains", "lt", "ge", "wildcard", "strict wildcard"]);
    let number = prop::sample::select(vec!["eq", "ne", "lt", "gt", "&"]);
    let regex = prop::sample::select(vec![
        "^/?log[i]n",
        "(?i)ADMIN",
        "a|b",
        "(x|y)+",
        "[0-9]",
        "\\\\.php$",
        "(?i)log(in|out)",
        "a.*b",
    ]);
    prop_oneof![
        4 => (value(), order, word()).prop_map(|(value, op, word)| format!("{value} {op} \"{word}\"")),
        1 => (value(), word(), word()).prop_map(|(value, a, b)| format!("{value} in {{\"{a}\" \"{b}\"}}")),
        1 => (value(), word()).prop_map(|(value, word)| format!("starts_with({value}, \"{word}\")")),
        1 => (value(), word()).prop_map(|(value, word)| format!("ends_with({value}, \"{word}\")")),
        1 => (value(), regex).prop_map(|(value, regex)| format!("{value} matches \"{regex}\"")),
        1 => (number.clone(), 1_u8..9).prop_map(|(op, n)| format!("len(http.request.uri.path) {op} {n}")),
        1 => (number, 1_u8..3).prop_map(|(op, n)| format!("len(http.request.headers[\"x\"]) {op} {n}")),
        2 => (0_u8..4, 0_u8..3).prop_map(|(low, more)| format!("ip.src in {{10.0.0.{low}..10.0.0.{}}}", low + more)),
        1 => (0_u8..4).prop_map(|n| format!("ip.src ne 10.0.0.{n}")),
        1 => word().prop_map(|word| format!("any(http.request.headers[\"x\"][*] eq \"{word}\")")),
        1 => word().prop_map(|word| format!("all(http.request.headers[\"x\"][*] contains \"{word}\")")),
        1 => Just("ssl".to_owned()),
        1 => Just("true".to_owned()),
        1 => Just("false".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    leaf().prop_recursive(3, 8, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|a| format!("not ({a})")),
            pair.clone().prop_map(|(a, b)| format!("({a} and {b})")),
            pair.clone().prop_map(|(a, b)| format!("({a} or {b})")),
            pair.prop_map(|(a, b)| format!("({a} xor {b})")),
        ]
    })
}

#[derive(Debug)]
struct Request {
    src: u8,
    host: String,
    path: String,
    query: Option<String>,
    headers: Fields,
    ssl: bool,
}

fn request() -> impl Strategy<Value = Request> {
    let text = || (word(), word()).prop_map(|(a, b)| a + &b);
    let headers = prop::collection::vec((prop::sample::select(vec!["x", "user-agent", "cookie"]), text()), 0..4);
    let query = prop::option::of((word(), text()).prop_map(|(a, b)| format!("q={b}&{a}")));
    (0_u8..6, text(), text(), query, headers, any::<bool>()).prop_map(|(src, host, path, query, values, ssl)| {
        let mut headers = Fields::new();
        for (name, value) in values {
            let value = if name == "cookie" { format!("c={value}") } else { value };
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(&value).expect("a value"));
        }
        Request { src, host: host.to_lowercase(), path, query, headers, ssl }
    })
}

impl Request {
    fn view(&self) -> RequestView<'_> {
        RequestView {
            src: std::net::Ipv4Addr::new(10, 0, 0, self.src).into(),
            scheme: if self.ssl { "https" } else { "http" },
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            ..RequestView::example(&self.headers)
        }
    }
}

#[test]
fn no_rule_that_holds_is_left_out() {
    let cases = std::env::var("TIDEGATE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::deterministic();
    let (mut asked, mut left_out, mut all) = (0, 0_usize, 0_usize);
    let (conditions, requests) =
        (prop::collection::vec(condition(), RULES), prop::collection::vec(request(), REQUESTS));
    while asked < cases {
        let texts = conditions.new_tree(&mut runner).expect("a value").current();
        let parsed: Vec<(Expr, Expr)> = texts
            .iter()
            .map(|text| {
                let parse = || parse(text, &Lists::new(), None).unwrap_or_else(|e| panic!("{}", e.render(text)));
                (parse(), parse().cheapest_first())
            })
            .collect();
        let index = Index::new(&parsed.iter().map(|(_, ordered)| (ordered, None)).collect::<Vec<_>>());
        for request in requests.new_tree(&mut runner).expect("a value").current() {
            let view = request.view();
            let candidates = index.candidates(&view);
            for (rule, (plain, ordered)) in parsed.iter().enumerate() {
                let candidate = candidates[rule / 64] >> (rule % 64) & 1 != 0;
                let holds = plain.holds(&view);
                assert_eq!(holds, candidate && ordered.holds(&view), "{} for {request:?}", texts[rule]);
                left_out += usize::from(!candidate);
                all += usize::from(!holds);
            }
            asked += 1;
        }
    }
    assert!(left_out * 2 > all, "the look-ups leave out {left_out} of {all} rules that do not hold");
}

fn all_set(words: &[u64]) -> Vec<usize> {
    let mut from = 0;
    std::iter::from_fn(|| {
        let place = next_set(words, from)?;
        from = place + 1;
        Some(place)
    })
    .collect()
}

#[test]
fn candidates_come_in_order() {
    let mut words = [0b1001, 0, u64::MAX, 1 << 63];
    let found = all_set(&words);
    assert_eq!(found.len(), 67);
    assert!(found.is_sorted() && found.starts_with(&[0, 3, 128]) && found.ends_with(&[191, 255]));
    clear(&mut words, 3);
    assert_eq!((all_set(&words).len(), next_set(&words, 1), next_set(&words, 256)), (66, Some(128), None));
}

#[test]
fn rules_are_found_by_what_they_need() {
    let texts: Vec<String> = (0..100)
        .map(|n| match n % 4 {
            0 => format!("http.request.method eq \"GET\" and http.request.uri.path eq \"/page-{n}\""),
            1 => format!("http.user_agent contains \"bot-{n}\" or ip.src in {{192.0.2.{n}}}"),
            2 => format!("http.request.uri.path matches r\"^/v[0-9]+/thing-{n}$\""),
            _ => format!("not ssl and lower(url_decode(http.request.uri.path)) contains \"secret-{n}\""),
        })
        .collect();
    let parsed: Vec<Expr> = texts.iter().map(|text| parse(text, &Lists::new(), None).expect("a condition")).collect();
    let index = Index::new(&parsed.iter().map(|expr| (expr, None)).collect::<Vec<_>>());
    assert!(index.always.iter().all(|word| *word == 0));
    let request = Request {
        query: None,
        src: 1,
        host: "a".to_owned(),
        path: "/v1/thing-2%30".to_owned(),
        headers: Fields::new(),
        ssl: true,
    };
    assert_eq!(all_set(&index.candidates(&request.view())), [2]);
}
