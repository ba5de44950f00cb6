//! Tells when one of some files may have changed. Watches the directories, not the files: files are usually replaced by a
//! rename, often behind a symbolic link. It reads none of them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    directories: BTreeSet<PathBuf>,
    // Held for its threads; it sends into the channel.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches the directories of files, which people call `what`, and sends a unit for each change. Where that is not
    /// possible, a reload still reads the files.
    pub fn start(files: &[PathBuf], what: &str, changed: mpsc::Sender<()>) -> Self {
        let directories = directories(files);
        if directories.is_empty() {
            return Self { directories, _watcher: None };
        }
        let started = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                // Full means that a change is already waiting to be handled.
                let _ = changed.try_send(());
            }
        })
        .and_then(|mut watcher| {
            directories.iter().try_for_each(|directory| watcher.watch(directory, RecursiveMode::NonRecursive))?;
            Ok(watcher)
        });
        let watcher =
            started.inspect_err(|error| tracing::warn!(%error, "{what} are not watched; reload after changing them"));
        Self { directories, _watcher: watcher.ok() }
    }

    /// Whether it watches where these files lie now, which may be behind other links than they were.
    pub fn covers(&self, files: &[PathBuf]) -> bool {
        self.directories == directories(files)
    }
}

/// What tells a changed file without reading it: inode, size and time.
type Stamp = (u64, u64, i64, i64);

/// What tells changed files without reading them. Another file in the same directory changes nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    /// Of each file, in their order; a missing file has none.
    pub fn take(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let stamp = |file: &Path| {
            let data = std::fs::metadata(file).ok()?;
            Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
        };
        Self(files.into_iter().map(|file| stamp(file.as_ref())).collect())
    }

    /// Numbers of the files that have changed between this and what was taken of the same files later.
    pub fn changed(&self, later: &Self) -> Vec<usize> {
        let pairs = self.0.iter().zip(&later.0).enumerate();
        pairs.filter(|(_, (before, now))| before != now).map(|(number, _)| number).collect()
    }
}

/// Where files lie, and where they lie behind symbolic links.
fn directories(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for file in files {
        let behind = file.canonicalize().ok();
        for path in [Some(file), behind.as_ref()].into_iter().flatten() {
            let directory = path.parent().map(Path::to_path_buf);
            // A name without a directory lies in the one that the process works in.
            directories.extend(directory.map(|found| if found.as_os_str().is_empty() { ".".into() } else { found }));
        }
    }
    directories
}
