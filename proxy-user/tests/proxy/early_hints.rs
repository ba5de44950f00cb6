//! 103 Early Hints of origins: who gets them, when, and what of them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;
use tokio::sync::Notify;

use crate::edge::Edge;
use crate::http3;
use crate::origin::Origin;
use crate::python::Program;

fn hinting(origin: SocketAddr, scheme: &str) -> Edge {
    Edge::start(origin, |config| {
        config["upstreams"]["origin"]["servers"] = json!([format!("{scheme}://{origin}")]);
        config["routes"][0]["early_hints"] = json!(true);
    })
}

/// The link of an interim answer.
fn link(head: &str) -> &str {
    assert!(head.starts_with("HTTP/1.1 103 Early Hints\n"), "{head}");
    assert!(!head.contains("secret"), "{head}");
    head.lines().find_map(|line| line.strip_prefix("link: ")).unwrap()
}

#[test]
fn http1_clients_get_them_before_the_answer_is_there() {
    let origin = Origin::start("answer");
    let edge = hinting(origin.address, "http");
    let mut client = edge.connect();
    for _ in 0..3 {
        client.send("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(link(&client.head()), "</a.css>; rel=preload");
        assert_eq!(link(&client.head()), "</b.css>; rel=preload");
        // The origin has not answered, and does so only now.
        origin.release();
        let reply = client.reply("GET");
        assert_eq!((reply.status, reply.body.as_str(), reply.field("link")), (200, "answer", None));
        assert_eq!(client.get("/name").body, "answer", "the connection goes on");
    }

    origin.release();
    let old = edge.connect().send("GET /hints HTTP/1.0\r\nHost: a\r\n\r\n").reply("GET");
    assert_eq!(old.status, 200, "HTTP/1.0 has no interim answers: {}", old.head);
    let without = Edge::start(origin.address, |_| {});
    origin.release();
    assert_eq!(without.get("/hints").status, 200);
}

#[test]
fn http2_clients_get_them_too() {
    let origin = Origin::start("answer");
    let edge = hinting(origin.address, "http");
    let mut client = Program::start("h2_streams.py", &["hints", &edge.http.to_string(), "/hints"]);
    // Nothing but the link goes on.
    assert_eq!(client.line(), "103 2 </a.css>; rel=preload");
    assert_eq!(client.line(), "103 2 </b.css>; rel=preload");
    origin.release();
    assert_eq!(client.line(), "200 answer");

    origin.release();
    let heads = edge.curl(&["--http2", "-D", "-", "-o", "/dev/null"], "/hints");
    let statuses: Vec<_> = heads.lines().filter(|line| line.starts_with("HTTP/2 ")).map(str::trim_end).collect();
    assert_eq!(statuses, ["HTTP/2 103", "HTTP/2 103", "HTTP/2 200"], "{heads}");
}

#[tokio::test]
async fn http3_clients_get_them_too() {
    let origin = Origin::start("answer");
    let edge = hinting(origin.address, "http");
    let (mut sender, _driver) = http3::connect_as(&edge, "first.test").await.unwrap();
    let request = http::Request::get("https://first.test/hints").body(()).unwrap();
    let mut stream = sender.send_request(request).await.unwrap();
    stream.finish().await.unwrap();
    for expected in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
        let hint = stream.recv_response().await.unwrap();
        assert_eq!((hint.status(), hint.headers()["link"].to_str().unwrap()), (StatusCode::EARLY_HINTS, expected));
    }
    origin.release();
    assert_eq!(stream.recv_response().await.unwrap().status(), StatusCode::OK);
}

/// An origin of HTTP/2 in clear that sends a hint, and its answer when it is told to.
async fn http2_origin(listener: tokio::net::TcpListener, told: Arc<Notify>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let hint = Response::builder().status(103).header("link", "</c.css>; rel=preload").header("x-secret", "1");
            respond.send_informational(hint.body(()).unwrap()).unwrap();
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                told.notified().await;
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"answer"), true).unwrap();
            });
        }
    }
}

#[test]
fn origins_of_http2_are_heard() {
    let told = Arc::new(Notify::new());
    let (address, there) = std::sync::mpsc::channel();
    let waits = Arc::clone(&told);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            http2_origin(listener, waits).await;
        });
    });
    let edge = hinting(there.recv().unwrap(), "h2c");
    let mut client = edge.connect();
    client.send("GET /c HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(link(&client.head()), "</c.css>; rel=preload");
    told.notify_one();
    assert!(client.head().starts_with("HTTP/1.1 200 OK"));
}
