//! The admin API over a real Unix socket, on a daemon without a kernel half: answers, refusals, broken peers.

#[path = "support/state.rs"]
mod state;
mod support;

use std::time::Duration;

use http::{Method, StatusCode};
use proxy_user::control;
use proxy_user::control::client::{Client, ClientError};
use proxy_user::control::serve::{MAX_BODY_BYTES, MAX_CONNECTIONS, READ_TIMEOUT};
use proxy_user::control::wire::{Done, Reloaded, Status, Verdicts, Workers};
use proxy_user::kernel::Applied;
use proxy_user::shared::{self, Command};
use proxy_user::stats::bump;
use serde_json::Value;
use state::{MISSING, shared};
use support::Scratch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Sends bytes, ends the sending side, and returns all that comes back.
async fn raw(handle: &control::Handle, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(handle.socket()).await.unwrap();
    // The server may have answered and closed before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(READ_TIMEOUT * 3, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection was neither answered nor closed");
    answer
}

fn status_of(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

#[tokio::test]
async fn status_and_workers_tell_what_is_there() {
    let scratch = Scratch::new("status");
    let (shared, _commands) = shared(&scratch);
    bump(&shared.stats[1].accepted, 5);
    bump(&shared.stats[1].requests[2], 3);
    let handle = control::start(shared).unwrap();
    let client = Client::new(handle.socket());

    let status: Status = client.call(Method::GET, "/v1/status", Vec::new()).await.unwrap();
    assert_eq!((status.version.as_str(), status.pid), (env!("CARGO_PKG_VERSION"), std::process::id()));
    assert_eq!((status.generation, status.verdicts, status.kernel), (7, None, None));
    assert_eq!(status.kernel_missing.as_deref(), Some(MISSING));
    assert_eq!(status.policies, ["policies/*.json"]);
    let listener = &status.listeners[0];
    assert_eq!((listener.name.as_str(), listener.protocol.as_str(), listener.http3), ("web", "https", true));

    let workers: Workers = client.call(Method::GET, "/v1/workers", Vec::new()).await.unwrap();
    assert_eq!(workers.workers, status.workers);
    let worker = &workers.workers[1];
    assert_eq!((worker.worker, worker.accepted, worker.requests["h3"], worker.requests["h1"]), (1, 5, 3, 0));
}

#[tokio::test]
async fn answers_have_the_shapes_that_the_openapi_document_gives() {
    let scratch = Scratch::new("openapi");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let client = Client::new(handle.socket());
    let document: Value = client.call(Method::GET, "/v1/openapi.json", Vec::new()).await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for path in ["/v1/status", "/v1/workers", "/v1/rules"] {
        let answer: Value = client.call(Method::GET, path, Vec::new()).await.unwrap();
        let answered = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"];
        let mut schema = answered["schema"].clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let faults: Vec<String> = validator.iter_errors(&answer).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{path}: {faults:?} in {answer}");
        assert!(!validator.is_valid(&Value::Null), "{path} takes anything");
    }
}

#[tokio::test]
async fn commands_reach_the_supervisor_and_its_answers_come_back() {
    let scratch = Scratch::new("commands");
    let (shared, mut commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let client = Client::new(handle.socket());
    let supervisor = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(command) = commands.recv().await {
            match command {
                Command::Reload(_, reply) => {
                    seen.push("reload".to_owned());
                    let kernel = Applied { written: 2, removed: 1, retracted: 3 };
                    let needs_restart = vec!["/workers".to_owned()];
                    reply.send(Ok(shared::Reloaded { generation: 8, kernel, needs_restart, held: None })).unwrap();
                }
                Command::StopWorker(n, reply) => {
                    seen.push(format!("stop {n}"));
                    reply.send(if n < 2 { Ok(()) } else { Err("there is no worker 9".to_owned()) }).unwrap();
                }
                Command::StartWorker(n, reply) => {
                    seen.push(format!("start {n}"));
                    reply.send(Ok(())).unwrap();
                    return seen;
                }
                other => unreachable!("{other:?}"),
            }
        }
        seen
    });

    let done: Reloaded = client.call(Method::POST, "/v1/reload", Vec::new()).await.unwrap();
    assert_eq!((done.generation, done.written, done.removed, done.retracted), (8, 2, 1, 3));
    assert_eq!(done.needs_restart, ["/workers"]);
    let done: Done = client.call(Method::POST, "/v1/workers/1/stop", Vec::new()).await.unwrap();
    assert!(done.done.contains("worker 1"));
    let refused = client.call::<Done>(Method::POST, "/v1/workers/9/stop", Vec::new()).await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused { status: StatusCode::CONFLICT, error, .. } if error.contains("no worker 9"))
    );
    let _: Done = client.call(Method::POST, "/v1/workers/1/start", Vec::new()).await.unwrap();
    assert_eq!(supervisor.await.unwrap(), ["reload", "stop 1", "stop 9", "start 1"]);

    // The supervisor is gone now: the daemon is shutting down.
    let refused = client.call::<Reloaded>(Method::POST, "/v1/reload", Vec::new()).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. }), "{refused}");
}

#[tokio::test]
async fn what_needs_the_kernel_half_says_why_it_is_missing() {
    let scratch = Scratch::new("no-kernel");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let client = Client::new(handle.socket());
    let add = br#"{"source":"192.0.2.1","ttl":"1m"}"#.to_vec();
    let calls = [
        (Method::GET, "/v1/verdicts", Vec::new()),
        (Method::GET, "/v1/counters", Vec::new()),
        (Method::POST, "/v1/verdicts", add),
        (Method::DELETE, "/v1/verdicts/192.0.2.1", Vec::new()),
    ];
    for (method, path, body) in calls {
        let refused = client.call::<Verdicts>(method.clone(), path, body).await.unwrap_err();
        let text = refused.to_string();
        assert!(
            matches!(refused, ClientError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. }),
            "{method} {path}"
        );
        assert!(text.contains(MISSING) && text.contains("CAP_BPF"), "{text}");
    }
}

#[tokio::test]
async fn bad_requests_are_answered_as_json_with_a_hint() {
    let scratch = Scratch::new("bad");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let long = format!("POST /v1/verdicts HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", MAX_BODY_BYTES + 1);
    let mut too_large = long.into_bytes();
    too_large.resize(too_large.len() + MAX_BODY_BYTES + 1, b' ');
    let rows: [(&[u8], u16); 4] = [
        (b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"PUT /v1/status HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"POST /v1/verdicts HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", 400),
        (&too_large, 413),
    ];
    for (request, status) in rows {
        let answer = raw(&handle, request).await;
        assert_eq!(status_of(&answer), Some(status), "{}", String::from_utf8_lossy(&answer));
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| &answer[at + 4..]).unwrap();
        let fault: Value = serde_json::from_slice(body).unwrap();
        assert!(fault["error"].as_str().is_some_and(|e| !e.is_empty()), "{fault}");
        assert!(fault["hint"].as_str().is_some_and(|h| !h.is_empty()), "{fault}");
    }
}

#[tokio::test]
async fn malformed_http_is_answered_and_the_next_request_served() {
    let scratch = Scratch::new("malformed");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let many = format!("GET /v1/status HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(40_000));
    let rows: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/status\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        many.as_bytes(),
        long.as_bytes(),
    ];
    for bytes in rows {
        let answer = raw(&handle, bytes).await;
        let status = status_of(&answer).unwrap_or_default();
        assert!((400..500).contains(&status), "{bytes:.60?}: {}", String::from_utf8_lossy(&answer));
    }
    let _: Status = Client::new(handle.socket()).call(Method::GET, "/v1/status", Vec::new()).await.unwrap();
}

#[tokio::test]
async fn random_bytes_never_take_the_api_down() {
    const ROUNDS: u64 = 400;
    let scratch = Scratch::new("random");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let whole =
        b"DELETE /v1/verdicts/2001%3Adb8%3A%3A1 HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n{\"a\"".to_vec();
    for round in 0..ROUNDS {
        // Half the rounds send noise, half a sound request with some bytes changed and the end cut off.
        let bytes = if round % 2 == 0 {
            (0..next() % 300).map(|_| next().to_le_bytes()[0]).collect()
        } else {
            let mut bytes = whole.clone();
            for _ in 0..=next() % 4 {
                let at = usize::try_from(next()).unwrap() % bytes.len();
                bytes[at] = next().to_le_bytes()[0];
            }
            bytes.truncate(usize::try_from(next()).unwrap() % (bytes.len() + 1));
            bytes
        };
        let answer = raw(&handle, &bytes).await;
        let status = status_of(&answer);
        assert!(answer.is_empty() || status.is_some_and(|s| (400..=503).contains(&s)), "{bytes:?} -> {answer:?}");
    }
    let _: Status = Client::new(handle.socket()).call(Method::GET, "/v1/status", Vec::new()).await.unwrap();
}

#[tokio::test]
async fn silent_peers_are_closed_and_give_their_place_back() {
    let scratch = Scratch::new("silent");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(UnixStream::connect(handle.socket()).await.unwrap());
    }
    let client = Client::new(handle.socket());
    let waited = tokio::time::timeout(READ_TIMEOUT * 2, client.call::<Status>(Method::GET, "/v1/status", Vec::new()));
    assert!(waited.await.expect("a place must come free").is_ok());
}

#[tokio::test]
async fn the_socket_file_goes_with_the_handle() {
    let scratch = Scratch::new("gone");
    let (shared, _commands) = shared(&scratch);
    let handle = control::start(shared).unwrap();
    let path = handle.socket().to_owned();
    assert!(path.exists());
    drop(handle);
    assert!(!path.exists());
    // The tasks end at the runtime's next turn.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let absent = Client::new(&path).call::<Status>(Method::GET, "/v1/status", Vec::new()).await.unwrap_err();
    assert!(absent.to_string().contains("is tidegate running?"), "{absent}");
}
