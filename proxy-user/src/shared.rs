//! What the control thread and the workers share: the current snapshot, the kernel half, counters, commands.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use proxy_core::abuse::sources::Sources;
use proxy_core::config::Config;
use proxy_core::policy::PolicySet;
use proxy_core::route::Router;
use proxy_core::store::{Texts, Who};
use proxy_core::tls::Hosts;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::control::wire::{History, ListEdited, Lists, RevisionTexts};
use crate::kernel::{Applied, Kernel, SameHost};
use crate::stages::hooks::Compiled;
use crate::stats::WorkerStats;
use crate::store::Current;
use crate::tls::Tls;
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
    /// What holds for which host over TLS.
    pub hosts: Hosts,
    /// Whether any route passes early hints on.
    pub early_hints: bool,
    /// Which stages the requests of each route pass.
    pub stages: Compiled,
    /// What hands responses of servers on this host over, or why that is not to be had; none where no upstream asks for it.
    pub same_host: Option<Result<Arc<SameHost>, Arc<str>>>,
    /// Grows by one at each reload; starts at 1.
    pub generation: u64,
}

impl Snapshot {
    /// With the routing table that follows from the config.
    pub fn new(
        config: Arc<Config>,
        policies: Arc<PolicySet>,
        stages: Compiled,
        origins: Vec<Arc<Origin>>,
        generation: u64,
    ) -> Self {
        Self {
            router: Router::new(&config),
            hosts: Hosts::new(&config.tls),
            early_hints: config.routes.iter().any(|route| route.early_hints),
            config,
            policies,
            origins,
            stages,
            same_host: None,
            generation,
        }
    }

    /// What hands responses of servers on this host over, where that is asked for and to be had.
    pub fn same_host(&self) -> Option<&Arc<SameHost>> {
        self.same_host.as_ref()?.as_ref().ok()
    }
}

/// What is known of the policies' revisions.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The one in force.
    pub current: Current,
    /// Why none are kept.
    pub missing: Option<String>,
}

/// One for the process.
#[derive(Debug)]
pub struct Shared {
    /// Current snapshot.
    pub snapshot: ArcSwap<Snapshot>,
    /// The kernel half, where it could be had.
    pub kernel: Option<Arc<Kernel>>,
    /// TLS towards clients; none without an `https` listener.
    pub tls: Option<Arc<Tls>>,
    /// Why there is no kernel half, for `status`.
    pub kernel_missing: Option<String>,
    /// Connections of each source.
    pub sources: Sources,
    /// Counters, one a worker.
    pub stats: Vec<Arc<WorkerStats>>,
    /// Which kept policies are in force, and why none are kept, for `status`.
    pub kept: ArcSwap<Kept>,
    /// To the supervisor in `daemon`.
    pub commands: mpsc::Sender<Command>,
    /// Of list files that are taken up by themselves.
    pub list_files: ListFileCounts,
    /// When the daemon started.
    pub started: Instant,
}

/// What became of list files that changed under a running daemon.
#[derive(Debug, Default)]
pub struct ListFileCounts {
    /// Taken up.
    pub taken: AtomicU64,
    /// Not taken up.
    pub refused: AtomicU64,
    /// Files whose newest content was not taken up.
    pub stale: AtomicU64,
}

/// What the admin API and signals ask of the supervisor. Each is answered once.
#[derive(Debug)]
pub enum Command {
    /// Read config and policies again; on any error the old snapshot stays.
    Reload(Who, oneshot::Sender<Result<Reloaded, String>>),
    /// Load other policies; on any error the old snapshot stays.
    Apply(Who, Proposal, oneshot::Sender<Result<Applying, String>>),
    /// Edit a list of the policies in force.
    EditList(Who, ListChange, oneshot::Sender<Result<ListEdited, String>>),
    /// The lists of the policies in force, or one of them with its edits.
    Lists(Option<String>, oneshot::Sender<Result<Lists, String>>),
    /// What is kept of policies.
    History(oneshot::Sender<Result<History, String>>),
    /// Texts of a kept revision, or of the one in force.
    Texts(Option<u64>, oneshot::Sender<Result<RevisionTexts, String>>),
    /// Stop accepting, let open requests end within `timeouts.drain`, then exit.
    Drain(oneshot::Sender<()>),
    /// Take one worker out: its listeners close, its open connections end.
    StopWorker(u32, oneshot::Sender<Result<(), String>>),
    /// Bring a stopped worker back.
    StartWorker(u32, oneshot::Sender<Result<(), String>>),
}

/// Policies to load.
#[derive(Clone, Debug)]
pub enum Proposal {
    /// What the config's files hold now.
    Config,
    /// These.
    Texts(Texts),
    /// A kept revision; the one before the one in force unless named.
    Revision(Option<u64>),
}

/// An edit of a list.
#[derive(Clone, Debug)]
pub struct ListChange {
    /// `policy/list`
    pub list: String,
    /// Items to put in.
    pub add: Vec<String>,
    /// Items to take out.
    pub remove: Vec<String>,
    /// How long it lasts; until it is edited again unless given.
    pub ttl: Option<Duration>,
}

/// What came of a [`Proposal`].
#[derive(Clone, Debug)]
pub struct Applying {
    /// The new generation.
    pub generation: u64,
    /// What changed in the kernel maps.
    pub kernel: Applied,
    /// The revision that is in force; none where none is kept.
    pub revision: Option<u64>,
    /// Whether it stays in force over reloads and starts.
    pub held: bool,
    /// Rules in it.
    pub rules: usize,
    /// What is likely not meant.
    pub warnings: Vec<String>,
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
    /// The revision that stays in force instead of the config's policy files.
    pub held: Option<u64>,
}
