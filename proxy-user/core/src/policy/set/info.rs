//! What is told of a set's rules and lists: names, phases, files. For people and for the admin API; it decides nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::RuleSlot;

/// Where a rule is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// In the kernel.
    Packet,
    /// By a worker before the TLS handshake, and again for requests of connections that were open before.
    #[serde(rename = "client_hello")]
    ClientHello,
    /// By a worker.
    Request,
    /// By a worker, when the beginning of the body has come and no rule on the header has ended the evaluation.
    #[serde(rename = "request_body")]
    RequestBody,
    /// By a worker, when the header of the response is there and nothing on the request has ended the evaluation.
    #[serde(rename = "response_headers")]
    Response,
    /// By both: an allow rule that spares packets and requests.
    Both,
    /// Nowhere: it has expired.
    Off,
}

/// One list that was read from a file, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListInfo {
    /// `policy/list`
    pub name: String,
    /// The file, as the policy names it.
    pub file: String,
    /// Lines with an item.
    pub items: usize,
    /// Ranges of addresses that they come to.
    pub ranges: usize,
}

/// One rule, for people.
#[derive(Clone, Debug, Serialize)]
pub struct RuleInfo {
    /// `policy/rule`
    pub name: String,
    /// Number in counters and verdicts.
    pub slot: RuleSlot,
    /// Where it is decided.
    pub phase: Phase,
    /// As written, such as `block`.
    pub action: &'static str,
    /// Whether it only counts.
    pub shadow: bool,
    /// Since when it is off, or will be.
    pub expires: Option<String>,
    /// File that it comes from.
    pub file: String,
    /// What it is for.
    pub description: Option<String>,
}

impl Phase {
    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::ClientHello => "client_hello",
            Self::Request => "request",
            Self::RequestBody => "request_body",
            Self::Response => "response_headers",
            Self::Both => "both",
            Self::Off => "off",
        }
    }
}
