//! The compiled engine against a naive interpreter: generated policies are written as text, compiled with everything that
//! compiling does (types, order by cost, shared look-ups), and asked about generated requests; the interpreter below knows
//! nothing of them but what the words mean.
//!
//! `TIDEGATE_CASES` says how many requests are asked about in all, without it a short slice is; `TIDEGATE_SEED` which ones.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use super::{Action, BodyView, ConnectionView, Options, Phase, RequestView, RuleSlot, compile};
use crate::fields::Fields;
use crate::hello::ClientHello;

/// Requests asked about without `TIDEGATE_CASES`.
const CASES: usize = 10_000;
/// Rules of one policy: enough for look-ups.
const RULES: usize = 24;
/// Requests for each policy.
const REQUESTS: usize = 200;

/// A string value; each function has one argument that is a value.
#[derive(Clone, Debug)]
enum Term {
    Path,
    Host,
    Agent,
    /// All values of a header.
    Many,
    /// The beginning of the body.
    Body,
    /// Server name of the ClientHello.
    Sni,
    /// Its protocols.
    Alpn,
    /// One of them.
    Nth(usize),
    Lower(Box<Term>),
    Upper(Box<Term>),
    Before(&'static str, Box<Term>),
    From(usize, Box<Term>),
    Without(char, Box<Term>),
}

#[derive(Clone, Debug)]
enum Rule {
    Compare(Term, &'static str, &'static str),
    Among(Term, [&'static str; 2]),
    Affix(&'static str, Term, &'static str),
    /// `any` or `all`, over each value.
    Each(&'static str, Term, &'static str, &'static str),
    Length(Term, &'static str, usize),
    Source(u8, u8),
    Not(Box<Rule>),
    And(Box<Rule>, Box<Rule>),
    Or(Box<Rule>, Box<Rule>),
    Xor(Box<Rule>, Box<Rule>),
}

#[derive(Clone, Debug)]
struct World {
    src: u8,
    path: String,
    host: String,
    agent: Option<String>,
    many: Vec<String>,
    sni: Option<String>,
    alpn: Vec<String>,
    body: Option<String>,
}

impl Term {
    fn text(&self, each: bool) -> String {
        match self {
            Self::Path => "http.request.uri.path".to_owned(),
            Self::Host => "http.host".to_owned(),
            Self::Agent => "http.user_agent".to_owned(),
            Self::Sni => "tls.client.sni".to_owned(),
            Self::Body => "http.request.body.raw".to_owned(),
            Self::Alpn if each => "tls.client.alpn[*]".to_owned(),
            Self::Alpn => "tls.client.alpn".to_owned(),
            Self::Many if each => "http.request.headers[\"x\"][*]".to_owned(),
            Self::Many => "http.request.headers[\"x\"]".to_owned(),
            Self::Nth(n) => format!("http.request.headers[\"x\"][{n}]"),
            Self::Lower(of) => format!("lower({})", of.text(each)),
            Self::Upper(of) => format!("upper({})", of.text(each)),
            Self::Before(text, of) => format!("concat(\"{text}\", {})", of.text(each)),
            Self::From(at, of) => format!("substring({}, {at})", of.text(each)),
            Self::Without(c, of) => format!("remove_bytes({}, \"{c}\")", of.text(each)),
        }
    }

    fn has_many(&self) -> bool {
        match self {
            Self::Many | Self::Alpn => true,
            Self::Path | Self::Host | Self::Agent | Self::Sni | Self::Body | Self::Nth(_) => false,
            Self::Lower(of) | Self::Upper(of) | Self::Before(_, of) | Self::From(_, of) | Self::Without(_, of) => {
                of.has_many()
            }
        }
    }

    fn values(&self, world: &World) -> Vec<String> {
        let each = |of: &Self, change: &dyn Fn(String) -> String| of.values(world).into_iter().map(change).collect();
        match self {
            Self::Path => vec![world.path.clone()],
            Self::Host => Some(world.host.clone()).filter(|host| !host.is_empty()).into_iter().collect(),
            Self::Agent => world.agent.clone().into_iter().collect(),
            Self::Many => world.many.clone(),
            Self::Sni => world.sni.clone().into_iter().collect(),
            Self::Alpn => world.alpn.clone(),
            Self::Body => world.body.clone().into_iter().collect(),
            Self::Nth(n) => world.many.get(*n).cloned().into_iter().collect(),
            Self::Lower(of) => each(of, &|value| value.to_lowercase()),
            Self::Upper(of) => each(of, &|value| value.to_uppercase()),
            Self::Before(text, of) => each(of, &|value| (*text).to_owned() + &value),
            Self::From(at, of) => each(of, &|value| value.chars().skip(*at).collect()),
            Self::Without(c, of) => each(of, &|value| value.replace(*c, "")),
        }
    }
}

fn compare(value: &str, operator: &str, literal: &str) -> bool {
    match operator {
        "eq" => value == literal,
        "ne" => value != literal,
        "lt" => value < literal,
        "ge" => value >= literal,
        "contains" => value.contains(literal),
        "wildcard" => glob(&value.to_lowercase(), &literal.to_lowercase()),
        _ => glob(value, literal),
    }
}

fn glob(text: &str, pattern: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|at| glob(&text[at..], &pattern[1..])),
        Some(c) => text.starts_with(c) && glob(&text[1..], &pattern[1..]),
    }
}

impl Rule {
    fn text(&self) -> String {
        match self {
            Self::Compare(term, operator, literal) => format!("{} {operator} \"{literal}\"", term.text(false)),
            Self::Among(term, [a, b]) => format!("{} in {{\"{a}\" \"{b}\"}}", term.text(false)),
            Self::Affix(name, term, literal) => format!("{name}({}, \"{literal}\")", term.text(false)),
            Self::Each(name, term, operator, literal) => {
                format!("{name}({} {operator} \"{literal}\")", term.text(true))
            }
            Self::Length(term, operator, n) => format!("len({}) {operator} {n}", term.text(false)),
            Self::Source(low, high) => format!("ip.src in {{10.0.0.{low}..10.0.0.{high}}}"),
            Self::Not(a) => format!("not ({})", a.text()),
            Self::And(a, b) => format!("({}) and ({})", a.text(), b.text()),
            Self::Or(a, b) => format!("({}) or ({})", a.text(), b.text()),
            Self::Xor(a, b) => format!("({}) xor ({})", a.text(), b.text()),
        }
    }

    fn holds(&self, world: &World) -> bool {
        let any = |term: &Term, test: &dyn Fn(&str) -> bool| term.values(world).iter().any(|value| test(value));
        match self {
            Self::Compare(term, operator, literal) => any(term, &|value| compare(value, operator, literal)),
            Self::Among(term, items) => any(term, &|value| items.contains(&value)),
            Self::Affix("starts_with", term, literal) => any(term, &|value| value.starts_with(literal)),
            Self::Affix(_, term, literal) => any(term, &|value| value.ends_with(literal)),
            Self::Each("any", term, operator, literal) => any(term, &|value| compare(value, operator, literal)),
            Self::Each(_, term, operator, literal) => {
                let values = term.values(world);
                !values.is_empty() && values.iter().all(|value| compare(value, operator, literal))
            }
            Self::Length(term, operator, n) => {
                let lengths: Vec<usize> = if term.has_many() {
                    vec![term.values(world).len()]
                } else {
                    term.values(world).iter().map(String::len).collect()
                };
                lengths.iter().any(|length| match *operator {
                    "eq" => length == n,
                    "ne" => length != n,
                    "lt" => length < n,
                    _ => length & n != 0,
                })
            }
            Self::Source(low, high) => (*low..=*high).contains(&world.src),
            Self::Not(a) => !a.holds(world),
            Self::And(a, b) => a.holds(world) && b.holds(world),
            Self::Or(a, b) => a.holds(world) || b.holds(world),
            Self::Xor(a, b) => a.holds(world) != b.holds(world),
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "A", "ab", "/a", "aB", "Admin", "min", "b"])
}

fn term() -> impl Strategy<Value = Term> {
    let leaf = prop_oneof![
        Just(Term::Path),
        Just(Term::Host),
        Just(Term::Agent),
        Just(Term::Many),
        Just(Term::Sni),
        Just(Term::Alpn),
        Just(Term::Body),
        (0_usize..3).prop_map(Term::Nth)
    ];
    leaf.prop_recursive(2, 3, 1, |inner| {
        let boxed = inner.prop_map(Box::new).boxed();
        prop_oneof![
            boxed.clone().prop_map(Term::Lower),
            boxed.clone().prop_map(Term::Upper),
            (word(), boxed.clone()).prop_map(|(text, of)| Term::Before(text, of)),
            (0_usize..4, boxed.clone()).prop_map(|(at, of)| Term::From(at, of)),
            (prop::sample::select(vec!['a', 'B', '/']), boxed).prop_map(|(c, of)| Term::Without(c, of)),
        ]
    })
}

/// Around the values of the header, whichever functions.
fn each_term() -> impl Strategy<Value = Term> {
    prop_oneof![
        Just(Term::Many),
        Just(Term::Alpn),
        Just(Term::Lower(Box::new(Term::Many))),
        word().prop_map(|text| Term::Before(text, Box::new(Term::Many))),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let operator = || prop::sample::select(vec!["eq", "ne", "lt", "ge", "contains"]);
    let glob = prop::sample::select(vec!["*", "a*", "*b", "*m*", "/*a", "a*b*"]);
    let leaf = prop_oneof![
        4 => (term(), operator(), word()).prop_map(|(term, op, word)| Rule::Compare(term, op, word)),
        2 => (term(), prop::sample::select(vec!["wildcard", "strict wildcard"]), glob)
            .prop_map(|(term, op, glob)| Rule::Compare(term, op, glob)),
        2 => (term(), word(), word()).prop_map(|(term, a, b)| Rule::Among(term, [a, b])),
        2 => (prop::sample::select(vec!["starts_with", "ends_with"]), term(), word())
            .prop_map(|(name, term, word)| Rule::Affix(name, term, word)),
        2 => (prop::sample::select(vec!["any", "all"]), each_term(), operator(), word())
            .prop_map(|(name, term, op, word)| Rule::Each(name, term, op, word)),
        2 => (term(), prop::sample::select(vec!["eq", "ne", "lt", "&"]), 1_usize..6)
            .prop_map(|(term, op, n)| Rule::Length(term, op, n)),
        1 => (0_u8..4, 0_u8..3).prop_map(|(low, more)| Rule::Source(low, low + more)),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let boxed = inner.prop_map(Box::new).boxed();
        let pair = (boxed.clone(), boxed.clone());
        prop_oneof![
            1 => boxed.prop_map(Rule::Not),
            2 => pair.clone().prop_map(|(a, b)| Rule::And(a, b)),
            1 => pair.clone().prop_map(|(a, b)| Rule::Or(a, b)),
            1 => pair.prop_map(|(a, b)| Rule::Xor(a, b)),
        ]
    })
}

fn world() -> impl Strategy<Value = World> {
    let text = || (word(), word()).prop_map(|(a, b)| a.to_owned() + b);
    let many = || prop::collection::vec(text(), 0..3);
    (
        0_u8..6,
        text(),
        text(),
        prop::option::of(text()),
        many(),
        prop::option::of(text()),
        many(),
        prop::option::of(text()),
    )
        .prop_map(|(src, path, host, agent, many, sni, alpn, body)| World {
            src,
            path,
            host: host.to_lowercase(),
            agent,
            many,
            sni,
            alpn,
            body,
        })
}

/// The same cases each time, or those that `TIDEGATE_SEED` names.
fn runner() -> TestRunner {
    let Some(seed) = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) else {
        return TestRunner::deterministic();
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(ProptestConfig::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn compiled_policies_do_what_the_words_mean() {
    let cases = std::env::var("TIDEGATE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let options = Options::new("2026-11-22T00:00:00Z".parse().expect("a time"));
    let mut runner = runner();
    let (rules, worlds) = (prop::collection::vec(rule(), RULES), prop::collection::vec(world(), REQUESTS));
    let mut asked = 0;
    while asked < cases {
        let rules = rules.new_tree(&mut runner).expect("a value").current();
        // All but the last only count, so that each request asks every rule.
        let written = rules.iter().enumerate().map(|(n, rule)| {
            let action = if n + 1 == RULES { "block" } else { "log" };
            json!({ "id": format!("r{n}"), "when": rule.text(), "action": { "type": action } })
        });
        let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": written.collect::<Vec<_>>() });
        let set = compile(&[("p.json", policy.to_string())], &options).unwrap_or_else(|faults| panic!("{faults:#?}"));
        for world in worlds.new_tree(&mut runner).expect("a value").current() {
            let mut headers = Fields::new();
            let values = world.many.iter().map(|value| ("x", value));
            for (name, value) in values.chain(world.agent.iter().map(|agent| ("user-agent", agent))) {
                headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
            }
            let hello = ClientHello {
                sni: world.sni.as_ref().map(|name| name.as_bytes().into()),
                alpn: world.alpn.iter().map(|name| name.as_bytes().into()).collect(),
                ..ClientHello::default()
            };
            let request = RequestView {
                src: std::net::Ipv4Addr::new(10, 0, 0, world.src).into(),
                host: &world.host,
                path: &world.path,
                connection: ConnectionView { hello: Some(&hello), ..ConnectionView::default() },
                body: BodyView { bytes: world.body.as_ref().map(String::as_bytes), truncated: false },
                ..RequestView::example(&headers)
            };
            // What is decided at the handshake is what the same rule says there.
            let early = set.rules()[RULES - 1].phase == Phase::ClientHello && rules[RULES - 1].holds(&world);
            let refused = Action::Block { rule: RuleSlot(RULES as u32), status: 403 };
            assert_eq!(set.evaluate_hello(&request, Some(1)).action, if early { refused } else { Action::Pass });
            let mut decision = set.evaluate(&request, 1);
            let ended = decision.action != Action::Pass;
            if !ended {
                set.evaluate_body(&request, 1, &mut decision);
            }
            for ((rule, slot), info) in rules.iter().zip(1..).zip(set.rules()) {
                // What is blocked by its header has no body.
                if ended && info.phase == Phase::RequestBody {
                    continue;
                }
                let matched = match decision.action {
                    Action::Block { rule, .. } if rule == RuleSlot(slot) => true,
                    _ => decision.logged.contains(&RuleSlot(slot)),
                };
                assert_eq!(matched, rule.holds(&world), "{} for {world:?}", rule.text());
            }
            asked += 1;
        }
    }
}
