use serde::Deserialize;
use serde_json::json;

use super::*;

/// Wants requests of the routes that give it a number.
struct Numbered;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    number: u8,
}

impl Stage for Numbered {
    fn name(&self) -> &'static str {
        "numbered"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), Fault> {
        let Some(Settings { number }) = site.settings()? else { return Ok(()) };
        if number == 0 {
            return Err(site.fault("zero is no number"));
        }
        hooks.entry(|_| Flow::Continue);
        hooks.request(|_| Flow::Continue);
        hooks.log(|_, _| {});
        Ok(())
    }
}

fn compiled(stages: &serde_json::Value, route: &serde_json::Value) -> Result<Compiled, Vec<Fault>> {
    let config = json!({
        "listeners": [], "upstreams": {"a": {"servers": ["http://127.0.0.1:1"]}}, "stages": stages,
        "routes": [{"upstream": "a", "stages": route}, {"path": "/b", "upstream": "a"}],
        "access_log": {"enabled": false},
    });
    let config = serde_json::from_value(config).unwrap();
    let list = Stages::standard().after("policy", Numbered).unwrap();
    Compiled::new(&list, &config, Path::new(""), &PolicySet::default())
}

#[test]
fn a_route_calls_only_what_its_stages_asked_for() {
    let plain = compiled(&json!({}), &json!({})).unwrap();
    let with = compiled(&json!({}), &json!({"numbered": {"number": 1}})).unwrap();
    let everywhere = compiled(&json!({"numbered": {"number": 1}}), &json!({})).unwrap();
    let counts = |compiled: &Compiled| {
        let of = |route| {
            let hooks = compiled.of(route);
            (hooks.request.len(), hooks.upstream_request.len(), hooks.response.len(), hooks.log.len())
        };
        (compiled.entry_parts().0.len(), of(Some(0)), of(Some(1)), of(None))
    };
    // Without policies and access log: validate and route at the entry, header fields, counters.
    assert_eq!(counts(&plain), (2, (0, 1, 1, 1), (0, 1, 1, 1), (0, 1, 1, 1)));
    assert_eq!(counts(&with), (2, (1, 1, 1, 2), (0, 1, 1, 1), (0, 1, 1, 1)));
    assert_eq!(counts(&everywhere), (3, (1, 1, 1, 2), (1, 1, 1, 2), (1, 1, 1, 2)));
    let hooks = plain.of(Some(0));
    assert!(hooks.request_body.is_empty() && hooks.response_body.is_empty() && hooks.upstream_response.is_empty());
}

#[test]
fn settings_that_no_stage_can_use_are_told_with_their_place() {
    let faults = |stages, route| compiled(&stages, &route).unwrap_err();
    let of = |at: &str, what: &str| vec![(at.to_owned(), what.to_owned())];
    assert_eq!(
        faults(json!({}), json!({"numbered": {"number": 300}})),
        of("/routes/0/stages/numbered/number", "invalid value: integer `300`, expected u8")
    );
    assert_eq!(
        faults(json!({}), json!({"numbered": {"number": 0}})),
        of("/routes/0/stages/numbered", "zero is no number")
    );
    assert_eq!(faults(json!({"numbered": {"number": 0}}), json!({})), of("/stages/numbered", "zero is no number"));
    assert_eq!(
        faults(json!({}), json!({"numbred": {}})),
        of("/routes/0/stages/numbred", "there is no stage `numbred`; did you mean `numbered`?")
    );
    assert_eq!(
        faults(json!({"validate": {}}), json!({})),
        of("/stages/validate", "the stage `validate` takes no settings here")
    );
}

#[test]
fn a_stage_stands_where_it_is_put() {
    let list = Stages::standard().after("policy", Numbered).unwrap();
    let names: Vec<_> = list.iter().map(Stage::name).collect();
    assert_eq!(
        names,
        [
            "trace",
            "validate",
            "acme",
            "tls",
            "policy",
            "numbered",
            "route",
            "files",
            "headers",
            "client_cert",
            "mirror",
            "access_log",
            "counters"
        ]
    );
    assert!(Stages::standard().after("polcy", Numbered).is_err());
}
