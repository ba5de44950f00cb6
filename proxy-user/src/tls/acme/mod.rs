//! Certificates from an ACME server (RFC 8555): a thread of its own asks for them, and writes them where the certificates are
//! read from; those who watch these files put them in force. When to ask is decided in `proxy_core::tls::renewal`.

mod challenges;
mod http;
mod order;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use proxy_core::config::{Acme, AcmeCertificate, Certificate, Config};
use proxy_core::tls::renewal::{Issued, Tried, wait};
use tokio::sync::oneshot;

pub use challenges::{Challenges, answering};

use super::certificates::chain;
use crate::store::files::make_directory;

/// Directory below `state_dir`.
const DIRECTORY: &str = "acme";
/// Longest time for one certificate.
const PATIENCE: Duration = Duration::from_secs(300);

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Asking {
    settings: Acme,
    // Held for its other end.
    _stop: oneshot::Sender<()>,
}

/// Where account and certificates are kept.
pub fn directory(config: &Config, base: &Path) -> PathBuf {
    base.join(&config.state_dir).join(DIRECTORY)
}

/// The certificates as the table reads them: chain and key are one file, so that they are exchanged in one.
pub fn certificates(config: &Config, base: &Path) -> Vec<Certificate> {
    let directory = directory(config, base);
    let wanted = config.acme.iter().flat_map(|acme| &acme.certificates);
    wanted
        .map(|wanted| file(&directory, wanted))
        .map(|file| Certificate { cert: file.clone(), key: file, ocsp: None })
        .collect()
}

fn file(directory: &Path, wanted: &AcmeCertificate) -> PathBuf {
    let first = wanted.names.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    directory.join(first + ".pem")
}

/// Makes the directory, where the config wants certificates, so that it can be watched.
///
/// # Errors
/// It cannot be made.
pub fn prepare(config: &Config, base: &Path) -> anyhow::Result<()> {
    if config.acme.is_some() { make_directory(&directory(config, base)) } else { Ok(()) }
}

impl Asking {
    /// Begins, where the config wants certificates, in the directory that [`prepare`] made and that is watched. `before` goes
    /// on where it does the same.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        config: &Config,
        base: &Path,
        challenges: &Arc<Challenges>,
        before: Option<Self>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(settings) = config.acme.clone() else { return Ok(None) };
        if before.as_ref().is_some_and(|before| before.settings == settings) {
            return Ok(before);
        }
        drop(before);
        let directory = directory(config, base);
        let (stop, stopped) = oneshot::channel();
        let mut settings = settings;
        let asked = settings.clone();
        settings.ca = settings.ca.map(|ca| base.join(ca));
        let challenges = Arc::clone(challenges);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("acme".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = ask(&settings, &directory, &challenges) => {}
                        _ = stopped => {}
                    }
                });
            })
            .context("the thread that asks for certificates could not be started")?;
        Ok(Some(Self { settings: asked, _stop: stop }))
    }
}

/// Asks for each certificate when it is due.
async fn ask(settings: &Acme, directory: &Path, challenges: &Challenges) {
    let mut tried = vec![Tried::default(); settings.certificates.len()];
    loop {
        let mut pause = Duration::MAX;
        for (wanted, tried) in settings.certificates.iter().zip(&mut tried) {
            let file = file(directory, wanted);
            let left = |tried| wait(there(&file).as_ref(), &wanted.names, tried, now());
            if left(*tried).is_zero() {
                let asked = order::obtain(settings, &wanted.names, directory, &file, challenges);
                let failed = match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(Ok(())) if left(Tried::default()).is_zero() => {
                        Some("what came is to be renewed at once; is this machine's clock right?".to_owned())
                    }
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(format!("{error:#}")),
                    Err(_) => Some(format!("not done within {PATIENCE:?}")),
                };
                match failed {
                    None => {
                        tracing::info!(names = ?wanted.names, "a certificate was issued");
                        *tried = Tried::default();
                    }
                    Some(error) => {
                        *tried = Tried { failures: tried.failures.saturating_add(1), last: now() };
                        tracing::warn!(
                            names = ?wanted.names, error, again_in = ?tried.pause(), check = settings.challenge.way(),
                            "no certificate was issued; what is there stays in force"
                        );
                    }
                }
            }
            pause = pause.min(left(*tried));
        }
        // Never in the same breath, whatever the clock does.
        tokio::time::sleep(pause.max(Duration::from_secs(1))).await;
    }
}

/// What is in a file.
fn there(file: &Path) -> Option<Issued> {
    Issued::read(chain(file).ok()?.first()?)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
