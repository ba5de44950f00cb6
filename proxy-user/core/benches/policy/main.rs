//! What asking the request rules costs: nanoseconds of CPU a request, by the number of rules. `cargo xtask bench policy`.
//!
//! The rules are a mixture of what people write; the request is a browser's and matches none of them, or one. Of Tidegate
//! each figure is the shortest of many short rounds, which other programs on the machine disturb least. nginx and `HAProxy`
//! stand beside it where they are installed, with the same rules and the same request.

mod peers;
mod rules;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::{Method, Version};
use peers::Peer;
use proxy_core::fields::Fields;
use proxy_core::policy::{self, Action, BodyView, ConnectionView, Options, PolicySet, RequestView};
use rules::{HOST, QUERY};

/// Numbers of rules.
const RULES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Requests of one round: shorter than a slice of the scheduler.
const ROUND: u32 = 200;
/// Time for one figure.
const TIME: Duration = Duration::from_millis(500);
/// The target: nanoseconds that a thousand rules may take for a request that matches none.
const TARGET: f64 = 5_000.0;
/// The target: how many times what ten rules cost ten thousand may.
const GROWTH: f64 = 10.0;

fn main() -> ExitCode {
    let (headers, innocent) = (rules::headers(), rules::innocent(3_041));
    let installed: Vec<_> = Peer::ALL.into_iter().filter_map(|peer| Some((peer, peer.program()?))).collect();
    print!("{:<16}{:>18}{:>18}", "ns of CPU", "tidegate, none", "tidegate, last");
    for (peer, _) in &installed {
        print!("{:>18}", format!("{}, none", peer.name()));
    }
    println!();
    let mut none = Vec::new();
    for rules in RULES {
        let set = set(rules);
        let miss = request(&headers, &innocent);
        assert_eq!(set.evaluate(&miss, 0).action, Action::Pass);
        let path = rules::guilty(rules);
        let hit = request(&headers, &path);
        assert!(matches!(set.evaluate(&hit, 0).action, Action::Block { .. }));
        let (miss, hit) = (measure(&set, &miss), measure(&set, &hit));
        print!("{:<16}{miss:>18.0}{hit:>18.0}", format!("{rules} rules"));
        for (peer, program) in &installed {
            print!("{:>18.0}", peer.measure(program, rules));
        }
        println!();
        none.push((rules, miss));
    }
    let at = |wanted: usize| none.iter().find(|(rules, _)| *rules == wanted).map_or(f64::NAN, |(_, miss)| *miss);
    let ok = at(1_000) < TARGET && at(10_000) < GROWTH * at(10);
    println!(
        "targets: 1,000 rules under {TARGET} ns; 10,000 under {GROWTH} times ten: {}",
        if ok { "met" } else { "missed" }
    );
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
    let policy = rules::policy(rules);
    let options = Options::new("2026-11-22T00:00:00Z".parse().expect("a time"));
    policy::compile(&[("bench.json", policy.to_string())], &options).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn request<'a>(headers: &'a Fields, path: &'a str) -> RequestView<'a> {
    RequestView {
        src: "203.0.113.9".parse().expect("an address"),
        dst: "192.0.2.1:443".parse().expect("an address"),
        listener: "https",
        scheme: "https",
        version: Version::HTTP_2,
        method: &Method::GET,
        host: HOST,
        path,
        query: Some(QUERY),
        headers,
        body_size: Some(0),
        wall_ms: 0,
        connection: ConnectionView::default(),
        body: BodyView::default(),
    }
}
