//! Rules on countries and networks.

use std::sync::Arc;

use super::*;
use crate::geo::{Databases, Place};

#[test]
fn countries_and_networks() {
    let rules = json!([
        rule("de", "ip.src.country in {\"DE\" \"AT\"} and not ip.src.asnum eq 64500", "block", &json!({})),
        rule("eu", "ip.geoip.continent eq \"EU\"", "log", &json!({})),
    ]);
    let tests = json!([
        { "given": { "ip.src": "192.0.2.1", "ip.src.country": "DE" }, "expect": "block" },
        { "given": { "ip.src": "192.0.2.1", "ip.src.country": "DE", "ip.src.asnum": 64500 }, "expect": "pass" },
        { "given": { "ip.src": "192.0.2.1", "ip.src.continent": "EU" }, "expect": "log" },
        { "given": { "ip.src": "192.0.2.1" }, "expect": "pass" },
    ]);
    let files = [policy("p", &json!({ "rules": rules, "tests": tests }))];
    let set = compile(&files, &options()).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert!(set.places().is_none());
    let place = Place { country: Some("AT".to_owned()), ..Place::default() };
    let hello = crate::hello::ClientHello::default();
    let request = RequestView {
        connection: ConnectionView { places: Some(&place), ..ConnectionView::default() },
        ..RequestView::of_hello(
            "192.0.2.1".parse().expect("address"),
            "192.0.2.2:443".parse().expect("address"),
            "web",
            false,
            &hello,
        )
    };
    assert_eq!(blocked(&set.evaluate(&request, 1)), Some((1, 403)));
    // A daemon says which files there are.
    let none = Arc::new(Databases::default());
    let found = compile(&files, &Options { places: Some(&none), ..options() }).err().unwrap_or_default();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        found
            .iter()
            .any(|fault| fault.contains("/rules/1/when: no such file is configured: set `geo.country` in the config")),
        "{found:#?}"
    );
}
