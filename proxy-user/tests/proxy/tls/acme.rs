//! Certificates from an ACME server: asked for, shown, renewed.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::acme_server::{AcmeServer, Looks};
use super::openssl;
use crate::edge::{Edge, wait_for};
use crate::origin::Origin;

/// A daemon with a certificate of its own that asks for another one.
fn asking(server: &AcmeServer, challenge: &str, change: impl FnOnce(&mut Value)) -> (Origin, Edge) {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["acme"] = json!({
            "directory": server.directory(), "ca": server.ca, "agree_to_terms": true, "challenge": challenge,
            "contact": ["mailto:admin@first.test"],
            "certificates": [{ "names": ["Shop.test", "www.shop.test"] }],
        });
        let address = |listener: usize| config["listeners"][listener]["address"].as_str().unwrap().parse().unwrap();
        server.looks_at(Looks { http: address(0), tls: address(1) });
        change(config);
    });
    (origin, edge)
}

/// Waits until so many certificates were issued, and the last one is shown for `name`.
fn shows(edge: &Edge, server: &AcmeServer, name: &str, count: usize) {
    wait_for("the certificate", || {
        let said = openssl(edge, &["-servername", name]);
        let found = said.lines().find(|line| line.starts_with("issuer=")).unwrap_or_default();
        let shown = found.contains(&format!("small authority {count}"));
        if shown && server.issued() == count { Ok(()) } else { Err(format!("{found} {:?}", server.faults())) }
    });
    assert_eq!(server.faults(), Vec::<String>::new());
}

/// Where nobody answers.
fn nowhere() -> Looks {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Looks { http: address, tls: address }
}

#[test]
fn by_a_page_over_http() {
    let server = AcmeServer::start();
    let (_origin, mut edge) = asking(&server, "http-01", |config| {
        config["routes"] = json!([{ "redirect": { "to": "https://{host}{path}" } }]);
    });
    // The first one is soon to be renewed.
    shows(&edge, &server, "www.shop.test", 2);
    assert!(!openssl(&edge, &["-servername", "first.test"]).contains("authority"), "its own stays");
    for entry in std::fs::read_dir(edge.directory().join("state/acme")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let page = edge.get("/.well-known/acme-challenge/token-0-0");
    assert_eq!(page.status, 302, "nothing is shown when no order stands open");
    // Account and certificate are kept: nobody asks again, but for what is new.
    edge.restart();
    shows(&edge, &server, "shop.test", 2);
    edge.reload(|config| {
        config["acme"]["certificates"] = json!([{ "names": ["shop.test"] }, { "names": ["new.test"] }]);
    });
    shows(&edge, &server, "new.test", 3);
    assert_eq!(server.accounts(), 1);
    // What is there stays where no better one comes.
    server.looks_at(nowhere());
    edge.reload(|config| config["acme"]["certificates"] = json!([{ "names": ["shop.test", "more.test"] }]));
    edge.wait_log("the server could not see the challenge", 1);
    assert!(openssl(&edge, &["-servername", "shop.test"]).contains("issuer=CN = small authority 2"));
}

#[test]
fn by_a_handshake_whatever_else_is_asked_of_clients() {
    let server = AcmeServer::start();
    let (_origin, edge) = asking(&server, "tls-alpn-01", |config| {
        config["tls"] = json!({ "strict_sni": "refuse", "client_auth": { "ca": "cert.pem" } });
    });
    shows(&edge, &server, "shop.test", 2);
    let said = openssl(&edge, &["-servername", "shop.test", "-alpn", "acme-tls/1"]);
    assert!(said.contains("no peer certificate available"), "{said}");
}

#[test]
fn a_server_that_sees_no_challenge_gives_nothing() {
    let server = AcmeServer::start();
    let (_origin, edge) = asking(&server, "http-01", |_| {
        server.looks_at(nowhere());
    });
    edge.wait_log("the server could not see the challenge", 1);
    assert_eq!((edge.get("/name").status, server.issued()), (200, 0));
}
