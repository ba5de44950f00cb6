//! What the control thread and the workers share: the current snapshot, the kernel half, counters, commands.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use proxy_core::config::Config;
use proxy_core::policy::PolicySet;
use proxy_core::route::Router;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::kernel::{Applied, Kernel};
use crate::stats::WorkerStats;
use crate::upstream::origin::Origin;

/// One immutable generation of everything that a reload may change. Workers hold it for the length of a request.
#[derive(Debug)]
pub struct Snapshot {
    /// Validated config.
    pub config: Arc<Config>,
    /// Compiled policies.
    pub policies: Arc<PolicySet>,
    /// Host and path to an upstream.
    pub router: Router,
    /// The upstreams, sorted by name.
    pub origins: Vec<Arc<Origin>>,
    /// Grows by one at each reload; starts at 1.
    pub generation: u64,
}

/// One for the process.
#[derive(Debug)]
pub struct Shared {
    /// Current snapshot.
    pub snapshot: ArcSwap<Snapshot>,
    /// The kernel half, where it could be had.
    pub kernel: Option<Arc<Kernel>>,
    /// Why there is no kernel half, for `status`.
    pub kernel_missing: Option<String>,
    /// Counters, one a worker.
    pub stats: Vec<Arc<WorkerStats>>,
    /// To the supervisor in `daemon`.
    pub commands: mpsc::Sender<Command>,
    /// When the daemon started.
    pub started: Instant,
}

/// What the admin API and signals ask of the supervisor. Each is answered once.
#[derive(Debug)]
pub enum Command {
    /// Read config and policies again; on any error the old snapshot stays.
    Reload(oneshot::Sender<Result<Reloaded, String>>),
    /// Stop accepting, let open requests end within `timeouts.drain`, then exit.
    Drain(oneshot::Sender<()>),
    /// Take one worker out: its listeners close, its open connections end.
    StopWorker(u32, oneshot::Sender<Result<(), String>>),
    /// Bring a stopped worker back.
    StartWorker(u32, oneshot::Sender<Result<(), String>>),
}

/// What a reload did.
#[derive(Clone, Debug, Serialize)]
pub struct Reloaded {
    /// The new generation.
    pub generation: u64,
    /// What changed in the kernel maps.
    pub kernel: Applied,
    /// Changes that need a restart (listeners, workers, gate), by JSON pointer.
    pub needs_restart: Vec<String>,
}
