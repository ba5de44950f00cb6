//! Clients that show certificates: whose are taken, who is told, and that no other connection will do.

use bytes::Buf as _;
use serde_json::json;

use super::authority::{Authority, Pair};
use super::{ask, client, get, put};
use crate::edge::Edge;
use crate::http3;
use crate::origin::Origin;

/// A daemon that asks clients of `staff.first.test`, and may ask those of `any.first.test`.
fn staffed(authority: &Authority, change: impl FnOnce(&mut serde_json::Value)) -> (Origin, Edge) {
    let origin = Origin::start("a");
    let ca = std::env::temp_dir().join(format!("tidegate-ca-{}-{:p}.pem", std::process::id(), authority));
    std::fs::write(&ca, &authority.own.cert).unwrap();
    let mut edge = Edge::start(origin.address, |config| {
        let auth = |mode: &str| json!({ "ca": ca, "mode": mode, "forward": true });
        config["tls"] = json!({ "hosts": [
            { "names": ["staff.first.test"], "client_auth": auth("required") },
            { "names": ["any.first.test"], "client_auth": auth("optional") },
        ] });
        change(config);
    });
    put(&edge, "ca.pem", &authority.own.cert);
    std::fs::remove_file(ca).unwrap();
    edge.reload(|config| {
        for host in [0, 1] {
            config["tls"]["hosts"][host]["client_auth"]["ca"] = json!("ca.pem");
        }
    });
    edge.wait_log("reloaded", 1);
    (origin, edge)
}

fn status(answer: &std::io::Result<super::Answer>) -> Option<&str> {
    answer.as_ref().ok().and_then(|answer| answer.text.split(' ').nth(1))
}

#[test]
fn clients_are_known_to_rules_and_origins_and_nobody_else_can_say_so() {
    let authority = Authority::new("staff");
    let robot = authority.client("robot", 0xbeef);
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": [
        { "id": "robots", "when": "tls.client.cert.subject_dn contains \"CN=robot\" and http.request.uri.path eq \"/no\"",
            "action": { "type": "block" } },
        { "id": "known", "when": "tls.client.cert.verified", "action": {
            "type": "set_header", "on": "response", "header": "x-serial", "value_expression": "tls.client.cert.serial" } },
    ] });
    let file = std::env::temp_dir().join(format!("tidegate-staff-{}.json", std::process::id()));
    std::fs::write(&file, policy.to_string()).unwrap();
    let (_origin, edge) = staffed(&authority, |config| config["policies"] = json!([file]));
    std::fs::remove_file(file).unwrap();

    let (with, without) = (client(&edge, Some(&robot)), client(&edge, None));
    let answer = get(&edge, &with, "staff.first.test");
    let text = answer.text.to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200") && text.contains("\r\nx-serial: beef\r\n"), "{text}");
    assert!(text.contains("\nx-client-cert-subject: cn=robot,o=acme\\, inc\n"), "{text}");
    assert!(text.contains("\nx-client-cert-serial: beef\n") && text.contains("\nclient-cert: :mii"), "{text}");
    // Resumed, it still is who it was.
    let again = get(&edge, &with, "staff.first.test");
    assert_eq!(again.kind, Some(rustls::HandshakeKind::Resumed));
    assert!(again.text.contains("x-serial: beef"), "{}", again.text);

    assert!(status(&ask(&edge, &without, "staff.first.test", "staff.first.test", "")).is_none());
    let open = ask(&edge, &without, "first.test", "staff.first.test", "");
    assert_eq!(status(&open), Some("421"), "a connection that nobody was asked on");
    assert_eq!(status(&ask(&edge, &with, "staff.first.test", "first.test", "")), Some("421"));
    let stranger = Authority::new("staff").client("robot", 1);
    for name in ["staff.first.test", "any.first.test"] {
        assert!(status(&ask(&edge, &client(&edge, Some(&stranger)), name, name, "")).is_none(), "{name}");
    }
    // Without one where it may be left out: no field says otherwise.
    let spoofed = "Client-Cert: :x:\r\nClient_Cert: :x:\r\nX-Client-Cert-Subject: CN=robot\r\nClient-Cert-Chain: :x:\r\n\
                   X_Client_Cert_Subject: CN=robot\r\n";
    let answer = ask(&edge, &without, "any.first.test", "any.first.test", spoofed).unwrap().text.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    for field in ["client-cert", "client_cert", "cn=robot", "x-serial"] {
        assert!(!answer.contains(field), "{field}: {answer}");
    }
    let mut clear = edge.connect();
    let seen = clear.send(&format!("GET /see HTTP/1.1\r\nHost: a\r\n{spoofed}\r\n")).reply("GET").body;
    assert!(!seen.to_ascii_lowercase().contains("cn=robot"), "{seen}");
    // Nor can a client have the fields removed, or its certificate not be looked at.
    let answer = ask(&edge, &with, "any.first.test", "any.first.test", "Connection: X-Client-Cert-Subject\r\n");
    assert!(answer.unwrap().text.to_ascii_lowercase().contains("x-client-cert-subject: cn=robot"));
}

#[test]
fn sessions_of_clients_that_were_not_asked_end_when_they_are() {
    let authority = Authority::new("staff");
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    put(&edge, "ca.pem", &authority.own.cert);
    let without = client(&edge, None);
    assert!(get(&edge, &without, "first.test").text.starts_with("HTTP/1.1 200"));
    assert_eq!(get(&edge, &without, "first.test").kind, Some(rustls::HandshakeKind::Resumed));
    edge.reload(|config| config["tls"] = json!({ "client_auth": { "ca": "ca.pem" } }));
    edge.wait_log("reloaded", 1);
    assert!(status(&ask(&edge, &without, "first.test", "first.test", "")).is_none(), "its ticket is of before");
    let robot = authority.client("robot", 7);
    let with = client(&edge, Some(&robot));
    assert!(get(&edge, &with, "first.test").text.starts_with("HTTP/1.1 200"));
    // Taken back: neither a new session nor the old one.
    put(&edge, "crl.pem", authority.revoke(7));
    edge.reload(|config| config["tls"]["client_auth"]["crl"] = json!("crl.pem"));
    edge.wait_log("reloaded", 2);
    assert!(status(&ask(&edge, &with, "first.test", "first.test", "")).is_none());
    assert!(status(&ask(&edge, &client(&edge, Some(&robot)), "first.test", "first.test", "")).is_none());
    let other = authority.client("other", 8);
    assert_eq!(status(&ask(&edge, &client(&edge, Some(&other)), "first.test", "first.test", "")), Some("200"));
}

#[tokio::test]
async fn quic_clients_too() {
    let authority = Authority::new("staff");
    let robot: Pair = authority.client("robot", 0xbeef);
    let (_origin, edge) = staffed(&authority, |_| {});
    let (mut sender, _driver) = http3::connect_with(&edge, "staff.first.test", Some(&robot)).await.unwrap();
    let ask = |host: &str| http::Request::get(format!("https://{host}/see")).body(()).unwrap();
    let read = async |sender: &mut http3::Sender, host: &str| {
        let mut stream = sender.send_request(ask(host)).await.unwrap();
        stream.finish().await.unwrap();
        let status = stream.recv_response().await.unwrap().status().as_u16();
        let mut body = Vec::new();
        while let Some(mut piece) = stream.recv_data().await.unwrap() {
            body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        (status, String::from_utf8(body).unwrap())
    };
    let (status, seen) = read(&mut sender, "staff.first.test").await;
    assert_eq!(status, 200);
    assert!(seen.contains("x-client-cert-subject: CN=robot,O=Acme\\, Inc"), "{seen}");
    assert_eq!(read(&mut sender, "first.test").await.0, 421);

    let (mut open, _driver) = http3::connect_as(&edge, "first.test").await.unwrap();
    assert_eq!(read(&mut open, "first.test").await.0, 200);
    assert_eq!(read(&mut open, "staff.first.test").await.0, 421);
    // A client knows its handshake done before the server has seen its certificate: the refusal comes with the first answer.
    if let Ok((mut sender, _driver)) = http3::connect_as(&edge, "staff.first.test").await {
        let refused = match sender.send_request(ask("staff.first.test")).await {
            Ok(mut stream) => stream.recv_response().await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
}

#[test]
fn origins_are_shown_a_certificate_and_sessions_are_resumed() {
    let authority = Authority::new("edge");
    let origin = Origin::start("behind");
    let mut inner = Edge::start(origin.address, |_| {});
    put(&inner, "ca.pem", &authority.own.cert);
    inner.reload(|config| config["tls"] = json!({ "client_auth": { "ca": "ca.pem", "forward": true } }));
    inner.wait_log("reloaded", 1);
    let ours = authority.client("outer", 5);
    let stranger = Authority::new("edge").client("outer", 5);
    let trusted = inner.directory().join("cert.pem");
    for (name, pair) in [("ours", &ours), ("stranger", &stranger)] {
        put(&inner, &format!("{name}.pem"), &pair.cert);
        put(&inner, &format!("{name}.key"), &pair.key);
    }
    let file = |name: &str| inner.directory().join(name);
    let outer = Edge::start(inner.https, |config| {
        let server = format!("https://{}", inner.https);
        let with = |name: &str| json!({ "cert": file(&format!("{name}.pem")), "key": file(&format!("{name}.key")) });
        let mut blind = with("ours");
        blind["verify"] = json!("off");
        blind["min_version"] = json!("1.3");
        let upstream = |tls| json!({ "servers": [server], "ca": trusted, "server_name": "first.test", "tls": tls });
        config["upstreams"] = json!({
            // A new connection for each request.
            "ours": upstream(with("ours")), "stranger": upstream(with("stranger")), "nobody": upstream(json!({})),
            "blind": { "servers": [server], "server_name": "other.test", "tls": blind },
            "checked": { "servers": [server], "server_name": "other.test", "ca": trusted, "tls": with("ours") },
        });
        for name in ["ours", "stranger", "nobody", "blind", "checked"] {
            config["upstreams"][name]["keepalive"] = json!(0);
        }
        config["routes"] = ["ours", "stranger", "nobody", "blind", "checked"]
            .map(|name| json!({ "path": format!("/{name}"), "upstream": name }))
            .into();
        config["workers"] = json!(1);
    });
    let mut client = outer.connect();
    for _ in 0..3 {
        let seen = client.get("/ours").body;
        assert!(seen.contains("x-client-cert-subject: CN=outer,O=Acme\\, Inc"), "{seen}");
    }
    inner.wait_log("\"resumed\":true", 1);
    assert_eq!(client.get("/blind").status, 200);
    for path in ["/checked", "/stranger", "/nobody"] {
        assert!(client.get(path).status >= 502, "{path}");
    }
}
