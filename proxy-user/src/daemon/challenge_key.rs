//! The key that challenges are signed with, as a file: the config's, which a fleet may share, or one in `state_dir` that is
//! written when a policy first challenges, so that passes outlive restarts. The directory's owner alone may read what is
//! written here.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use proxy_core::config::Config;
use proxy_core::policy::{ChallengeKey, PolicySet};

/// Its name in `state_dir`.
pub const FILE: &str = "challenge.key";
/// Mode of the file: who reads it can let anybody pass.
const MODE: u32 = 0o600;
/// Most bytes that are read of one: the digits, and blanks around them.
const MOST: u64 = 256;

/// The key of the config's file, or the one that was kept; None where there is none yet.
///
/// # Errors
/// There is a file and no key in it, or the config names one that cannot be read.
pub(super) fn read(config: &Config) -> Result<Option<ChallengeKey>, String> {
    let (path, named) = match &config.challenge_key {
        Some(path) => (path, true),
        None => (&config.kept_challenge_key, false),
    };
    let wrong = |error: String| format!("/challenge_key: {}: {error}", path.display());
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text)) {
        Ok(_) => text.trim().parse().map(Some).map_err(wrong),
        Err(error) if !named && error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Checks run as users who may not read it, and need not.
        Err(error) if !named && error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Keeps the key in force where policies challenge, nobody named a file, and none is kept. Without a place to write passes
/// end with the daemon, which the log says.
pub(super) fn keep(config: &Config, policies: &PolicySet) {
    if config.challenge_key.is_some() || config.kept_challenge_key.exists() {
        return;
    }
    if let Some(key) = policies.challenge_key()
        && let Err(error) = write(&config.kept_challenge_key, &key)
    {
        let file = config.kept_challenge_key.display();
        tracing::warn!(%file, %error, "the key of challenges is not kept: a restart asks everybody again");
    }
}

/// Writes it where nobody else has.
fn write(path: &Path, key: &ChallengeKey) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = File::options().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(format!("{}\n", key.to_hex()).as_bytes())?;
    file.sync_all()
}
