//! Model: the policy file, schema `tidegate.policy/v1`, as people write it.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy_common::abi::MAX_RULE_SLOTS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod test;

pub(crate) use test::{Expect, Test};

pub(crate) use super::action::{Action, ActionKind};
use super::rollout::MAX_ABORT_REQUESTS;
use crate::config::Span;

/// Most policy files of one set.
pub const MAX_POLICIES: usize = 256;
/// Most rules of one policy; all policies together are bounded by the rule slots.
pub const MAX_RULES: u32 = MAX_RULE_SLOTS - 1;
/// Most lists of one policy.
pub const MAX_LISTS: u32 = 64;
/// Most items of one list.
pub const MAX_LIST_ITEMS: u32 = 65_536;
/// Most host patterns and listeners of a scope.
pub const MAX_SCOPE: u32 = 256;
/// Most rules with a rate in all policies together; each takes a table of a fixed size.
pub const MAX_RATE_RULES: usize = 64;
/// Most values of a `rate.key`.
pub const MAX_RATE_KEYS: u32 = 4;
/// Largest `rate.limit`.
pub const MAX_RATE_LIMIT: u32 = 1_000_000;
/// Shortest `rate.period`.
pub const MIN_RATE_PERIOD: Duration = Duration::from_secs(1);
/// Longest `rate.period`.
pub const MAX_RATE_PERIOD: Duration = Duration::from_secs(24 * 3_600);
/// Shortest `hold` of a tarpit.
pub const MIN_HOLD: Duration = Duration::from_secs(1);
/// Longest `hold` of a tarpit.
pub const MAX_HOLD: Duration = Duration::from_secs(5 * 60);
/// Shortest `pass_for` of a challenge.
pub const MIN_PASS: Duration = Duration::from_secs(60);
/// Longest `pass_for` of a challenge.
pub const MAX_PASS: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Shortest `push.ttl`.
pub const MIN_PUSH_TTL: Duration = Duration::from_secs(1);
/// Longest `push.ttl`.
pub const MAX_PUSH_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Most tests of one policy.
pub const MAX_TESTS: u32 = 1_024;
/// Largest `times` of a test.
pub const MAX_TEST_TIMES: u32 = 10_000;

/// One policy file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    /// Where the JSON Schema of this file lies; for editors, not read.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema_file: Option<String>,
    /// Format of this file.
    pub schema: Format,
    /// Name of the policy in counters, logs and verdicts, as `policy/rule`; unique among all policies.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_.-]{0,30}$"))]
    pub id: String,
    /// Grows with each change; for people.
    #[serde(default)]
    pub revision: u64,
    /// Who answers for it; for people.
    #[serde(default)]
    pub owner: Option<String>,
    /// What it is for; for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Which requests it looks at; all unless set.
    #[serde(default)]
    pub scope: Scope,
    /// Whether its rules act or only count.
    #[serde(default)]
    pub mode: Mode,
    /// For this percentage of the sources, by a stable hash, its rules act; for the others they only count.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub percent: Option<u8>,
    /// A rule that matches more than this only counts from then on, until the daemon starts again or the rule's
    /// `abort_if` is another.
    #[serde(default)]
    pub abort_if: Option<AbortIf>,
    /// Lists that rules name as `$name`.
    #[serde(default)]
    #[schemars(extend("maxProperties" = MAX_LISTS))]
    pub lists: BTreeMap<String, List>,
    /// Asked in this order, policies in the order of their files.
    #[schemars(length(min = 1, max = MAX_RULES))]
    pub rules: Vec<Rule>,
    /// Run at load; when one fails, the policy is refused.
    #[serde(default)]
    #[schemars(length(max = MAX_TESTS))]
    pub tests: Vec<Test>,
}

/// Format of a policy file.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
pub(crate) enum Format {
    /// The first one.
    #[serde(rename = "tidegate.policy/v1")]
    V1,
}

/// Which requests a policy looks at.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Scope {
    /// Host patterns, in which `*` stands for anything; any host unless set.
    #[schemars(length(max = MAX_SCOPE))]
    pub hosts: Vec<String>,
    /// Names of listeners; any unless set.
    #[schemars(length(max = MAX_SCOPE))]
    pub listeners: Vec<String>,
}

/// Whether rules act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// They act.
    #[default]
    Enforce,
    /// They are counted and logged as if, and requests go on.
    Shadow,
}

/// A named list.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    /// What the items are.
    #[serde(rename = "type")]
    pub kind: ListKind,
    /// The items.
    #[serde(default)]
    #[schemars(length(max = MAX_LIST_ITEMS))]
    pub items: Option<Vec<String>>,
    /// File that holds the items instead, in the policy's directory or below: one a line, `#` before what is for people.
    /// Read again with the policy.
    #[serde(default)]
    pub file: Option<String>,
    /// Take the file up by itself, too, when it has changed. One with faults, or without any item left, leaves the list as it was.
    #[serde(default)]
    pub watch: bool,
}

/// What the items of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ListKind {
    /// Addresses and networks, of either family.
    Cidr,
    /// Strings.
    String,
    /// SHA-256 digests of strings, 64 hex digits each: `x in $list` looks for the digest of `x`.
    Hash,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Name of the rule within the policy.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_.-]{0,30}$"))]
    pub id: String,
    /// What it is for; for people.
    #[serde(default)]
    pub description: Option<String>,
    /// The condition, in a subset of Cloudflare's Rules language.
    pub when: String,
    /// The rule applies only to sources that sent more matching requests than this.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// What is done.
    pub action: Action,
    /// Has the source dropped by the kernel from now on; with action `block`.
    #[serde(default)]
    pub push: Option<Push>,
    /// As the policy's; a shadow policy has no enforcing rules.
    #[serde(default)]
    pub mode: Mode,
    /// As the policy's: for this percentage of the sources the rule acts, for the others it only counts.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub percent: Option<u8>,
    /// As the policy's: when the rule only counts from then on.
    #[serde(default)]
    pub abort_if: Option<AbortIf>,
    /// From then on the rule is off.
    #[serde(default)]
    pub expires: Option<Expiry>,
}

/// How much a rule may match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AbortIf {
    /// It matched more than this percentage of the requests.
    #[schemars(range(min = 1, max = 99))]
    pub match_percent: u8,
    /// In this time, 1s to 1h.
    #[serde(default = "AbortIf::default_period")]
    pub period: Span,
    /// There were so many requests in it at the least.
    #[serde(default = "AbortIf::default_requests")]
    #[schemars(range(min = 1, max = MAX_ABORT_REQUESTS))]
    pub requests: u32,
}

impl AbortIf {
    fn default_period() -> Span {
        Span(Duration::from_secs(60))
    }

    fn default_requests() -> u32 {
        1_000
    }
}

/// Requests of one source, or of whatever the key names, in a time.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    /// What is counted together: values that all have to be the same, such as `ip.src`, `cidr(ip.src, 24, 56)`,
    /// `http.request.headers["x-api-key"][0]`, `tls.client.ja4`, `http.request.uri.path`. `ip.src` unless set; an IPv6 source
    /// is its prefix of `gate.ipv6_prefix` bits.
    #[serde(default = "Rate::default_key")]
    #[schemars(length(min = 1, max = MAX_RATE_KEYS))]
    pub key: Vec<String>,
    /// Matching requests that are let through.
    #[schemars(range(min = 1, max = MAX_RATE_LIMIT))]
    pub limit: u32,
    /// In this time, 1s to 1d.
    pub period: Span,
    /// Once over the limit, the rule applies to the key for this time, 1s to 1d, however little comes then.
    #[serde(default)]
    pub mitigation_timeout: Option<Span>,
    /// Only requests whose response fits this condition count, such as `http.response.code in {401 403}`; all unless set.
    #[serde(default)]
    pub count_when: Option<String>,
}

impl Rate {
    fn default_key() -> Vec<String> {
        vec!["ip.src".to_owned()]
    }
}

/// A verdict that is written when the rule blocks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Push {
    /// How long the source stays dropped, 1s to 30d.
    pub ttl: Span,
    /// What of the source is dropped.
    #[serde(default)]
    pub scope: PushScope,
    /// Only once a source has matched this often; at its first match unless set.
    #[serde(default)]
    pub after: Option<PushAfter>,
}

/// What a verdict is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PushScope {
    /// What counts as one client: an IPv4 address, of an IPv6 source its prefix of `gate.ipv6_prefix` bits.
    #[default]
    Source,
    /// The address alone.
    Host,
    /// The network around it: of an IPv4 source its prefix of `gate.ipv4_prefix` bits, of IPv6 as `source`.
    Prefix,
}

/// How often a source matches before it is dropped.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushAfter {
    /// Matches; the last of them has the source dropped.
    #[schemars(range(min = 2, max = MAX_RATE_LIMIT))]
    pub matches: u32,
    /// In this time, 1s to 1d.
    pub period: Span,
}

/// A point in time, `2027-01-31T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expiry(pub jiff::Timestamp);

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Expiry {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl JsonSchema for Expiry {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expiry".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time", "examples": ["2027-01-31T00:00:00Z"] })
    }
}

/// The JSON Schema of a policy file.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Policy).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Tidegate policy".into());
    }
    schema
}
