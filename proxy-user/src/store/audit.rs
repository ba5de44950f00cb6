//! The audit log's file: appended to, never rewritten. The chain is made in `proxy_core::store::audit`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proxy_core::digest::Digest;
use proxy_core::store::Who;
use proxy_core::store::audit::{Act, Event, Head, MAX_DETAIL_BYTES, Outcome, recovered};

use super::files::{FILE_MODE, read_bounded, write_whole};

/// Name of the log.
pub const AUDIT_FILE: &str = "audit.jsonl";
/// Name of the file with the log's head.
pub const HEAD_FILE: &str = "audit.head";
/// Largest file with a head.
const MAX_HEAD_BYTES: u64 = 1_024;
/// The last line is looked for in so many bytes: an entry with the longest detail, each byte of it escaped, has fewer.
const TAIL_BYTES: u64 = 1_024 + 6 * MAX_DETAIL_BYTES as u64;

/// The log, open for appending.
#[derive(Debug)]
pub struct AuditLog {
    file: File,
    head_path: PathBuf,
    head: Head,
}

impl AuditLog {
    /// Opens the log in `directory`. A line that a crash tore is ended, and an entry accounts for it.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(AUDIT_FILE);
        let open = OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(&path);
        let mut file = open.with_context(|| format!("opening {}", path.display()))?;
        let head_path = directory.join(HEAD_FILE);
        // The head is written behind the line: a crash between the two leaves the line ahead.
        let kept = read_head(&head_path)?.unwrap_or_default();
        let tail = tail(&mut file).with_context(|| format!("reading {}", path.display()))?;
        let whole = tail.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last = whole.lines().next_back().and_then(Head::of_line);
        let head = last.filter(|last| last.seq >= kept.seq).unwrap_or(kept);
        let torn = tail.rsplit('\n').next().unwrap_or_default().to_owned();
        let mut log = Self { file, head_path, head };
        if !torn.is_empty() {
            log.file.write_all(b"\n")?;
            log.append(&Event {
                time: jiff::Timestamp::now(),
                who: Who::default(),
                act: Act::Recovered,
                outcome: Outcome::Done,
                revision: None,
                digest: None,
                detail: Some(recovered(&Digest::of(torn.as_bytes()))),
            })?;
        }
        Ok(log)
    }

    /// The log's end.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Logs an event; it is on disk when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, event: &Event) -> anyhow::Result<()> {
        let (mut line, head) = self.head.append(event);
        line.push('\n');
        self.file.write_all(line.as_bytes()).context("writing the audit log")?;
        self.file.sync_data().context("writing the audit log")?;
        self.head = head;
        write_whole(&self.head_path, &serde_json::to_vec(&head)?)
    }
}

/// The head that is kept beside a log, if there is one.
///
/// # Errors
/// It cannot be read.
pub fn read_head(path: &Path) -> anyhow::Result<Option<Head>> {
    match read_bounded(path, MAX_HEAD_BYTES) {
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| format!("{} is no head", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// The end of a file: the last whole line at the least, where there is one. Lossy where it is no text.
fn tail(file: &mut File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(2 * TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(2 * TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
