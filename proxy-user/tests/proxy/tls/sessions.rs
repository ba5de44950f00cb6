//! Sessions that clients come back with: over restarts, and to other machines.

use std::os::unix::fs::PermissionsExt as _;

use rustls::HandshakeKind;
use serde_json::json;

use super::{client, get, openssl, put};
use crate::edge::Edge;
use crate::origin::Origin;

#[test]
fn tickets_outlive_the_daemon() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let config = client(&edge, None);
    assert_eq!(get(&edge, &config, "first.test").kind, Some(HandshakeKind::Full));
    assert_eq!(get(&edge, &config, "first.test").kind, Some(HandshakeKind::Resumed));
    let keys = edge.directory().join("state/ticket-keys");
    assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    edge.restart();
    assert_eq!(get(&edge, &config, "first.test").kind, Some(HandshakeKind::Resumed));
    assert_eq!(get(&edge, &config, "www.first.test").kind, Some(HandshakeKind::Full), "another name");
    // TLS 1.2, by OpenSSL's ticket.
    let session = edge.directory().join("session.pem");
    let session = session.to_str().unwrap();
    let name = ["-servername", "first.test", "-tls1_2"];
    openssl(&edge, &[&name[..], &["-sess_out", session]].concat());
    edge.restart();
    let said = openssl(&edge, &[&name[..], &["-sess_in", session]].concat());
    assert!(said.contains("Reused, TLSv1.2"), "{said}");

    edge.reload(|config| config["tls"] = json!({ "tickets": { "enabled": false } }));
    edge.wait_log("reloaded", 1);
    for _ in 0..2 {
        assert_eq!(get(&edge, &config, "first.test").kind, Some(HandshakeKind::Full));
    }
}

#[test]
fn keys_are_shared_by_machines_and_exchanged_by_their_file() {
    let origin = Origin::start("a");
    let keys = std::env::temp_dir().join(format!("tidegate-shared-keys-{}", std::process::id()));
    let line = |digit: &str| format!("{}\n", digit.repeat(64));
    std::fs::write(&keys, line("1")).unwrap();
    let start = || Edge::start(origin.address, |config| config["tls"] = json!({ "tickets": { "keys": keys } }));
    let (one, mut other) = (start(), start());
    for file in ["key.pem", "cert.pem"] {
        put(&other, file, std::fs::read(one.directory().join(file)).unwrap());
    }
    other.restart();
    let config = client(&one, None);
    assert_eq!(get(&one, &config, "first.test").kind, Some(HandshakeKind::Full));
    assert_eq!(get(&other, &config, "first.test").kind, Some(HandshakeKind::Resumed));
    assert!(!one.directory().join("state/ticket-keys").exists());

    let replace = |text: String| {
        let new = keys.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &keys).unwrap();
    };
    let fresh = client(&one, None);
    get(&one, &fresh, "first.test");
    replace(line("2") + &line("1"));
    one.wait_log("certificates read again", 1);
    assert_eq!(get(&one, &fresh, "first.test").kind, Some(HandshakeKind::Resumed), "the key before still opens");
    replace("broken".to_owned());
    one.wait_log("is not a key of 64 hex digits", 1);
    assert_eq!(get(&one, &fresh, "first.test").kind, Some(HandshakeKind::Resumed), "a broken file changes nothing");
    replace(line("3"));
    // Not before: a handshake that is under way then may take a ticket of the key before and give one of the new.
    one.wait_log("certificates read again", 2);
    assert_eq!(get(&one, &fresh, "first.test").kind, Some(HandshakeKind::Full), "tickets of the keys before end");
    std::fs::remove_file(keys).unwrap();
}
