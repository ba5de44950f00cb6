//! The example binary's stage in a daemon of this process: before real sockets, with its settings, body filters and
//! metrics. One test, since stages are installed once for a process.

mod support;

#[path = "../examples/token_stage.rs"]
#[allow(dead_code, reason = "the example's own `main` is not called here")]
mod token_stage;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proxy_user::daemon;
use proxy_user::http::fault::{Fault, Kind};
use proxy_user::stages::filter::BodyFilter;
use proxy_user::stages::hooks::{Fault as SettingsFault, Hooks, Site};
use proxy_user::stages::{Flow, Stage, Stages};
use serde_json::{Value, json};
use support::Scratch;
use token_stage::Token;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts the bytes of requests in the context, tells them in the response's header, and turns bodies to upper case both
/// ways; refuses a request body that says `attack`.
struct Shout;

struct Origin(u64);

struct Upper;

impl BodyFilter for Upper {
    fn piece(&mut self, piece: Bytes) -> Result<Bytes, Fault> {
        if piece.windows(6).any(|six| six == b"attack") {
            return Err(Fault::downstream(Kind::Refused, "not with such a body"));
        }
        Ok(piece.to_ascii_uppercase().into())
    }

    fn end(&mut self) -> Result<Bytes, Fault> {
        Ok(Bytes::from_static(b"!"))
    }
}

impl Stage for Shout {
    fn name(&self) -> &'static str {
        "shout"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), SettingsFault> {
        let Some(_) = site.settings::<Value>()? else { return Ok(()) };
        hooks.request_body(|exchange| {
            exchange.request.headers.remove("content-length");
            Some(Box::new(Upper))
        });
        hooks.upstream_response(|exchange, head| {
            let length = head.headers.remove("content-length");
            let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
            exchange.context.put(Origin(length.unwrap_or(0)));
        });
        hooks.response(|exchange, head| {
            if let Some(Origin(length)) = exchange.context.get() {
                head.headers.insert("x-origin-length", (*length).into());
            }
        });
        hooks.response_body(|exchange, _| exchange.context.get::<Origin>().map(|_| Box::new(Upper) as _));
        hooks.upstream_request(|_| Flow::Continue);
        Ok(())
    }
}

/// An origin that answers each request with its body.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut seen = Vec::new();
            let mut piece = [0; 1024];
            // Bodies come chunked here, and end with an empty chunk; requests without one end with their head.
            while !seen.ends_with(if seen.starts_with(b"GET") { b"\r\n\r\n" } else { &b"\r\n0\r\n\r\n"[..] }) {
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => seen.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let seen = String::from_utf8(seen).unwrap();
            let body: String = seen.split("\r\n").skip_while(|line| !line.is_empty()).collect::<Vec<_>>().join("|");
            let answer =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn write(directory: &Path, config: &Value) -> std::path::PathBuf {
    let path = directory.join("edge.json");
    std::fs::write(&path, serde_json::to_string_pretty(config).unwrap()).unwrap();
    path
}

#[test]
fn a_binary_of_ones_own() {
    Stages::standard().after("policy", Token::default()).unwrap().after("token", Shout).unwrap().install().unwrap();
    let scratch = Scratch::new("own-stage");
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (web, metrics) = (free(), free());
    let mut config = json!({
        "listeners": [{"name": "web", "address": web, "protocol": "http"}],
        "upstreams": {"app": {"servers": [format!("http://{}", origin())]}},
        "routes": [
            {"upstream": "app"},
            {"path": "/locked", "upstream": "app", "stages": {"token": {"header": "x-token", "value": "s3cret"}}},
            {"path": "/loud", "upstream": "app", "stages": {"shout": {}}},
        ],
        "gate": {"enabled": false}, "access_log": {"enabled": false}, "workers": 1,
        "admin": {"socket": scratch.path().join("admin.sock"), "metrics": metrics},
    });

    config["routes"][1]["stages"]["token"]["valeu"] = json!("x");
    let faults = daemon::load::load(&write(scratch.path(), &config), &[]).unwrap_err();
    let told = "/routes/1/stages/token/valeu: unknown field `valeu`, expected `header` or `value`";
    assert!(faults.contains(told) && faults.contains("edge.json:"), "{faults}");
    config["routes"][1]["stages"]["token"].as_object_mut().unwrap().remove("valeu");

    let path = write(scratch.path(), &config);
    std::thread::spawn(move || daemon::run(&daemon::Options { config: path, key_log: None }).unwrap());
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(web).is_err() {
        assert!(Instant::now() < until, "the daemon does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }

    let get = |path: &str, more: &str| {
        ask(web, &format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{more}\r\n")).unwrap()
    };
    assert!(get("/", "").starts_with("HTTP/1.1 200"));
    let refused = get("/locked/x", "X-Token: guess\r\n");
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("a token is needed"), "{refused}");
    assert!(get("/locked/x", "X-Token: s3cret\r\n").starts_with("HTTP/1.1 200"));
    let counted = ask(metrics, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert!(counted.contains("tidegate_stage_token_refused_total 1\n"), "{counted}");

    let post = |path: &str, body: &str| {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        ask(web, &(head + body)).unwrap()
    };
    let loud = post("/loud", "hello");
    // The origin saw a chunk of the body and one of what the filter added; its answer passed the filter, too.
    assert!(loud.contains("|5|HELLO|1|!|0||") && loud.contains("x-origin-length: 16"), "{loud}");
    assert!(loud.contains("\r\n1\r\n!\r\n0\r\n\r\n"), "{loud}");
    let refused = post("/loud", "an attack");
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("not with such a body"), "{refused}");
    assert!(!get("/", "").contains("x-origin-length"));
}
