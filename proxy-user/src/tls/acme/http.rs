//! Requests to an ACME server: HTTP/1.1 over TLS, a connection each. There are a dozen of them in weeks.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::client::roots;

/// Most bytes of an answer: chains are the longest.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Connects as it is asked.
pub(super) struct Direct(Arc<ClientConfig>);

impl Direct {
    /// With the authorities of a file, or the system's.
    pub fn new(ca: Option<&Path>) -> Result<Self, String> {
        let config = ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(ca, &mut Vec::new())?)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl HttpClient for Direct {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let config = Arc::clone(&self.0);
        Box::pin(async move { send(config, request).await.map_err(|error| Error::Other(error.into())) })
    }
}

async fn send(config: Arc<ClientConfig>, mut request: Request<BodyWrapper<Bytes>>) -> anyhow::Result<BytesResponse> {
    let uri = request.uri().clone();
    ensure!(uri.scheme() == Some(&Scheme::HTTPS), "the ACME server leads to {uri}, which is not https");
    let host = uri.host().context("the ACME server leads to a URL without a host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let tcp = TcpStream::connect((bare.as_str(), uri.port_u16().unwrap_or(443)))
        .await
        .with_context(|| format!("{host} cannot be reached"))?;
    let tls = TlsConnector::from(config).connect(ServerName::try_from(bare)?, tcp).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    let authority = uri.authority().map_or(host, Authority::as_str);
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority)?);
    *request.uri_mut() = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    Ok(BytesResponse::from(Response::from_parts(head, Full::new(body.to_bytes()))))
}
