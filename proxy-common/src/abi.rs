//! The ABI between the kernel programs and userspace: every key, value and limit that stands in a map.
//!
//! Plain `#[repr(C)]` structs with explicit padding, so that the bytes userspace writes are the bytes the
//! kernel hashes; tests hold sizes and alignment. Changing any of these raises [`LAYOUT_VERSION`].

mod gate;
mod verdicts;

pub use gate::{
    CheckSettings, DaemonState, GATE_FAIL_OPEN, GATE_HAS_ALLOW, GATE_HAS_DENY, GATE_HAS_HOSTS, GATE_HAS_RATES,
    GATE_HAS_RULES, GATE_HOST_BITS_SHIFT, GATE_OWN_ONLY, GATE_PREFIXES_B, GATE_RULES_B, GATE_V4_PREFIX,
    GATE_V4_PREFIX_SHIFT, GateConfig, bucket_index,
};
pub use verdicts::{
    DEFAULT_VERDICT_SLOTS, DEFAULT_VERDICT_WORDS, HostKey, PREFIX_MARK, VERDICT_OWN_ONLY, VERDICT_TAKEN, VerdictSlot,
    VerdictValue, verdict_bits, verdict_slots, verdict_words,
};

pub use crate::bucket::Limit;
pub use crate::fragments::FRAGMENT_SLOTS;
pub use crate::hosts::{HOST_HINT_WORDS, HOST_LINE_WORDS, HostLine, MAX_HOSTS};
pub use crate::rates::{
    MAX_RATES, RATE_BUCKETS, RATE_LIMIT_ENTRIES, RATE_WORDS, RateLimit, RateSettings, SERVICE_WORDS, rate_unit,
};
pub use crate::reason::{REASONS, Reason};
pub use crate::same_host::{Credit, Flow, Ticket};
pub use crate::seen::SEEN_SLOTS;
pub use crate::syn::{SynMeter, SynSettings, SynState, syn_policy};

/// Version of everything in this module; stands in [`GateConfig::layout`] of a loaded gate.
pub const LAYOUT_VERSION: u32 = 4;

/// Most listeners (protocol, address, port) that can be steered.
pub const MAX_SERVICES: u32 = 64;
/// Most worker threads of one daemon.
pub const MAX_WORKERS: u32 = 64;
/// Process generations whose QUIC sockets may live side by side.
pub const MAX_GENERATIONS: u32 = 4;
/// Slots of the QUIC socket array: service × generation × worker.
pub const MAX_QUIC_SLOTS: u32 = MAX_SERVICES * MAX_GENERATIONS * MAX_WORKERS;
/// Slots of the TCP listener sockmap: service × worker.
pub const MAX_LISTENER_SLOTS: u32 = MAX_SERVICES * MAX_WORKERS;
/// Default bound on standing verdicts; `gate.max_verdicts` in the config sets another.
pub const DEFAULT_MAX_VERDICTS: u32 = 262_144;
/// Upper bound of `gate.max_verdicts`.
pub const MAX_VERDICTS: u32 = 1_048_576;
/// Most prefixes in each of the allow list and the deny list; hosts stand elsewhere, see [`crate::hosts`].
pub const MAX_PREFIXES: u32 = 65_536;
/// Most packet rules: 64 words of 64 rules each, see [`crate::classify`].
pub const MAX_PACKET_RULES: u32 = 4_096;
/// Sides of what a policy swap flips: packets read one while the other is filled.
pub const SIDES: u32 = 2;
/// Most rule slots (a slot is one policy rule's number in counters and verdicts). Slot 0 is the operator.
pub const MAX_RULE_SLOTS: u32 = 16_384;
/// Bytes of a rule's name `policy/rule` in [`RuleName`], cut at a character border and zero-padded.
pub const RULE_NAME_LEN: usize = 64;
/// Words of the prefix hint of one address family; see [`crate::hint`].
pub const HINT_WORDS: u32 = 1_024;
/// Words of the `PORTS` array: one byte a port, see [`port_bits`].
pub const PORT_WORDS: u32 = 8_192;
/// IPv6 extension headers that are followed before the chain counts as too long.
pub const MAX_EXTENSION_HEADERS: u32 = 6;
/// VLAN tags that are skipped.
pub const MAX_VLAN_TAGS: u32 = 2;

/// IP protocol numbers that Tidegate looks into.
pub mod proto {
    use network_types::ip::IpProto;

    /// ICMP for IPv4.
    pub const ICMP: u8 = IpProto::Icmp as u8;
    /// TCP.
    pub const TCP: u8 = IpProto::Tcp as u8;
    /// UDP.
    pub const UDP: u8 = IpProto::Udp as u8;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = IpProto::Ipv6Icmp as u8;
}

/// Data half of the key of the `ALLOW` and `DENY` tries; the prefix length precedes it (IPv4 counts 96 more).
pub type PrefixData = [u8; 16];

/// Value of the `ALLOW` and `DENY` tries.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PrefixValue {
    /// Rule slot that the prefix comes from.
    pub rule: u32,
}

/// [`Clock::jiffies`] of a clock that is held: the programs take `ns` as it is. Tests do that.
pub const CLOCK_HELD: u64 = u64::MAX;
/// Most addresses in `OWN`.
pub const MAX_OWN_ADDRESSES: u32 = 256;

/// Key of `BINDINGS`: where a service listens.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ServiceKey {
    /// Local address, v4-mapped. `::ffff:0.0.0.0` is any IPv4 address, `::` any IPv6 address.
    pub addr: [u8; 16],
    /// Local port, host order.
    pub port: u16,
    /// [`proto::TCP`] or [`proto::UDP`].
    pub proto: u8,
    /// Zero; in two fields so that clearing them is two stores.
    pub pad: u8,
    /// Zero.
    pub pad_word: u32,
}

/// Bits of a port's byte in `PORTS`: a summary of `BINDINGS` that spares most packets the hash look-up.
pub mod port_bits {
    /// A TCP service on any IPv4 address has this port.
    pub const TCP_ANY4: u8 = 1;
    /// A TCP service on any IPv6 address.
    pub const TCP_ANY6: u8 = 2;
    /// A TCP service on some address: look it up.
    pub const TCP_SOME: u8 = 4;
    /// A UDP service on any IPv4 address.
    pub const UDP_ANY4: u8 = 8;
    /// A UDP service on any IPv6 address.
    pub const UDP_ANY6: u8 = 16;
    /// A UDP service on some address: look it up.
    pub const UDP_SOME: u8 = 32;
}

/// Value of `BINDINGS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Binding {
    /// Index into `SERVICES`.
    pub service: u32,
}

/// Entry of the `SERVICES` array.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Worker slots `0..workers` are tried.
    pub workers: u32,
    /// Process generation that takes new QUIC connections, below [`MAX_GENERATIONS`].
    pub generation: u32,
}

/// Entry of the `WORKERS` array, which each worker maps and writes with plain stores.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerLoad {
    /// Connections that the worker holds now.
    pub active: u32,
    /// 1 while the worker accepts, 0 when it drains or is gone.
    pub accepting: u32,
    /// Connections that `steer` gave to the worker, ever. Written by the kernel without a lock.
    pub assigned: u32,
    /// Those of `assigned` that the worker accepted, or that were given up. The rest is on its way.
    pub settled: u32,
}

/// The one entry of the `QUIC_KEY` array: the key of [`crate::cid`], shared by all generations.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QuicKey {
    /// First half of the `SipHash` key.
    pub k0: u64,
    /// Second half.
    pub k1: u64,
}

/// The one entry of the per-CPU `CLOCK` array: the clock as of this tick.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// Tick counter when `ns` was read.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub ns: u64,
}

/// Entry of the per-CPU `COUNTERS` and `RULE_HITS` arrays.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, link header included.
    pub bytes: u64,
}

/// Entry of the `RULE_NAMES` array: which rule a slot stands for, readable in `bpftool map dump`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleName {
    /// UTF-8, zero-padded; all zero for a free slot.
    pub name: [u8; RULE_NAME_LEN],
}

impl Default for RuleName {
    fn default() -> Self {
        Self { name: [0; RULE_NAME_LEN] }
    }
}

/// What a packet rule does.
pub mod rule_action {
    /// Passes the packet and beats every verdict and denied prefix.
    pub const ALLOW: u32 = 1;
    /// Drops the packet.
    pub const DROP: u32 = 2;
}

/// Fragment states, one bit each.
pub mod frag {
    /// Not a fragment.
    pub const NONE: u8 = 1;
    /// First fragment (ports can be read).
    pub const FIRST: u8 = 2;
    /// Later fragment (no ports).
    pub const LATER: u8 = 4;
    /// Any state.
    pub const ANY: u8 = 7;
}

#[cfg(feature = "user")]
mod pod {
    use super::{
        Binding, CheckSettings, Clock, Counter, Credit, DaemonState, Flow, GateConfig, HostKey, HostLine, PrefixValue,
        QuicKey, RuleName, Service, ServiceKey, SynState, Ticket, VerdictSlot, WorkerLoad,
    };

    macro_rules! pod {
        ($($ty:ty),* $(,)?) => {$(
            // SAFETY: `repr(C)`, made of integers only, and without implicit padding (tested below).
            unsafe impl aya::Pod for $ty {}
        )*};
    }
    pod!(
        Binding,
        CheckSettings,
        Clock,
        Counter,
        Credit,
        DaemonState,
        Flow,
        GateConfig,
        HostKey,
        HostLine,
        PrefixValue,
        QuicKey,
        RuleName,
        Service,
        ServiceKey,
        SynState,
        Ticket,
        VerdictSlot,
        WorkerLoad,
    );
}

#[cfg(test)]
mod tests {
    use core::mem::{align_of, size_of};

    use super::*;

    /// Size, alignment and the sum of the fields' sizes of each type: equal sums prove that nothing is padded.
    #[test]
    fn layout_is_fixed() {
        let rows: [(&str, usize, usize, usize); 18] = [
            ("HostLine", size_of::<HostLine>(), align_of::<HostLine>(), 64),
            ("HostKey", size_of::<HostKey>(), align_of::<HostKey>(), 16),
            ("VerdictSlot", size_of::<VerdictSlot>(), align_of::<VerdictSlot>(), 16 + 4 * 8 + 2 * 4 + 8),
            ("PrefixValue", size_of::<PrefixValue>(), align_of::<PrefixValue>(), 4),
            ("GateConfig", size_of::<GateConfig>(), align_of::<GateConfig>(), 4 * 4 + 8 + 2 * 4 + 5 * 8),
            ("CheckSettings", size_of::<CheckSettings>(), align_of::<CheckSettings>(), 8 + 16 + 2 * 4),
            ("ServiceKey", size_of::<ServiceKey>(), align_of::<ServiceKey>(), 16 + 2 + 1 + 1 + 4),
            ("Binding", size_of::<Binding>(), align_of::<Binding>(), 4),
            ("Service", size_of::<Service>(), align_of::<Service>(), 8),
            ("WorkerLoad", size_of::<WorkerLoad>(), align_of::<WorkerLoad>(), 16),
            ("Counter", size_of::<Counter>(), align_of::<Counter>(), 16),
            ("RuleName", size_of::<RuleName>(), align_of::<RuleName>(), RULE_NAME_LEN),
            ("QuicKey", size_of::<QuicKey>(), align_of::<QuicKey>(), 16),
            ("DaemonState", size_of::<DaemonState>(), align_of::<DaemonState>(), 3 * 8),
            ("SynState", size_of::<SynState>(), align_of::<SynState>(), 6 * 4 + 2 * 4 + 3 * 8 + 4 * 4),
            ("Flow", size_of::<Flow>(), align_of::<Flow>(), 8 + 2 * 16 + 2 * 2 + 4),
            ("Ticket", size_of::<Ticket>(), align_of::<Ticket>(), 8 + 2 * 4),
            ("Credit", size_of::<Credit>(), align_of::<Credit>(), 8 * 8),
        ];
        let expected = [
            (64, 8),
            (16, 8),
            (64, 8),
            (4, 4),
            (72, 8),
            (32, 8),
            (24, 8),
            (4, 4),
            (8, 4),
            (16, 4),
            (16, 8),
            (64, 1),
            (16, 8),
            (24, 8),
            (72, 8),
            (48, 8),
            (16, 8),
            (64, 8),
        ];
        for ((name, size, align, sum), want) in rows.into_iter().zip(expected) {
            assert_eq!((size, align), want, "{name}");
            assert_eq!(size, sum, "{name} has implicit padding");
        }
    }
}
