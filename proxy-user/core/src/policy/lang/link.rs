//! The fields of a connection that a request came over.

use crate::policy::LinkView;

/// A number of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkField {
    /// `tidegate.connection.rtt_msec`, in Cloudflare's language `cf.timings.client_tcp_rtt_msec`.
    Rtt,
    /// `tidegate.connection.bytes_in`
    BytesIn,
    /// `tidegate.connection.bytes_out`
    BytesOut,
    /// `tidegate.connection.duration_msec`
    Duration,
    /// `tidegate.connection.requests`
    Requests,
}

impl LinkField {
    /// Names and fields.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("tidegate.connection.rtt_msec", Self::Rtt),
        ("cf.timings.client_tcp_rtt_msec", Self::Rtt),
        ("tidegate.connection.bytes_in", Self::BytesIn),
        ("tidegate.connection.bytes_out", Self::BytesOut),
        ("tidegate.connection.duration_msec", Self::Duration),
        ("tidegate.connection.requests", Self::Requests),
    ];

    /// Its value; None where it is not known.
    pub fn of(self, link: &LinkView) -> Option<u64> {
        match self {
            Self::Rtt => link.rtt_ms,
            Self::BytesIn => link.bytes_in,
            Self::BytesOut => link.bytes_out,
            Self::Duration => link.duration_ms,
            Self::Requests => link.requests,
        }
    }

    /// Sets it.
    pub fn set(self, link: &mut LinkView, value: u64) {
        let place = match self {
            Self::Rtt => &mut link.rtt_ms,
            Self::BytesIn => &mut link.bytes_in,
            Self::BytesOut => &mut link.bytes_out,
            Self::Duration => &mut link.duration_ms,
            Self::Requests => &mut link.requests,
        };
        *place = Some(value);
    }
}
