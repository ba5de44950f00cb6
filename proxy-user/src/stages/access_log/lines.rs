//! Lines on their way to the log. Workers fill a buffer of their own and hand it, full or every few ticks, to one thread
//! that writes; a slow disk or pipe costs lines (counted and reported), never requests.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use proxy_core::config::LogFormat;

use super::{AccessRecord, combined};

/// Bytes that a worker gathers before it hands them over.
const BATCH_BYTES: usize = 32 << 10;
/// Batches that may wait for the writer.
const QUEUE_BATCHES: usize = 256;

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

    /// Adds the record that `record` makes of the time.
    pub(super) fn write<'a>(&self, format: LogFormat, record: impl for<'t> FnOnce(&'t str) -> AccessRecord<'a, 't>) {
        let mut clock = self.clock.borrow_mut();
        let mut lines = self.lines.borrow_mut();
        let before = lines.len();
        let record = record(clock.now());
        match format {
            LogFormat::Combined => combined::line(&mut lines, &record),
            LogFormat::Json => {
                if let Err(error) = serde_json::to_writer(&mut *lines, &record) {
                    lines.truncate(before);
                    tracing::error!(%error, "an access log line could not be written as JSON");
                    return;
                }
            }
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
