//! The daemon: starts everything in order, then supervises from the control thread until it is told to end.
//! It never touches a request.

mod challenge_key;
mod history;
mod lists;
pub mod load;
mod notify;
pub mod policies;
mod revisions;
mod watched_lists;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwap;
use proxy_core::config::{Config, needs_restart};
use proxy_core::policy::{Edits, PolicySet};
use proxy_core::store::Who;
use proxy_core::store::audit::Act;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::control;
use crate::kernel::{Applied, Kernel};
use crate::shared::{Command, ListFileCounts, Reloaded, Shared};
use crate::stages::access_log::LogWriter;
use crate::stats::WorkerStats;
use crate::tls::acme::{self, Asking};
use crate::tls::files::files as tls_files;
use crate::tls::{self, Tls, key_log};
use crate::watch::{Stamps, Watch};
use history::History;
use load::{Loaded, load_after};
use policies::Sources;
use revisions::{First, first_load};
use watched_lists::WatchedLists;
use workers::Workers;

/// Commands that may wait for the supervisor.
const COMMANDS: usize = 64;
/// How often expired verdicts are taken out of the map.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often the daemon looks whether services answer SYNs with cookies.
const SYN_EVERY: Duration = Duration::from_millis(200);
/// Certificate files are read this long after their last change: chain and key come as two.
const CERTIFICATES_SETTLE: Duration = Duration::from_millis(300);
/// Beyond the drain limit, how long the workers' threads may take to end.
const END_GRACE: Duration = Duration::from_secs(2);

/// Shortest pause between two rounds of expiring rules.
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);

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

    async fn supervise(mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut syn = tokio::time::interval(SYN_EVERY);
        syn.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let due = self.workers.next_due();
            tokio::select! {
                Some(command) = self.commands.recv() => match command {
                    Command::Drain(reply) => {
                        // Whoever asked may have left.
                        let _ = reply.send(());
                        break;
                    }
                    other => self.obey(other),
                },
                Some(index) = self.exits.recv() => self.workers.ended(index),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => drop(self.reload(Who::default())),
                Some(()) = self.changed.1.recv() => {
                    tokio::time::sleep(CERTIFICATES_SETTLE).await;
                    while self.changed.1.try_recv().is_ok() {}
                    self.reload_certificates();
                }
                () = self.lists.settled() => self.look_at_lists(),
                _ = sweep.tick() => self.sweep(),
                _ = syn.tick() => self.tick_syn(),
                () = until(due) => self.workers.start_due(),
                () = expiry(self.shared.snapshot.load().policies.next_expiry(), self.expired + EXPIRY_PAUSE) => {
                    self.expired = Instant::now();
                    self.expire();
                }
            }
        }

        notify::tell("STOPPING=1");
        // The kernel can take seconds to let go of a watch while it is busy elsewhere: it does so during the drain.
        self.watch = None;
        self.lists.end();
        let within = self.shared.snapshot.load().config.timeouts.drain.0;
        tracing::info!(within_s = within.as_secs_f64(), "draining; a second signal ends at once");
        self.workers.stop_all(within);
        let limit = tokio::time::sleep(within + END_GRACE);
        let mut limit = std::pin::pin!(limit);
        while self.workers.any_left() {
            tokio::select! {
                Some(index) = self.exits.recv() => self.workers.ended(index),
                Some(command) = self.commands.recv() => refuse(command),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = &mut limit => break,
            }
        }
        if let Some(log) = &self.log {
            log.finish(END_GRACE);
        }
        if let Some(kernel) = &self.shared.kernel {
            kernel.end_syn();
        }
        tracing::info!("tidegate has ended");
        Ok(())
    }

    fn obey(&mut self, command: Command) {
        let drain = self.shared.snapshot.load().config.timeouts.drain.0;
        match command {
            // Whoever asked may have left.
            Command::Reload(who, reply) => drop(reply.send(self.reload(who))),
            Command::Apply(who, proposal, reply) => drop(reply.send(self.apply(who, proposal))),
            Command::EditList(who, change, reply) => drop(reply.send(self.edit_list(who, &change))),
            Command::Lists(name, reply) => drop(reply.send(self.lists(name.as_deref()))),
            Command::History(reply) => drop(reply.send(self.history())),
            Command::Texts(number, reply) => drop(reply.send(self.texts(number))),
            Command::StopWorker(index, reply) => self.workers.stop(index, drain, Some(reply)),
            Command::StartWorker(index, reply) => self.workers.restart(index, reply),
            Command::Drain(_) => {}
        }
    }

    /// All or nothing: whatever is faulty, the old snapshot stays.
    fn reload(&mut self, who: Who) -> Result<Reloaded, String> {
        let result = self.try_reload(who);
        match &result {
            Ok(reloaded) => {
                tracing::info!(generation = reloaded.generation, kernel = ?reloaded.kernel, "reloaded");
                for pointer in &reloaded.needs_restart {
                    tracing::warn!(pointer, "this change takes effect at the next start");
                }
            }
            Err(faults) => tracing::error!("not reloaded, the old config stays in force:\n{faults}"),
        }
        self.tell(Act::Reload, who, result.as_ref().map(|_| ()).map_err(String::as_str));
        result
    }

    fn try_reload(&mut self, who: Who) -> Result<Reloaded, String> {
        let known = self.rule_slots()?;
        let before = self.shared.snapshot.load_full();
        let current = self.history.current();
        let held = current.held.then(|| self.sources.clone());
        let mut loaded = load_after(&self.path, &known, Some(&before.policies), held, &self.edits)?;
        if current.held {
            self.sources.may_stay(&loaded.config)?;
        }
        self.history.follows(&loaded.sources).or_else(|fault| if current.held { Ok(()) } else { Err(fault) })?;
        let kernel = match &self.shared.kernel {
            Some(kernel) => apply(kernel, &loaded).map_err(|error| format!("{error:#}"))?,
            None => Applied::default(),
        };
        let needs_restart = needs_restart(&self.boot, &loaded.config);
        warn_of(&loaded.policies);
        challenge_key::keep(&loaded.config, &loaded.policies);
        if !current.held {
            self.history.reloaded(&mut loaded.sources, loaded.policies.rules().len(), who);
        }
        let Loaded { config, base, tls, sources, mut snapshot, .. } = loaded;
        let stamps = tls.stamps.clone();
        let generation = before.generation + 1;
        snapshot.generation = generation;
        if let Some(in_force) = &self.shared.tls {
            in_force.replace(tls)?;
        }
        self.shared.snapshot.store(Arc::new(snapshot));
        self.follow(sources);
        self.stamps = stamps;
        if let (Some(log), Some(file)) = (&self.log, &config.access_log.file) {
            log.reopen(&base.join(file));
        }
        let prepared = acme::prepare(&config, &base);
        self.watch = Some(watch_tls(&config, &base, self.changed.0.clone()));
        if let Some(tls) = &self.shared.tls {
            let before = self.acme.take();
            let asking = prepared.and_then(|()| Asking::start(&config, &base, tls.challenges(), before));
            self.acme = asking.unwrap_or_else(|error| {
                tracing::error!(error = format!("{error:#}"), "no certificates are asked for; reload to try again");
                None
            });
        }
        Ok(Reloaded { generation, kernel, needs_restart, held: current.revision.filter(|_| current.held) })
    }

    /// After a change of the files; a broken one keeps what is in force.
    fn reload_certificates(&mut self) {
        let config = Arc::clone(&self.shared.snapshot.load().config);
        let base = self.path.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
        let stamps = Stamps::take(tls_files(&config, &base));
        if stamps == self.stamps {
            return;
        }
        let Some(in_force) = &self.shared.tls else { return };
        match tls::Loaded::read(&config, &base).and_then(|loaded| in_force.replace(loaded)) {
            Ok(()) => tracing::info!("certificates read again"),
            Err(faults) => tracing::error!("certificates not read again, the old ones stay in force:\n{faults}"),
        }
        self.stamps = stamps;
        // The files may lie behind other links now.
        self.watch = Some(watch_tls(&config, &base, self.changed.0.clone()));
    }

    /// A rule's time has come: the same texts are compiled again, without it.
    fn expire(&self) {
        match self.compiled(&self.sources).and_then(|policies| self.swap(policies)) {
            Ok((generation, ..)) => tracing::info!(generation, "rules or items of lists have expired"),
            Err(faults) => tracing::error!("expired rules stay in force, reload to try again:\n{faults}"),
        }
    }

    /// Rule slots that the kernel maps name.
    fn rule_slots(&self) -> Result<Vec<(u32, String)>, String> {
        match &self.shared.kernel {
            Some(kernel) => kernel.rule_names().map_err(|error| format!("{error:#}")),
            None => Ok(Vec::new()),
        }
    }

    fn tick_syn(&self) {
        for rule in self.shared.snapshot.load().policies.newly_aborted() {
            tracing::warn!(rule, "the rule matches more than its abort_if lets it: it only counts from now on");
        }
        if let Some(kernel) = &self.shared.kernel
            && let Err(error) = kernel.tick_syn()
        {
            tracing::warn!(error = format!("{error:#}"), "the mode of SYN cookies could not be followed");
        }
    }

    fn sweep(&self) {
        if let Some(kernel) = &self.shared.kernel {
            kernel.sweep();
        }
        if let Some(tls) = &self.shared.tls {
            tls.tick();
        }
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

/// Takes a loaded config into the kernel half: interfaces that come in first, those that go last. Where it fails, none
/// came in.
fn apply(kernel: &Kernel, loaded: &Loaded) -> anyhow::Result<Applied> {
    let gate = &loaded.config.gate;
    let added = kernel.add_interfaces(gate)?;
    let applied = kernel
        .apply(loaded.policies.kernel_image())
        .and_then(|applied| kernel.set_checks(&loaded.config).map(|()| applied))
        .and_then(|applied| kernel.set_rates(&loaded.config).map(|()| applied))
        .and_then(|applied| kernel.set_fail(gate).map(|()| applied));
    match &applied {
        Ok(_) => {
            kernel.drop_interfaces(gate, None)?;
            kernel.set_syn(gate)?;
        }
        Err(_) => kernel.drop_interfaces(gate, Some(&added))?,
    }
    applied
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

/// Completes at `at`, and not before `earliest`. It is asked for anew at each turn of the loop, and a turn is short: what it
/// waits for has to be points in time.
async fn expiry(at: Option<jiff::Timestamp>, earliest: Instant) {
    let Some(at) = at else { return std::future::pending().await };
    let wait = Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default();
    tokio::time::sleep_until((Instant::now() + wait).max(earliest).into()).await;
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn refuse(command: Command) {
    const DRAINING: &str = "the daemon is draining";
    match command {
        Command::Reload(_, reply) => drop(reply.send(Err(DRAINING.to_owned()))),
        Command::Apply(_, _, reply) => drop(reply.send(Err(DRAINING.to_owned()))),
        Command::EditList(_, _, reply) => drop(reply.send(Err(DRAINING.to_owned()))),
        Command::Lists(_, reply) => drop(reply.send(Err(DRAINING.to_owned()))),
        Command::History(reply) => drop(reply.send(Err(DRAINING.to_owned()))),
        Command::Texts(_, reply) => drop(reply.send(Err(DRAINING.to_owned()))),
        Command::StopWorker(_, reply) | Command::StartWorker(_, reply) => drop(reply.send(Err(DRAINING.to_owned()))),
        Command::Drain(reply) => drop::<Result<(), ()>>(oneshot::Sender::send(reply, ())),
    }
}
