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
    /// Dropped by a check: TCP without any flag.
    TcpNull = 16,
    /// Dropped by a check: TCP with FIN, PSH and URG and nothing else.
    TcpXmas = 17,
    /// Dropped by a check: TCP with SYN and FIN.
    TcpSynFin = 18,
    /// Dropped by a check: TCP with SYN and RST.
    TcpSynRst = 19,
    /// Dropped by a check: TCP with FIN, PSH or URG, but without ACK, SYN and RST (RFC 9293 section
    /// 3.10.7: all but a first SYN and some RST carry ACK).
    TcpNoAck = 20,
    /// Dropped by a check: source and destination are the same address and port.
    Land = 21,
    /// Dropped by a check: a UDP length that contradicts the packet's, or a fragment that ends beyond 65,535 bytes.
    BadLength = 22,
    /// Dropped by a check: TCP or UDP with a port 0.
    ZeroPort = 23,
    /// Dropped by a check: a source that no packet on a wire can have: this network, loopback,
    /// multicast, reserved, v4-mapped.
    Bogon = 24,
    /// Dropped by a check: a source in a range for private, shared, documentation or benchmark use (RFC 6890
    /// and its registries).
    SpecialSource = 25,
    /// Dropped by a check: a source that is one of our own addresses.
    SpoofedOwn = 26,
    /// Dropped by a check: IPv4 with options.
    IpOptions = 27,
    /// Dropped by a check: an IPv6 routing header of a type other than 0.
    RoutingHeader = 28,
    /// Dropped by a check: an IPv6 routing header of type 0 (RFC 5095).
    RoutingHeader0 = 29,
    /// Dropped by a check: a fragment of any kind.
    Fragment = 30,
    /// Dropped by a check: a later fragment whose first one was dropped or not seen.
    FragmentStray = 31,
    /// Dropped by a check: ICMP above the limit that is neither for path MTU nor neighbour discovery.
    IcmpLimit = 32,
    /// Dropped by a check: a QUIC Initial in less than 1,200 bytes of UDP payload (RFC 9000 section 14.1).
    QuicShortInitial = 33,
    /// Dropped by a check: a QUIC version that is not known.
    QuicVersion = 34,
    /// Dropped by a check: UDP to one of our own addresses, at a port below the ephemeral ones where no
    /// service listens.
    UdpNoService = 35,
    /// Malformed, and dropped here instead of being left to the kernel.
    MalformedDropped = 36,
    /// `front_syn` answered a SYN with a cookie.
    SynCookie = 37,
    /// Dropped by `front_syn`: an acknowledgment whose cookie is not the kernel's.
    SynCookieBad = 38,
    /// Dropped by a rate limit: a source sent more than its limit.
    RateSource = 39,
    /// Dropped by a rate limit: a prefix sent more than its limit.
    RatePrefix = 40,
    /// Dropped by a rate limit: a service is sent more than its limit.
    RateService = 41,
    /// Dropped by a rate limit: more came in than the limit on all.
    RateTotal = 42,
    /// Would have been dropped, but the daemon stays away and the gate is told to stand open then; passed.
    Unattended = 43,
}

/// Number of [`Reason`]s, entries of `COUNTERS`.
pub const REASONS: u32 = 44;

const _: () = assert!(REASONS <= u64::BITS, "a set of reasons is one word");

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
        Reason::TcpNull,
        Reason::TcpXmas,
        Reason::TcpSynFin,
        Reason::TcpSynRst,
        Reason::TcpNoAck,
        Reason::Land,
        Reason::BadLength,
        Reason::ZeroPort,
        Reason::Bogon,
        Reason::SpecialSource,
        Reason::SpoofedOwn,
        Reason::IpOptions,
        Reason::RoutingHeader,
        Reason::RoutingHeader0,
        Reason::Fragment,
        Reason::FragmentStray,
        Reason::IcmpLimit,
        Reason::QuicShortInitial,
        Reason::QuicVersion,
        Reason::UdpNoService,
        Reason::MalformedDropped,
        Reason::SynCookie,
        Reason::SynCookieBad,
        Reason::RateSource,
        Reason::RatePrefix,
        Reason::RateService,
        Reason::RateTotal,
        Reason::Unattended,
    ];

    /// The reason with this number; [`Reason::Pass`] for numbers that none has. A `match`, which the compiler sees through:
    /// a table would be a map in the kernel.
    #[inline(always)]
    pub const fn of(number: u32) -> Self {
        match number {
            1 => Reason::NonIp,
            2 => Reason::Malformed,
            3 => Reason::NotOwn,
            4 => Reason::Allowed,
            5 => Reason::Verdict,
            6 => Reason::Expired,
            7 => Reason::Denied,
            8 => Reason::Rule,
            9 => Reason::ChainTooLong,
            10 => Reason::Steered,
            11 => Reason::SteerMiss,
            12 => Reason::SteerDead,
            13 => Reason::QuicCid,
            14 => Reason::QuicInitial,
            15 => Reason::QuicStray,
            16 => Reason::TcpNull,
            17 => Reason::TcpXmas,
            18 => Reason::TcpSynFin,
            19 => Reason::TcpSynRst,
            20 => Reason::TcpNoAck,
            21 => Reason::Land,
            22 => Reason::BadLength,
            23 => Reason::ZeroPort,
            24 => Reason::Bogon,
            25 => Reason::SpecialSource,
            26 => Reason::SpoofedOwn,
            27 => Reason::IpOptions,
            28 => Reason::RoutingHeader,
            29 => Reason::RoutingHeader0,
            30 => Reason::Fragment,
            31 => Reason::FragmentStray,
            32 => Reason::IcmpLimit,
            33 => Reason::QuicShortInitial,
            34 => Reason::QuicVersion,
            35 => Reason::UdpNoService,
            36 => Reason::MalformedDropped,
            37 => Reason::SynCookie,
            38 => Reason::SynCookieBad,
            39 => Reason::RateSource,
            40 => Reason::RatePrefix,
            41 => Reason::RateService,
            42 => Reason::RateTotal,
            43 => Reason::Unattended,
            _ => Reason::Pass,
        }
    }

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
            Reason::TcpNull => "tcp_null",
            Reason::TcpXmas => "tcp_xmas",
            Reason::TcpSynFin => "tcp_syn_fin",
            Reason::TcpSynRst => "tcp_syn_rst",
            Reason::TcpNoAck => "tcp_no_ack",
            Reason::Land => "land",
            Reason::BadLength => "bad_length",
            Reason::ZeroPort => "zero_port",
            Reason::Bogon => "bogon",
            Reason::SpecialSource => "special_source",
            Reason::SpoofedOwn => "spoofed_own",
            Reason::IpOptions => "ip_options",
            Reason::RoutingHeader => "routing_header",
            Reason::RoutingHeader0 => "routing_header_0",
            Reason::Fragment => "fragment",
            Reason::FragmentStray => "fragment_stray",
            Reason::IcmpLimit => "icmp_limit",
            Reason::QuicShortInitial => "quic_short_initial",
            Reason::QuicVersion => "quic_version",
            Reason::UdpNoService => "udp_no_service",
            Reason::MalformedDropped => "malformed_dropped",
            Reason::SynCookie => "syn_cookie",
            Reason::SynCookieBad => "syn_cookie_bad",
            Reason::RateSource => "rate_source",
            Reason::RatePrefix => "rate_prefix",
            Reason::RateService => "rate_service",
            Reason::RateTotal => "rate_total",
            Reason::Unattended => "unattended",
        }
    }

    /// Whether this is one of the checks of [`crate::sanity`]: off, counted or enforced, each by itself.
    pub const fn is_check(self) -> bool {
        self as u32 >= Reason::TcpNull as u32 && self as u32 <= Reason::MalformedDropped as u32
    }

    /// Whether this is one of the rate limits of [`crate::rates`].
    pub const fn is_rate(self) -> bool {
        self as u32 >= Reason::RateSource as u32 && self as u32 <= Reason::RateTotal as u32
    }

    /// The reason's bit in a set of them: [`crate::abi::GateConfig::checked`] and `enforced`,
    /// [`crate::event::EventControl::reasons`].
    pub const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// Whether the packet was dropped.
    pub const fn drops(self) -> bool {
        matches!(self, Reason::Verdict | Reason::Denied | Reason::Rule | Reason::SynCookieBad)
            || self.is_check()
            || self.is_rate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_their_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
            assert_eq!(Reason::of(index as u32), reason);
        }
    }
}
