//! The daemon: starts everything in order, then supervises from the control thread until it is told to end.
//! It never touches a request.

mod challenge_key;
mod history;
mod lists;
pub mod load;
mod notify;
pub mod policies;
mod reload;
mod revisions;
mod supervision;
mod watched_lists;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use proxy_core::config::Config;
use proxy_core::policy::{Edits, PolicySet};
use tokio::sync::mpsc;

use crate::control;
use crate::kernel::{Kernel, SameHost};
use crate::shared::{Command, ListFileCounts, Shared};
use crate::stages::access_log::LogWriter;
use crate::stats::WorkerStats;
use crate::tls::acme::{self, Asking};
use crate::tls::files::files as tls_files;
use crate::tls::{Tls, key_log};
use crate::watch::{Stamps, Watch};
use history::History;
use load::load_after;
use policies::Sources;
use revisions::{First, first_load};
use watched_lists::WatchedLists;
use workers::Workers;

/// Commands that may wait for the supervisor.
const COMMANDS: usize = 64;

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The config file.
    pub config: PathBuf,
    /// Where secrets of TLS sessions are written to.
    pub key_log: Option<PathBuf>,
}

/// Runs the daemon until it has drained.
///
/// # Errors
/// Config, policies or certificates are faulty, an address is taken, or the kernel half is required and cannot be had.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Daemon::start(options)?.supervise().await })
}

struct Daemon {
    path: PathBuf,
    /// The config of the start: listeners, workers and gate stay as it says.
    boot: Arc<Config>,
    shared: Arc<Shared>,
    log: Option<LogWriter>,
    workers: Workers,
    commands: mpsc::Receiver<Command>,
    exits: mpsc::UnboundedReceiver<u32>,
    watch: Option<Watch>,
    /// Who asks for certificates.
    acme: Option<Asking>,
    stamps: Stamps,
    sources: Sources,
    /// Files of their lists that are taken up when they change.
    lists: WatchedLists,
    history: History,
    /// Of the policies' lists, at run time.
    edits: Arc<Edits>,
    /// When rules or items of lists expired last.
    expired: Instant,
    changed: (mpsc::Sender<()>, mpsc::Receiver<()>),
    /// Held for what it serves.
    _control: control::Handle,
}

impl Daemon {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let First { mut loaded, begin, edits: list_edits, left } = first_load(&options.config)?;
        // First of all: whoever holds the admin socket is the daemon, and its kernel half is not to be touched.
        let control = control::open(&loaded.config)?;
        let (kernel, missing) = load_kernel(&loaded.config)?;
        // Rules that the maps know from an earlier run keep their slots.
        let known = kernel.as_ref().map(|kernel| kernel.rule_names()).transpose()?.unwrap_or_default();
        if !known.is_empty() {
            let sources = Some(loaded.sources);
            loaded = load_after(&options.config, &known, None, sources, &list_edits)
                .map_err(|faults| anyhow!("{faults}"))?;
        }
        if let Some(kernel) = &kernel {
            kernel.apply(loaded.policies.kernel_image()).context("the policies could not be written to the kernel")?;
        }
        warn_of(&loaded.policies);
        challenge_key::keep(&loaded.config, &loaded.policies);
        let config = Arc::clone(&loaded.config);
        loaded.snapshot.same_host = load_same_host(&config, None);
        let mut history = History::open(&loaded.base.join(&config.state_dir), left);
        history.started(&mut loaded.sources, loaded.policies.rules().len(), begin);
        let key_log = options.key_log.as_ref().map(|file| {
            key_log::open(file).with_context(|| format!("--key-log {}: cannot be written", file.display()))
        });
        let stamps = loaded.tls.stamps.clone();
        let tls = if config.certificates.is_empty() && config.acme.is_none() {
            None
        } else {
            Some(Tls::new(loaded.tls, key_log.transpose()?)?)
        };
        let log = if config.access_log.enabled {
            let file = config.access_log.file.as_ref().map(|file| loaded.base.join(file));
            Some(LogWriter::start(file.as_deref())?)
        } else {
            None
        };

        let (sender, commands) = mpsc::channel(COMMANDS);
        let (exit_sender, exits) = mpsc::unbounded_channel();
        let count = config.workers.unwrap_or_else(cpus);
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(loaded.snapshot),
            kernel,
            tls,
            kernel_missing: missing,
            sources: proxy_core::abuse::sources::Sources::new(std::hash::BuildHasher::hash_one(
                &std::hash::RandomState::new(),
                0,
            )),
            stats: (0..count).map(|_| Arc::new(WorkerStats::default())).collect(),
            kept: ArcSwap::from_pointee(history.kept()),
            commands: sender,
            list_files: ListFileCounts::default(),
            started: Instant::now(),
        });
        let workers = Workers::start(Arc::clone(&config), Arc::clone(&shared), log.clone(), exit_sender)?;
        let control = control.serve(Arc::clone(&shared))?;
        let changed = mpsc::channel(1);
        acme::prepare(&config, &loaded.base)?;
        let watch = Some(watch_tls(&config, &loaded.base, changed.0.clone()));
        let acme = match &shared.tls {
            Some(tls) => Asking::start(&config, &loaded.base, tls.challenges(), None)?,
            None => None,
        };
        tracing::info!(
            workers = count,
            listeners = config.listeners.len(),
            kernel = shared.kernel.is_some(),
            "tidegate is ready"
        );
        notify::tell("READY=1");
        let path = options.config.clone();
        Ok(Self {
            path,
            boot: config,
            shared,
            log,
            workers,
            commands,
            exits,
            watch,
            acme,
            stamps,
            lists: WatchedLists::new(&loaded.sources),
            sources: loaded.sources,
            history,
            edits: Arc::new(list_edits),
            expired: Instant::now(),
            changed,
            _control: control,
        })
    }
}

/// The kernel half, or why there is none.
fn load_kernel(config: &Config) -> anyhow::Result<(Option<Arc<Kernel>>, Option<String>)> {
    if !config.gate.enabled {
        let why = "turned off in the config (/gate/enabled)".to_owned();
        anyhow::ensure!(!config.require_ebpf, "require_ebpf is set, but the kernel half is {why}");
        return Ok((None, Some(why)));
    }
    match Kernel::load(config) {
        Ok(kernel) => Ok((Some(Arc::new(kernel)), None)),
        Err(error) if config.require_ebpf => {
            Err(error.context("require_ebpf is set, but the kernel half is not to be had"))
        }
        Err(error) => {
            let why = format!("{error:#}");
            tracing::warn!(why, "going on without the kernel half: no XDP gate, SO_REUSEPORT instead of steering");
            Ok((None, Some(why)))
        }
    }
}

/// What hands responses of servers on this host over, where an upstream asks for it: as it is, or loaded now.
fn load_same_host(config: &Config, before: Option<&Arc<SameHost>>) -> Option<Result<Arc<SameHost>, Arc<str>>> {
    if !config.upstreams.values().any(|upstream| upstream.same_host) {
        return None;
    }
    if let Some(before) = before {
        return Some(Ok(Arc::clone(before)));
    }
    let loaded = SameHost::load(config.cgroup.as_deref()).map(Arc::new).map_err(|error| {
        let why = format!("{error:#}");
        tracing::warn!(why, "responses of servers on this host come through TCP");
        why.into()
    });
    Some(loaded)
}

/// Watches the files that TLS is made of.
fn watch_tls(config: &Config, base: &Path, changed: mpsc::Sender<()>) -> Watch {
    Watch::start(&tls_files(config, base), "certificate files", changed)
}

/// CPUs that the process may use.
fn cpus() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    count.min(proxy_common::abi::MAX_WORKERS)
}

/// What the compiler thinks is likely not meant.
fn warn_of(policies: &PolicySet) {
    for warning in policies.warnings() {
        tracing::warn!("{warning}");
    }
}
