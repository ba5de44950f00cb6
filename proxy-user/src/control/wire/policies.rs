//! What changes the policies in force and their lists, what is kept of them, and what they did to requests.

use std::net::IpAddr;

use proxy_core::policy::{ItemKind, RequestExplanation, RequestView, RuleCount};
use proxy_core::store::audit::Head;
use proxy_core::store::{Revision, Texts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
