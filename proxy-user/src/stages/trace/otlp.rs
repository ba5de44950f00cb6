//! Spans on their way to a collector: OTLP/HTTP with JSON bodies (OpenTelemetry protocol 1.x, `POST /v1/traces`). Requests
//! hand a span to a bounded queue; one thread sends them in batches. A collector that is slow or away costs spans, which
//! are counted, and never requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use proxy_core::config::ServerUrl;
use proxy_core::trace::Span;
use serde_json::{Value, json};

use super::{LOST, SENT};
use crate::stats::HttpVersion;

/// Spans that may wait.
const QUEUE: usize = 4_096;
/// Spans of one request to the collector.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);
/// Kind of a span: a server's.
const SERVER: u8 = 2;
/// Status of a span: an error.
const ERROR: u8 = 2;

/// One request as its span tells of it.
#[derive(Debug)]
pub(super) struct Record {
    pub span: Span,
    pub duration_us: u64,
    pub end: SystemTime,
    pub method: Method,
    pub scheme: &'static str,
    pub host: String,
    pub path: String,
    pub version: HttpVersion,
    pub client: SocketAddr,
    pub status: u16,
    pub id: HeaderValue,
    pub route: Option<String>,
    pub upstream: Option<String>,
    pub server: Option<String>,
    pub fault: Option<&'static str>,
}

/// The way to one collector.
#[derive(Debug)]
pub(super) struct Exporter {
    url: ServerUrl,
    service: String,
    /// Made with the first span: a config that is only checked sends none.
    queue: Mutex<Option<SyncSender<Record>>>,
}

impl Exporter {
    /// That of this collector and service; the same for all routes, and over reloads.
    pub(super) fn of(url: &ServerUrl, service: &str) -> Arc<Self> {
        static ALL: Mutex<BTreeMap<(String, String), Weak<Exporter>>> = Mutex::new(BTreeMap::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, held| held.strong_count() > 0);
        let key = (url.to_string(), service.to_owned());
        if let Some(held) = all.get(&key).and_then(Weak::upgrade) {
            return held;
        }
        let new = Arc::new(Self { url: url.clone(), service: service.to_owned(), queue: Mutex::default() });
        all.insert(key, Arc::downgrade(&new));
        new
    }

    /// Hands a span over, or counts it as lost.
    pub(super) fn send(&self, record: Record) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match &*queue {
            Some(sender) => sender,
            None => match self.start() {
                Ok(sender) => queue.insert(sender),
                Err(error) => {
                    tracing::error!(%error, "no thread for traces");
                    LOST.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            },
        };
        match sender.try_send(record) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn start(&self) -> std::io::Result<SyncSender<Record>> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (url, service) = (self.url.clone(), self.service.clone());
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || send_all(&url, &service, &receiver))?;
        Ok(sender)
    }
}

/// Sends until nobody hands over any more.
fn send_all(url: &ServerUrl, service: &str, receiver: &Receiver<Record>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "traces are not sent"),
    };
    let mut failing = false;
    while let Ok(first) = receiver.recv() {
        let mut batch = vec![first];
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH
            && let Ok(next) = receiver.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            batch.push(next);
        }
        let body = export(service, &batch).to_string();
        let sent = runtime.block_on(async { tokio::time::timeout(PATIENCE, post(url, body)).await });
        let outcome = sent.unwrap_or_else(|_| Err(anyhow::anyhow!("it did not answer in time")));
        match &outcome {
            Ok(()) => SENT.fetch_add(batch.len() as u64, Ordering::Relaxed),
            Err(_) => LOST.fetch_add(batch.len() as u64, Ordering::Relaxed),
        };
        let failed = outcome.is_err();
        match outcome {
            Ok(()) if failing => tracing::info!(collector = %url, "the collector takes spans again"),
            Err(error) if !failing => {
                let error = format!("{error:#}");
                tracing::warn!(collector = %url, error, "spans are lost until the collector takes them");
            }
            _ => {}
        }
        failing = failed;
    }
}

async fn post(url: &ServerUrl, body: String) -> anyhow::Result<()> {
    let stream = tokio::net::TcpStream::connect((url.host.as_str(), url.port)).await.context("connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post("/v1/traces")
        .header(HOST, &url.authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    // The connection ends with this request.
    let driven = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    driven.abort();
    let status = answer?.status();
    ensure!(status.is_success(), "it answered {status}");
    Ok(())
}

/// An `ExportTraceServiceRequest`; numbers of 64 bits are texts, ids hexadecimal (OTLP specification, JSON encoding).
fn export(service: &str, batch: &[Record]) -> Value {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let resource = [text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))];
    let spans: Vec<Value> = batch.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "tidegate" }, "spans": spans }],
    }] })
}

/// Attributes are named by OpenTelemetry's conventions for HTTP where they have a name.
fn span(record: &Record) -> Value {
    let end = record.end.duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = end.saturating_sub(Duration::from_micros(record.duration_us));
    let mut attributes = Vec::new();
    let mut text = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            attributes.push(json!({ "key": key, "value": { "stringValue": value } }));
        }
    };
    text("http.request.method", Some(record.method.as_str()));
    text("url.scheme", Some(record.scheme));
    text("server.address", Some(&record.host));
    text("url.path", Some(&record.path));
    text("network.protocol.version", Some(record.version.name().trim_start_matches('h')));
    text("client.address", Some(&record.client.ip().to_string()));
    text("http.route", record.route.as_deref());
    text("tidegate.request_id", record.id.to_str().ok());
    text("tidegate.upstream", record.upstream.as_deref());
    text("tidegate.server", record.server.as_deref());
    text("error.type", record.fault);
    attributes.push(json!({ "key": "http.response.status_code", "value": { "intValue": record.status.to_string() } }));
    let name =
        record.route.as_deref().map_or_else(|| record.method.to_string(), |route| format!("{} {route}", record.method));
    let mut span = json!({
        "traceId": record.span.trace.to_string(),
        "spanId": record.span.id.to_string(),
        "name": name,
        "kind": SERVER,
        "startTimeUnixNano": start.as_nanos().to_string(),
        "endTimeUnixNano": end.as_nanos().to_string(),
        "attributes": attributes,
    });
    if let (Some(parent), Some(fields)) = (record.span.parent, span.as_object_mut()) {
        fields.insert("parentSpanId".to_owned(), parent.to_string().into());
    }
    if let (true, Some(fields)) = (record.status >= 500, span.as_object_mut()) {
        fields.insert("status".to_owned(), json!({ "code": ERROR }));
    }
    span
}
