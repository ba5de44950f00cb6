//! ClientHellos of real clients, as they come over a socket.

use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use proxy_core::hello::{ClientHello, Found, MAX_STREAM_BYTES, from_stream};

use serde_json::json;

use crate::edge::PATIENCE;
use crate::http3::{connect_as, get};
use crate::policies::with_rules;

/// What a client sends first; it is told nothing, and ends when its connection is closed.
fn sent_by(program: &str, arguments: impl Fn(u16) -> Vec<String>) -> ClientHello {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = Command::new(program)
        .args(arguments(port))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let hello = loop {
        let mut piece = [0; 256];
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "{program} left");
        bytes.extend_from_slice(&piece[..count]);
        match from_stream(&bytes) {
            Found::More => assert!(bytes.len() < MAX_STREAM_BYTES),
            Found::Hello(hello) => break *hello,
            other => panic!("{program}: {other:?}"),
        }
    };
    drop(stream);
    client.wait().unwrap();
    hello
}

#[test]
fn openssl_with_the_suites_it_is_told() {
    let hello = sent_by("openssl", |port| {
        let line = format!(
            "s_client -connect 127.0.0.1:{port} -servername Shop.Test -alpn h2,http/1.1 -tls1_2 \
             -cipher ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384 -sigalgs RSA+SHA256:ECDSA+SHA384 -curves X25519"
        );
        line.split_whitespace().map(str::to_owned).collect()
    });
    assert_eq!(hello.sni.as_deref(), Some(&b"shop.test"[..]));
    assert_eq!(hello.alpn, [(*b"h2").into(), Box::from(*b"http/1.1")]);
    assert_eq!(hello.versions, [0x0303]);
    // The last one says that renegotiation is safe (RFC 5746 section 3.3).
    assert_eq!(hello.ciphers, [0xc02f, 0xc030, 0x00ff]);
    assert_eq!((hello.signature_algorithms, hello.groups), (vec![0x0401, 0x0503], vec![0x001d]));
    let (count, found) = (hello.extensions.len(), &hello.ja4);
    assert!(found.starts_with(&format!("t12d03{count:02}h2_")), "{found}");
}

#[test]
fn curl_says_the_same_each_time() {
    let curl = || {
        sent_by("curl", |port| {
            let (url, resolve) = (format!("https://a.test:{port}/"), format!("a.test:{port}:127.0.0.1"));
            ["-sk", "--max-time", "15", "--resolve", &resolve, &url].map(str::to_owned).to_vec()
        })
    };
    let (one, other) = (curl(), curl());
    assert_eq!(one.ja4, other.ja4);
    assert_eq!(one.sni.as_deref(), Some(&b"a.test"[..]));
    assert!(one.versions.contains(&0x0304) && one.alpn.contains(&Box::from(*b"h2")), "{one:?}");
    assert!(one.ja4.starts_with("t13d") && one.ja4.get(8..10) == Some("h2"), "{}", one.ja4);
}

#[test]
fn handshakes_are_refused_by_name_and_fingerprint() {
    let ja4 = sent_by("curl", |port| {
        let (url, resolve) = (format!("https://first.test:{port}/"), format!("first.test:{port}:127.0.0.1"));
        ["-sk", "--max-time", "15", "--http1.1", "--resolve", &resolve, &url].map(str::to_owned).to_vec()
    })
    .ja4;
    let (_origin, edge) = with_rules(
        "hello",
        &json!([
            { "id": "name", "when": "tls.client.sni eq \"bad.test\"", "action": { "type": "block" } },
            { "id": "print", "when": format!("tls.client.ja4 eq \"{ja4}\""), "action": { "type": "block" } },
            { "id": "told", "when": "tls.client.alpn[0] eq \"http/1.1\"", "action": { "type": "block", "status": 451 } },
            { "id": "tell", "when": "true", "action": {
                "type": "set_header", "on": "response", "header": "x-ja4", "value_expression": "tls.client.ja4" } },
        ]),
    );
    let port = edge.https.port();
    let curl = |arguments: &[&str], host: &str| {
        let resolve = format!("{host}:{port}:127.0.0.1");
        let url = format!("https://{host}:{port}/see");
        let output = Command::new("curl")
            .args(["-sSki", "--max-time", "15", "--resolve", &resolve])
            .args(arguments)
            .arg(&url)
            .output()
            .unwrap();
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let [answer, error] = curl(&["--http2"], "first.test");
    assert!(answer.starts_with("HTTP/2 200") && answer.contains("\r\nx-ja4: t13d"), "{answer}{error}");
    for (arguments, host) in [(&["--http2"], "bad.test"), (&["--http1.1"], "first.test")] {
        let [answer, error] = curl(arguments, host);
        assert!(answer.is_empty() && error.contains("access denied"), "{host}: {answer}{error}");
    }
    // With TLS 1.2 its fingerprint is another one, and the rule that has a status answers.
    let [answer, error] = curl(&["--http1.1", "--tls-max", "1.2"], "first.test");
    assert!(answer.starts_with("HTTP/1.1 451"), "{answer}{error}");
    let log = edge.access_log(4);
    assert_eq!(log.iter().filter(|line| line["version"] == "tls").count(), 2, "{log:#?}");
    // Lines of two workers come in any order.
    let refused = |rule: &str| log.iter().find(|line| line["version"] == "tls" && line["rule"] == rule).unwrap();
    assert_eq!(refused("p/name")["host"], "bad.test");
    assert_eq!(refused("p/print")["ja4"], json!(ja4));
}

#[tokio::test]
async fn quic_handshakes_too() {
    let (_origin, edge) = with_rules(
        "hello-quic",
        &json!([
            { "id": "name", "when": "tls.client.sni eq \"bad.first.test\" and udp.dstport gt 0", "action": { "type": "block" } },
            { "id": "tell", "when": "true", "action": {
                "type": "set_header", "on": "response", "header": "x-ja4", "value_expression": "tls.client.ja4" } },
        ]),
    );
    let (mut sender, _driver) = connect_as(&edge, "good.first.test").await.unwrap();
    let (head, _, _) = get(&mut sender, "/see").await;
    let ja4 = head.headers()["x-ja4"].to_str().unwrap();
    assert!(ja4.starts_with("q13d") && ja4.get(8..10) == Some("h3"), "{ja4}");
    let refused = connect_as(&edge, "bad.first.test").await.err();
    assert!(matches!(refused, Some(quinn::ConnectionError::ConnectionClosed(_))), "{refused:?}");
    let log = edge.access_log(2);
    let line = log.iter().find(|line| line["version"] == "tls").unwrap();
    assert_eq!((&line["rule"], &line["host"]), (&json!("p/name"), &json!("bad.first.test")));
}
