//! Policies on request bodies: what they see, and that the origin gets all of it.

use serde_json::json;

use crate::policies::with_rules;

#[test]
fn bodies_are_looked_at_and_forwarded_whole() {
    let (_origin, edge) = with_rules(
        "bodies",
        &json!([
            { "id": "sql", "when": "lower(http.request.body.raw) contains \"union select\"", "action": { "type": "block" } },
            { "id": "more", "when": "http.request.body.truncated", "action": {
                "type": "set_header", "on": "response", "header": "x-more", "value": "yes" } },
            { "id": "free", "when": "http.request.uri.path eq \"/see/free\"", "action": { "type": "allow" } },
        ]),
    );
    let mut client = edge.connect();
    let mut post = |path: &str, body: &str| {
        let length = body.len();
        client.send(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")).reply("POST")
    };
    let small = post("/see", "id=1");
    assert_eq!((small.status, small.field("x-more")), (200, None), "{small:?}");
    assert!(small.body.contains("--body--\nid=1\n"), "{}", small.body);
    assert_eq!(post("/see", "id=1 UNION SELECT 2").status, 403);
    assert_eq!(post("/see/free", "id=1 UNION SELECT 2").status, 200);
    let long = "x".repeat(200 << 10);
    let found = post("/see", &long);
    assert_eq!((found.status, found.field("x-more")), (200, Some("yes")));
    assert!(found.body.contains(&format!("--body--\n{long}\n")), "{} bytes", found.body.len());
    // In pieces, without a length.
    client.send("POST /see HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nunion\r\n");
    assert_eq!(client.send("7\r\n select\r\n0\r\n\r\n").reply("POST").status, 403);
    let mut client = edge.connect();
    client.send("POST /see HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let whole = client.send("3\r\ndef\r\n0\r\n\r\n").reply("POST");
    assert_eq!(whole.status, 200);
    assert!(whole.body.contains("--body--\nabcdef\n"), "{}", whole.body);
    assert_eq!(client.get("/see").status, 200, "a request without a body");
    // What breaks off while it is looked at is no whole body to the origin.
    let broken = edge
        .connect()
        .send("POST /see HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno\r\n")
        .reply("POST");
    assert!(broken.status >= 400, "{broken:?}");
}
