//! Policies: what requests and packets are allowed, blocked, dropped or logged. JSON and an expression language in,
//! a [`PolicySet`] out, which workers ask for each request and whose [`KernelImage`] the kernel half writes to its maps.

mod action;
mod answer;
mod assemble;
mod build;
mod challenge;
mod classes;
mod compile;
mod cubes;
mod edits;
mod explain;
mod index;
mod interfaces;
mod judge;
mod lang;
mod list_file;
mod listed;
mod model;
mod packet;
mod rate;
mod rate_key;
mod rollout;
mod sample;
mod sample_frame;
mod sample_hello;
mod selftest;
mod set;
mod skips;
mod slots;
mod view;
mod withdrawn;

#[cfg(test)]
mod generated;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderValue;
use smallvec::SmallVec;

pub use crate::diagnostic::{Diagnostic, FileDiagnostic};
pub use crate::image::KernelImage;
pub use answer::{Answer, Change, MAX_ANSWER_BYTES, MAX_MADE_BYTES, MAX_SKIPPED};
pub use assemble::MAX_SET_COST;
pub use build::MAX_RULE_COST;
pub use challenge::{ChallengeKey, ChallengePage, MAX_DIFFICULTY, MIN_DIFFICULTY};
pub use classes::{PacketRule, RuleTables, compile as compile_rules};
pub use compile::{Options, TestReport, compile, run_tests};
pub use cubes::Cube;
pub use edits::{Edit, EditKind, Edits, ItemKind, ListSummary, MAX_EDIT_BYTES, MAX_EDITS, Standing, edit_item};
pub use explain::{Comparison, ExplainedRule, Outcome, RequestExplanation};
pub use interfaces::stand_in;
pub use lang::{MAX_DEPTH, MAX_EXPRESSION_BYTES, MAX_LANGUAGES, MAX_NODES, MAX_REFERENCES, MAX_REGEX_BYTES};
pub use lang::{MAX_SET_ITEMS, MAX_SPLITS, MAX_URL_DECODES, MAX_VALUE_BYTES, MAX_WILDCARDS};
pub(crate) use lang::{encode_base64, signature};
pub use list_file::{
    ListFault, ListFile, ListFiles, MAX_LIST_FILE_BYTES, MAX_LIST_FILE_ITEMS, NamedFile, check_list_name, list_files,
    parse_list,
};
pub use model::{
    MAX_HOLD, MAX_LIST_ITEMS, MAX_LISTS, MAX_PASS, MAX_POLICIES, MAX_PUSH_TTL, MAX_RATE_KEYS, MAX_RATE_LIMIT,
    MAX_RATE_PERIOD, MAX_RATE_RULES, MIN_HOLD, MIN_PASS,
};
pub use model::{MAX_RULES, MAX_TEST_TIMES, MAX_TESTS, MIN_PUSH_TTL, MIN_RATE_PERIOD, PushScope, schema};
pub use rollout::RuleCount;
pub use set::{ListInfo, Phase, PolicySet, RuleInfo};
pub use view::{BodyView, ConnectionView, HeldRequest, LinkView, RequestView, ResponseView};

/// Most values of one comparison that an explanation shows.
pub const MAX_EXPLAINED_VALUES: usize = 16;
/// Most bytes of each that it shows.
pub const MAX_EXPLAINED_BYTES: usize = 256;

/// Number of a rule in counters and verdicts, stable over reloads for the same `policy/rule` name. 0 is the operator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, serde::Serialize)]
pub struct RuleSlot(pub u32);

/// What the policies say of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// Verdicts to write to the kernel at once.
    pub pushes: SmallVec<[Push; 1]>,
    /// Rules that matched and let the evaluation go on (shadow mode, `log`, changes, `skip`): they are counted and logged.
    pub logged: SmallVec<[RuleSlot; 2]>,
    /// Changes of the request and its response, to be made in this order; of those of one thing the last counts.
    pub changes: Vec<Change>,
    /// Points that rules gave.
    pub score: u32,
    /// Where [`Action::Redirect`] leads.
    pub location: Option<HeaderValue>,
    /// For [`PolicySet::count`], once the response is known.
    pub pending: SmallVec<[Pending; 1]>,
    /// Places of rules on the body that a rule before says are not asked.
    skipped: Vec<usize>,
}

/// A request that counts for a rate, or not, by its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Place of the rule.
    rule: u32,
    /// What it is counted by.
    key: u64,
}

impl Action {
    /// As rules write it, and the rule that decided; None where none did.
    pub const fn decided(self) -> Option<(&'static str, RuleSlot)> {
        Some(match self {
            Self::Pass => return None,
            Self::Allow(rule) => ("allow", rule),
            Self::Block { rule, .. } => ("block", rule),
            Self::Reset { rule } => ("reset", rule),
            Self::Tarpit { rule, .. } => ("tarpit", rule),
            Self::Challenge { rule, .. } => ("challenge", rule),
            Self::Redirect { rule, .. } => ("redirect", rule),
        })
    }
}

/// The terminating action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// No rule applied.
    #[default]
    Pass,
    /// An allow rule ended the evaluation.
    Allow(RuleSlot),
    /// Answer with `status` instead of forwarding.
    Block {
        /// The rule that decided.
        rule: RuleSlot,
        /// HTTP status, 400 to 599.
        status: u16,
    },
    /// Reset the connection without an answer.
    Reset {
        /// The rule that decided.
        rule: RuleSlot,
    },
    /// Hold the connection without an answer for a while, then reset it.
    Tarpit {
        /// The rule that decided.
        rule: RuleSlot,
        /// How long.
        hold: Duration,
    },
    /// Answer with [`PolicySet::challenge`].
    Challenge {
        /// The rule that decided.
        rule: RuleSlot,
        /// HTTP status, 400 to 599.
        status: u16,
    },
    /// Answer with [`Decision::location`].
    Redirect {
        /// The rule that decided.
        rule: RuleSlot,
        /// HTTP status, one of 301, 302, 303, 307 and 308.
        status: u16,
    },
}

/// A verdict to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Push {
    /// The rule that decided.
    pub rule: RuleSlot,
    /// How long it stands.
    pub ttl: Duration,
    /// What of the source it is on.
    pub scope: PushScope,
}
