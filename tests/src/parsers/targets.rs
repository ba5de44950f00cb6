//! The parsers, what they read every day, and what each promises.

use std::io::Cursor;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use proxy_common::decide::decide;
use proxy_common::parse::{Parsed, parse};
use proxy_common::syn_ack::{Exchange, LONG_HEADER, MAX_OPTIONS, RawOptions, SHORT_HEADER, parse_options};
use proxy_core::config;
use proxy_core::hello::{self, Assembly, Found, Frames, MAX_HELLO_BYTES, initials};
use proxy_core::import::{Product, Report, import};
use proxy_core::policy::{self, Options};
use proxy_core::store::bundle::{Bundle, KEY_BYTES, Payload, SecretKey};
use proxy_core::store::{Texts, Who, audit};
use proxy_user::control::api::Call;
use proxy_user::events::packet_file;
use serde_json::{Value, json};

use super::{Target, answers, asked, frames, requests, texts, tls};
use crate::tables::World;
use crate::{check_rows, verdict_table};

/// Largest window scale, RFC 7323 section 2.3.
const MAX_SCALE: u8 = 14;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "packet", about: "headers of frames, and the decision on them", corpus: packets, read: packet },
    Target { name: "syn-options", about: "TCP options of SYNs, and the answers to them", corpus: options, read: syn },
    Target { name: "pcap", about: "pcap and pcapng files", corpus: captures, read: capture },
    Target { name: "policy", about: "policy files", corpus: policies, read: policy },
    Target { name: "expression", about: "conditions of rules", corpus: expressions, read: expression },
    Target { name: "config", about: "config files", corpus: configs, read: configuration },
    Target { name: "admin", about: "requests of the admin socket", corpus: calls, read: call },
    Target { name: "client-hello", about: "ClientHellos in TCP streams", corpus: hellos, read: client_hello },
    Target {
        name: "quic-initial",
        about: "Initial packets of QUIC, and their frames",
        corpus: datagrams,
        read: initial,
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

fn packets() -> Vec<Vec<u8>> {
    let rows = verdict_table::rows().into_iter().map(|row| row.frame);
    rows.chain(check_rows::rows().into_iter().map(|row| row.frame)).map(|frame| frame.build()).collect()
}

fn packet(bytes: &[u8]) -> Result<()> {
    let parsed = parse(bytes);
    if let Parsed::Ip(packet) = &parsed {
        ensure!(packet.end() <= bytes.len(), "the packet ends at {} of {} bytes", packet.end(), bytes.len());
        ensure!(usize::from(packet.upper) <= packet.end(), "its upper header begins at {}", packet.upper);
        ensure!(packet.ports || (packet.sport, packet.dport) == (0, 0), "ports where there are none");
    }
    let world = World { checked: u64::MAX, ..World::default() };
    let decision = decide(bytes, parsed.as_ref(), &world);
    ensure!(!decision.reason.drops(), "{:?} without a rule or a check that drops", decision.reason);
    Ok(())
}

fn options() -> Vec<Vec<u8>> {
    [
        &[2, 4, 5, 180][..],
        &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
        &[2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2],
        &[1, 1, 8, 10, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 3, 3, 14, 0],
        &[254, 4, 0xf9, 0x89, 34, 2, 2, 4, 0, 0],
    ]
    .map(<[u8]>::to_vec)
    .into()
}

fn syn(bytes: &[u8]) -> Result<()> {
    let mut raw = RawOptions { bytes: [0; MAX_OPTIONS] };
    for (to, from) in raw.bytes.iter_mut().zip(bytes) {
        *to = *from;
    }
    let options = parse_options(&raw);
    ensure!(options.scale <= MAX_SCALE, "a window scale of {}", options.scale);
    for v6 in [false, true] {
        let mut exchange = Exchange::EMPTY;
        exchange.raw = RawOptions { bytes: raw.bytes };
        exchange.prepare(v6);
        let length = exchange.answer(v6, 7, 9);
        ensure!(length == SHORT_HEADER || length == LONG_HEADER, "an answer with a header of {length} bytes");
    }
    Ok(())
}

fn captures() -> Vec<Vec<u8>> {
    let mut pcap = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0];
    let mut big = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for frame in packets().iter().take(3) {
        let length = frame.len() as u32;
        pcap.extend([[0; 4], [0; 4], length.to_le_bytes(), length.to_le_bytes()].concat());
        pcap.extend(frame);
        big.extend([[0; 4], [0; 4], length.to_be_bytes(), length.to_be_bytes()].concat());
        big.extend(frame);
    }
    // Section header, interface description, one enhanced packet.
    let mut ng = vec![10, 13, 13, 10, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    ng.extend([[0xff; 8].as_slice(), &[28, 0, 0, 0]].concat());
    ng.extend([1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 20, 0, 0, 0]);
    ng.extend([6, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 60, 0, 0, 0]);
    ng.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, 0, 0, 48, 0, 0, 0]);
    vec![pcap, big, ng]
}

fn capture(bytes: &[u8]) -> Result<()> {
    if let Ok(packets) = packet_file::read(Cursor::new(bytes)) {
        ensure!(packets.len() <= packet_file::MAX_PACKETS, "{} packets", packets.len());
        let held: usize = packets.iter().map(|packet| packet.bytes.len()).sum();
        ensure!(held <= bytes.len(), "{held} bytes out of {}", bytes.len());
    }
    Ok(())
}

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

/// A ClientHello's handshake message: server name, ALPN, versions, groups, signature algorithms and values of GREASE.
const HELLO: &[u8] = b"\x01\0\0\x74\x03\x030123456789abcdef0123456789abcdef\0\0\x06\x0a\x0a\x13\x01\x13\x02\x01\0\0\x45\
    \x1a\x1a\0\0\0\0\0\x0b\0\x09\0\0\x06a.test\0\x10\0\x0e\0\x0c\x02h2\x08http/1.1\0\x2b\0\x05\x04\x03\x04\x03\x03\0\x0a\0\x04\0\x02\0\x1d\
    \0\x0d\0\x06\0\x04\x04\x03\x08\x04\xff\x01\0\x01\0";

fn hellos() -> Vec<Vec<u8>> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    vec![record(HELLO), HELLO.chunks(20).flat_map(record).collect()]
}

fn client_hello(bytes: &[u8]) -> Result<()> {
    let found = hello::from_stream(bytes);
    if let Found::Hello(hello) = &found {
        ensure!(hello.length as usize <= bytes.len().min(MAX_HELLO_BYTES), "{} of {} bytes", hello.length, bytes.len());
        ensure!(hello.ja4.len() >= 36 && hello.ja4.is_ascii(), "the fingerprint {}", hello.ja4);
        let listed = 2 * (hello.ciphers.len() + hello.extensions.len() + hello.groups.len());
        ensure!(listed <= bytes.len(), "{listed} bytes of lists out of {}", bytes.len());
        // A stream is asked about again each time more of it has come.
        ensure!(hello::from_stream(&[bytes, &[22]].concat()) == found, "what follows the hello changes it");
    }
    Ok(())
}

fn datagrams() -> Vec<Vec<u8>> {
    let crypto = |offset: u8, part: &[u8]| [&[6, offset, 0x40, part.len() as u8], part].concat();
    let (front, back) = HELLO.split_at(60);
    let frames = [crypto(60, back), vec![1, 0, 0, 2, 5, 0, 0, 0], crypto(0, front)].concat();
    let head = b"\xc1\0\0\0\x01\x08\x83\x94\xc8\xf0\x3e\x51\x57\x08\0\0\x40";
    vec![frames.clone(), [&head[..], &[frames.len() as u8 + 1, 0], &frames].concat()]
}

fn initial(bytes: &[u8]) -> Result<()> {
    let mut payloads = vec![bytes];
    for initial in initials(bytes) {
        ensure!(initial.start < initial.number, "a packet number at {} of {}", initial.number, initial.start);
        payloads.push(bytes.get(initial.number..initial.end).context("a packet beyond its datagram")?);
    }
    for payload in payloads {
        let (mut assembly, mut pieces) = (Assembly::default(), 0);
        for (offset, piece) in Frames::new(payload).flatten() {
            pieces += piece.len();
            assembly.add(offset, piece);
        }
        ensure!(pieces <= payload.len(), "{pieces} bytes of pieces out of {}", payload.len());
        if let Found::Hello(hello) = assembly.found() {
            ensure!(hello.ja4.starts_with('q') && hello.length as usize <= MAX_HELLO_BYTES, "{}", hello.ja4);
        }
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
