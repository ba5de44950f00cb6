//! The audit log's file: appended to, never rewritten. The chain is made in `proxy_core::store::audit`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proxy_core::digest::Digest;
use proxy_core::store::Who;
use proxy_core::store::audit::{Act, Event, Head, MAX_DETAIL_BYTES, Outcome, recovered};

use super::files::{FILE_MODE, append_whole, read_bounded, write_whole};

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
    path: PathBuf,
    file: File,
    head_path: PathBuf,
    head: Head,
    /// Whether the head beside the log is this one; else it is written before another line is, so that the log is never
    /// more than a line ahead.
    saved: bool,
}

impl AuditLog {
    /// Opens the log in `directory`. A line that a crash tore is ended, and an entry accounts for it.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(AUDIT_FILE);
        let mut file = open_log(&path).with_context(|| format!("opening {}", path.display()))?;
        let head_path = directory.join(HEAD_FILE);
        // The head is written behind the line: a crash between the two leaves the line ahead.
        let kept = read_head(&head_path)?;
        let tail = tail(&mut file).with_context(|| format!("reading {}", path.display()))?;
        let whole = tail.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let last = whole.lines().next_back();
        let head = match kept {
            Some(kept) => last.and_then(|last| kept.next_in(last)).unwrap_or(kept),
            None => last.and_then(Head::of_line).unwrap_or_default(),
        };
        if last.and_then(Head::of_line).is_some_and(|last| last != head) {
            tracing::error!(
                path = %path.display(),
                "the audit log does not end as it was left; `tidegate policy audit --verify` tells where"
            );
        }
        let torn = tail.rsplit('\n').next().unwrap_or_default().to_owned();
        let mut log = Self { path, file, head_path, head, saved: kept == Some(head) };
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
        if !self.saved {
            self.save()?;
        }
        self.follow().with_context(|| format!("opening {}", self.path.display()))?;
        let (mut line, head) = self.head.append(event);
        line.push('\n');
        append_whole(&mut self.file, line.as_bytes()).context("writing the audit log")?;
        (self.head, self.saved) = (head, false);
        self.save()
    }

    fn save(&mut self) -> anyhow::Result<()> {
        write_whole(&self.head_path, &serde_json::to_vec(&self.head)?)?;
        self.saved = true;
        Ok(())
    }

    /// Opens the log anew where another file, or none, has its name: it was moved away.
    fn follow(&mut self) -> io::Result<()> {
        let mine = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(named) if (named.dev(), named.ino()) == (mine.dev(), mine.ino()) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.file = open_log(&self.path)?;
        Ok(())
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path)
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
