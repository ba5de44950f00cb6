//! Tells when a file of TLS may have changed: certificates, keys, authorities of clients, keys of tickets. Watches the directories, not the files: certificates are
//! usually replaced by a rename, often behind a symbolic link.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use proxy_core::config::Config;
use tokio::sync::mpsc;

use super::acme;
use super::certificates::ocsp_file;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    // Held for its threads; it sends into the channel.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches the directories of the config's certificate files and sends a unit for each change. Where that is not
    /// possible, a reload still reads the files.
    pub fn start(config: &Config, base: &Path, changed: mpsc::Sender<()>) -> Self {
        let directories = directories(config, base);
        if directories.is_empty() {
            return Self { _watcher: None };
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
        match started {
            Ok(watcher) => Self { _watcher: Some(watcher) },
            Err(error) => {
                tracing::warn!(%error, "certificate files are not watched; reload after changing them");
                Self { _watcher: None }
            }
        }
    }
}

/// What tells a changed file without reading it. Another file in the same directory changes nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(Vec<Option<(u64, u64, i64, i64)>>);

impl Stamps {
    /// Inode, size and time of each certificate file; a missing file has none.
    pub fn take(config: &Config, base: &Path) -> Self {
        let stamp = |file: PathBuf| {
            let data = std::fs::metadata(file).ok()?;
            Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
        };
        Self(files(config, base).map(stamp).collect())
    }
}

/// The files that TLS is made of.
fn files<'c>(config: &'c Config, base: &'c Path) -> impl Iterator<Item = PathBuf> + 'c {
    let certificates = config.certificates.iter();
    let certificates =
        certificates.flat_map(|entry| [base.join(&entry.cert), base.join(&entry.key), ocsp_file(entry, base)]);
    let clients = config.tls.client_auths().flat_map(|(_, auth)| [&auth.ca, &auth.crl]);
    let issued = acme::certificates(config, base).into_iter().map(|issued| issued.cert);
    let named = clients.chain([&config.tls.tickets.keys]).flatten();
    certificates.chain(issued).chain(named.map(|file| base.join(file)))
}

/// Where the files lie, and where they lie behind symbolic links.
fn directories(config: &Config, base: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for file in files(config, base) {
        let behind = file.canonicalize().ok();
        for path in [Some(file), behind].into_iter().flatten() {
            directories.extend(path.parent().map(Path::to_path_buf));
        }
    }
    directories
}
