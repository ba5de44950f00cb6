//! The kernel half as the daemon sees it: load, bind, publish, push. (Interface first; the loader follows.)

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use proxy_common::abi::Counter;
use proxy_core::config::Config;
use proxy_core::image::KernelImage;
use proxy_core::policy::RuleSlot;
use serde::Serialize;

/// Loaded programs and pinned maps. One for the process, behind an `Arc`; all methods take `&self`.
#[derive(Debug)]
pub struct Kernel {}

/// A verdict as people see it.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct VerdictInfo {
    /// Address, or IPv6 prefix `2001:db8::/64`.
    pub source: String,
    /// `policy/rule`, or `operator`.
    pub rule: String,
    /// Seconds until it expires; 0 when it has.
    pub expires_in: f64,
    /// Seconds since the decision.
    pub age: f64,
    /// Packets dropped so far.
    pub drops: u64,
    /// Microseconds from the decision to the first dropped packet.
    pub first_drop_us: Option<u64>,
    /// Applies to the listeners only.
    pub own_only: bool,
}

/// What [`Kernel::apply`] changed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Applied {
    /// Map entries written.
    pub written: u32,
    /// Map entries removed.
    pub removed: u32,
    /// Standing verdicts retracted because an allow rule covers them now.
    pub retracted: u32,
}

/// Who is told apart: the kernel half's state for `tidegate status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelStatus {
    /// `(interface, "driver" | "generic")`.
    pub interfaces: Vec<(String, String)>,
    /// Whether `steer` is attached.
    pub steer: bool,
    /// Policy revision in the maps.
    pub revision: u32,
}

impl Kernel {
    /// Loads and attaches what the config asks for, adopting pinned maps. The error says what is missing and what to do.
    pub fn load(_config: &Config) -> anyhow::Result<Self> {
        anyhow::bail!("built without the kernel half: run `cargo xtask build`")
    }

    /// Listening sockets for one `TCP` service, one a worker, registered for steering. `service` is the listener's index.
    /// Without a kernel: `SO_REUSEPORT` and the kernel's hash.
    pub fn bind_tcp(
        _kernel: Option<&Kernel>,
        _service: u32,
        _addr: SocketAddr,
        _workers: u32,
    ) -> anyhow::Result<Vec<TcpListener>> {
        anyhow::bail!("not built")
    }

    /// A new listening socket for one worker of a service that is already bound (the worker comes back).
    pub fn rebind_tcp(
        _kernel: Option<&Kernel>,
        _service: u32,
        _addr: SocketAddr,
        _worker: u32,
    ) -> anyhow::Result<TcpListener> {
        anyhow::bail!("not built")
    }

    /// UDP sockets for one QUIC service, one a worker, in one reuseport group with `steer_quic` attached.
    pub fn bind_udp(
        _kernel: Option<&Kernel>,
        _service: u32,
        _addr: SocketAddr,
        _workers: u32,
    ) -> anyhow::Result<Vec<UdpSocket>> {
        anyhow::bail!("not built")
    }

    /// A worker of a bound QUIC service comes back.
    pub fn rebind_udp(
        _kernel: Option<&Kernel>,
        _service: u32,
        _addr: SocketAddr,
        _worker: u32,
    ) -> anyhow::Result<UdpSocket> {
        anyhow::bail!("not built")
    }

    /// quinn's connection-id generator for a worker: ids that `steer_quic` can decode.
    pub fn cid_generator(
        _kernel: Option<&Kernel>,
        _worker: u32,
    ) -> Box<dyn Fn() -> Box<dyn quinn::ConnectionIdGenerator> + Send + Sync> {
        Box::new(|| {
            Box::new(quinn_proto::RandomConnectionIdGenerator::default()) as Box<dyn quinn::ConnectionIdGenerator>
        })
    }

    /// Publishes the worker's open connections for `steer`; a plain store into a mapped page, no syscall.
    pub fn publish_active(&self, _worker: u32, _active: u32) {}

    /// Whether `steer` may choose the worker.
    pub fn publish_accepting(&self, _worker: u32, _accepting: bool) {}

    /// Writes a verdict now (one syscall). An IPv6 source is banned by its prefix. Returns false where the
    /// loaded policies allow the source. `own_only` binds it to the listeners.
    pub fn push_verdict(&self, _src: IpAddr, _rule: RuleSlot, _ttl: Duration, _own_only: bool) -> anyhow::Result<bool> {
        anyhow::bail!("not built")
    }

    /// Removes a verdict (an address, or `prefix/len` as listed). False when there was none.
    pub fn remove_verdict(&self, _source: &str) -> anyhow::Result<bool> {
        anyhow::bail!("not built")
    }

    /// Adds a verdict by hand: `source` is an address, or an IPv6 prefix of the configured length.
    pub fn add_verdict(&self, _source: &str, _ttl: Duration) -> anyhow::Result<bool> {
        anyhow::bail!("not built")
    }

    /// Standing verdicts, unordered.
    pub fn verdicts(&self) -> anyhow::Result<Vec<VerdictInfo>> {
        anyhow::bail!("not built")
    }

    /// Removes expired verdicts from the map (they already have no effect). Called every few seconds by the daemon.
    pub fn sweep(&self) -> anyhow::Result<u32> {
        anyhow::bail!("not built")
    }

    /// Writes the difference between what the maps hold and `image`, and retracts the verdicts that its allow list covers.
    pub fn apply(&self, _image: &KernelImage) -> anyhow::Result<Applied> {
        anyhow::bail!("not built")
    }

    /// Counters by reason name, summed over CPUs.
    pub fn counters(&self) -> anyhow::Result<Vec<(&'static str, Counter)>> {
        anyhow::bail!("not built")
    }

    /// Counters of the rules that have any, by `policy/rule`.
    pub fn rule_hits(&self) -> anyhow::Result<Vec<(String, Counter)>> {
        anyhow::bail!("not built")
    }

    /// Rule slots already named in the maps (from an earlier run), so that the compiler keeps them.
    pub fn rule_names(&self) -> anyhow::Result<Vec<(u32, String)>> {
        anyhow::bail!("not built")
    }

    /// State for `tidegate status`.
    pub fn status(&self) -> KernelStatus {
        KernelStatus::default()
    }

    /// Detaches everything and removes the pins under `config.gate.pins`; returns what was removed.
    pub fn unload(_config: &Config) -> anyhow::Result<Vec<String>> {
        anyhow::bail!("not built")
    }
}
