//! Secrets of sessions for Wireshark and its like, in the format of `SSLKEYLOGFILE`. Only where the daemon is told so on its
//! command line: who has the file can read all that was said.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::KeyLog;

/// Writes a line for each secret.
struct Lines(Mutex<File>);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// Opens the file, or makes it for its owner alone.
///
/// # Errors
/// It cannot be written.
pub fn open(file: &Path) -> std::io::Result<Arc<dyn KeyLog>> {
    let lines = File::options().append(true).create(true).mode(0o600).open(file)?;
    tracing::warn!(file = %file.display(), "secrets of TLS sessions are written to a file: who has it can read all traffic");
    Ok(Arc::new(Lines(Mutex::new(lines))))
}

impl KeyLog for Lines {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        // One write a line. A full disk shall not end sessions.
        if let Ok(mut file) = self.0.lock() {
            let _ = file.write_all(line.as_bytes());
        }
    }
}
