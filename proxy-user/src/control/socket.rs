//! The admin socket's file: claiming the path, its mode, and removing it again. Speaks no protocol.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Mode of a directory that has to be made for the socket.
const DIRECTORY_MODE: u32 = 0o755;
/// Mode of the socket: its owner and group may speak to the daemon.
const SOCKET_MODE: u32 = 0o660;
/// How long another daemon that starts beside this one may hold the directory.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long until it is looked at again.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A socket file that is ours. Dropping it removes the file, unless another process has put its own there since.
#[derive(Debug)]
pub(super) struct Claimed {
    path: PathBuf,
    identity: (u64, u64),
}

impl Claimed {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the admin socket's file could not be removed");
        }
    }
}

/// Device and inode of what stands at `path`.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Listens on `path`. Makes the directory, replaces the file that a killed daemon left, refuses a live daemon's.
pub(super) fn claim(path: &Path) -> anyhow::Result<(Claimed, UnixListener)> {
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(directory)?;
    let lock = lock(directory, LOCK_WAIT)?;
    remove_stale(path)?;
    let listener = listen(path).with_context(|| format!("cannot open the admin socket {}", path.display()))?;
    let claimed = Claimed { path: path.to_owned(), identity: identity(path)? };
    drop(lock);
    let listener = UnixListener::from_std(listener)?;
    Ok((claimed, listener))
}

/// Two daemons that start at once would each see the other's fresh file as stale: one at a time. Who has the lock has it for a
/// moment.
fn lock(directory: &Path, wait: Duration) -> anyhow::Result<Flock<File>> {
    let end = Instant::now() + wait;
    let mut file = File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((same, Errno::EWOULDBLOCK)) if Instant::now() < end => file = same,
            Err((_, errno)) => {
                return Err(io::Error::from(errno)).with_context(|| {
                    format!(
                        "another process holds {}: `lsof {0}` tells which; or set `admin.socket`",
                        directory.display()
                    )
                });
            }
        }
        std::thread::sleep(LOCK_RETRY);
    }
}

fn make_directory(directory: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).with_context(|| {
        format!(
            "cannot make the directory {} for the admin socket: run as root, or set `admin.socket` to a path that this user may write",
            directory.display()
        )
    })
}

/// Removes the file of a daemon that is gone; an error where removing would take something from someone.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    if !kind.is_socket() {
        bail!("{} exists and is not a socket: move it away, or change `admin.socket` in the config", path.display());
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "another tidegate listens on {}: stop it first, or give this one its own `admin.socket`",
            path.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {}", path.display()))
        }
        Err(error) => Err(error)
            .with_context(|| format!("{} exists, and whether a daemon owns it cannot be told", path.display())),
    }
}

fn listen(path: &Path) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The mode set before bind is what the file is made with (less the umask), so it is never wider than meant.
    fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(StdListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fresh directory of this test's own.
    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tidegate-socket-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn the_directory_is_made_and_the_file_goes_with_the_claim() {
        let dir = scratch("fresh");
        let path = dir.join("sub/admin.sock");
        let (claimed, _listener) = claim(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        drop(claimed);
        assert!(!path.exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn who_starts_beside_another_waits_for_it() {
        let dir = scratch("beside");
        let held = lock(&dir, Duration::ZERO).unwrap();
        let error = format!("{:#}", lock(&dir, LOCK_RETRY).unwrap_err());
        assert!(error.contains("another process holds") && error.contains("lsof"), "{error}");
        let path = dir.join("admin.sock");
        let other = std::thread::spawn({
            let path = path.clone();
            let runtime = tokio::runtime::Handle::current();
            move || {
                let _runtime = runtime.enter();
                claim(&path).map(drop)
            }
        });
        std::thread::sleep(LOCK_RETRY);
        assert!(!path.exists() && !other.is_finished());
        drop(held);
        other.join().unwrap().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let dir = scratch("stale");
        let path = dir.join("admin.sock");
        let other = StdListener::bind(&path).unwrap();
        let error = claim(&path).unwrap_err().to_string();
        assert!(error.contains("another tidegate listens"), "{error}");
        drop(other);
        assert!(path.exists(), "std leaves the file behind, as a killed daemon does");
        let (_claimed, _listener) = claim(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = scratch("file");
        let path = dir.join("admin.sock");
        fs::write(&path, "precious").unwrap();
        let error = claim(&path).unwrap_err().to_string();
        assert!(error.contains("is not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_successors_file_is_not_removed() {
        let dir = scratch("successor");
        let path = dir.join("admin.sock");
        let (claimed, listener) = claim(&path).unwrap();
        drop(listener);
        // The predecessor's inode is held by a second name, so that the successor's number must differ.
        fs::hard_link(&path, dir.join("old")).unwrap();
        let (_successor, _listener) = claim(&path).unwrap();
        drop(claimed);
        assert!(path.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
