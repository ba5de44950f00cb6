//! The worker's thread: pins itself, makes the runtime, serves until it is told to stop, then drains.

use std::net::{TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::connection::ListenerInfo;
use super::deadlines::{self, TICK};
use super::{Worker, accept};
use crate::http::quic;
use crate::shared::Shared;
use crate::stages::access_log::LogWriter;

/// Everything a worker starts with.
pub struct Setup {
    /// Index among the workers.
    pub index: u32,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The sockets.
    pub sockets: Vec<Sockets>,
    /// The access log, if it is on.
    pub log: Option<LogWriter>,
}

/// One listener's sockets for one worker.
pub struct Sockets {
    /// The listener.
    pub info: ListenerInfo,
    /// Its listening socket.
    pub tcp: TcpListener,
    /// Its QUIC socket, with HTTP/3 on.
    pub udp: Option<UdpSocket>,
}

/// What the supervisor tells a worker.
#[derive(Debug)]
pub enum WorkerOrder {
    /// Take nothing new, and end when what is open has ended, at the latest after this time.
    Drain(Duration),
    /// Fail, to see what the supervisor does.
    #[cfg(test)]
    Panic,
}

/// The body of the worker's thread.
pub fn run(setup: Setup, orders: mpsc::UnboundedReceiver<WorkerOrder>) -> anyhow::Result<()> {
    pin(setup.index);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_unpark(deadlines::read_clock)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(setup, orders))
}

async fn serve(setup: Setup, mut orders: mpsc::UnboundedReceiver<WorkerOrder>) -> anyhow::Result<()> {
    let Setup { index, shared, sockets, log } = setup;
    let stats = shared.stats.get(index as usize).map(Arc::clone).unwrap_or_default();
    let worker = Worker::new(index, shared, stats, log);
    let mut servers = JoinSet::new();
    for Sockets { info, tcp, udp } in sockets {
        let info = Rc::new(info);
        if let (Some(udp), Some(tls)) = (udp, &worker.shared.tls) {
            let endpoint = quic::Endpoint::bind(&worker, udp, tls)?;
            servers.spawn_local(endpoint.run(Rc::clone(&worker), Rc::clone(&info)));
        }
        tcp.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(tcp)?;
        servers.spawn_local(accept::run(Rc::clone(&worker), info, listener));
    }
    worker.publish(0);
    worker.stats.accepting.store(true, std::sync::atomic::Ordering::Relaxed);
    if let Some(kernel) = &worker.shared.kernel {
        kernel.publish_accepting(index, true);
    }

    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut drain_until = None;
    loop {
        tokio::select! {
            _ = tick.tick() => worker.tick(),
            order = orders.recv(), if drain_until.is_none() => match order {
                Some(WorkerOrder::Drain(within)) => {
                    drain_until = Instant::now().checked_add(within);
                    worker.start_drain();
                }
                #[cfg(test)]
                Some(WorkerOrder::Panic) => panic!("told to"),
                // The supervisor is gone: the process ends.
                None => return Ok(()),
            },
            Some(ended) = servers.join_next(), if !servers.is_empty() => {
                // A listener that panicked takes the worker with it: the supervisor starts both afresh.
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
        if let Some(until) = drain_until {
            if servers.is_empty() && worker.active() == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                tracing::warn!(
                    worker = index,
                    open = worker.active(),
                    "connections still open at the drain limit are cut"
                );
                return Ok(());
            }
        }
    }
}

/// Pins the thread to the `index`th CPU that the process may use. Where that is not allowed, it runs unpinned.
fn pin(index: u32) {
    let this_thread = Pid::from_raw(0);
    let result = sched_getaffinity(this_thread).and_then(|allowed| {
        let cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
        let Some(cpu) = cpus.get(index as usize % cpus.len().max(1)) else { return Ok(()) };
        let mut one = CpuSet::new();
        one.set(*cpu)?;
        sched_setaffinity(this_thread, &one)
    });
    if let Err(error) = result {
        tracing::warn!(worker = index, %error, "the worker's thread could not be pinned to a CPU");
    }
}
