//! What policies do to requests on their way: redirects, changes, own answers, counting by the response.

use serde_json::{Value, json};

use crate::edge::Edge;
use crate::origin::Origin;

/// A daemon with these rules before an origin that answers with what it saw.
pub fn with_rules(name: &str, rules: &Value) -> (Origin, Edge) {
    let origin = Origin::start("a");
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": rules });
    let file = std::env::temp_dir().join(format!("tidegate-policy-{}-{name}.json", std::process::id()));
    std::fs::write(&file, policy.to_string()).unwrap();
    let edge = Edge::start(origin.address, |config| config["policies"] = json!([file]));
    std::fs::remove_file(file).unwrap();
    (origin, edge)
}

#[test]
fn redirects_changes_and_own_answers() {
    let (_origin, edge) = with_rules(
        "changes",
        &json!([
            { "id": "moved", "when": "http.request.uri.path eq \"/go\"", "action": {
                "type": "redirect", "status": 308, "keep_query": true,
                "to_expression": "concat(\"https://new.test/\", http.request.uri.args[\"x\"][0])" } },
            { "id": "closed", "when": "http.request.uri.path eq \"/closed\"", "action": {
                "type": "block", "status": 410, "content_type": "application/json", "body": "{\"gone\": true}" } },
            { "id": "old", "when": "starts_with(http.request.uri.path, \"/old/\")", "action": {
                "type": "rewrite", "path_expression": "regex_replace(http.request.uri.path, \"^/old\", \"/see\")" } },
            { "id": "add", "when": "true", "action": {
                "type": "set_header", "header": "x-path", "value_expression": "upper(http.request.uri.path)" } },
            { "id": "take", "when": "true", "action": { "type": "remove_header", "header": "x-secret" } },
            { "id": "say", "when": "true", "action": {
                "type": "set_header", "on": "response", "header": "x-edge", "value": "yes" } },
        ]),
    );
    let mut client = edge.connect();
    let moved = client.get("/go?x=a%20b");
    assert_eq!((moved.status, moved.field("location")), (308, Some("https://new.test/a%20b?x=a%20b")));
    let closed = client.get("/closed");
    assert_eq!((closed.status, closed.body.as_str()), (410, "{\"gone\": true}"));
    assert_eq!(closed.field("content-type"), Some("application/json"));
    let seen = client.send("GET /old/x?y=1 HTTP/1.1\r\nHost: a\r\nX-Secret: 1\r\nX-Path: mine\r\n\r\n").reply("GET");
    assert!(seen.body.starts_with("GET /see/x?y=1 HTTP/1.1"), "{}", seen.body);
    let head = seen.body.to_ascii_lowercase();
    assert!(head.contains("x-path: /old/x") && !head.contains("mine") && !head.contains("x-secret"), "{head}");
    assert_eq!(seen.field("x-edge"), Some("yes"));
    let log = edge.access_log(3);
    assert_eq!((&log[0]["action"], &log[0]["rule"]), (&json!("redirect"), &json!("p/moved")));
    assert_eq!(log[2]["matched"], json!(["p/old", "p/add", "p/take", "p/say"]));
}

#[test]
fn rates_that_count_by_the_response() {
    let (_origin, edge) = with_rules(
        "responses",
        &json!([{
            "id": "empty", "when": "starts_with(http.request.uri.path, \"/n\")", "action": { "type": "block", "status": 429 },
            "rate": { "limit": 2, "period": "1d", "count_when": "http.response.code eq 204" },
        }]),
    );
    let mut client = edge.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/name").status, 200, "what answers 200 is not counted");
    }
    assert_eq!([client.get("/no-content").status, client.get("/no-content").status], [204, 204]);
    assert_eq!(client.get("/name").status, 429);
    assert_eq!(client.get("/other").status, 200);
}
