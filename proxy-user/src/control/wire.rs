//! The JSON of the admin API, as the daemon writes it and the command line reads it. Fields are only ever added.

mod policies;
mod state;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::kernel::{BulkAdded, VerdictInfo as Verdict};
pub use policies::{
    Apply, EditList, ExplainedRequest, History, ListEdited, ListItem, ListState, Lists, PoliciesApplied, Reloaded,
    RevisionTexts, Rollback, Rules,
};
pub use state::{
    GateInterface, GateState, ListenerState, SameHostState, Sent, ServerState, Status, UpstreamState, WorkerState,
    Workers,
};

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
