//! The JSON of the admin API, as the daemon writes it and the command line reads it. Fields are only ever added.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proxy_core::policy::{ItemKind, RequestExplanation, RequestView, RuleCount};
use proxy_core::store::audit::Head;
use proxy_core::store::{Revision, Texts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::KernelStatus;
pub use crate::kernel::{BulkAdded, VerdictInfo as Verdict};

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

/// `GET /v1/verdicts`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Verdicts {
    /// Standing verdicts by source, at most as many as asked for.
    pub verdicts: Vec<Verdict>,
    /// How many stand.
    pub total: u64,
    /// Whether `verdicts` leaves some out.
    pub truncated: bool,
}

/// Body of `POST /v1/verdicts`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVerdict {
    /// Address, or IPv6 prefix of the configured length.
    pub source: String,
    /// How long it stands: `"90s"`, `"10m"`, `"2h"`, `"1d"`.
    pub ttl: String,
}

/// Body of `POST /v1/verdicts/load`, which is answered by a [`BulkAdded`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVerdicts {
    /// Addresses, or IPv6 prefixes of the configured length.
    pub sources: Vec<String>,
    /// How long they stand.
    pub ttl: String,
}

/// Body of `POST /v1/explain`, which is answered by a [`proxy_core::explain::Explanation`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The packet from its Ethernet header on, in hex; its headers are enough.
    pub packet: String,
    /// Bytes that it has on the wire, where `packet` is only its beginning.
    pub length: Option<u32>,
    /// Interface that it came in on; the first of the gate unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// `GET /v1/counters`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Counters {
    /// By reason, since the programs were loaded.
    pub reasons: BTreeMap<String, Count>,
    /// By `policy/rule`, the rules that have any.
    pub rules: BTreeMap<String, Count>,
    /// What rules in shadow mode would have had otherwise, by `policy/rule`.
    #[serde(default)]
    pub would: BTreeMap<String, Count>,
    /// What checks that are only counted would have dropped, by reason.
    #[serde(default)]
    pub checks: BTreeMap<String, Count>,
}

/// Packets and their bytes, link header included.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// `POST /v1/reload`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Reloaded {
    /// The new generation.
    pub generation: u64,
    /// Map entries written.
    pub written: u32,
    /// Map entries removed.
    pub removed: u32,
    /// Standing verdicts that an allow rule covers now, and which are gone.
    pub retracted: u32,
    /// Changes that wait for a restart, by JSON pointer into the config.
    pub needs_restart: Vec<String>,
    /// The revision of policies that stays in force instead of the config's policy files.
    #[serde(default)]
    pub held: Option<u64>,
}

impl From<crate::shared::Reloaded> for Reloaded {
    fn from(done: crate::shared::Reloaded) -> Self {
        Self {
            generation: done.generation,
            written: done.kernel.written,
            removed: done.kernel.removed,
            retracted: done.kernel.retracted,
            needs_restart: done.needs_restart,
            held: done.held,
        }
    }
}

/// Body of `POST /v1/policies/apply`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The policies; what the config's files hold now unless given.
    #[serde(default)]
    pub policies: Option<Texts>,
}

/// Body of `POST /v1/policies/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The revision to restore; the one before the one in force unless given.
    #[serde(default)]
    pub revision: Option<u64>,
}

/// Answer of `POST /v1/policies/apply` and `/rollback`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct PoliciesApplied {
    /// The new generation.
    pub generation: u64,
    /// The revision that is in force; none where none is kept.
    pub revision: Option<u64>,
    /// Whether it stays in force over reloads and starts.
    pub held: bool,
    /// Rules in it.
    pub rules: usize,
    /// Map entries written.
    pub written: u32,
    /// Map entries removed.
    pub removed: u32,
    /// Standing verdicts that an allow rule covers now, and which are gone.
    pub retracted: u32,
    /// What is not wrong, but likely not meant.
    pub warnings: Vec<String>,
}

impl From<crate::shared::Applying> for PoliciesApplied {
    fn from(done: crate::shared::Applying) -> Self {
        let crate::shared::Applying { generation, kernel, revision, held, rules, warnings } = done;
        let (written, removed, retracted) = (kernel.written, kernel.removed, kernel.retracted);
        Self { generation, revision, held, rules, written, removed, retracted, warnings }
    }
}

/// `GET /v1/policies/revisions`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct History {
    /// The revision in force.
    pub current: Option<u64>,
    /// Whether it stays in force over reloads and starts.
    pub held: bool,
    /// What is kept, oldest first.
    pub revisions: Vec<Revision>,
    /// The audit log's end.
    pub audit: Head,
}

/// `GET /v1/policies/revisions/{number or current}`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct RevisionTexts {
    /// About it.
    pub revision: Revision,
    /// Its policies and their lists.
    pub policies: Texts,
}

/// Body of `POST /v1/lists/{policy/list}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditList {
    /// Items to put in.
    #[serde(default)]
    pub add: Vec<String>,
    /// Items to take out.
    #[serde(default)]
    pub remove: Vec<String>,
    /// How long it lasts: `"90s"`, `"10m"`, `"2h"`, `"1d"`; until it is edited again unless given.
    #[serde(default)]
    pub ttl: Option<String>,
}

/// Answer of `POST /v1/lists/{policy/list}`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct ListEdited {
    /// The new generation.
    pub generation: u64,
    /// Items that were put in.
    pub added: usize,
    /// Items that were taken out.
    pub removed: usize,
    /// Map entries written.
    pub written: u32,
    /// Why the edit will be forgotten at the next start.
    pub not_kept: Option<String>,
}

impl ListEdited {
    /// This edit and the one before, as one.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let (added, removed) = (self.added + before.added, self.removed + before.removed);
        Self { added, removed, written: self.written + before.written, ..self }
    }
}

/// `GET /v1/lists`, and `/v1/lists/{policy/list}`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct Lists {
    /// All lists, or the one that was asked for.
    pub lists: Vec<ListState>,
    /// What was edited in that one.
    pub edits: Vec<ListItem>,
    /// Whether `edits` leaves some out.
    pub truncated: bool,
}

/// A list of the policies in force.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct ListState {
    /// `policy/list`
    pub name: String,
    /// What its items are.
    #[serde(rename = "type")]
    pub kind: ItemKind,
    /// Items that its policy gives it.
    pub items: usize,
    /// Items that were put in at run time.
    pub added: usize,
    /// Items that were taken out.
    pub removed: usize,
}

/// An edited item.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct ListItem {
    /// The item.
    pub item: String,
    /// Whether it was put in; else it was taken out.
    pub added: bool,
    /// Until when.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub until: Option<jiff::Timestamp>,
}

/// `GET /v1/requests/{id}`: a request that a policy refused lately, or one of a sample, and why it was judged so.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExplainedRequest {
    /// `x-request-id`.
    pub id: String,
    /// `GET https://host/path from 192.0.2.1 at web`.
    pub request: String,
    /// Who asked.
    pub source: IpAddr,
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: jiff::Timestamp,
    /// Generation of the policies that explain it.
    pub generation: u64,
    /// Whether these are not the ones that judged it: there was a reload since.
    pub reloaded: bool,
    /// `gate.ipv4_prefix`
    pub ipv4_prefix: u8,
    /// `gate.ipv6_prefix`
    pub ipv6_prefix: u8,
    /// Every rule, and what came of it.
    pub explanation: RequestExplanation,
}

impl ExplainedRequest {
    /// A request on one line.
    pub fn line(view: &RequestView<'_>) -> String {
        let query = view.query.map(|query| format!("?{query}")).unwrap_or_default();
        let RequestView { method, scheme, host, path, src, listener, .. } = view;
        format!("{method} {scheme}://{host}{path}{query} from {src} at {listener}")
    }
}

/// `GET /v1/rules`: what request rules in shadow mode, with a percentage or an `abort_if` did and would have done since
/// the daemon started.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct Rules {
    /// In the order in which they are asked.
    pub rules: Vec<RuleCount>,
}

/// `GET /v1/log`, and the answer to a change.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
pub struct LogFilter {
    /// What the daemon logs: a level, or levels by module.
    pub filter: String,
}

/// Body of `POST /v1/log`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLogFilter {
    /// `debug`, `info,proxy_user::tls=debug`.
    pub filter: String,
    /// How long, such as `10m`; then what was before. Until it is changed again unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#for: Option<String>,
}

/// What was changed, for calls that have nothing else to say.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Done {
    /// One sentence.
    pub done: String,
}

/// Body of every answer that is not 2xx.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct Fault {
    /// What is wrong.
    pub error: String,
    /// What to do next.
    pub hint: String,
}
