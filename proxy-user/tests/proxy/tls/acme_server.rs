//! A small ACME server (RFC 8555): directory, nonces, signed requests, orders, both challenges, certificates. It checks what
//! it is sent, and keeps a list of what was wrong.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::edge::PATIENCE;

/// Where challenges are looked for instead of on ports 80 and 443.
#[derive(Clone, Copy)]
pub struct Looks {
    pub http: SocketAddr,
    pub tls: SocketAddr,
}

#[derive(Default)]
struct State {
    looks: Option<Looks>,
    given: usize,
    nonces: HashSet<String>,
    /// Keys of accounts, as points, with their thumbprints.
    accounts: Vec<(Vec<u8>, String)>,
    orders: Vec<Order>,
    issued: usize,
    faults: Vec<String>,
}

#[derive(Default)]
struct Order {
    names: Vec<String>,
    seen: Vec<Option<bool>>,
    chain: Option<String>,
}

/// A running server; it ends with the test process.
pub struct AcmeServer {
    base: String,
    /// Its own certificate.
    pub ca: PathBuf,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

/// Status, `Location` and body.
type Answer = (u16, Option<String>, String);

impl AcmeServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let base = format!("https://localhost:{port}");
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = std::env::temp_dir().join(format!("tidegate-acme-{}-{port}.pem", std::process::id()));
        std::fs::write(&ca, own.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = builder.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
        let (tls, state) = (Arc::new(tls), Arc::new(Mutex::new(State::default())));
        let (shared, url) = (Arc::clone(&state), base.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, state, url) = (Arc::clone(&tls), Arc::clone(&shared), url.clone());
                // A client that leaves ends its thread with an error, which is of no interest.
                std::thread::spawn(move || drop(serve(stream, tls, &state, &url)));
            }
        });
        Self { base, ca, state }
    }

    pub fn directory(&self) -> String {
        format!("{}/directory", self.base)
    }

    pub fn looks_at(&self, looks: Looks) {
        self.lock().looks = Some(looks);
    }

    pub fn issued(&self) -> usize {
        self.lock().issued
    }

    pub fn accounts(&self) -> usize {
        self.lock().accounts.len()
    }

    /// What was wrong in requests.
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.ca);
    }
}

fn serve(tcp: TcpStream, tls: Arc<ServerConfig>, state: &Mutex<State>, base: &str) -> std::io::Result<()> {
    tcp.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls).unwrap(), tcp));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    let mut words = head.first().map(|line| line.split(' ')).into_iter().flatten();
    let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
    let length = head.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let request = Request { method, path, body };
    let (status, location, body) = answer(&request, state, base).unwrap_or_else(|fault| {
        state.lock().unwrap().faults.push(format!("{} {}: {fault}", request.method, request.path));
        let kind = "urn:ietf:params:acme:error:malformed";
        (400, None, json!({ "type": kind, "detail": fault, "status": 400 }).to_string())
    });
    let nonce = {
        let mut state = state.lock().unwrap();
        state.given += 1;
        let nonce = format!("nonce-{}", state.given);
        state.nonces.insert(nonce.clone());
        nonce
    };
    let location = location.map(|url| format!("Location: {url}\r\n")).unwrap_or_default();
    let body = if request.method == "head" { "" } else { &body };
    let head = format!("HTTP/1.1 {status} X\r\nReplay-Nonce: {nonce}\r\nConnection: close\r\n{location}");
    let stream = stream.get_mut();
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn answer(request: &Request, state: &Mutex<State>, base: &str) -> Result<Answer, String> {
    let ok = |body: &Value| Ok((200, None, body.to_string()));
    match (request.method.as_str(), request.path.as_str()) {
        ("get", "/directory") => {
            let at = |name: &str| format!("{base}/{name}");
            return ok(&json!({ "newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("order"),
                "revokeCert": at("revoke"), "keyChange": at("key") }));
        }
        (_, "/nonce") => return ok(&json!({})),
        ("post", _) => {}
        _ => return Err("not a request of ACME".to_owned()),
    }
    let (payload, account) = verified(request, state, base)?;
    let mut state = state.lock().unwrap();
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<usize>().ok()).unwrap_or(usize::MAX);
    match parts[0] {
        "account" if payload["termsOfServiceAgreed"] == true => {
            Ok((201, Some(format!("{base}/accounts/{account}")), json!({ "status": "valid" }).to_string()))
        }
        "order" => {
            let names = payload["identifiers"].as_array().ok_or("no identifiers")?;
            let names: Vec<_> = names.iter().filter_map(|name| Some(name["value"].as_str()?.to_owned())).collect();
            state.orders.push(Order { seen: vec![None; names.len()], names, chain: None });
            let last = state.orders.len() - 1;
            Ok((201, Some(format!("{base}/orders/{last}")), order(&state, last, base)?.to_string()))
        }
        "orders" => ok(&order(&state, number(1), base)?),
        "authz" => ok(&authorization(&state, number(1), number(2), base)?),
        "challenge" => {
            let (one, place) = (number(1), number(2));
            let name = state.orders.get(one).and_then(|order| order.names.get(place)).ok_or("no such name")?;
            let looks = state.looks.ok_or("nowhere to look")?;
            let token = format!("token-{one}-{place}");
            let proof = format!("{token}.{}", state.accounts[account].1);
            let seen = match parts.get(3) {
                Some(&"http-01") => page(looks.http, name, &token).is_some_and(|page| page == proof),
                _ => handshake(looks.tls, name, &proof),
            };
            state.orders[one].seen[place] = Some(seen);
            let told = authorization(&state, one, place, base)?;
            let wanted = format!("{base}{}", request.path);
            ok(told["challenges"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["url"] == wanted))
                .ok_or("none")?)
        }
        "finalize" => {
            let csr = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap_or_default()).map_err(|e| e.to_string())?;
            if order(&state, number(1), base)?["status"] != "ready" {
                return Err("the order is not ready".to_owned());
            }
            state.issued += 1;
            let chain = signed(&csr, &state.orders[number(1)].names, state.issued)?;
            state.orders[number(1)].chain = Some(chain);
            ok(&order(&state, number(1), base)?)
        }
        "certificate" => {
            let chain = state.orders.get(number(1)).and_then(|order| order.chain.clone());
            Ok((200, None, chain.ok_or("not issued")?))
        }
        _ => Err("no such resource, or the terms are not agreed to".to_owned()),
    }
}

fn order(state: &State, number: usize, base: &str) -> Result<Value, String> {
    let order = state.orders.get(number).ok_or("no such order")?;
    let status = match (&order.chain, order.seen.contains(&Some(false)), order.seen.iter().all(Option::is_some)) {
        (Some(_), ..) => "valid",
        (None, true, _) => "invalid",
        (None, false, true) => "ready",
        (None, false, false) => "pending",
    };
    let names: Vec<_> = order.names.iter().map(|name| json!({ "type": "dns", "value": name })).collect();
    let places: Vec<_> = (0..order.names.len()).map(|place| format!("{base}/authz/{number}/{place}")).collect();
    let mut told = json!({ "status": status, "identifiers": names, "authorizations": places,
        "finalize": format!("{base}/finalize/{number}") });
    if order.chain.is_some() {
        told["certificate"] = json!(format!("{base}/certificate/{number}"));
    }
    Ok(told)
}

fn authorization(state: &State, number: usize, place: usize, base: &str) -> Result<Value, String> {
    let order = state.orders.get(number).ok_or("no such order")?;
    let (name, seen) = order.names.get(place).zip(order.seen.get(place)).ok_or("no such name")?;
    let status = match seen {
        None => "pending",
        Some(true) => "valid",
        Some(false) => "invalid",
    };
    let challenge = |kind: &str| {
        json!({ "type": kind, "url": format!("{base}/challenge/{number}/{place}/{kind}"),
            "token": format!("token-{number}-{place}"), "status": status })
    };
    Ok(json!({ "status": status, "identifier": { "type": "dns", "value": name },
        "challenges": [challenge("http-01"), challenge("tls-alpn-01")] }))
}

/// The payload of a signed request and the account that signed it (RFC 8555 section 6.2).
fn verified(request: &Request, state: &Mutex<State>, base: &str) -> Result<(Value, usize), String> {
    let outer: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    let part = |name: &str| outer[name].as_str().unwrap_or_default();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string());
    let protected: Value = serde_json::from_slice(&decode(part("protected"))?).map_err(|error| error.to_string())?;
    if protected["alg"] != "ES256" || protected["url"] != format!("{base}{}", request.path) {
        return Err(format!("algorithm or URL: {protected}"));
    }
    let mut state = state.lock().unwrap();
    if !state.nonces.remove(protected["nonce"].as_str().unwrap_or_default()) {
        return Err("the nonce was not given, or used before".to_owned());
    }
    let account = if request.path == "/account" {
        let text = |name: &str| protected["jwk"][name].as_str().unwrap_or_default().to_owned();
        let (x, y) = (text("x"), text("y"));
        let point = [vec![4], decode(&x)?, decode(&y)?].concat();
        // RFC 7638 section 3.
        let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let known = state.accounts.iter().position(|(known, _)| *known == point);
        known.unwrap_or_else(|| {
            state.accounts.push((point, thumbprint));
            state.accounts.len() - 1
        })
    } else {
        let id = protected["kid"].as_str().unwrap_or_default();
        let number = id.strip_prefix(&format!("{base}/accounts/")).and_then(|number| number.parse().ok());
        number.filter(|number| *number < state.accounts.len()).ok_or("no such account")?
    };
    let message = format!("{}.{}", part("protected"), part("payload"));
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &state.accounts[account].0);
    key.verify(message.as_bytes(), &decode(part("signature"))?).map_err(|_| "the signature is wrong")?;
    let payload = decode(part("payload"))?;
    Ok((
        if payload.is_empty() { Value::Null } else { serde_json::from_slice(&payload).map_err(|_| "no JSON")? },
        account,
    ))
}

/// RFC 8555 section 8.3.
fn page(address: SocketAddr, name: &str, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let line = format!("GET /.well-known/acme-challenge/{token} HTTP/1.1");
    write!(stream, "{line}\r\nHost: {name}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// RFC 8737 section 3, by a client that shares no code with the daemon.
fn handshake(address: SocketAddr, name: &str, proof: &str) -> bool {
    let line = format!(
        "openssl s_client -connect {address} -servername {name} -alpn acme-tls/1 </dev/null 2>/dev/null \
         | tee /dev/stderr | openssl x509 -outform DER"
    );
    let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    let has = |bytes: &[u8]| output.stdout.windows(bytes.len()).any(|there| there == bytes);
    // The extension: its identifier, that it is critical, and an octet string of the digest within an octet string.
    let identifier = [6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff, 4, 34, 4, 32];
    let hash = digest(&SHA256, proof.as_bytes());
    let dns = [&[0x82, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    String::from_utf8_lossy(&output.stderr).contains("ALPN protocol: acme-tls/1")
        && has(&[&identifier, hash.as_ref()].concat())
        && has(&dns)
}

/// A certificate for what was asked for; two thirds of the time of a server's first one are over within a few seconds.
fn signed(csr: &[u8], names: &[String], count: usize) -> Result<String, String> {
    let csr = CertificateSigningRequestDer::from(csr);
    let mut csr = CertificateSigningRequestParams::from_der(&csr).map_err(|error| error.to_string())?;
    let asked: HashSet<String> = csr
        .params
        .subject_alt_names
        .iter()
        .filter_map(|name| if let SanType::DnsName(name) = name { Some(name.to_string()) } else { None })
        .collect();
    if asked != names.iter().cloned().collect() {
        return Err(format!("the request is for {asked:?}, the order for {names:?}"));
    }
    let (before, after) = if count == 1 { (30, 30) } else { (3_600, 90 * 86_400) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    csr.params.not_before = date_time_ymd(1970, 1, 1) + now - Duration::from_secs(before);
    csr.params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(after);
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, format!("small authority {count}"));
    let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
    Ok(csr.signed_by(&issuer).map_err(|error| error.to_string())?.pem())
}
