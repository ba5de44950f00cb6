//! HTTP/3: bodies, trailers, drain. The client is quinn with h3; clients of other make are in the end-to-end tests.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::client::{RequestStream, SendRequest};
use http::{HeaderMap, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;

use crate::edge::{Edge, wait_for};
use crate::origin::Origin;
use crate::tls::authority::Pair;
use crate::tls::client;

pub type Sender = SendRequest<h3_quinn::OpenStreams, Bytes>;
type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A client that trusts the daemon's certificate and nothing else.
async fn connect(edge: &Edge) -> (Sender, tokio::task::JoinHandle<()>) {
    connect_as(edge, "first.test").await.unwrap()
}

/// The same, by another name.
pub async fn connect_as(
    edge: &Edge,
    name: &str,
) -> Result<(Sender, tokio::task::JoinHandle<()>), quinn::ConnectionError> {
    connect_with(edge, name, None).await
}

/// The same, with a certificate of its own.
pub async fn connect_with(
    edge: &Edge,
    name: &str,
    pair: Option<&Pair>,
) -> Result<(Sender, tokio::task::JoinHandle<()>), quinn::ConnectionError> {
    let (endpoint, quic) = quic(edge, name, pair).await?;
    let begun = h3::client::new(h3_quinn::Connection::new(quic.clone())).await;
    let Ok((mut driver, sender)) = begun else { return Err(quic.closed().await) };
    let driver = tokio::spawn(async move {
        // Ends with the connection, in whatever way.
        drop(std::future::poll_fn(|cx| driver.poll_close(cx)).await);
        drop(endpoint);
    });
    Ok((sender, driver))
}

/// A QUIC connection of such a client, on which nothing has been said, and its endpoint.
pub async fn quic(
    edge: &Edge,
    name: &str,
    pair: Option<&Pair>,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    quic_over(edge, name, pair, quinn::TransportConfig::default()).await
}

/// The same over a transport with such bounds.
pub async fn quic_over(
    edge: &Edge,
    name: &str,
    pair: Option<&Pair>,
    transport: quinn::TransportConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    let mut tls = rustls::ClientConfig::clone(&client(edge, pair));
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    let quic = endpoint.connect(edge.https, name).unwrap().await?;
    Ok((endpoint, quic))
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("https://first.test{path}"))
        .header("te", "trailers")
        .body(())
        .unwrap()
}

async fn read(stream: &mut Stream) -> Result<(String, Option<HeaderMap>), h3::error::StreamError> {
    let mut body = String::new();
    while let Some(mut piece) = stream.recv_data().await? {
        body.push_str(std::str::from_utf8(&piece.copy_to_bytes(piece.remaining())).unwrap());
    }
    Ok((body, stream.recv_trailers().await?))
}

pub async fn get(sender: &mut Sender, path: &str) -> (Response<()>, String, Option<HeaderMap>) {
    let mut stream = sender.send_request(request("GET", path)).await.unwrap();
    stream.finish().await.unwrap();
    let head = stream.recv_response().await.unwrap();
    let (body, trailers) = read(&mut stream).await.unwrap();
    (head, body, trailers)
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |_| {});
    let (mut sender, _driver) = connect(&edge).await;

    let (head, seen, _) = get(&mut sender, "/see?q=1").await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["alt-svc"], format!("h3=\":{}\"; ma=86400", edge.https.port()));
    assert!(seen.starts_with("GET /see?q=1 HTTP/1.1\n") && seen.contains("\nvia: 3 tidegate\n"), "{seen}");
    assert!(seen.contains("\nhost: first.test\n") && seen.contains("\nx-forwarded-for: 127.0.0.1\n"), "{seen}");
    assert!(!seen.contains("transfer-encoding") && !seen.contains("content-length"), "a GET has no body: {seen}");

    let (_, body, trailers) = get(&mut sender, "/chunked-with-trailers").await;
    assert_eq!((body.as_str(), &trailers.unwrap()["x-sum"]), ("hello", &http::HeaderValue::from_static("42")));
    assert_eq!(get(&mut sender, "/large=3000000").await.1.len(), 3_000_000);
    assert_eq!(get(&mut sender, "/no-content").await.0.status(), 204);

    let mut posted = request("POST", "/x");
    posted.headers_mut().insert("trailer", "x-check".parse().unwrap());
    let mut stream = sender.send_request(posted).await.unwrap();
    stream.send_data(Bytes::from("one ")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.send_data(Bytes::from("two")).await.unwrap();
    let trailers = HeaderMap::from_iter([("x-check".parse().unwrap(), "ok".parse().unwrap())]);
    stream.send_trailers(trailers).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 200);
    let (seen, _) = read(&mut stream).await.unwrap();
    assert!(seen.contains("\n--body--\none two\n") && seen.ends_with("--trailers--\nx-check: ok\n"), "{seen}");

    // Cut off at the origin: the client must not take it for a whole response.
    let mut stream = sender.send_request(request("GET", "/half-then-close")).await.unwrap();
    stream.finish().await.unwrap();
    // The reset may overtake the header.
    assert!(stream.recv_response().await.is_err() || read(&mut stream).await.is_err());
    assert_eq!(get(&mut sender, "/name").await.1, "a");
    assert_eq!(edge.access_log(6)[0]["version"], "h3");
}

#[tokio::test]
async fn limits_hold() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| {
        config["limits"] = serde_json::json!({ "body": 1000, "headers": 20, "header_bytes": 8192 });
    });
    let (mut sender, _driver) = connect(&edge).await;
    let mut stream = sender.send_request(request("POST", "/x")).await.unwrap();
    for _ in 0..3 {
        stream.send_data(Bytes::from(vec![b'x'; 500])).await.unwrap();
    }
    assert_eq!(stream.recv_response().await.unwrap().status(), 413);
    let mut many = request("GET", "/name");
    for n in 0..30 {
        many.headers_mut().insert(http::HeaderName::try_from(format!("x-{n}")).unwrap(), "1".parse().unwrap());
    }
    let mut stream = sender.send_request(many).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(stream.recv_response().await.unwrap().status(), 431);
    assert_eq!(get(&mut sender, "/name").await.1, "a");
}

#[tokio::test]
async fn a_drain_finishes_open_streams() {
    let origin = Origin::start("a");
    let mut edge = Edge::start(origin.address, |_| {});
    let (mut sender, _driver) = connect(&edge).await;
    let mut slow = sender.send_request(request("GET", "/first-then-wait=1200")).await.unwrap();
    slow.finish().await.unwrap();
    assert_eq!(slow.recv_response().await.unwrap().status(), 200);
    edge.signal("TERM");
    edge.wait_log("draining", 1);
    assert_eq!(read(&mut slow).await.unwrap().0, "first-last");
    tokio::task::spawn_blocking(move || {
        assert!(edge.wait_end());
        wait_for("the port to be free", || std::net::UdpSocket::bind(edge.https).map_err(|error| error.to_string()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_says_that_it_leaves_is_let_go() {
    let origin = Origin::start("a");
    let edge = Edge::start(origin.address, |config| config["timeouts"] = serde_json::json!({ "idle": "10m" }));
    let (_endpoint, quic) = quic(&edge, "first.test", None).await.unwrap();
    let mut control = quic.open_uni().await.unwrap();
    // GOAWAY behind the settings.
    control.write_all(&[0, 4, 0, 7, 1, 0]).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), quic.closed()).await.expect("its end in time");
    let quinn::ConnectionError::ApplicationClosed(close) = ended else { panic!("{ended}") };
    // `H3_NO_ERROR` (RFC 9114 section 8.1).
    assert_eq!(close.error_code, 0x100_u32.into());
}
