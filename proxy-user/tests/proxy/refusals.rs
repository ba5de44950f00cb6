//! What policies do instead of answering: connections that are reset or held, and work to do first.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::edge::{Edge, wait_for};
use crate::http3::{connect_as, get};
use crate::origin::Origin;
use crate::policies::with_rules;

/// Whether a connection is reset, rather than closed, after a request for `path`.
fn is_reset(edge: &Edge, path: &str) -> bool {
    let mut client = edge.connect();
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    matches!(client.stream.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn connections_are_reset_and_held() {
    let (_origin, edge) = with_rules(
        "reset",
        &json!([
            { "id": "reset", "when": "http.request.uri.path eq \"/reset\"", "action": { "type": "reset" } },
            { "id": "hold", "when": "http.request.uri.path eq \"/hold\"", "action": { "type": "tarpit", "hold": "1s" } },
            { "id": "tls", "when": "tls.client.sni eq \"bad.test\"", "action": { "type": "reset" } },
            { "id": "slow", "when": "tls.client.sni eq \"slow.test\"", "action": { "type": "tarpit", "hold": "1s" } },
        ]),
    );
    assert!(is_reset(&edge, "/reset"));
    let begun = std::time::Instant::now();
    assert!(is_reset(&edge, "/hold"));
    assert!(begun.elapsed().as_millis() >= 1_000, "{:?}", begun.elapsed());
    assert_eq!(edge.get("/other").status, 200);
    let curl = |host: &str, arguments: &[&str], path: &str| {
        let resolve = format!("{host}:{}:127.0.0.1", edge.https.port());
        let url = format!("https://{host}:{}{path}", edge.https.port());
        let output = Command::new("curl")
            .args(["-sSk", "--max-time", "30", "--resolve", &resolve, &url])
            .args(arguments)
            .output();
        String::from_utf8_lossy(&output.unwrap().stderr).into_owned()
    };
    for host in ["bad.test", "slow.test"] {
        let error = curl(host, &[], "/");
        assert!(error.contains("reset by peer"), "{host}: {error}");
    }
    let error = curl("first.test", &["--http2"], "/reset");
    assert!(error.starts_with("curl: ("), "{error}");
    let log = edge.access_log(6);
    let of = |rule: &str| {
        log.iter().filter(|line| line["rule"] == rule).map(|line| line["action"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((of("p/reset"), of("p/hold")), (vec!["reset"; 2], vec!["tarpit"]));
    assert_eq!((of("p/tls"), of("p/slow")), (vec!["reset"], vec!["tarpit"]));
    assert!(
        log.iter().all(|line| line["rule"].is_null() || (line["status"] == 0 && line["error"].is_null())),
        "{log:#?}"
    );
}

#[test]
fn nobody_is_held_beyond_the_places() {
    let hold = json!([{ "id": "hold", "when": "true", "action": { "type": "tarpit", "hold": "5m" } }]);
    let origin = crate::origin::Origin::start("a");
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": hold });
    let file = std::env::temp_dir().join(format!("tidegate-tarpit-{}.json", std::process::id()));
    std::fs::write(&file, policy.to_string()).unwrap();
    let edge = Edge::start(origin.address, |config| {
        config["policies"] = json!([file]);
        config["workers"] = json!(1);
        config["limits"] = json!({ "tarpit": 2 });
    });
    std::fs::remove_file(file).unwrap();
    // Two are held, whichever of three come first; the third is told at once.
    let mut clients = [0; 3].map(|_| edge.connect());
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.stream.set_nonblocking(true).unwrap();
    }
    wait_for("a reset", || {
        let ended = clients.iter_mut().filter_map(|client| client.stream.read(&mut [0; 1]).err());
        let reset = ended.filter(|error| error.kind() == ErrorKind::ConnectionReset).count();
        if reset == 1 { Ok(()) } else { Err(format!("{reset} of them")) }
    });
}

#[tokio::test]
async fn requests_of_http3_too() {
    let (_origin, edge) = with_rules(
        "reset-quic",
        &json!([{ "id": "reset", "when": "http.request.uri.path eq \"/reset\"", "action": { "type": "reset" } }]),
    );
    let (mut sender, driver) = connect_as(&edge, "first.test").await.unwrap();
    assert_eq!(get(&mut sender, "/see").await.0.status(), 200);
    let request = http::Request::get("https://first.test/reset").body(()).unwrap();
    let mut stream = sender.send_request(request).await.unwrap();
    // The end may be known before the request is out.
    let _ = stream.finish().await;
    assert!(stream.recv_response().await.is_err());
    tokio::time::timeout(crate::edge::PATIENCE, driver).await.expect("the connection ends").unwrap();
}

#[test]
fn work_is_done_by_the_pages_script() {
    let origin = Origin::start("a");
    let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": [{
        "id": "work", "when": "starts_with(http.request.uri.path, \"/s\")",
        "action": { "type": "challenge", "difficulty": 10, "pass_for": "1h" },
    }] });
    let file = std::env::temp_dir().join(format!("tidegate-policy-{}-challenge.json", std::process::id()));
    std::fs::write(&file, policy.to_string()).unwrap();
    let mut edge = Edge::start(origin.address, |config| config["policies"] = json!([file]));
    let mut client = edge.connect();
    let page = client.get("/see");
    assert_eq!((page.status, page.field("content-type")), (403, Some("text/html; charset=utf-8")));
    assert!(page.field("content-security-policy").is_some_and(|policy| policy.contains("script-src 'sha256-")));
    // A browser's part: the script with a document of its own.
    let (_, script) = page.body.split_once("<script>").unwrap();
    let (script, _) = script.split_once("</script>").unwrap();
    let data =
        |name: &str| page.body.split_once(&format!("data-{name}=\"")).unwrap().1.split('"').next().unwrap().to_owned();
    let dataset = json!({ "token": data("token"), "difficulty": data("difficulty"), "cookie": data("cookie"),
        "attributes": data("attributes") });
    let program = format!(
        "let jar = ''; const said = {{ dataset: {dataset} }};
         globalThis.document = {{ getElementById: () => said, get cookie() {{ return jar; }}, set cookie(c) {{ jar = c; }} }};
         globalThis.location = {{ reload() {{ console.log(jar); }} }};
         {script}"
    );
    let mut node = Command::new("node")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is needed: apt-get install nodejs");
    node.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    let cookie = String::from_utf8(output.stdout).unwrap();
    let (cookie, attributes) = cookie.trim().split_once("; ").expect("a cookie");
    assert_eq!(attributes, "path=/; samesite=lax; max-age=3600");
    let with = |client: &mut crate::edge::Client, cookie: &str| {
        client.send(&format!("GET /see HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).reply("GET").status
    };
    assert_eq!(with(&mut client, cookie), 200);
    assert_eq!(with(&mut client, &cookie.replace(".10.", ".11.")), 403, "another task");
    assert_eq!(client.get("/see").status, 403, "without it");
    drop(client);
    edge.restart();
    assert_eq!(with(&mut edge.connect(), cookie), 200, "the key outlives the daemon");
    let kept = edge.directory().join("state/challenge.key");
    let mode = std::fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    // Another host with the same key and policy.
    let twin = Edge::start(origin.address, |config| {
        config["policies"] = json!([file]);
        config["challenge_key"] = json!(kept);
    });
    assert_eq!(with(&mut twin.connect(), cookie), 200, "a fleet shares its key");
    assert_eq!(twin.get("/see").status, 403);
    assert!(!twin.directory().join("state/challenge.key").exists(), "it keeps none of its own");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn rates_by_another_key_and_for_a_time() {
    let (_origin, edge) = with_rules(
        "keys",
        &json!([{ "id": "keys", "when": "true", "action": { "type": "block", "status": 429 }, "rate": {
            "key": ["http.request.headers[\"x-key\"][0]"], "limit": 2, "period": "1s", "mitigation_timeout": "1d" } }]),
    );
    let mut client = edge.connect();
    let mut with =
        |key: &str| client.send(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n")).reply("GET").status;
    // However slowly they come, three of one second are among so many.
    wait_for("a limit that is reached", || match with("a") {
        429 => Ok(()),
        status => Err(status.to_string()),
    });
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    assert_eq!(with("a"), 429, "two periods later");
    assert_eq!(with("b"), 200);
}
