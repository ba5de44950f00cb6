//! What the control thread does while the daemon runs: signals, commands, files that change, times that come; and the drain.

use std::time::{Duration, Instant};

use proxy_core::store::Who;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::{Daemon, notify};
use crate::shared::Command;

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

impl Daemon {
    /// Until it is told to end; then drains.
    pub(super) async fn supervise(mut self) -> anyhow::Result<()> {
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

/// Completes at `at`, and not before `earliest`. It is asked for anew at each turn of the loop, and a turn is short: what it
/// waits for has to be points in time.
async fn expiry(at: Option<jiff::Timestamp>, earliest: Instant) {
    let Some(at) = at else { return std::future::pending().await };
    let wait = Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default();
    tokio::time::sleep_until((Instant::now() + wait).max(earliest).into()).await;
}

/// At that time, or never.
pub(super) async fn until(due: Option<Instant>) {
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
