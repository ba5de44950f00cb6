//! Files that are there whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// Mode of the store's directories: policies may say what an attacker should not know.
const DIRECTORY_MODE: u32 = 0o750;
/// Mode of its files.
pub(super) const FILE_MODE: u32 = 0o640;

/// Makes a directory and those above it.
pub(super) fn make_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).with_context(|| {
        format!(
            "cannot make {}: run as root, or set `state_dir` to a directory that this user may write",
            path.display()
        )
    })
}

/// Writes a file beside its place and puts it there, so that whoever reads finds the old or the new one, after a crash too.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = || -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    written().with_context(|| format!("writing {}", path.display()))
}

/// Reads a file that has at most so many bytes.
pub(super) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("more than {most} bytes")));
    }
    Ok(bytes)
}
