//! Challenges: who passes, and who does not.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::fields::Fields;
use crate::hello::ClientHello;

const TERMS: Terms = Terms { status: 403, difficulty: 8, pass_for: Duration::from_secs(600) };
const NOW: u64 = 1_795_305_600_000;

fn signer() -> Signer {
    Signer::new(ChallengeKey::of_seed([3, 7]), 64)
}

/// The cookie of a page, after the work.
fn solve(page: &ChallengePage) -> String {
    let data = |name: &str| {
        let (_, rest) = page.html.split_once(&format!("data-{name}=\"")).expect("it is there");
        rest.split('"').next().expect("its value").to_owned()
    };
    let (token, difficulty) = (data("token"), data("difficulty").parse::<u32>().expect("a number"));
    let answers = (0..u64::MAX).map(|n| format!("{token}.{n}"));
    let mut done = answers.filter(|answer| zero_bits(answer) >= difficulty);
    format!("{}={}", data("cookie"), done.next().expect("an answer"))
}

fn passes(signer: &Signer, policy: &str, terms: Terms, source: &str, cookie: &str, wall_ms: u64) -> bool {
    let (source, to) = (source.parse().expect("address"), "192.0.2.1:443".parse().expect("address"));
    let hello = ClientHello::default();
    let headers = Fields::from_iter([(header::COOKIE, HeaderValue::from_str(cookie).expect("a value"))]);
    let request = RequestView { wall_ms, headers: &headers, ..RequestView::of_hello(source, to, "web", false, &hello) };
    signer.passes(policy, terms, &request)
}

#[test]
fn the_work_is_good_for_one_policy_one_source_and_a_time() {
    let source = "198.51.100.7";
    let page = signer().page("login", TERMS, TERMS.pass_for, source.parse().expect("address"), true, NOW);
    assert!(page.html.contains("; samesite=lax; max-age=600; secure") && !page.html.contains("{{"));
    let pass = solve(&page);
    let check = |policy, terms, source, cookie: &str, later: u64| {
        passes(&signer(), policy, terms, source, cookie, NOW + later * 1_000)
    };
    assert!(check("login", TERMS, source, &format!("a=b; {pass}"), 0));
    assert!(check("login", TERMS, source, &pass, 599));
    assert!(!check("login", TERMS, source, &pass, 600), "its time is over");
    assert!(!check("login", TERMS, "198.51.100.8", &pass, 0), "another source");
    assert!(!check("other", TERMS, source, &pass.replace("_login", "_other"), 0), "another policy");
    assert!(!check("login", Terms { difficulty: 9, ..TERMS }, source, &pass, 0), "more work is wanted by now");
    let shorter = Terms { pass_for: Duration::from_secs(60), ..TERMS };
    assert!(check("login", shorter, source, &pass, 59), "a rule that takes it for less time");
    assert!(!check("login", shorter, source, &pass, 60), "and no longer");
    assert!(!passes(&signer(), "login", TERMS, source, &pass, NOW - 1_000), "before it was made");
    let (name, value) = pass.split_once('=').expect("a cookie");
    assert!(check("login", TERMS, source, &format!("{name}=1; {name}={value}"), 0), "behind another");
    assert!(!check("login", TERMS, source, &format!("{name}=1; {name}=2; {name}={value}"), 0), "behind too many");
    assert!(!check("login", TERMS, source, &format!("{name}={}.{value}", "1".repeat(80)), 0), "too long");
    assert!(
        !passes(&Signer::new(ChallengeKey::of_seed([3, 8]), 64), "login", TERMS, source, &pass, NOW),
        "another key"
    );
    let (front, _) = pass.rsplit_once('.').expect("an answer");
    let none = (0..10_000)
        .map(|n| format!("{front}.{n}"))
        .find(|cookie| cookie.split_once('=').is_some_and(|(_, value)| zero_bits(value) < 8));
    assert!(!check("login", TERMS, source, &none.expect("most are"), 0), "no work");
    let v6 = signer().page("login", TERMS, TERMS.pass_for, "2001:db8::1".parse().expect("address"), false, NOW);
    assert!(!v6.html.contains("; secure\""));
    assert!(check("login", TERMS, "2001:db8::2", &solve(&v6), 0), "the same /64");
    assert!(!check("login", TERMS, "2001:db8:0:1::1", &solve(&v6), 0), "another");
}

proptest! {
    #[test]
    fn no_other_cookie_passes(value in "[0-9a-f.]{0,80}", source in any::<u32>()) {
        let source = IpAddr::from(source.to_be_bytes()).to_string();
        let cookie = format!("tidegate_pass_p={value}");
        let terms = Terms { difficulty: 1, ..TERMS };
        prop_assert!(!passes(&signer(), "p", terms, &source, &cookie, NOW));
    }
}
