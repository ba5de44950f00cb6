//! Model: a policy's own tests.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MAX_TEST_TIMES;

/// A request or packet, and what shall become of it. Rules count as enforcing and not expired.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    /// What it shows; for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Values by field, `ip.src` among them, e.g. `{"ip.src": "192.0.2.9", "http.request.uri.path": "/login"}`.
    pub given: BTreeMap<String, Value>,
    /// The request is sent this often, and the last one is looked at.
    #[serde(default = "Test::default_times")]
    #[schemars(range(min = 1, max = MAX_TEST_TIMES))]
    pub times: u32,
    /// What shall become of it.
    pub expect: Expect,
    /// The rule that shall decide it.
    #[serde(default)]
    pub rule: Option<String>,
}

impl Test {
    fn default_times() -> u32 {
        1
    }
}

/// What shall become of a request or packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expect {
    /// It goes on, by an allow rule or because nothing stopped it.
    Allow,
    /// It goes on, and no rule applied.
    Pass,
    /// It goes on, and a rule applied that lets it: `log`, a change, `skip`.
    Log,
    /// It is answered with the rule's status.
    Block,
    /// It is answered with another place.
    Redirect,
    /// It is dropped in the kernel.
    Drop,
    /// Its connection is reset.
    Reset,
    /// Its connection is held, then reset.
    Tarpit,
    /// It is answered with work to do.
    Challenge,
}

impl Expect {
    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Pass => "pass",
            Self::Log => "log",
            Self::Block => "block",
            Self::Redirect => "redirect",
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Tarpit => "tarpit",
            Self::Challenge => "challenge",
        }
    }
}
