//! Model: what a rule does, as people write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{MAX_ANSWER_BYTES, MAX_SKIPPED};
use super::challenge::{MAX_DIFFICULTY, MIN_DIFFICULTY};
use crate::config::Span;

/// Most points of one `score`.
pub const MAX_POINTS: u16 = 1_000;

/// What a rule does.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Action {
    /// Which action.
    #[serde(rename = "type")]
    pub kind: ActionKind,
    /// HTTP status: of `block` and `challenge` 400 to 599, 403 unless set; of `redirect` 301, 302, 303, 307 or 308, 302 unless set.
    #[serde(default)]
    #[schemars(range(min = 300, max = 599))]
    pub status: Option<u16>,
    /// Text of the blocked answer; a short one with the request's id unless set.
    #[serde(default)]
    #[schemars(length(max = MAX_ANSWER_BYTES))]
    pub body: Option<String>,
    /// Its `content-type`; `application/json` makes sure that `body` is JSON. `text/plain` unless set.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Where `redirect` leads: a URL, or a path on the same host.
    #[serde(default)]
    pub to: Option<String>,
    /// The same as an expression whose value is a string, such as `concat("https://www.", http.host)`.
    #[serde(default)]
    pub to_expression: Option<String>,
    /// Whether `redirect` takes the query along.
    #[serde(default)]
    pub keep_query: bool,
    /// New path of `rewrite`.
    #[serde(default)]
    pub path: Option<String>,
    /// The same as an expression.
    #[serde(default)]
    pub path_expression: Option<String>,
    /// New query of `rewrite`, without `?`; empty takes it away.
    #[serde(default)]
    pub query: Option<String>,
    /// The same as an expression.
    #[serde(default)]
    pub query_expression: Option<String>,
    /// Name of the header that `set_header` sets and `remove_header` takes away.
    #[serde(default)]
    pub header: Option<String>,
    /// Its value.
    #[serde(default)]
    pub value: Option<String>,
    /// The same as an expression.
    #[serde(default)]
    pub value_expression: Option<String>,
    /// Whose header it is; the request's unless set.
    #[serde(default)]
    pub on: Option<Side>,
    /// How long `tarpit` holds a connection before it is reset, 1s to 5m; 30s unless set.
    #[serde(default)]
    pub hold: Option<Span>,
    /// Work of `challenge`: leading zero bits of a hash, each doubles it; 16 unless set, which takes a browser about a second.
    #[serde(default)]
    #[schemars(range(min = MIN_DIFFICULTY, max = MAX_DIFFICULTY))]
    pub difficulty: Option<u8>,
    /// How long a solved `challenge` is good for, 1m to 7d; 1h unless set.
    #[serde(default)]
    pub pass_for: Option<Span>,
    /// What `score` adds to the request's score, which later rules read as `tidegate.score`.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_POINTS))]
    pub points: Option<u16>,
    /// Ids of later rules of the same policy that `skip` leaves out; all that follow unless `rules`, `policies` or `phases`
    /// says which.
    #[serde(default)]
    #[schemars(length(max = MAX_SKIPPED))]
    pub rules: Vec<String>,
    /// Ids of later policies that `skip` leaves out, or `*` for all of them.
    #[serde(default)]
    #[schemars(length(max = MAX_SKIPPED))]
    pub policies: Vec<String>,
    /// Phases whose rules `skip` leaves out from here on, in this policy and in later ones.
    #[serde(default)]
    #[schemars(length(max = 3))]
    pub phases: Vec<SkippedPhase>,
}

/// A phase that `skip` may leave out: those that follow the one in which it is decided, or the rest of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SkippedPhase {
    /// Rules on the header of requests.
    Request,
    /// Rules on their bodies.
    RequestBody,
    /// Rules on responses.
    ResponseHeaders,
}

/// Whose header is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// Before it is forwarded.
    Request,
    /// Before it is sent to the client.
    Response,
}

/// Which action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ActionKind {
    /// Ends the evaluation; the request goes on. On packet fields alone it also beats verdicts and drops in the kernel.
    Allow,
    /// Ends the evaluation; the request is answered with `status`.
    Block,
    /// Drops the packet in the kernel; for conditions on packet fields.
    Drop,
    /// Ends the evaluation; the connection is reset without an answer.
    Reset,
    /// Ends the evaluation; the connection is held without an answer for `hold`, then reset.
    Tarpit,
    /// Ends the evaluation unless the client has done the work of a page that it is answered with.
    Challenge,
    /// Counts and logs; the evaluation goes on.
    Log,
    /// Ends the evaluation; the request is answered with another place.
    Redirect,
    /// The request is forwarded with another path or query; the evaluation goes on.
    Rewrite,
    /// A header is set in place of all of its name; the evaluation goes on.
    SetHeader,
    /// A header is taken away; the evaluation goes on.
    RemoveHeader,
    /// Later rules of the policy are not asked; the evaluation goes on.
    Skip,
    /// `points` are added to the request's score; the evaluation goes on.
    Score,
}

impl ActionKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Allow,
        Self::Block,
        Self::Drop,
        Self::Reset,
        Self::Tarpit,
        Self::Challenge,
        Self::Log,
        Self::Redirect,
        Self::Rewrite,
        Self::SetHeader,
        Self::RemoveHeader,
        Self::Skip,
        Self::Score,
    ];

    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Drop => "drop",
            Self::Reset => "reset",
            Self::Tarpit => "tarpit",
            Self::Challenge => "challenge",
            Self::Log => "log",
            Self::Redirect => "redirect",
            Self::Rewrite => "rewrite",
            Self::SetHeader => "set_header",
            Self::RemoveHeader => "remove_header",
            Self::Skip => "skip",
            Self::Score => "score",
        }
    }
}

impl Action {
    /// The keys that are set beside the kind, and the actions that they are for.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, &'static [ActionKind])> {
        use ActionKind::{Block, Challenge, Redirect, RemoveHeader, Rewrite, Score, SetHeader, Skip, Tarpit};
        let keys: [(&str, bool, &[ActionKind]); 21] = [
            ("status", self.status.is_some(), &[Block, Challenge, Redirect]),
            ("body", self.body.is_some(), &[Block]),
            ("content_type", self.content_type.is_some(), &[Block]),
            ("to", self.to.is_some(), &[Redirect]),
            ("to_expression", self.to_expression.is_some(), &[Redirect]),
            ("keep_query", self.keep_query, &[Redirect]),
            ("path", self.path.is_some(), &[Rewrite]),
            ("path_expression", self.path_expression.is_some(), &[Rewrite]),
            ("query", self.query.is_some(), &[Rewrite]),
            ("query_expression", self.query_expression.is_some(), &[Rewrite]),
            ("header", self.header.is_some(), &[SetHeader, RemoveHeader]),
            ("value", self.value.is_some(), &[SetHeader]),
            ("value_expression", self.value_expression.is_some(), &[SetHeader]),
            ("on", self.on.is_some(), &[SetHeader, RemoveHeader]),
            ("hold", self.hold.is_some(), &[Tarpit]),
            ("difficulty", self.difficulty.is_some(), &[Challenge]),
            ("pass_for", self.pass_for.is_some(), &[Challenge]),
            ("points", self.points.is_some(), &[Score]),
            ("rules", !self.rules.is_empty(), &[Skip]),
            ("policies", !self.policies.is_empty(), &[Skip]),
            ("phases", !self.phases.is_empty(), &[Skip]),
        ];
        keys.into_iter().filter(|(_, set, _)| *set).map(|(key, _, kinds)| (key, kinds))
    }
}
