//! Abuse: what clients do to wear a server down, told apart by kind, followed in the bytes they send, scored by source.
//!
//! Everything here is arithmetic: time is an argument, and what to do about a client is for the caller to say.

pub mod bucket;
pub mod frames;
pub mod ledger;
pub mod memory;
pub mod quic;
pub mod sources;

/// A way to wear a server down. Also the `kind` of the metric, so the number of these bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request's header that does not come to its end in time.
    SlowHeader,
    /// A request's body that comes too slowly.
    SlowBody,
    /// A response that is taken too slowly.
    SlowRead,
    /// A header section beyond the limits, compressed or not.
    LargeHeader,
    /// A request that breaks HTTP or can be read in two ways.
    Malformed,
    /// Streams that are opened and reset (CVE-2023-44487).
    Resets,
    /// Header blocks in ever more pieces (CVE-2024-27316).
    Continuation,
    /// Frames with nothing in them (CVE-2019-9518).
    EmptyFrames,
    /// SETTINGS, each of which wants an answer (CVE-2019-9515).
    Settings,
    /// PING, each of which wants an answer (CVE-2019-9512).
    Ping,
    /// Window updates that nothing was sent for (CVE-2019-9517 begins so).
    Window,
    /// PRIORITY and frames of unknown types (CVE-2019-9513).
    Priority,
    /// QUIC frames that carry nothing of a request.
    Control,
    /// More connections than a source may have.
    Connections,
}

/// What a source has done lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its points.
    pub score: u32,
    /// What it did last; None where it did nothing, or long ago.
    pub last: Option<Kind>,
}

impl Kind {
    /// All, in the order of their index.
    pub const ALL: [Self; 14] = [
        Self::SlowHeader,
        Self::SlowBody,
        Self::SlowRead,
        Self::LargeHeader,
        Self::Malformed,
        Self::Resets,
        Self::Continuation,
        Self::EmptyFrames,
        Self::Settings,
        Self::Ping,
        Self::Window,
        Self::Priority,
        Self::Control,
        Self::Connections,
    ];

    /// The one of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Name in logs, metrics and the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowHeader => "slow_header",
            Self::SlowBody => "slow_body",
            Self::SlowRead => "slow_read",
            Self::LargeHeader => "large_header",
            Self::Malformed => "malformed",
            Self::Resets => "resets",
            Self::Continuation => "continuation",
            Self::EmptyFrames => "empty_frames",
            Self::Settings => "settings",
            Self::Ping => "ping",
            Self::Window => "window",
            Self::Priority => "priority",
            Self::Control => "control",
            Self::Connections => "connections",
        }
    }
}
