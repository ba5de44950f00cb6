//! Files that are there whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// Mode of the store's directories: policies may say what an attacker should not know.
const DIRECTORY_MODE: u32 = 0o750;
/// Mode of files that hold secrets.
const PRIVATE_MODE: u32 = 0o600;
/// Mode of its files.
pub(super) const FILE_MODE: u32 = 0o640;

/// Makes a directory and those above it.
pub(crate) fn make_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).with_context(|| {
        format!(
            "cannot make {}: run as root, or set `state_dir` to a directory that this user may write",
            path.display()
        )
    })
}

/// Writes a file beside its place and puts it there, so that whoever reads finds the old or the new one, after a crash too.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, FILE_MODE)
}

/// The same for its owner alone: secrets.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, PRIVATE_MODE)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let written = || -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    let result = written().inspect_err(|_| {
        // There is none where it could not be made, or has its name already.
        let _ = fs::remove_file(&new);
    });
    result.with_context(|| format!("writing {}", path.display()))
}

/// Appends to a file; on disk when this returns, or the file is as long as before.
pub(super) fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    written.inspect_err(|_| {
        if let Err(error) = file.set_len(before) {
            tracing::error!(%error, "what was written of a line could not be taken back");
        }
    })
}

/// Reads a file that has at most so many bytes.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("more than {most} bytes")));
    }
    Ok(bytes)
}
