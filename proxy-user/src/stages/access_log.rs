//! Access log: one JSON object a line. Workers fill a buffer of their own and hand it, full or every few ticks, to
//! one thread that writes; a slow disk or pipe costs lines (counted and reported), never requests.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use proxy_core::policy::Action;
use serde::Serialize;

use super::Stage;
use super::exchange::{Exchange, Summary};

/// Bytes that a worker gathers before it hands them over.
const BATCH_BYTES: usize = 32 << 10;
/// Batches that may wait for the writer.
const QUEUE_BATCHES: usize = 256;

/// The fields of one line. Durations in microseconds, sizes in bytes.
#[derive(Debug, Serialize)]
pub struct AccessRecord<'a> {
    /// End of the request, RFC 3339 in UTC.
    pub time: &'a str,
    /// `x-request-id`.
    pub id: &'a str,
    /// Client address.
    pub client: std::net::SocketAddr,
    /// Listener's name.
    pub listener: &'a str,
    /// Worker's index.
    pub worker: u32,
    /// `h1`, `h2` or `h3`.
    pub version: &'static str,
    /// Method.
    pub method: &'a str,
    /// Host, lower case, without port.
    pub host: &'a str,
    /// Path as sent.
    pub path: &'a str,
    /// Query without `?`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<&'a str>,
    /// Status; 499 when the client left before the answer.
    pub status: u16,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// From the complete request header to the end of the response.
    pub duration_us: u64,
    /// Upstream's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// The server that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<&'a str>,
    /// From the complete request header to the origin's response header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_us: Option<u64>,
    /// `allow` or `block`, where a policy rule decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// `policy/rule` that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// Rules that matched in shadow mode or only log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<&'a str>,
    /// What went wrong: source and kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

pub(super) struct Write;

impl Stage for Write {
    fn on_log(&self, exchange: &Exchange, summary: &Summary) {
        let Some(log) = &exchange.worker.log else { return };
        let policies = &exchange.live.snapshot.policies;
        let (action, rule) = match exchange.decision.action {
            Action::Pass => (None, None),
            Action::Allow(rule) => (Some("allow"), policies.rule_name(rule)),
            Action::Block { rule, .. } => (Some("block"), policies.rule_name(rule)),
            Action::Redirect { rule, .. } => (Some("redirect"), policies.rule_name(rule)),
        };
        let mut clock = log.clock.borrow_mut();
        log.write(&AccessRecord {
            time: clock.now(),
            id: exchange.id.to_str().unwrap_or_default(),
            client: exchange.connection.client,
            listener: &exchange.connection.listener.name,
            worker: exchange.worker.index,
            version: exchange.version.name(),
            method: exchange.request.method.as_str(),
            host: exchange.host.as_str(),
            path: super::path(&exchange.request),
            query: exchange.request.uri.query(),
            status: summary.status,
            bytes_in: summary.bytes_in,
            bytes_out: summary.bytes_out,
            duration_us: summary.duration_us,
            upstream: exchange.upstream.and_then(|index| exchange.live.upstream_name(index)),
            server: exchange.server.as_deref(),
            upstream_us: exchange.upstream_us,
            action,
            rule,
            matched: exchange.decision.logged.iter().filter_map(|slot| policies.rule_name(*slot)).collect(),
            error: summary.fault.map(|fault| fault.label()),
        });
    }
}

/// A worker's end of the log.
pub struct LineBuffer {
    lines: RefCell<Vec<u8>>,
    clock: RefCell<Clock>,
    count: Cell<u64>,
    lost: Cell<u64>,
    writer: LogWriter,
}

impl LineBuffer {
    /// An empty buffer before `writer`.
    pub fn new(writer: LogWriter) -> Self {
        Self { lines: RefCell::default(), clock: RefCell::default(), count: Cell::new(0), lost: Cell::new(0), writer }
    }

    fn write(&self, record: &AccessRecord<'_>) {
        let mut lines = self.lines.borrow_mut();
        let before = lines.len();
        if let Err(error) = serde_json::to_writer(&mut *lines, record) {
            lines.truncate(before);
            tracing::error!(%error, "an access log line could not be written as JSON");
            return;
        }
        lines.push(b'\n');
        self.count.set(self.count.get() + 1);
        if lines.len() >= BATCH_BYTES {
            drop(lines);
            self.flush();
        }
    }

    /// Hands over what has gathered.
    pub fn flush(&self) {
        let batch = std::mem::take(&mut *self.lines.borrow_mut());
        if batch.is_empty() {
            return;
        }
        let lines = self.count.take();
        match self.writer.0.try_send(Message::Batch(batch)) {
            Ok(()) => {
                let lost = self.lost.take();
                if lost > 0 {
                    tracing::warn!(lost, "access log lines were lost: the log's file or pipe is too slow");
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost.set(self.lost.get() + lines),
        }
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The current time as text; the part down to the second is made once a second.
#[derive(Default)]
struct Clock {
    second: i64,
    text: String,
}

impl Clock {
    const MILLIS_AT: usize = "2026-01-01T00:00:00".len();

    fn now(&mut self) -> &str {
        let now = jiff::Timestamp::now();
        if now.as_second() != self.second || self.text.is_empty() {
            self.second = now.as_second();
            self.text = now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        self.text.truncate(Self::MILLIS_AT);
        let millis = now.subsec_millisecond().unsigned_abs();
        let digit = |n: u32| char::from(b'0' + (n % 10) as u8);
        self.text.extend(['.', digit(millis / 100), digit(millis / 10), digit(millis), 'Z']);
        &self.text
    }
}

enum Message {
    Batch(Vec<u8>),
    Reopen(PathBuf),
    Flushed(SyncSender<()>),
}

/// To the thread that writes.
#[derive(Clone)]
pub struct LogWriter(SyncSender<Message>);

impl LogWriter {
    /// Opens the log (stdout unless `file` is set) and starts its thread.
    pub fn start(file: Option<&Path>) -> anyhow::Result<Self> {
        let target = file.map(open).transpose()?;
        let (sender, receiver) = sync_channel(QUEUE_BATCHES);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_all(target, &receiver))?;
        Ok(Self(sender))
    }

    /// Opens the file again, after log rotation; lines go to the old one if that fails.
    pub fn reopen(&self, file: &Path) {
        // A full queue means that the writer is stuck; the next reload tries again.
        if self.0.try_send(Message::Reopen(file.to_owned())).is_err() {
            tracing::warn!(file = %file.display(), "the access log was not reopened: its writer is busy; reload again");
        }
    }

    /// Waits until what was handed over is written, at most `wait`.
    pub fn finish(&self, wait: std::time::Duration) {
        let (done, waiting) = sync_channel(1);
        if self.0.try_send(Message::Flushed(done)).is_ok() {
            // A timeout only means that the last lines are lost, as told above.
            let _ = waiting.recv_timeout(wait);
        }
    }
}

fn open(file: &Path) -> anyhow::Result<File> {
    OpenOptions::new().create(true).append(true).open(file).map_err(|error| {
        anyhow::anyhow!(
            "cannot open the access log {}: {error}; make its directory, or set /access_log/file to another place",
            file.display()
        )
    })
}

fn write_all(mut target: Option<File>, receiver: &Receiver<Message>) {
    let mut failing = false;
    while let Ok(message) = receiver.recv() {
        let result = match message {
            Message::Batch(batch) => match &mut target {
                Some(file) => file.write_all(&batch),
                None => std::io::stdout().lock().write_all(&batch),
            },
            Message::Reopen(path) => {
                match open(&path) {
                    Ok(file) => target = Some(file),
                    Err(error) => tracing::error!("{error:#}; writing on to the old file"),
                }
                continue;
            }
            Message::Flushed(done) => {
                let _ = done.send(());
                continue;
            }
        };
        if let Err(error) = &result
            && !failing
        {
            tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
        }
        failing = result.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn times_are_rfc_3339() {
        let mut clock = Clock::default();
        for _ in 0..2 {
            let text = clock.now().to_owned();
            assert_eq!(text.len(), "2026-01-01T00:00:00.000Z".len(), "{text}");
            assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
        }
    }
}
