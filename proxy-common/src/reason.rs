//! Why the kernel programs did what they did: part of the ABI, as the index of `COUNTERS`.

/// Why a packet or a connection was handled as it was; index into `COUNTERS`.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Reason {
    /// Nothing applied.
    Pass = 0,
    /// Not IPv4 or IPv6; passed.
    NonIp = 1,
    /// Headers cut short or lengths that cannot be; passed to the kernel, which refuses them.
    Malformed = 2,
    /// Would have been dropped, but is not addressed to a service and the scope is own traffic; passed.
    NotOwn = 3,
    /// Would have been dropped, but an allow entry or rule covers it; passed.
    Allowed = 4,
    /// Dropped by a standing verdict.
    Verdict = 5,
    /// Met a verdict past its time; passed.
    Expired = 6,
    /// Dropped by a denied prefix.
    Denied = 7,
    /// Dropped by a packet rule.
    Rule = 8,
    /// IPv6 extension chain longer than the bound; passed, judged by its addresses only.
    ChainTooLong = 9,
    /// `steer` gave the connection to a worker.
    Steered = 10,
    /// `steer` found no binding; the kernel's own look-up went on.
    SteerMiss = 11,
    /// `steer` found a binding without a live worker; the kernel's own look-up went on.
    SteerDead = 12,
    /// `steer_quic` decoded worker and generation from the connection id.
    QuicCid = 13,
    /// `steer_quic` placed a first packet by hash.
    QuicInitial = 14,
    /// `steer_quic` could not place a packet; the kernel's hash did.
    QuicStray = 15,
    /// `front_syn` answered a SYN with a cookie.
    SynCookie = 16,
    /// Dropped by `front_syn`: an acknowledgment whose cookie is not the kernel's.
    SynCookieBad = 17,
}

/// Number of [`Reason`]s, entries of `COUNTERS`.
pub const REASONS: u32 = 18;

impl Reason {
    /// All reasons, in the order of their index.
    pub const ALL: [Reason; REASONS as usize] = [
        Reason::Pass,
        Reason::NonIp,
        Reason::Malformed,
        Reason::NotOwn,
        Reason::Allowed,
        Reason::Verdict,
        Reason::Expired,
        Reason::Denied,
        Reason::Rule,
        Reason::ChainTooLong,
        Reason::Steered,
        Reason::SteerMiss,
        Reason::SteerDead,
        Reason::QuicCid,
        Reason::QuicInitial,
        Reason::QuicStray,
        Reason::SynCookie,
        Reason::SynCookieBad,
    ];

    /// The reason's name in metrics, logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Pass => "pass",
            Reason::NonIp => "non_ip",
            Reason::Malformed => "malformed",
            Reason::NotOwn => "not_own",
            Reason::Allowed => "allowed",
            Reason::Verdict => "verdict",
            Reason::Expired => "expired",
            Reason::Denied => "denied",
            Reason::Rule => "rule",
            Reason::ChainTooLong => "chain_too_long",
            Reason::Steered => "steered",
            Reason::SteerMiss => "steer_miss",
            Reason::SteerDead => "steer_dead",
            Reason::QuicCid => "quic_cid",
            Reason::QuicInitial => "quic_initial",
            Reason::QuicStray => "quic_stray",
            Reason::SynCookie => "syn_cookie",
            Reason::SynCookieBad => "syn_cookie_bad",
        }
    }

    /// Whether the packet was dropped.
    pub const fn drops(self) -> bool {
        matches!(self, Reason::Verdict | Reason::Denied | Reason::Rule | Reason::SynCookieBad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_their_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }
}
