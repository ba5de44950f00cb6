//! The command line's end of the admin socket: one request, one answer, and errors that say what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::wire::Fault;

/// An answer must be complete by then; a reload may wait for its turn.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest answer that is taken, in bytes: a full verdict table has about 200 bytes an entry.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// Speaks to the daemon behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens.
    #[error(
        "cannot reach tidegate at {}: {cause}\nis tidegate running? `systemctl status tidegate` shows it; another socket is named with --socket PATH (`admin.socket` in the config)",
        .socket.display()
    )]
    Absent {
        /// The socket's path.
        socket: PathBuf,
        /// What the system said; not named `source`, so that it is told once.
        cause: io::Error,
    },
    /// The socket may not be opened.
    #[error(
        "not permitted to reach tidegate at {}\nrun as root, or as a member of the group that owns the socket",
        .socket.display()
    )]
    Denied {
        /// The socket's path.
        socket: PathBuf,
    },
    /// The daemon refused the call.
    #[error("{error}\n{hint}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What is wrong.
        error: String,
        /// What to do next.
        hint: String,
    },
    /// What came back is not the admin API's.
    #[error(
        "what answers at {} does not speak tidegate's admin API ({detail})\nis it the socket of another program, or of another version of tidegate?",
        .socket.display()
    )]
    Foreign {
        /// The socket's path.
        socket: PathBuf,
        /// What was wrong with it.
        detail: String,
    },
}

impl Client {
    /// A client for the daemon behind `socket`; connects at each call.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and reads the answer as JSON. `path` starts with `/v1/`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, ClientError> {
        let (status, answer) = match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(method, path, body)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.foreign(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        };
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|e| self.foreign(e.to_string()));
        }
        match serde_json::from_slice::<Fault>(&answer) {
            Ok(fault) => Err(ClientError::Refused { status, error: fault.error, hint: fault.hint }),
            Err(_) => Err(self.foreign(format!("status {status}"))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), ClientError> {
        let broken = |e: hyper::Error| self.foreign(e.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|e: http::uri::InvalidUri| self.foreign(e.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("tidegate"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        connection.abort();
        Ok((status, body.map_err(|e| self.foreign(e.to_string()))?.to_bytes()))
    }

    fn unreachable(&self, cause: io::Error) -> ClientError {
        let socket = self.socket.clone();
        if cause.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Denied { socket }
        } else {
            ClientError::Absent { socket, cause }
        }
    }

    fn foreign(&self, detail: String) -> ClientError {
        ClientError::Foreign { socket: self.socket.clone(), detail }
    }
}
