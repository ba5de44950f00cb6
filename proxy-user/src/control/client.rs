//! The command line's end of the admin socket: one request, one answer, and errors that say what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::wire::Fault;

/// An answer must be complete by then; a reload may wait for its turn.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest answer that is taken, in bytes: a full verdict table has about 200 bytes an entry.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// Longest line of a stream, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;

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
    /// A stream is over.
    #[error(
        "tidegate has ended the stream: it was stopped or has restarted\nrun the command again when `tidegate status` answers"
    )]
    Ended,
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

/// Carries a connection.
type Task = JoinHandle<hyper::Result<()>>;

/// Lines as they come. Dropping it ends the connection.
#[derive(Debug)]
pub struct Lines {
    client: Client,
    body: Incoming,
    /// What came in and is not a whole line yet.
    text: Vec<u8>,
    connection: Task,
}

impl Lines {
    /// The next line. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// The daemon ended the stream, or what came is not such a line.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|e| self.client.foreign(e.to_string()));
            }
            if self.text.len() > MAX_LINE_BYTES {
                return Err(self.client.foreign(format!("a line is longer than {MAX_LINE_BYTES} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                // Also a connection that breaks off: the daemon is the only one at its other end.
                None | Some(Err(_)) => return Err(ClientError::Ended),
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.connection.abort();
    }
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
        Err(self.refused(status, &answer))
    }

    /// Asks for lines of JSON that come as things happen.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        let (response, connection) =
            match tokio::time::timeout(ANSWER_TIMEOUT, self.send(Method::GET, path, Vec::new())).await {
                Ok(answer) => answer?,
                Err(_) => return Err(self.foreign(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
            };
        let status = response.status();
        if !status.is_success() {
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            connection.abort();
            return Err(self.refused(status, &body.map_err(|e| self.foreign(e.to_string()))?.to_bytes()));
        }
        Ok(Lines { client: self.clone(), body: response.into_body(), text: Vec::new(), connection })
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), ClientError> {
        let (response, connection) = self.send(method, path, body).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        connection.abort();
        Ok((status, body.map_err(|e| self.foreign(e.to_string()))?.to_bytes()))
    }

    /// Sends the request; the task carries the connection.
    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(Response<Incoming>, Task), ClientError> {
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
        Ok((sender.send_request(request).await.map_err(broken)?, connection))
    }

    fn refused(&self, status: StatusCode, answer: &[u8]) -> ClientError {
        match serde_json::from_slice::<Fault>(answer) {
            Ok(fault) => ClientError::Refused { status, error: fault.error, hint: fault.hint },
            Err(_) => self.foreign(format!("status {status}")),
        }
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
