//! The parsers, what they read every day, and what each promises.

use anyhow::{Result, ensure};
use http::Method;
use proxy_core::config;
use proxy_core::import::{Product, Report, import};
use proxy_core::policy::{self, Options};
use proxy_core::store::bundle::{Bundle, KEY_BYTES, Payload, SecretKey};
use proxy_core::store::{Texts, Who, audit};
use proxy_user::control::api::Call;
use serde_json::{Value, json};

use super::{Target, answers, asked, frames, packets, requests, texts, tls};

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "packet",
        about: "headers of frames, and the decision on them",
        corpus: packets::packets,
        read: packets::packet,
    },
    Target {
        name: "syn-options",
        about: "TCP options of SYNs, and the answers to them",
        corpus: packets::options,
        read: packets::syn,
    },
    Target { name: "pcap", about: "pcap and pcapng files", corpus: packets::captures, read: packets::capture },
    Target { name: "policy", about: "policy files", corpus: policies, read: policy },
    Target { name: "expression", about: "conditions of rules", corpus: expressions, read: expression },
    Target { name: "config", about: "config files", corpus: configs, read: configuration },
    Target { name: "admin", about: "requests of the admin socket", corpus: calls, read: call },
    Target {
        name: "client-hello",
        about: "ClientHellos in TCP streams",
        corpus: packets::hellos,
        read: packets::client_hello,
    },
    Target {
        name: "quic-initial",
        about: "Initial packets of QUIC, and their frames",
        corpus: packets::datagrams,
        read: packets::initial,
    },
    Target { name: "bundle", about: "signed bundles of policies", corpus: bundles, read: bundle },
    Target { name: "audit", about: "lines of the audit log", corpus: audits, read: audited },
    Target { name: "cloudflare", about: "rulesets to import", corpus: rulesets, read: cloudflare },
    Target { name: "decisions", about: "lists of bans to import", corpus: bans, read: decisions },
    Target { name: "nginx", about: "access rules of nginx to import", corpus: accesses, read: nginx },
    Target { name: "http1", about: "requests of HTTP/1 and their bodies", corpus: asked::corpus, read: asked::read },
    Target {
        name: "http1-answer",
        about: "headers and chunks of origins' HTTP/1.1 responses",
        corpus: answers::corpus,
        read: answers::read,
    },
    Target {
        name: "http2",
        about: "HTTP/2 frames and what they say",
        corpus: frames::of_http2,
        read: frames::follow_http2,
    },
    Target {
        name: "hpack",
        about: "blocks of fields of a connection of HTTP/2",
        corpus: frames::hpack,
        read: frames::read_hpack,
    },
    Target {
        name: "priority",
        about: "the field that says how urgent a request is",
        corpus: requests::priorities,
        read: requests::priority,
    },
    Target {
        name: "http3",
        about: "HTTP/3 frames that are followed",
        corpus: frames::http3,
        read: frames::follow_http3,
    },
    Target {
        name: "proxy-protocol",
        about: "headers that balancers in front send",
        corpus: requests::introductions,
        read: requests::introduction,
    },
    Target {
        name: "files",
        about: "paths, ranges and conditions of requests for files",
        corpus: requests::wants,
        read: requests::want,
    },
    Target {
        name: "traceparent",
        about: "the trace that a caller names",
        corpus: requests::traceparents,
        read: requests::traceparent,
    },
    Target {
        name: "route",
        about: "paths and queries on their way through a routing table",
        corpus: requests::targets,
        read: requests::route,
    },
    Target {
        name: "tls",
        about: "keys of session tickets, OCSP responses, certificates of clients",
        corpus: tls::corpus,
        read: tls::read,
    },
];

fn policies() -> Vec<Vec<u8>> {
    texts([
        include_str!("../../../policies/examples/api-methods.json"),
        include_str!("../../../policies/examples/cidr-allow-deny.json"),
        include_str!("../../../policies/examples/login-abuse.json"),
        include_str!("../../../policies/examples/packet-ports.json"),
        include_str!("../../../policies/examples/rate-limit.json"),
        include_str!("../../../policies/examples/scanner-paths.json"),
    ])
}

fn compiles(text: &str) -> Result<()> {
    let files = [("fuzz.json".to_owned(), text.to_owned())];
    if let Err(faults) = policy::compile(&files, &Options::new(jiff::Timestamp::UNIX_EPOCH)) {
        ensure!(!faults.is_empty(), "refused without a fault");
        for fault in faults {
            ensure!(!fault.to_string().is_empty(), "a fault without words");
        }
    }
    Ok(())
}

fn policy(bytes: &[u8]) -> Result<()> {
    compiles(&String::from_utf8_lossy(bytes))
}

/// The conditions of the examples, and some that they lack.
fn expressions() -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for text in policies() {
        let file: Value = serde_json::from_slice(&text).unwrap_or_default();
        let rules = file["rules"].as_array().cloned().unwrap_or_default();
        found.extend(rules.iter().filter_map(|rule| rule["when"].as_str().map(|when| when.as_bytes().to_vec())));
    }
    found.extend(texts([
            "not (ip.src in {192.0.2.0/24 2001:db8::/32}) and (tcp.dstport in {80 443..445} or udp.dstport eq 53)",
            "ip.proto eq \"tcp\" and tcp.flags.syn and not tcp.flags.ack and ip.ttl lt 5",
            "http.request.uri.path matches \"^/(a|b)+\\.php$\" || http.host contains \"x\" xor http.request.method in {\"GET\" \"PUT\"}",
            "lower(http.request.uri.path) eq r#\"/wp-login.php\"# and http.user_agent wildcard \"*bot*\"",
    ]));
    found
}

fn expression(bytes: &[u8]) -> Result<()> {
    let when = String::from_utf8_lossy(bytes);
    let file = json!({
        "schema": "tidegate.policy/v1", "id": "fuzz", "revision": 1,
        "rules": [{ "id": "a", "when": when, "action": { "type": "log" } }],
    });
    compiles(&file.to_string())
}

fn configs() -> Vec<Vec<u8>> {
    texts([
        include_str!("../../../policies/tidegate.json"),
        r#"{"workers":2,"listeners":[{"name":"w","address":"0.0.0.0:443","protocol":"https","http3":true}],
            "certificates":[{"cert":"c.pem","key":"k.pem"}],"routes":[{"hosts":["*.a.test"],"path":"/","upstream":"u"}],
            "upstreams":{"u":{"servers":["https://[::1]:8443"],"keepalive":8}},"policies":["p/*.json"],
            "timeouts":{"drain":"10s"},"gate":{"interfaces":["eth0"],"scope":"own","ipv6_prefix":56,
            "checks":{"land":"count"},"own_addresses":["192.0.2.1","2001:db8::1"],
            "syn_cookies":{"mode":"auto","threshold":100,"release":10,"hold":"1m"}}}"#,
        include_str!("../../../policies/invalid-config/meaning.json"),
    ])
}

fn configuration(bytes: &[u8]) -> Result<()> {
    match config::parse(&String::from_utf8_lossy(bytes)) {
        Ok(config) => {
            config.own_addresses();
        }
        Err(faults) => ensure!(!faults.is_empty(), "refused without a fault"),
    }
    Ok(())
}

/// Method, path with query, body; a line each.
fn calls() -> Vec<Vec<u8>> {
    texts([
        "GET\n/v1/status\n",
        "GET\n/v1/verdicts?limit=10\n",
        "POST\n/v1/verdicts\n{\"source\":\"192.0.2.1\",\"ttl\":\"10m\"}",
        "DELETE\n/v1/verdicts/2001%3Adb8%3A%3A%2F64\n",
        "GET\n/v1/events?reason=verdict&source=192.0.2.0%2F24&rule=a%2Fb&sample=64\n",
        "POST\n/v1/explain\n{\"packet\":\"0a0b\",\"length\":60}",
        "POST\n/v1/workers/1/stop\n",
        "POST\n/v1/reload\n",
    ])
}

fn call(bytes: &[u8]) -> Result<()> {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (method, target, body) = (next(), next(), next());
    let Ok(method) = Method::from_bytes(method) else { return Ok(()) };
    // What does not make a URI never reaches the API.
    let Ok(uri) = http::Uri::try_from(target) else { return Ok(()) };
    if let Err(refusal) = Call::parse(&method, uri.path(), uri.query(), body) {
        ensure!(refusal.status.is_client_error(), "refused with {}", refusal.status);
        ensure!(!refusal.error.is_empty(), "refused without a reason");
    }
    Ok(())
}

fn bundles() -> Vec<Vec<u8>> {
    let texts = Texts { files: vec![("p.json".to_owned(), "{\"id\": \"p\"}".to_owned())], lists: Vec::new() };
    let payload = Payload { revision: 7, created: jiff::Timestamp::UNIX_EPOCH, policies: texts };
    let mut bundle = Bundle::new(&payload);
    let unsigned = bundle.text();
    if let Ok(key) = SecretKey::new([7; KEY_BYTES]) {
        bundle.sign(&key);
    }
    vec![unsigned.into_bytes(), bundle.text().into_bytes()]
}

fn bundle(bytes: &[u8]) -> Result<()> {
    let key = SecretKey::new([7; KEY_BYTES]).map_err(anyhow::Error::msg)?.public();
    if let Some(Ok(bundle)) = Bundle::read(&String::from_utf8_lossy(bytes))
        && let Ok(Some(_)) = bundle.verify(&[key])
    {
        let payload = bundle.payload().map_err(anyhow::Error::msg)?;
        ensure!(payload.revision == 7 && payload.policies.files.len() == 1, "a signature of something else");
    }
    Ok(())
}

fn audits() -> Vec<Vec<u8>> {
    let event = audit::Event {
        time: jiff::Timestamp::UNIX_EPOCH,
        who: Who { uid: Some(0), pid: Some(1) },
        act: audit::Act::Apply,
        outcome: audit::Outcome::Refused,
        revision: Some(1),
        digest: None,
        detail: Some("a \"fault\"".to_owned()),
    };
    let (first, head) = audit::Head::default().append(&event);
    let (second, _) = head.append(&event);
    vec![format!("{first}\n{second}\n").into_bytes()]
}

fn audited(bytes: &[u8]) -> Result<()> {
    let Some(original) = audits().pop() else { return Ok(()) };
    let text = String::from_utf8_lossy(bytes);
    let checked = audit::check(text.lines(), None);
    // Whole lines may have been taken from the end, and blanks that end a line say nothing; all else shows.
    let whole = String::from_utf8_lossy(&original);
    let kept = text.lines().zip(whole.lines()).all(|(a, b)| a == b) && text.lines().count() <= 2;
    ensure!(!checked.faults.is_empty() || kept || checked.entries <= 1, "a changed log passed: {text}");
    Ok(())
}

fn rulesets() -> Vec<Vec<u8>> {
    vec![
        json!({ "result": { "rules": [
            { "ref": "a", "expression": "http.host eq \"a\"", "action": "block", "action_parameters": { "response": { "status_code": 403 } } },
            { "description": "b", "expression": "true", "action": "rewrite", "action_parameters": { "uri": { "path": { "value": "/" } } } },
            { "expression": "true", "action": "block", "ratelimit": { "characteristics": ["ip.src"], "period": 10, "requests_per_period": 9 } },
        ] } })
        .to_string()
        .into_bytes(),
    ]
}

fn bans() -> Vec<Vec<u8>> {
    texts([
        r#"[{"decisions":[{"scope":"Ip","value":"192.0.2.1","type":"ban","duration":"1h"}]}]"#,
        "id,source,ip,reason,action\n7,crowdsec,Ip:192.0.2.1,x,ban,DE\n",
        "[{'sshd': ['192.0.2.1', '2001:db8::1']}]",
        "192.0.2.1 2026-11-22 12:00:00 + 600\n",
    ])
}

fn accesses() -> Vec<Vec<u8>> {
    let text = "limit_req_zone $binary_remote_addr zone=a:1m rate=2r/s;\nserver { server_name a.b; deny 192.0.2.1; \
                location ~ \"^/x{1}\" { allow 192.0.2.0/24; deny all; } limit_req zone=a burst=5; }";
    texts([text])
}

fn cloudflare(bytes: &[u8]) -> Result<()> {
    imported(Product::Cloudflare, bytes)
}

fn decisions(bytes: &[u8]) -> Result<()> {
    imported(Product::Decisions, bytes)
}

fn nginx(bytes: &[u8]) -> Result<()> {
    imported(Product::Nginx, bytes)
}

/// Whatever comes out is a policy that loads.
fn imported(product: Product, bytes: &[u8]) -> Result<()> {
    if let Ok(Report { policy: Some(policy), .. }) =
        import(product, &String::from_utf8_lossy(bytes), "p", jiff::Timestamp::UNIX_EPOCH)
    {
        let loaded = policy::compile(&[("p", policy.to_string())], &Options::new(jiff::Timestamp::UNIX_EPOCH));
        ensure!(loaded.is_ok(), "{product:?}: what was imported does not load: {policy}");
    }
    Ok(())
}
