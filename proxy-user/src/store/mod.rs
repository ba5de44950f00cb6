//! Policies on disk: revisions, their texts, which one is in force, and the audit log, below `state_dir`/policies. Writes
//! whole files or nothing; what stays and what differs is decided in `proxy_core::store`.
//!
//! ```text
//! lock                  held by the daemon
//! current.json          the revision in force, and whether it is held
//! revisions/12.json     who brought it in when, and the digests of its texts
//! objects/<sha256>      texts, each once
//! lists.jsonl           what was edited in lists at run time
//! audit.jsonl           the audit log
//! audit.head            number and hash of its last entry
//! ```

mod audit;
pub(crate) mod files;
mod journal;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use proxy_core::digest::Digest;
use proxy_core::policy::Edits;
use proxy_core::store::audit::Head;
use proxy_core::store::bundle::Mark;
use proxy_core::store::{ListText, Revision, Texts, keep};
use serde::{Deserialize, Serialize};

use audit::AuditLog;
pub use audit::{AUDIT_FILE, HEAD_FILE, read_head};
use files::{make_directory, read_bounded, write_whole};
pub use journal::Journal;

/// Largest manifest of a revision: names and digests of as many files as a set may have.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Largest text that is kept and read back.
const MAX_OBJECT_BYTES: u64 = 64 << 20;

/// Which revision is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Its number; none before the first.
    pub revision: Option<u64>,
    /// Whether it stays in force over reloads and starts, whatever the config's files say.
    pub held: bool,
    /// The one that was in force before it; none where a rollback led here.
    #[serde(default)]
    pub before: Option<u64>,
    /// The newest signed bundle that ever was in force.
    #[serde(default)]
    pub newest: Option<Mark>,
}

/// The directory, and what is known of it. One process has it at a time.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    current: Current,
    /// Sorted by number.
    revisions: Vec<Revision>,
    audit: AuditLog,
    journal: Journal,
    _lock: Flock<File>,
}

/// Where the policies of a state directory lie.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("policies")
}

/// What was in force when the last daemon ended: read without the lock, and nothing is made.
///
/// # Errors
/// It cannot be read.
pub fn peek(state_dir: &Path) -> anyhow::Result<Current> {
    read_current(&directory(state_dir))
}

/// The texts of a revision, read in the same way.
///
/// # Errors
/// They cannot be read, or were altered.
pub fn peek_texts(state_dir: &Path, number: u64) -> anyhow::Result<Texts> {
    let directory = directory(state_dir);
    let path = directory.join("revisions").join(format!("{number}.json"));
    let text = read_bounded(&path, MAX_MANIFEST_BYTES).with_context(|| format!("reading {}", path.display()))?;
    let revision = serde_json::from_slice(&text).with_context(|| format!("in {}", path.display()))?;
    read_revision(&directory, &revision)
}

/// What was edited in lists before; what cannot be read is said and left out.
pub fn peek_edits(state_dir: &Path) -> Edits {
    journal::read(&directory(state_dir)).unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "what was edited in lists at run time cannot be read");
        Edits::default()
    })
}

impl Store {
    /// Opens the store of a state directory; makes it where it is missing.
    ///
    /// # Errors
    /// It cannot be made or written, or another process has it.
    pub fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let directory = directory(state_dir);
        for part in [directory.clone(), directory.join("revisions"), directory.join("objects")] {
            make_directory(&part)?;
        }
        let lock = File::create(directory.join("lock")).with_context(|| format!("in {}", directory.display()))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))
            .with_context(|| {
                format!("another tidegate has {}: give this one its own `state_dir`", directory.display())
            })?;
        let current = read_current(&directory)?;
        let revisions = read_revisions(&directory)?;
        let audit = AuditLog::open(&directory)?;
        let (journal, _) = Journal::open(&directory)?;
        Ok(Self { directory, current, revisions, audit, journal, _lock: lock })
    }

    /// What is in force.
    pub fn current(&self) -> Current {
        self.current
    }

    /// What is kept, oldest first.
    pub fn revisions(&self) -> &[Revision] {
        &self.revisions
    }

    /// One of them.
    pub fn revision(&self, number: u64) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.number == number)
    }

    /// The number that the next new revision gets.
    pub fn next_number(&self) -> u64 {
        self.revisions.last().map_or(1, |revision| revision.number + 1)
    }

    /// The audit log's end.
    pub fn audit_head(&self) -> Head {
        self.audit.head()
    }

    /// The journal of edits of lists.
    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// The audit log.
    pub fn audit(&mut self) -> &mut AuditLog {
        &mut self.audit
    }

    /// Texts of a revision, each held to its digest.
    ///
    /// # Errors
    /// It is not kept, or a text is missing or was altered.
    pub fn texts(&self, number: u64) -> anyhow::Result<Texts> {
        let Some(revision) = self.revision(number) else { bail!("{}", self.unknown(number)) };
        read_revision(&self.directory, revision)
    }

    /// Says which revisions there are, where one is asked for that is not.
    pub fn unknown(&self, number: u64) -> String {
        match (self.revisions.first(), self.revisions.last()) {
            (Some(first), Some(last)) => {
                format!("there is no revision {number}; {} to {} are kept", first.number, last.number)
            }
            _ => format!("there is no revision {number}; none is kept yet"),
        }
    }

    /// Writes a revision and its texts. It is not in force before [`Self::set_current`] says so.
    ///
    /// # Errors
    /// Something cannot be written, or is too long to be read back; what is in force stays.
    pub fn add(&mut self, revision: Revision, texts: &Texts) -> anyhow::Result<()> {
        let files = texts.files.iter().map(|(name, text)| (name, text));
        let all: Vec<_> = files.chain(texts.lists.iter().map(|list| (&list.name, &list.text))).collect();
        if let Some((name, text)) = all.iter().find(|(_, text)| text.len() as u64 > MAX_OBJECT_BYTES) {
            bail!("{name} has {} bytes, at most {MAX_OBJECT_BYTES} are kept: divide it", text.len());
        }
        let manifest = serde_json::to_vec_pretty(&revision)?;
        if manifest.len() as u64 > MAX_MANIFEST_BYTES {
            bail!("the names of {} files take more than {MAX_MANIFEST_BYTES} bytes: use fewer or shorter", all.len());
        }
        for (_, text) in all {
            let path = object_path(&self.directory, Digest::of(text.as_bytes()));
            if !path.exists() {
                write_whole(&path, text.as_bytes())?;
            }
        }
        write_whole(&self.revision_path(revision.number), &manifest)?;
        self.revisions.push(revision);
        Ok(())
    }

    /// Takes the last revision out again, which never came into force.
    pub fn remove_last(&mut self) {
        if let Some(revision) = self.revisions.pop() {
            self.forget(&[revision.number]);
        }
    }

    /// Puts a revision in force, and removes what need not be kept any more.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_current(&mut self, current: Current) -> anyhow::Result<()> {
        // Always: after a failure, what is on disk may be either.
        write_whole(&self.directory.join("current.json"), &serde_json::to_vec(&current)?)?;
        self.current = current;
        let removed = keep::superfluous(&self.revisions, current.revision);
        self.revisions.retain(|revision| !removed.contains(&revision.number));
        self.forget(&removed);
        Ok(())
    }

    /// Removes the files of revisions, and texts that no other needs. What cannot be removed is tried again next time.
    fn forget(&self, numbers: &[u64]) {
        if numbers.is_empty() {
            return;
        }
        let mut paths: Vec<PathBuf> = numbers.iter().map(|number| self.revision_path(*number)).collect();
        let names = fs::read_dir(self.directory.join("objects")).into_iter().flatten().flatten();
        let stored = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        paths.extend(
            keep::unused(&self.revisions, stored).into_iter().map(|digest| object_path(&self.directory, digest)),
        );
        for path in paths {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "a kept policy could not be removed");
            }
        }
    }

    fn revision_path(&self, number: u64) -> PathBuf {
        self.directory.join("revisions").join(format!("{number}.json"))
    }
}

fn object_path(directory: &Path, digest: Digest) -> PathBuf {
    directory.join("objects").join(digest.to_string())
}

fn read_current(directory: &Path) -> anyhow::Result<Current> {
    match read_bounded(&directory.join("current.json"), MAX_MANIFEST_BYTES) {
        Ok(text) => serde_json::from_slice(&text).context("current.json is not what was written"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Current::default()),
        Err(error) => Err(error).context("current.json cannot be read"),
    }
}

fn read_revision(directory: &Path, revision: &Revision) -> anyhow::Result<Texts> {
    let mut texts = Texts::default();
    for file in &revision.files {
        texts.files.push((file.name.clone(), read_object(directory, file.digest)?));
    }
    for list in &revision.lists {
        let (policy, name) = (list.policy.clone(), list.name.clone());
        texts.lists.push(ListText { policy, name, text: read_object(directory, list.digest)? });
    }
    Ok(texts)
}

fn read_object(directory: &Path, digest: Digest) -> anyhow::Result<String> {
    let path = object_path(directory, digest);
    let text = read_bounded(&path, MAX_OBJECT_BYTES).with_context(|| format!("reading {}", path.display()))?;
    if Digest::of(&text) != digest {
        bail!("{} was altered: its content has another SHA-256 than its name", path.display());
    }
    String::from_utf8(text).with_context(|| format!("{} is not UTF-8", path.display()))
}

fn read_revisions(directory: &Path) -> anyhow::Result<Vec<Revision>> {
    let folder = directory.join("revisions");
    let mut found: Vec<Revision> = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let text = read_bounded(&path, MAX_MANIFEST_BYTES).with_context(|| format!("reading {}", path.display()))?;
        match serde_json::from_slice(&text) {
            Ok(revision) => found.push(revision),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "this revision cannot be read and is left out");
            }
        }
    }
    found.sort_unstable_by_key(|revision| revision.number);
    found.dedup_by_key(|revision| revision.number);
    Ok(found)
}

#[cfg(test)]
mod tests;
