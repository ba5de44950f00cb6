//! The workers as the supervisor sees them: threads that are started, told to drain, found dead, and started again.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::HeaderValue;
use proxy_core::config::{Config, Protocol};
use tokio::sync::{mpsc, oneshot};

use crate::kernel::Kernel;
use crate::shared::Shared;
use crate::stages::access_log::LogWriter;
use crate::worker::connection::ListenerInfo;
use crate::worker::passage::Passages;
use crate::worker::thread::{self, Setup, Sockets, WorkerOrder};

/// Shortest and longest wait before a dead worker is started again; doubled each time.
const RESTART_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A worker that ran this long has no history.
const SOUND_AFTER: Duration = Duration::from_secs(60);
/// How long an `Alt-Svc` is believed, in seconds.
const ALT_SVC_AGE: u32 = 86_400;

/// Answer to whoever asked for a worker to start or stop.
pub(super) type Reply = oneshot::Sender<Result<(), String>>;

/// All workers.
pub(super) struct Workers {
    config: Arc<Config>,
    shared: Arc<Shared>,
    log: Option<LogWriter>,
    slots: Vec<Slot>,
    exits: mpsc::UnboundedSender<u32>,
}

struct Slot {
    state: State,
    failures: u32,
}

enum State {
    Running { orders: mpsc::UnboundedSender<WorkerOrder>, thread: JoinHandle<anyhow::Result<()>>, since: Instant },
    Draining { thread: JoinHandle<anyhow::Result<()>>, replies: Vec<Reply> },
    Waiting { until: Instant },
    Stopped,
}

/// Tells the supervisor that the thread has ended, however it ended.
struct Exit(u32, mpsc::UnboundedSender<u32>);

impl Drop for Exit {
    fn drop(&mut self) {
        // Without a supervisor nobody needs to know.
        let _ = self.1.send(self.0);
    }
}

impl Workers {
    /// Binds every listener for every worker, then starts the threads. `config` is the one of the start: its listeners
    /// stay until the end.
    pub(super) fn start(
        config: Arc<Config>,
        shared: Arc<Shared>,
        log: Option<LogWriter>,
        exits: mpsc::UnboundedSender<u32>,
    ) -> anyhow::Result<Self> {
        let count = shared.stats.len() as u32;
        let kernel = shared.kernel.as_deref();
        let mut tcp = Vec::new();
        let mut udp = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let address = listener.address;
            let what = || format!("listener `{}`: cannot listen on {address}", listener.name);
            tcp.push(Kernel::bind_tcp(kernel, index as u32, address, count).with_context(what)?.into_iter());
            let bound = listener.http3.then(|| Kernel::bind_udp(kernel, index as u32, address, count));
            udp.push(bound.transpose().with_context(what)?.map(Vec::into_iter));
        }
        if let Some(kernel) = kernel {
            kernel.seal_bindings().context("bindings of an earlier run could not be removed")?;
        }
        let mut workers = Self { config, shared, log, slots: Vec::new(), exits };
        for index in 0..count {
            let mut sockets = Vec::new();
            for (listener, (tcp, udp)) in workers.config.listeners.iter().zip(tcp.iter_mut().zip(&mut udp)) {
                let tcp = tcp.next().with_context(|| format!("listener `{}`: a socket is missing", listener.name))?;
                sockets.push((tcp, udp.as_mut().and_then(Iterator::next)));
            }
            let state = workers.spawn(index, sockets)?;
            workers.slots.push(Slot { state, failures: 0 });
        }
        Ok(workers)
    }

    fn spawn(&self, index: u32, sockets: Vec<(TcpListener, Option<UdpSocket>)>) -> anyhow::Result<State> {
        let sockets = (0..).zip(self.config.listeners.iter().zip(sockets)).map(|(service, (listener, (tcp, udp)))| {
            let port = tcp.local_addr().map_or(listener.address.port(), |address| address.port());
            let alt_svc =
                listener.http3.then(|| HeaderValue::try_from(format!("h3=\":{port}\"; ma={ALT_SVC_AGE}")).ok());
            let info = ListenerInfo {
                service,
                name: listener.name.clone(),
                tls: listener.protocol == Protocol::Https,
                alt_svc: alt_svc.flatten(),
                fronted: listener.proxy_protocol.iter().flat_map(|fronted| fronted.from.iter().copied()).collect(),
                passages: Passages::new(listener),
            };
            Sockets { info, tcp, udp }
        });
        let setup =
            Setup { index, shared: Arc::clone(&self.shared), sockets: sockets.collect(), log: self.log.clone() };
        let (orders, receiver) = mpsc::unbounded_channel();
        let exit = Exit(index, self.exits.clone());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let _exit = exit;
                thread::run(setup, receiver)
            })
            .context("a worker thread could not be started; raise the limit on tasks")?;
        Ok(State::Running { orders, thread, since: Instant::now() })
    }

    /// New sockets and a new thread for a worker that is not running.
    fn respawn(&self, index: u32) -> anyhow::Result<State> {
        let kernel = self.shared.kernel.as_deref();
        let mut sockets = Vec::new();
        for (service, listener) in self.config.listeners.iter().enumerate() {
            let tcp = Kernel::rebind_tcp(kernel, service as u32, listener.address, index)?;
            let udp = listener.http3.then(|| Kernel::rebind_udp(kernel, service as u32, listener.address, index));
            let udp = udp.transpose()?;
            sockets.push((tcp, udp));
        }
        self.spawn(index, sockets)
    }

    /// Drains one worker; `reply` is answered when its thread has ended.
    pub(super) fn stop(&mut self, index: u32, within: Duration, reply: Option<Reply>) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return answer(reply, Err(format!("there is no worker {index}; workers are counted from 0")));
        };
        match std::mem::replace(&mut slot.state, State::Stopped) {
            State::Running { orders, thread, .. } => {
                // A thread that ends at this moment has no ears; its exit is handled all the same.
                let _ = orders.send(WorkerOrder::Drain(within));
                slot.state = State::Draining { thread, replies: reply.into_iter().collect() };
            }
            State::Draining { thread, mut replies } => {
                replies.extend(reply);
                slot.state = State::Draining { thread, replies };
            }
            State::Waiting { .. } | State::Stopped => answer(reply, Ok(())),
        }
    }

    /// Starts a stopped worker.
    pub(super) fn restart(&mut self, index: u32, reply: Reply) {
        let result = match self.slots.get(index as usize).map(|slot| &slot.state) {
            None => Err(format!("there is no worker {index}; workers are counted from 0")),
            Some(State::Running { .. }) => Err(format!("worker {index} is running")),
            Some(State::Draining { .. }) => {
                Err(format!("worker {index} is still draining; try again when it has ended"))
            }
            Some(State::Waiting { .. } | State::Stopped) => {
                self.respawn(index).map_err(|error| format!("{error:#}")).map(|state| {
                    if let Some(slot) = self.slots.get_mut(index as usize) {
                        *slot = Slot { state, failures: 0 };
                    }
                })
            }
        };
        answer(Some(reply), result);
    }

    /// A worker's thread has ended. If that was not asked for, it comes back after a pause.
    pub(super) fn ended(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if let Some(kernel) = &self.shared.kernel {
            kernel.publish_accepting(index, false);
            kernel.publish_active(index, 0);
        }
        if let Some(stats) = self.shared.stats.get(index as usize) {
            stats.accepting.store(false, Ordering::Relaxed);
            stats.active.store(0, Ordering::Relaxed);
        }
        match std::mem::replace(&mut slot.state, State::Stopped) {
            State::Draining { thread, replies } => {
                report(index, thread);
                for reply in replies {
                    answer(Some(reply), Ok(()));
                }
                tracing::info!(worker = index, "worker stopped");
            }
            State::Running { thread, since, .. } => {
                report(index, thread);
                let (shortest, longest) = RESTART_AFTER;
                slot.failures = if since.elapsed() >= SOUND_AFTER { 0 } else { slot.failures };
                let pause = shortest.saturating_mul(1 << slot.failures.min(16)).min(longest);
                slot.failures += 1;
                tracing::error!(
                    worker = index,
                    pause_ms = pause.as_millis() as u64,
                    "worker ended unasked; it comes back"
                );
                slot.state = State::Waiting { until: Instant::now() + pause };
            }
            other => slot.state = other,
        }
    }

    /// When the next dead worker is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |slot: &Slot| if let State::Waiting { until } = slot.state { Some(until) } else { None };
        self.slots.iter().filter_map(due).min()
    }

    /// Starts the dead workers that are due.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        for index in 0..self.slots.len() as u32 {
            let due = |slot: &Slot| matches!(slot.state, State::Waiting { until } if until <= now);
            if !self.slots.get(index as usize).is_some_and(due) {
                continue;
            }
            let state = self.respawn(index).unwrap_or_else(|error| {
                tracing::error!(worker = index, error = format!("{error:#}"), "the worker could not be started again");
                State::Waiting { until: now + RESTART_AFTER.1 }
            });
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.state = state;
            }
        }
    }

    /// Whether any thread is left.
    pub(super) fn any_left(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, State::Running { .. } | State::Draining { .. }))
    }

    /// Drains all.
    pub(super) fn stop_all(&mut self, within: Duration) {
        for index in 0..self.slots.len() as u32 {
            self.stop(index, within, None);
        }
    }

    #[cfg(test)]
    pub(super) fn panic(&self, index: usize) {
        if let State::Running { orders, .. } = &self.slots[index].state {
            orders.send(WorkerOrder::Panic).unwrap();
        }
    }
}

fn answer(reply: Option<Reply>, result: Result<(), String>) {
    if let Some(reply) = reply {
        // Whoever asked may have left.
        let _ = reply.send(result);
    }
}

/// Joins a thread that has ended, and logs why it did if that was not in order.
fn report(index: u32, thread: JoinHandle<anyhow::Result<()>>) {
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(worker = index, error = format!("{error:#}"), "worker failed"),
        Err(panic) => {
            let text =
                panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(worker = index, panic = text.unwrap_or("of unknown kind"), "worker panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};

    use proxy_core::policy::PolicySet;

    use super::*;
    use crate::shared::Snapshot;
    use crate::stages::Stages;
    use crate::stages::hooks::Compiled;
    use crate::stats::WorkerStats;

    /// One worker with one listener and no route.
    fn start() -> (Workers, mpsc::UnboundedReceiver<u32>, SocketAddr) {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            r#"{{"listeners":[{{"name":"a","address":"{free}","protocol":"http"}}],"gate":{{"enabled":false}},
                "routes":[{{"hosts":["b.test"],"upstream":"o"}}],"upstreams":{{"o":{{"servers":["http://127.0.0.1:1"]}}}}}}"#
        );
        let config = Arc::new(proxy_core::config::parse(&text).unwrap());
        let origins = crate::upstream::origin::Origin::all(&config, std::path::Path::new("")).unwrap();
        let stages =
            Compiled::new(Stages::installed(), &config, std::path::Path::new(""), &PolicySet::default()).unwrap();
        let snapshot = Snapshot::new(Arc::clone(&config), Arc::default(), stages, origins, 1);
        let shared = Arc::new(Shared {
            snapshot: arc_swap::ArcSwap::from_pointee(snapshot),
            kernel: None,
            tls: None,
            kept: arc_swap::ArcSwap::default(),
            kernel_missing: None,
            sources: proxy_core::abuse::sources::Sources::new(1),
            stats: vec![Arc::new(WorkerStats::default())],
            commands: mpsc::channel(1).0,
            list_files: crate::shared::ListFileCounts::default(),
            started: Instant::now(),
        });
        let (exits, ended) = mpsc::unbounded_channel();
        (Workers::start(config, shared, None, exits).unwrap(), ended, free)
    }

    fn status(address: SocketAddr) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
    }

    #[test]
    fn a_worker_that_panics_comes_back() {
        let (mut workers, mut ended, address) = start();
        assert_eq!(status(address).unwrap(), "404");
        workers.panic(0);
        assert_eq!(ended.blocking_recv(), Some(0));
        workers.ended(0);
        assert!(!workers.shared.stats[0].accepting.load(Ordering::Relaxed));
        assert!(status(address).is_err(), "nobody listens while it is away");
        let due = workers.next_due().expect("it is to come back");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        workers.start_due();
        assert_eq!(status(address).unwrap(), "404");
        assert_eq!(workers.next_due(), None);
        workers.stop_all(Duration::from_secs(1));
        assert_eq!(ended.blocking_recv(), Some(0));
    }

    #[test]
    fn a_worker_is_stopped_and_started_by_command() {
        let (mut workers, mut ended, address) = start();
        let (reply, mut answer) = oneshot::channel();
        workers.stop(0, Duration::from_secs(1), Some(reply));
        assert!(answer.try_recv().is_err(), "answered before its thread has ended");
        let (again, refused) = oneshot::channel();
        workers.restart(0, again);
        assert!(refused.blocking_recv().unwrap().unwrap_err().contains("still draining"));
        assert_eq!(ended.blocking_recv(), Some(0));
        workers.ended(0);
        assert_eq!(answer.blocking_recv(), Ok(Ok(())));
        assert!(!workers.any_left() && status(address).is_err());
        let (reply, answer) = oneshot::channel();
        workers.restart(0, reply);
        assert_eq!(answer.blocking_recv(), Ok(Ok(())));
        assert_eq!(status(address).unwrap(), "404");
        let (reply, answer) = oneshot::channel();
        workers.stop(7, Duration::ZERO, Some(reply));
        assert!(answer.blocking_recv().unwrap().unwrap_err().contains("no worker 7"));
        workers.stop_all(Duration::from_secs(1));
        assert_eq!(ended.blocking_recv(), Some(0));
    }
}
