//! The admin API's requests: method, path, query and body become a [`Call`], or a [`Refusal`] that says what is wrong.
//!
//! Pure: no socket, no daemon. What a call does stands in `admin`.

mod bodies;
mod calls;

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proxy_core::store::Texts;

use super::serve::MAX_BODY_BYTES;
use crate::events::ask::Ask;
pub use bodies::source;

/// Longest text of a verdict's source, in bytes; an IPv6 address with prefix length has at most 49.
pub const MAX_SOURCE_BYTES: usize = 64;
/// Verdicts listed unless `?limit=` asks for another number.
pub const DEFAULT_LIST_LIMIT: usize = 10_000;
/// Most verdicts listed in one answer.
pub const MAX_LIST_LIMIT: usize = 1_048_576;

/// Most sources of one `POST /v1/verdicts/load`.
pub const MAX_LOAD: usize = 50_000;
/// Most bytes of its body: as many of the longest sources, quoted.
const MAX_LOAD_BYTES: usize = MAX_LOAD * (MAX_SOURCE_BYTES + 3) + 128;
/// Where many verdicts are added.
pub const LOAD_PATH: &str = "/v1/verdicts/load";
/// Longest id of a request.
const MAX_REQUEST_ID: usize = 64;
/// Longest name of a list, with its policy's.
const MAX_LIST_NAME: usize = 256;
/// Longest filter of the log, in bytes.
const MAX_LOG_FILTER: usize = 1_024;
/// Where policies are loaded.
pub const APPLY_PATH: &str = "/v1/policies/apply";
/// Most bytes of its body: a list of a million hosts has about 16 MiB.
const MAX_APPLY_BYTES: usize = 96 << 20;

/// What in a source needs no percent-encoding in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b':').remove(b'-').remove(b'_');

/// One request of the admin API, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `GET /v1/status`.
    Status,
    /// `GET /v1/verdicts?limit=N`.
    Verdicts {
        /// Most verdicts to list.
        limit: usize,
    },
    /// `POST /v1/verdicts`.
    AddVerdict {
        /// Address or IPv6 prefix, as text that parses.
        source: String,
        /// How long it stands.
        ttl: Duration,
    },
    /// `POST /v1/verdicts/load`.
    LoadVerdicts {
        /// Likewise, many.
        sources: Sources,
        /// How long they stand.
        ttl: Duration,
    },
    /// `DELETE /v1/verdicts/{source}`.
    RemoveVerdict {
        /// Address or IPv6 prefix, as text that parses.
        source: String,
    },
    /// `GET /v1/counters`.
    Counters,
    /// `GET /v1/events?reason=A,B&rule=R&source=NET&sample=N&packets`: lines without end.
    Events(Ask),
    /// `POST /v1/explain`.
    Explain {
        /// First bytes of a packet, from its link header on.
        packet: Vec<u8>,
        /// Bytes that it has on the wire.
        length: usize,
        /// Interface that it came in on.
        interface: Option<String>,
    },
    /// `POST /v1/reload`.
    Reload,
    /// `POST /v1/policies/apply`; what the config's files hold unless texts are given.
    ApplyPolicies(Option<Policies>),
    /// `POST /v1/policies/rollback`, to a revision or the one before.
    Rollback(Option<u64>),
    /// `GET /v1/requests/{id}`.
    Request(String),
    /// `GET /v1/rules`.
    Rules,
    /// `GET /v1/lists`, and `/v1/lists/{policy/list}` with its edits.
    Lists(Option<String>),
    /// `POST /v1/lists/{policy/list}`.
    EditList(EditedList),
    /// `GET /v1/policies/revisions`.
    Revisions,
    /// `GET /v1/policies/revisions/{n}`, or `current`.
    Revision(Option<u64>),
    /// `GET /v1/openapi.json`.
    OpenApi,
    /// `GET /v1/log`.
    Log,
    /// `POST /v1/log`.
    SetLog {
        /// The filter.
        filter: String,
        /// How long it stands; until it is changed again unless given.
        time: Option<Duration>,
    },
    /// `GET /v1/workers`.
    Workers,
    /// `POST /v1/workers/{n}/stop`.
    StopWorker(u32),
    /// `POST /v1/workers/{n}/start`.
    StartWorker(u32),
}

/// The sources of a load; the log of changes gets their number.
#[derive(Clone, PartialEq, Eq)]
pub struct Sources(pub Vec<String>);

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of them", self.0.len())
    }
}

/// Texts of policies; the log of changes gets their number.
#[derive(Clone, PartialEq, Eq)]
pub struct Policies(pub Texts);

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files, {} lists", self.0.files.len(), self.0.lists.len())
    }
}

/// An edit of a list; the log of changes gets the number of items.
#[derive(Clone, PartialEq, Eq)]
pub struct EditedList {
    /// `policy/list`
    pub list: String,
    /// Items to put in.
    pub add: Vec<String>,
    /// Items to take out.
    pub remove: Vec<String>,
    /// How long it lasts.
    pub ttl: Option<Duration>,
}

impl std::fmt::Debug for EditedList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} in, {} out", self.list, self.add.len(), self.remove.len())
    }
}

/// Most bytes of the body for a path.
pub fn max_body(path: &str) -> usize {
    match path {
        LOAD_PATH => MAX_LOAD_BYTES,
        APPLY_PATH => MAX_APPLY_BYTES,
        _ if path.starts_with("/v1/lists/") => MAX_LOAD_BYTES,
        _ => MAX_BODY_BYTES,
    }
}

/// Why a call is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 4xx or 5xx.
    pub status: StatusCode,
    /// What is wrong.
    pub error: String,
    /// What to do next.
    pub hint: String,
    /// Methods that the path has, where another was used (RFC 9110 section 15.5.6).
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal without `Allow`.
    pub fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into(), allow: None }
    }

    /// A refusal of what was asked.
    pub fn bad(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }
}

impl Call {
    /// Whether the call changes something, and so belongs in the audit log.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Status
                | Self::Verdicts { .. }
                | Self::Counters
                | Self::Events(_)
                | Self::Explain { .. }
                | Self::Request(_)
                | Self::Rules
                | Self::Lists(_)
                | Self::Log
                | Self::OpenApi
                | Self::Revisions
                | Self::Revision(_)
                | Self::Workers
        )
    }
}

/// `source` as one path segment.
pub fn encode_segment(source: &str) -> Cow<'_, str> {
    utf8_percent_encode(source, SEGMENT).into()
}
