//! What runs beside the workers on the control thread: the admin API on a Unix socket and the metrics listener.
//!
//! Nothing here may touch a request's path. The admin API reads [`Shared`] and the kernel half, and asks the
//! supervisor for everything that changes the daemon.

mod admin;
pub mod api;
pub mod body;
pub mod client;
pub mod openapi;
pub mod serve;
mod socket;
pub mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use proxy_core::config::Config;
use tokio::net::{TcpListener, UnixListener};
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

/// The admin socket and the metrics listener, open but not served yet: what asks now waits.
#[derive(Debug)]
pub struct Opened {
    socket: socket::Claimed,
    admin: UnixListener,
    metrics: Option<TcpListener>,
}

/// Opens the admin socket and, where the config names one, the metrics listener. A daemon does this before it touches
/// anything that another one may be using: whoever holds the socket is the daemon.
///
/// # Errors
/// The socket or the address cannot be had; the text says what to do about it.
pub fn open(config: &Config) -> anyhow::Result<Opened> {
    let (socket, admin) = socket::claim(&config.admin.socket)?;
    let bind = |address| {
        metrics::bind(address)
            .with_context(|| format!("cannot listen on {address} for metrics: change `admin.metrics` in the config"))
    };
    Ok(Opened { socket, admin, metrics: config.admin.metrics.map(bind).transpose()? })
}

impl Opened {
    /// Serves both on the current runtime.
    ///
    /// # Errors
    /// Only where the system does not tell the metrics listener's address.
    pub fn serve(self, shared: Arc<Shared>) -> anyhow::Result<Handle> {
        let Self { socket, admin, metrics } = self;
        let mut tasks = Vec::new();
        let mut bound = None;
        if let Some(listener) = metrics {
            bound = Some(listener.local_addr()?);
            tasks.push(tokio::spawn(crate::metrics::serve(listener, Arc::clone(&shared))).abort_handle());
        }
        tasks.push(tokio::spawn(admin::serve(admin, shared)).abort_handle());
        Ok(Handle { socket, metrics: bound, tasks })
    }
}

/// [`open`] and [`Opened::serve`] at once.
///
/// # Errors
/// As [`open`].
pub fn start(shared: Arc<Shared>) -> anyhow::Result<Handle> {
    let config = Arc::clone(&shared.snapshot.load().config);
    open(&config)?.serve(shared)
}
