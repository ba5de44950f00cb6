//! What runs beside the workers on the control thread: the admin API on a Unix socket and the metrics listener.
//!
//! Nothing here may touch a request's path. The admin API reads [`Shared`] and the kernel half, and asks the
//! supervisor for everything that changes the daemon.

mod admin;
pub mod api;
pub mod client;
pub mod serve;
mod socket;
pub mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::AbortHandle;

use crate::metrics;
use crate::shared::Shared;

/// The running admin API and metrics listener. Dropping it ends both and removes the socket file.
#[derive(Debug)]
pub struct Handle {
    socket: socket::Claimed,
    metrics: Option<SocketAddr>,
    tasks: Vec<AbortHandle>,
}

impl Handle {
    /// Path of the admin socket.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Where metrics are served, with the port that the system chose if the config said 0.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Opens the admin socket and, where the config names one, the metrics listener; serves both on the current runtime.
///
/// # Errors
/// The socket or the address cannot be had; the text says what to do about it.
pub fn start(shared: Arc<Shared>) -> anyhow::Result<Handle> {
    let config = Arc::clone(&shared.snapshot.load().config);
    let path: PathBuf = config.admin.socket.clone();
    let (socket, listener) = socket::claim(&path)?;
    let mut tasks = Vec::new();
    let mut bound = None;
    if let Some(address) = config.admin.metrics {
        let listener = metrics::bind(address)
            .with_context(|| format!("cannot listen on {address} for metrics: change `admin.metrics` in the config"))?;
        bound = Some(listener.local_addr()?);
        let scraper = Arc::clone(&shared);
        tasks.push(tokio::spawn(metrics::serve(listener, scraper)).abort_handle());
    }
    tasks.push(tokio::spawn(admin::serve(listener, shared)).abort_handle());
    Ok(Handle { socket, metrics: bound, tasks })
}
