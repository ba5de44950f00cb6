//! The journal of edits of lists: appended to, and written anew when most of it is over.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use proxy_core::policy::{Edit, Edits};

use super::files::{FILE_MODE, append_whole, read_bounded, write_whole};

/// Name of the journal.
const JOURNAL_FILE: &str = "lists.jsonl";
/// More lines than twice the edits and these, and it is written anew.
const SLACK_LINES: usize = 4_096;
/// Largest journal: more is not written, since it would not be read back. As many edits as there may be fit, twice, where
/// their items and the names of their lists have 300 bytes or so.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl Journal {
    /// Opens the journal in `directory`; where a line is broken, it is written anew.
    pub(super) fn open(directory: &Path) -> anyhow::Result<(Self, Edits)> {
        let path = directory.join(JOURNAL_FILE);
        let text = text(&path)?;
        let (edits, broken) = Edits::read(text.lines(), jiff::Timestamp::now());
        let mut journal = Self { file: append(&path)?, path, lines: text.lines().count() };
        if broken > 0 || !(text.is_empty() || text.ends_with('\n')) {
            journal.rewrite(&edits)?;
        }
        Ok((journal, edits))
    }

    /// Writes edits that were made; on disk when this returns. `edits` are all that stand.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn append(&mut self, made: &[Edit], edits: &Edits) -> anyhow::Result<()> {
        let mut text = String::new();
        for edit in made {
            text.push_str(&edit.line());
            text.push('\n');
        }
        let before = self.file.metadata().context("reading the lists' journal")?.len();
        if before + text.len() as u64 > MAX_JOURNAL_BYTES {
            return self.rewrite(edits);
        }
        append_whole(&mut self.file, text.as_bytes()).context("writing the lists' journal")?;
        self.lines += made.len();
        if self.lines > 2 * edits.len() + SLACK_LINES { self.rewrite(edits) } else { Ok(()) }
    }

    fn rewrite(&mut self, edits: &Edits) -> anyhow::Result<()> {
        let mut text = String::new();
        for line in edits.journal() {
            text.push_str(&line);
            text.push('\n');
        }
        if text.len() as u64 > MAX_JOURNAL_BYTES {
            bail!(
                "what was edited in lists takes more than {MAX_JOURNAL_BYTES} bytes: have lists of that size in files"
            );
        }
        write_whole(&self.path, text.as_bytes())?;
        self.file = append(&self.path)?;
        self.lines = edits.len();
        Ok(())
    }
}

/// What a journal says, those edits that stand.
pub(super) fn read(directory: &Path) -> anyhow::Result<Edits> {
    let path = directory.join(JOURNAL_FILE);
    let (edits, broken) = Edits::read(text(&path)?.lines(), jiff::Timestamp::now());
    if broken > 0 {
        tracing::warn!(broken, path = %path.display(), "lines of the lists' journal cannot be read and are left out");
    }
    Ok(edits)
}

fn text(path: &Path) -> anyhow::Result<String> {
    match read_bounded(path, MAX_JOURNAL_BYTES) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn append(path: &Path) -> anyhow::Result<File> {
    let open = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
    open.with_context(|| format!("opening {}", path.display()))
}
