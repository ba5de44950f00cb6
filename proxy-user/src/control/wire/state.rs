//! How the daemon stands: the kernel half, listeners, workers, upstreams.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::KernelStatus;

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Status {
    /// Tidegate's version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_seconds: f64,
    /// Generation of config and policies; grows by one at each reload.
    pub generation: u64,
    /// The kernel half, where it is loaded.
    pub kernel: Option<GateState>,
    /// Why there is no kernel half.
    pub kernel_missing: Option<String>,
    /// Where clients connect.
    pub listeners: Vec<ListenerState>,
    /// What each worker does.
    pub workers: Vec<WorkerState>,
    /// How the upstreams stand.
    #[serde(default)]
    pub upstreams: Vec<UpstreamState>,
    /// Responses of servers on this host; none where no upstream has `same_host`.
    #[serde(default)]
    pub same_host: Option<SameHostState>,
    /// Standing verdicts; none without the kernel half.
    pub verdicts: Option<u64>,
    /// Policy files of the config, as written there.
    pub policies: Vec<String>,
    /// The kept revision of policies that is in force.
    #[serde(default)]
    pub revision: Option<u64>,
    /// Whether it stays in force over reloads and starts, whatever the config's files say.
    #[serde(default)]
    pub held: bool,
    /// Rules that matched more than their `abort_if` lets them, and only count since then.
    #[serde(default)]
    pub aborted: Vec<String>,
    /// Why policies are not kept.
    #[serde(default)]
    pub not_kept: Option<String>,
}

/// The kernel half's state.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct GateState {
    /// Interfaces that the gate is attached to.
    pub interfaces: Vec<GateInterface>,
    /// Whether new TCP connections are steered to workers.
    pub steer: bool,
    /// Policy revision in the maps.
    pub revision: u32,
    /// Addresses of the listeners whose SYNs are answered with cookies now.
    #[serde(default)]
    pub syn_cookies: Vec<String>,
    /// Rate limits in force, as people read them.
    #[serde(default)]
    pub rates: Vec<String>,
    /// Seconds that the daemon may stay away before the gate drops nothing; none where it goes on dropping.
    #[serde(default)]
    pub open_after_seconds: Option<f64>,
}

/// One interface of the gate.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct GateInterface {
    /// Name.
    pub name: String,
    /// `driver` or `generic`.
    pub mode: String,
}

impl From<KernelStatus> for GateState {
    fn from(status: KernelStatus) -> Self {
        let interfaces = status.interfaces.into_iter().map(|(name, mode)| GateInterface { name, mode }).collect();
        let KernelStatus { steer, revision, syn_cookies, open_after, .. } = status;
        let open_after_seconds = open_after.map(|after| after.as_secs_f64());
        Self { interfaces, steer, revision, syn_cookies, open_after_seconds, rates: Vec::new() }
    }
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct ListenerState {
    /// Name in the config.
    pub name: String,
    /// `address:port`.
    pub address: String,
    /// `http` or `https`.
    pub protocol: String,
    /// Whether HTTP/3 is served on the same UDP port.
    pub http3: bool,
}

/// One upstream, all workers together.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct UpstreamState {
    /// Name in the config.
    pub name: String,
    /// Requests in its queue.
    pub waiting: u64,
    /// Its servers.
    pub servers: Vec<ServerState>,
}

/// One server of an upstream. Each worker judges by what it has seen itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct ServerState {
    /// As the config writes it.
    pub server: String,
    /// Workers by how the server stands with them: `well`, `unreachable`, `ejected`, `unhealthy`.
    pub standing: BTreeMap<String, u64>,
    /// Open requests: those over HTTP/2, and of upstreams whose balancing goes by them.
    pub requests: u64,
    /// Kept connections: idle ones of HTTP/1.1, all of HTTP/2.
    pub connections: u64,
}

/// Responses of servers on this host that the kernel hands over without TCP.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct SameHostState {
    /// Why it does not.
    pub missing: Option<String>,
    /// The cgroup whose processes may be such servers.
    pub cgroup: Option<String>,
    /// Open connections.
    pub connections: u64,
    /// What the servers sent, by the way that it took: `handed_over`, or `tcp`.
    pub sent: BTreeMap<String, Sent>,
}

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Sent {
    /// Messages: what a server wrote at once.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct WorkerState {
    /// Number, from 0.
    pub worker: u32,
    /// Whether it takes new connections; false when it drains, is stopped or is gone.
    pub accepting: bool,
    /// Connections accepted since start.
    pub accepted: u64,
    /// Connections open now.
    pub active: u64,
    /// Requests by HTTP version: `h1`, `h2`, `h3`.
    pub requests: BTreeMap<String, u64>,
    /// Connections that were passed through as they are.
    #[serde(default)]
    pub forwarded: u64,
}

/// `GET /v1/workers`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Workers {
    /// One a worker, in order.
    pub workers: Vec<WorkerState>,
}
