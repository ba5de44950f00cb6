//! Prometheus metrics on their own TCP listener. What is told stands in `collector`; this file only serves it.

mod collector;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use anyhow::Context as _;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::control::serve::{self, ACCEPT_PAUSE, Answer};
use crate::shared::Shared;
use collector::Collector;

/// Prefix of every metric's name.
pub const PREFIX: &str = "tidegate";
/// The `OpenMetrics` text format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Type of what is not metrics.
const PLAIN: &str = "text/plain; charset=utf-8";

/// Opens the metrics listener.
///
/// # Errors
/// The address cannot be had.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = StdListener::bind(address).with_context(|| format!("cannot bind {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// Answers scrapes until the task is aborted.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let registry = Arc::new(registry(shared));
    let places = serve::places();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = Arc::clone(&registry);
                serve::spawn(stream, place, move |request| answer(Arc::clone(&registry), request));
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics listener could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A registry whose one collector reads `shared` at each scrape.
pub fn registry(shared: Arc<Shared>) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Collector::new(shared)));
    registry
}

/// All metrics as text, `# EOF` included.
///
/// # Errors
/// Only what writing to a string can fail with.
pub fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

async fn answer(registry: Arc<Registry>, request: Request<Incoming>) -> Answer {
    if request.uri().path() != "/metrics" {
        return serve::answer(StatusCode::NOT_FOUND, PLAIN, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = serve::answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "use GET\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    // Reading the kernel's per-CPU counters is a few dozen system calls: not on the thread that hears signals.
    match tokio::task::spawn_blocking(move || text(&registry)).await {
        Ok(Ok(text)) => serve::answer(StatusCode::OK, CONTENT_TYPE, text),
        Ok(Err(_)) | Err(_) => {
            serve::answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "the metrics could not be written\n")
        }
    }
}
