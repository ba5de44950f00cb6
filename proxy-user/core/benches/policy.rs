//! What asking the request rules costs: nanoseconds a request, by the number of rules. `cargo xtask bench policy`.
//!
//! The rules are a mixture of what people write; the request is a browser's and matches none of them, or one. Each figure
//! is the shortest of many short rounds, which other programs on the machine disturb least.

use std::hint::black_box;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use proxy_core::policy::{self, Action, BodyView, ConnectionView, Options, PolicySet, RequestView};
use serde_json::{Value, json};

/// Numbers of rules; the last is as many as there are slots for.
const RULES: [usize; 4] = [10, 100, 1_000, 4_000];
/// Requests of one round: shorter than a slice of the scheduler.
const ROUND: u32 = 200;
/// Time for one figure.
const TIME: Duration = Duration::from_millis(500);

fn main() {
    let headers = headers();
    println!("nanoseconds a request        {:>10} {:>10}", "no match", "last rule");
    for rules in RULES {
        let set = set(rules);
        let miss = request(&headers, "/shop/products/blue-teapot-3041");
        assert_eq!(set.evaluate(&miss, 0).action, Action::Pass);
        let path = format!("/admin-{}/users", rules - 1);
        let hit = request(&headers, &path);
        assert!(matches!(set.evaluate(&hit, 0).action, Action::Block { .. }));
        println!("{rules:>6} rules                 {:>10.0} {:>10.0}", measure(&set, &miss), measure(&set, &hit));
    }
}

/// Nanoseconds of one evaluation.
fn measure(set: &PolicySet, request: &RequestView<'_>) -> f64 {
    let mut least = f64::INFINITY;
    let started = Instant::now();
    while started.elapsed() < TIME {
        let round = Instant::now();
        for _ in 0..ROUND {
            black_box(set.evaluate(black_box(request), 0));
        }
        least = least.min(round.elapsed().as_secs_f64() * 1e9 / f64::from(ROUND));
    }
    least
}

fn set(rules: usize) -> PolicySet {
    let rules: Vec<Value> = (0..rules)
        .map(|n| json!({ "id": format!("r{n}"), "when": condition(n), "action": { "type": "block" } }))
        .collect();
    let lists = json!({ "office": { "type": "cidr", "items": ["198.51.100.0/24", "2001:db8::/32"] } });
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "bench", "lists": lists, "rules": rules });
    let options = Options::new("2026-11-22T00:00:00Z".parse().expect("a time"));
    policy::compile(&[("bench.json", policy.to_string())], &options).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// Ten kinds in turn; every tenth is on the path below `/admin-`.
fn condition(n: usize) -> String {
    let (a, b) = (n / 256 % 256, n % 256);
    match n % 10 {
        0 => format!("http.request.uri.path eq \"/wp-content/plugin-{n}.php\""),
        1 => format!("lower(url_decode(http.request.uri.path)) contains \"../etc/{n}\""),
        2 => format!("lower(http.user_agent) contains \"scanner-{n}\""),
        3 => format!("ip.src in {{10.{a}.{b}.0/24 172.16.{a}.{b}}} and http.request.method ne \"OPTIONS\""),
        4 => format!("http.request.uri.path matches r\"^/api/v[0-9]+/internal-{n}(/|$)\""),
        5 => format!("http.host eq \"shop-{n}.example\" and http.request.method in {{\"POST\" \"PUT\"}}"),
        6 => format!(
            "http.request.uri.args[\"cmd\"] contains \"exec-{n}\" or http.request.uri.query contains \"eval({n})\""
        ),
        7 => {
            format!("ends_with(http.request.uri.path, \".bak{n}\") or http.request.uri.path wildcard \"/*/dump-{n}*\"")
        }
        8 => {
            format!("http.request.cookies[\"session\"] eq \"stolen-{n}\" or http.referer contains \"spam-{n}.example\"")
        }
        _ => format!("not ip.src in $office and starts_with(http.request.uri.path, \"/admin-{n}/\")"),
    }
}

fn headers() -> HeaderMap {
    let lines = [
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
        ),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://www.shop.example/products?page=3"),
        ("cookie", "session=6f1c2a9be4d04a0f8d1e; theme=dark; consent=1"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-site", "same-origin"),
        ("upgrade-insecure-requests", "1"),
    ];
    lines.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn request<'a>(headers: &'a HeaderMap, path: &'a str) -> RequestView<'a> {
    RequestView {
        src: "203.0.113.9".parse().expect("an address"),
        dst: "192.0.2.1:443".parse().expect("an address"),
        listener: "https",
        scheme: "https",
        version: Version::HTTP_2,
        method: &Method::GET,
        host: "www.shop.example",
        path,
        query: Some("colour=blue&sort=price&page=2"),
        headers,
        body_size: Some(0),
        wall_ms: 0,
        connection: ConnectionView::default(),
        body: BodyView::default(),
    }
}
