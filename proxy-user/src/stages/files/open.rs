//! Files are opened below a root, and nowhere else.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// How often a name is looked up whose directories change meanwhile.
const MOST_TRIES: u32 = 8;

/// An open root.
pub(super) struct Root(OwnedFd);

/// What a name stands for.
pub(super) enum Found {
    File(Opened),
    Directory,
}

/// A regular file that is open for reading.
pub(super) struct Opened {
    pub file: File,
    /// Bytes, as of now.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: u64,
}

/// Opens a root; at each request, so that a link that leads elsewhere is followed from the next one on.
pub(super) fn root(path: &Path) -> io::Result<Root> {
    Ok(Root(open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?))
}

impl Root {
    /// Opens a file below. What is neither file nor directory is as if it were not there.
    pub fn open(&self, name: &str) -> io::Result<Found> {
        // A pipe must not hold the worker: it is opened without waiting for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let mut tries = 0;
        let file = loop {
            match openat2(&self.0, name, OpenHow::new().flags(flags).resolve(beneath)) {
                // Something was renamed meanwhile: openat2(2) says to ask again.
                Err(Errno::EAGAIN) if tries < MOST_TRIES => tries += 1,
                opened => break File::from(opened?),
            }
        };
        let data = file.metadata()?;
        if data.is_dir() {
            return Ok(Found::Directory);
        }
        if !data.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let modified = u64::try_from(data.mtime()).unwrap_or(0);
        Ok(Found::File(Opened { file, size: data.len(), modified }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_opened() {
        let dir = std::env::temp_dir().join(format!("tidegate-open-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("root/sub")).unwrap();
        std::fs::write(dir.join("secret"), "outside").unwrap();
        std::fs::write(dir.join("root/a"), "inside").unwrap();
        symlink("../a", dir.join("root/sub/inside")).unwrap();
        symlink("../../secret", dir.join("root/sub/relative")).unwrap();
        symlink(dir.join("secret"), dir.join("root/absolute")).unwrap();
        symlink("/proc/self/root", dir.join("root/magic")).unwrap();
        nix::unistd::mkfifo(&dir.join("root/pipe"), Mode::S_IRWXU).unwrap();
        let root = root(&dir.join("root")).unwrap();
        let is_file = |name: &str| matches!(root.open(name), Ok(Found::File(_)));
        assert!(is_file("a") && is_file("sub/inside"));
        assert!(matches!(root.open("sub"), Ok(Found::Directory)));
        for name in
            ["../secret", "sub/../../secret", "sub/relative", "absolute", "/etc/passwd", "magic/etc/passwd", "pipe", ""]
        {
            assert!(root.open(name).is_err(), "{name} was opened");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
