//! Rules on responses and on how connections fare, before a real origin.

use serde_json::json;

use crate::edge::Edge;
use crate::policies::with_rules;

#[test]
fn responses_are_replaced_and_changed() {
    let (_origin, edge) = with_rules(
        "answers",
        &json!([
            { "id": "gone", "when": "http.response.code eq 200 and http.request.uri.query eq \"leak\" and http.user_agent eq \"spy\"",
              "action": { "type": "block", "status": 410, "body": "nothing here\n" } },
            { "id": "cut", "when": "http.response.code eq 200 and http.request.uri.query eq \"cut\"", "action": { "type": "reset" } },
            { "id": "mark", "when": "http.response.code lt 400",
              "action": { "type": "set_header", "header": "x-length", "value_expression": "http.response.headers[\"content-length\"][0]" } },
        ]),
    );
    let plain = edge.get("/hello");
    let length = plain.field("content-length").map(str::to_owned);
    assert!(plain.status == 200 && plain.field("x-length").map(str::to_owned) == length, "{plain:?}");
    assert_eq!(edge.get("/hello?leak").status, 200, "without the header that the rule looks at");
    let mut client = edge.connect();
    let mut leak = |path: &str| {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: first.test\r\nUser-Agent: spy\r\n\r\n")).reply("GET")
    };
    let gone = leak("/hello?leak");
    assert_eq!((gone.status, gone.body.as_str()), (410, "nothing here\n"));
    assert_eq!(leak("/hello").status, 200, "the connection goes on");
    let http2 = edge.curl(&["--http2", "-A", "spy", "-o", "-", "-w", "%{http_code}"], "/hello?leak");
    assert_eq!(http2, "nothing here\n410");
    let mut cut = edge.connect();
    assert_eq!(cut.get("/hello?cut").status, 0, "no answer");
    let log = edge.access_log(6);
    let mut rules: Vec<&str> = log.iter().filter_map(|line| line["rule"].as_str()).collect();
    rules.sort_unstable();
    assert_eq!(rules, ["p/cut", "p/gone", "p/gone"], "{log:#?}");
    let id = gone.field("x-request-id").expect("an id");
    let (status, told) = edge.ask(&["explain", "--id", id]);
    assert!(status == 0 && told.contains("block 410 by p/gone, in place of the response"), "{told}");
}

#[test]
fn connections_are_judged_by_how_they_fare() {
    let (_origin, edge) = with_rules(
        "links",
        &json!([
            { "id": "many", "when": "tidegate.connection.requests gt 2", "action": { "type": "block", "status": 429 } },
            { "id": "known", "when": "tidegate.connection.rtt_msec ge 0 and tidegate.connection.bytes_in gt 0 and tidegate.connection.bytes_out ge 0 and tidegate.connection.duration_msec ge 0",
              "action": { "type": "set_header", "header": "x-known", "value": "yes", "on": "response" } },
        ]),
    );
    let asks = |edge: &Edge| {
        let mut client = edge.connect();
        [(); 3].map(|()| {
            let reply = client.get("/hello");
            (reply.status, reply.field("x-known").is_some())
        })
    };
    assert_eq!(asks(&edge), [(200, true), (200, true), (429, false)]);
    assert_eq!(asks(&edge)[0], (200, true), "each connection by itself");
}
