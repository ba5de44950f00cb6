//! Which certificate, version and key exchange a client gets, and what becomes of names that are not served.

use rustls::NamedGroup;
use rustls::crypto::aws_lc_rs::kx_group;
use serde_json::json;

use super::authority::Authority;
use super::{ask, client, client_of, get, openssl, put};
use crate::edge::{Edge, wait_for};
use crate::origin::Origin;

#[test]
fn ecdsa_and_rsa_side_by_side() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let authority = Authority::new("servers");
    let rsa = authority.server(&["first.test"], &rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());
    put(&edge, "rsa.pem", rsa.cert);
    put(&edge, "rsa.key", rsa.key);
    edge.reload(|config| {
        config["certificates"] =
            json!([{ "cert": "cert.pem", "key": "key.pem" }, { "cert": "rsa.pem", "key": "rsa.key" }]);
    });
    edge.wait_log("reloaded", 1);
    for name in ["first.test", "unknown.test"] {
        let signed = |arguments: &[&str]| {
            let said = openssl(&edge, &[&["-servername", name], arguments].concat());
            let line = said.lines().find_map(|line| line.trim().strip_prefix("Peer signature type: "));
            line.unwrap_or(&said).to_owned()
        };
        assert_eq!(signed(&[]), "ECDSA", "the smaller one where both will do");
        assert_eq!(signed(&["-sigalgs", "RSA-PSS+SHA256"]), "RSA-PSS");
        assert_eq!(signed(&["-sigalgs", "ECDSA+SHA256"]), "ECDSA");
        assert_eq!(signed(&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]), "RSA-PSS");
        assert_eq!(signed(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]), "ECDSA");
    }
}

#[test]
fn versions_by_name_and_connections_for_their_hosts() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["tls"] = json!({
            "hsts": { "max_age": "365d", "include_subdomains": true, "preload": true },
            "hosts": [{ "names": ["new.first.test"], "min_version": "1.3", "hsts": { "max_age": "1d" } }],
        });
    });
    let refused = openssl(&edge, &["-servername", "new.first.test", "-tls1_2"]);
    assert!(refused.contains("alert protocol version"), "{refused}");
    assert!(openssl(&edge, &["-servername", "new.first.test", "-tls1_3"]).contains("New, TLSv1.3"));
    assert!(openssl(&edge, &["-servername", "first.test", "-tls1_2"]).contains("New, TLSv1.2"));
    assert!(openssl(&edge, &["-servername", "first.test", "-tls1_1"]).contains("Cipher is (NONE)"));

    let config = client(&edge, None);
    let answer = get(&edge, &config, "first.test").text;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let promise = "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n";
    assert!(answer.to_ascii_lowercase().contains(&promise.to_ascii_lowercase()), "{answer}");
    let answer = get(&edge, &config, "new.first.test").text;
    assert!(answer.contains("strict-transport-security: max-age=86400\r\n"), "{answer}");
    assert_eq!(edge.get("/name").field("strict-transport-security"), None, "in clear it would not count");
    // What another host asks of its clients was not asked here.
    for (opened, host, status) in [
        ("first.test", "new.first.test", 421),
        ("new.first.test", "first.test:443", 421),
        ("first.test", "other.first.test", 200),
        ("new.first.test", "new.first.test.", 200),
    ] {
        let answer = ask(&edge, &config, opened, host, "").unwrap().text;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{opened} {host}: {answer}");
    }
}

#[test]
fn unknown_names_are_refused_or_told() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |config| config["tls"] = json!({ "strict_sni": "misdirected" }));
    let config = client(&edge, None);
    assert!(get(&edge, &config, "www.first.test").text.starts_with("HTTP/1.1 200"));
    let elsewhere = ask(&edge, &config, "www.first.test", "first.test", "").unwrap().text;
    assert!(elsewhere.starts_with("HTTP/1.1 200"), "one certificate is for both: {elsewhere}");
    let elsewhere = ask(&edge, &config, "first.test", "unknown.test", "").unwrap().text;
    assert!(elsewhere.starts_with("HTTP/1.1 421"), "{elsewhere}");
    let resolve = format!("unknown.test:{}:127.0.0.1", edge.https.port());
    let url = format!("https://unknown.test:{}/name", edge.https.port());
    let curl = ["-sSk", "--max-time", "15", "--resolve", &resolve, "-o", "/dev/null", "-w", "%{http_code}", &url];
    let output = std::process::Command::new("curl").args(curl).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "421");
    assert_eq!(edge.get("/name").status, 200, "in clear there is nothing to compare");

    edge.reload(|config| config["tls"]["strict_sni"] = json!("refuse"));
    edge.wait_log("reloaded", 1);
    for arguments in [["-servername", "unknown.test"].as_slice(), &["-noservername"]] {
        let said = openssl(&edge, arguments);
        assert!(said.contains("unrecognized name"), "{said}");
    }
    assert!(get(&edge, &config, "www.first.test").text.starts_with("HTTP/1.1 200"));
}

#[test]
fn key_exchange_is_hybrid_where_the_client_can() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    assert_eq!(get(&edge, &client(&edge, None), "first.test").group, Some(NamedGroup::X25519MLKEM768));
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![kx_group::X25519];
    assert_eq!(get(&edge, &client_of(provider, &edge, None), "first.test").group, Some(NamedGroup::X25519));
}

#[test]
fn cipher_suites_are_chosen_by_our_order() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let theirs = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";
    let said = openssl(&edge, &["-servername", "first.test", "-tls1_2", "-cipher", theirs]);
    assert!(said.contains("Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"), "{said}");
}

#[test]
fn ocsp_responses_beside_the_certificate_are_stapled() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    assert!(openssl(&edge, &["-servername", "first.test", "-status"]).contains("OCSP response: no response sent"));
    put(&edge, "index.txt", "");
    // The certificate signs itself, so that it also answers for itself.
    let ocsp = |words: &str| {
        let done = std::process::Command::new("openssl")
            .arg("ocsp")
            .args(words.split(' '))
            .current_dir(edge.directory())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    ocsp("-issuer cert.pem -cert cert.pem -no_nonce -reqout req.der");
    ocsp("-index index.txt -CA cert.pem -rsigner cert.pem -rkey key.pem -reqin req.der -respout resp.der -ndays 5");
    let response = std::fs::read(edge.directory().join("resp.der")).unwrap();
    put(&edge, "cert.pem.ocsp", response);
    for version in ["-tls1_3", "-tls1_2"] {
        wait_for("a stapled response", || {
            let said = openssl(&edge, &["-servername", "first.test", "-status", version]);
            if said.contains("OCSP Response Status: successful") { Ok(()) } else { Err(said) }
        });
    }
    put(&edge, "cert.pem.ocsp", "not DER");
    edge.wait_log("this is no OCSP response in DER", 1);
    assert!(openssl(&edge, &["-servername", "first.test", "-status"]).contains("OCSP Response Status: successful"));
}
