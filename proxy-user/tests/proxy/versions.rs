//! HTTP/2 and HTTP/3, TLS, certificates by name.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::edge::{Edge, wait_for, write_certificate};
use crate::origin::Origin;
use crate::python;

#[test]
fn each_version_by_its_own_means() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let version = |arguments: &[&str]| {
        let arguments: Vec<_> =
            arguments.iter().copied().chain(["-o", "/dev/null", "-w", "%{http_version} %{http_code}"]).collect();
        edge.curl(&arguments, "/name")
    };
    assert_eq!(version(&["--http1.1"]), "1.1 200");
    assert_eq!(version(&["--http2"]), "2 200");
    assert_eq!(version(&["--tls-max", "1.2"]), "2 200");
    let head = edge.curl(&["--http2", "-D", "-", "-o", "/dev/null"], "/name");
    assert!(head.contains(&format!("alt-svc: h3=\":{}\"; ma=86400", edge.https.port())), "{head}");
    assert!(head.contains("via: 1.1 tidegate") && head.contains("x-request-id: "), "{head}");
    let seen = edge.curl(&["--http2", "-d", "some body"], "/see");
    assert!(seen.to_lowercase().contains("\nhost: first.test:") && seen.contains("\nvia: 2 tidegate\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https") && seen.contains("\n--body--\nsome body\n"), "{seen}");
    // In clear, by its preface.
    let clear = std::process::Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-w", " %{http_version}", &format!("http://{}/name", edge.http)])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&clear.stdout), "a 2");
    // Workers write in no common order.
    let mut versions: Vec<_> = edge.access_log(6).iter().map(|line| line["version"].to_string()).collect();
    versions.sort();
    assert_eq!(versions, ["\"h1\"", "\"h2\"", "\"h2\"", "\"h2\"", "\"h2\"", "\"h2\""]);
}

#[test]
fn the_most_urgent_stream_passes_the_others() {
    const SIZE: usize = 12_000_000;
    /// What the sockets hold of the others' when the urgent one begins, and room for a busy machine.
    const MEANWHILE: u64 = 4_000_000;
    /// What the others have while one of equals comes, which would be three times its size if all began at once.
    const ALIKE: u64 = 24_000_000;
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["workers"] = json!(1);
        config["routes"] = json!([{ "files": { "root": "." } }]);
        // Less than the slow client needs for one answer.
        config["timeouts"] = json!({ "send": "1s" });
    });
    std::fs::write(edge.directory().join("large.bin"), vec![b'x'; SIZE]).unwrap();
    let run = |mode| -> Value {
        let said = python::run("h2_streams.py", &[mode, &edge.http.to_string(), "/large.bin"]);
        serde_json::from_str(&said).unwrap()
    };
    // Those that wait for the others meanwhile are no slow readers.
    for mode in ["urgent", "updated", "patient"] {
        let how = run(mode);
        assert_eq!(how["came"], json!([SIZE, SIZE, SIZE, SIZE]), "{mode}: {how}");
        assert_eq!(how["ended"][0], 7, "{mode}: {how}");
        // Served in turn, the others would have had three times its size meanwhile.
        assert!(how["meanwhile"].as_u64() < Some(MEANWHILE), "{mode}: {how}");
    }
    // Those that are alike come along with each other.
    let how = run("equal");
    assert_eq!(how["came"], json!([SIZE, SIZE, SIZE, SIZE]), "{how}");
    let meanwhile = how["meanwhile"].as_u64().unwrap();
    assert!((ALIKE..=3 * SIZE as u64).contains(&meanwhile), "{how}");
}

#[tokio::test]
async fn http2_streams_and_keeps_trailers() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let stream = tokio::net::TcpStream::connect(edge.http).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| http::Request::builder().uri(format!("http://a.test{path}")).header("te", "trailers");

    let frames = [
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from("one "))),
        Ok(http_body::Frame::data(Bytes::from("two"))),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let sent = sender.send_request(request("/see").method("POST").body(body).unwrap()).await.unwrap();
    let seen = String::from_utf8(sent.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(seen.contains("\n--body--\none two\n") && seen.contains("transfer-encoding: chunked"), "{seen}");

    let empty = || Full::new(Bytes::new()).boxed();
    let answer = sender.send_request(request("/chunked-with-trailers").body(empty()).unwrap()).await.unwrap();
    let collected = answer.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
    assert_eq!(collected.to_bytes(), "hello");

    let begun = Instant::now();
    let mut slow =
        sender.send_request(request("/first-then-wait=3000").body(empty()).unwrap()).await.unwrap().into_body();
    assert_eq!(slow.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    // Another stream is not held up by it.
    let quick = sender.send_request(request("/name").body(empty()).unwrap()).await.unwrap();
    assert_eq!(quick.into_body().collect().await.unwrap().to_bytes(), "a");
    assert!(begun.elapsed() < Duration::from_millis(2900));
    assert_eq!(slow.collect().await.unwrap().to_bytes(), "-last");

    // Fields that HTTP/2 does not have are refused, and a response that breaks off is not taken for a whole one.
    let broken = sender.send_request(request("/half-then-close").body(empty()).unwrap()).await.unwrap();
    assert!(broken.into_body().collect().await.is_err());
}

#[test]
fn certificates_by_name_and_exchanged_without_a_restart() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let second = edge.directory().join("second");
    std::fs::create_dir(&second).unwrap();
    write_certificate(&second, "second.test");
    let mut edge = edge;
    edge.reload(|config| {
        config["certificates"] = json!([{ "cert": "cert.pem", "key": "key.pem" },
            { "cert": "second/cert.pem", "key": "second/key.pem" }]);
    });
    edge.wait_log("reloaded", 1);
    assert_eq!(subject_names(&edge, "first.test"), "first.test");
    assert_eq!(subject_names(&edge, "www.second.test"), "second.test");
    assert_eq!(subject_names(&edge, "unknown.test"), "first.test");

    // A connection that is open stays; new handshakes get the new certificate.
    let mut open = edge.connect();
    assert_eq!(open.get("/name").status, 200);
    write_certificate(&second, "third.test");
    wait_for("the new certificate", || {
        let found = subject_names(&edge, "third.test");
        if found == "third.test" { Ok(()) } else { Err(found) }
    });
    // A broken file keeps what is there, and says so.
    std::fs::write(second.join("cert.pem"), "-----BEGIN CERTIFICATE-----\nbroken").unwrap();
    edge.wait_log("certificates not read again, the old ones stay in force", 1);
    edge.wait_log("second/cert.pem", 1);
    assert_eq!(subject_names(&edge, "third.test"), "third.test");
    assert_eq!(open.get("/name").status, 200);
}

/// First DNS name of the certificate that a client who asks for `name` is shown.
fn subject_names(edge: &Edge, name: &str) -> String {
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "openssl s_client -connect {} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName",
            edge.https
        ))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.split("DNS:").nth(1).unwrap_or(&text);
    names.split(',').next().unwrap_or_default().trim().to_owned()
}

#[test]
fn an_https_origin_is_checked() {
    let origin = Origin::start("behind");
    // Another daemon is the TLS origin: its certificate is for first.test.
    let inner = Edge::start(origin.address, |_| {});
    let authority = inner.directory().join("cert.pem");
    let outer = Edge::start(inner.https, |config| {
        let server = format!("https://{}", inner.https);
        config["upstreams"] = json!({
            "good": { "servers": [server], "ca": authority, "server_name": "first.test" },
            "wrong-name": { "servers": [server], "ca": authority, "server_name": "other.test" },
            "untrusted": { "servers": [server], "ca": "cert.pem", "server_name": "first.test" },
        });
        config["routes"] = json!([{ "path": "/name", "upstream": "good" },
            { "path": "/wrong", "upstream": "wrong-name" }, { "path": "/untrusted", "upstream": "untrusted" }]);
    });
    let mut client = outer.connect();
    assert_eq!(client.get("/name").body, "behind");
    assert_eq!(client.get("/wrong").status, 503);
    assert_eq!(client.get("/untrusted").status, 503);
    assert_eq!(client.get("/name").body, "behind");
    assert_eq!(inner.access_log(2)[0]["version"], "h1");
}
