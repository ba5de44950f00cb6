//! The ABI between the kernel programs and userspace: every key, value and limit that stands in a map.
//!
//! Plain `#[repr(C)]` structs with explicit padding, so that the bytes userspace writes are the bytes the
//! kernel hashes; tests hold sizes and alignment. Changing any of these raises [`LAYOUT_VERSION`].

pub use crate::bucket::Limit;
pub use crate::fragments::FRAGMENT_SLOTS;
pub use crate::hosts::{HOST_HINT_WORDS, HOST_LINE_WORDS, HostLine, MAX_HOSTS};
pub use crate::rates::{
    MAX_RATES, RATE_BUCKETS, RATE_LIMIT_ENTRIES, RATE_WORDS, RateLimit, RateSettings, SERVICE_WORDS, rate_unit,
};
pub use crate::reason::{REASONS, Reason};
pub use crate::seen::SEEN_SLOTS;
pub use crate::syn::{SynMeter, SynSettings, SynState, syn_policy};

/// Version of everything in this file; stands in [`GateConfig::layout`] of a loaded gate.
pub const LAYOUT_VERSION: u32 = 3;

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
pub const MAX_RULE_SLOTS: u32 = 4_096;
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

/// First eight bytes of a [`HostKey`] that names an IPv6 prefix.
pub const PREFIX_MARK: [u8; 8] = [0xff, 0, 0, 0, 0, 0, 0, 0];

/// Key of an entry of `VERDICTS`: a host, or an IPv6 prefix of `gate.ipv6_prefix` bits.
///
/// IPv4 hosts are `::ffff:a.b.c.d`, IPv6 hosts their address. A prefix stands behind [`PREFIX_MARK`], as `ff00::` with the
/// prefix in its last eight bytes: a multicast address, which no host has (RFC 4291 section 2.7). Aligned, so
/// that it is hashed and compared in words.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HostKey {
    /// Address in network order, or the marked prefix.
    pub addr: [u8; 16],
}

/// [`VerdictValue::flags`]: applies to Tidegate's own listeners only, whatever `gate.scope` says.
pub const VERDICT_OWN_ONLY: u32 = 1;
/// [`VerdictValue::flags`]: the slot is or was in use, so that a look-up goes on behind it; see [`crate::slots`].
pub const VERDICT_TAKEN: u32 = 2;

/// An entry of `VERDICTS`: a cache line. Without [`VERDICT_TAKEN`] nothing else in it counts.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerdictSlot {
    /// Whom the verdict is on.
    pub key: HostKey,
    /// The verdict.
    pub value: VerdictValue,
}

/// A verdict. Times are `CLOCK_MONOTONIC` nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerdictValue {
    /// The verdict drops while the clock is below this; 0 once it was removed. Written last and cleared first: before, the
    /// rest is not to be relied on.
    pub expires_ns: u64,
    /// When the decision was taken.
    pub created_ns: u64,
    /// When the first packet was dropped; 0 until then. Written by the kernel.
    pub first_drop_ns: u64,
    /// Packets dropped. Written by the kernel without a lock: CPUs that drop at the same moment may count once.
    pub drops: u64,
    /// Rule slot that pushed it; 0 for the operator.
    pub rule: u32,
    /// [`VERDICT_OWN_ONLY`] and [`VERDICT_TAKEN`].
    pub flags: u32,
    /// Bytes of those packets, counted like `drops`.
    pub drop_bytes: u64,
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

/// [`GateConfig::flags`]: drop only what is addressed to a service in `BINDINGS`.
pub const GATE_OWN_ONLY: u32 = 1;
/// [`GateConfig::flags`]: the denied prefixes in force are not empty.
pub const GATE_HAS_DENY: u32 = 2;
/// [`GateConfig::flags`]: the allowed prefixes in force are not empty.
pub const GATE_HAS_ALLOW: u32 = 4;
/// [`GateConfig::flags`]: packet rules are in force.
pub const GATE_HAS_RULES: u32 = 8;
/// [`GateConfig::flags`]: packets read side 1 of the packet rules, else side 0.
pub const GATE_RULES_B: u32 = 16;
/// [`GateConfig::flags`]: packets read side 1 of the allowed and denied prefixes, else side 0.
pub const GATE_PREFIXES_B: u32 = 32;
/// [`GateConfig::flags`]: rate limits are in force.
pub const GATE_HAS_RATES: u32 = 64;
/// [`GateConfig::flags`]: nothing is dropped while the daemon stays away, see [`DaemonState::is_away`].
pub const GATE_FAIL_OPEN: u32 = 256;

/// [`GateConfig::flags`]: hosts are denied by the lists in force.
pub const GATE_HAS_HOSTS: u32 = 128;
/// From this bit on, [`GateConfig::flags`] holds the binary logarithm of the bits in the filter before the hosts; 0 without
/// any, allowed or denied.
pub const GATE_HOST_BITS_SHIFT: u32 = 27;

/// The one entry of the `GATE` array: what the programs read at run time. What a policy swap flips stands in `flags`, one
/// word: a packet sees one revision whole.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GateConfig {
    /// [`LAYOUT_VERSION`] of whoever wrote the maps.
    pub layout: u32,
    /// `GATE_*` bits.
    pub flags: u32,
    /// Packet rules in force, at most [`MAX_PACKET_RULES`]; for people, the programs go by [`GATE_HAS_RULES`].
    pub rules: u32,
    /// Policy revision that the maps hold; grows by one at each load.
    pub revision: u32,
    /// Mask over the first eight bytes (big-endian) of an IPv6 source before a look-up of its prefix, see [`PREFIX_MARK`].
    pub v6_mask: u64,
    /// The filter before `VERDICTS` has `1 << verdict_bits` bits; see [`verdict_bits`].
    pub verdict_bits: u32,
    /// 1 while some service may answer SYNs with cookies: TCP packets take the way through `front_syn`. Set by `steer`,
    /// cleared by the daemon.
    pub cookies: u32,
    /// Fingerprint of the packet rules in force; 0 for none.
    pub rules_print: u64,
    /// Checks that are made: the bits of their [`Reason`]s. 0 makes none.
    pub checked: u64,
    /// Those of `checked` that drop; the others are counted in `WOULD`.
    pub enforced: u64,
    /// Summary of the addresses in `OWN`, see [`crate::sanity::own_bit`].
    pub own_bits: u64,
    /// Key of the hash that places verdicts, see [`crate::slots`]; chosen when the maps are made.
    pub verdict_seed: u64,
}

impl GateConfig {
    /// Which side of the packet rules is in force.
    #[inline(always)]
    pub const fn rules_side(&self) -> u32 {
        (self.flags & GATE_RULES_B != 0) as u32
    }

    /// Which side of the allowed and denied prefixes and hosts is in force.
    #[inline(always)]
    pub const fn prefixes_side(&self) -> u32 {
        (self.flags & GATE_PREFIXES_B != 0) as u32
    }

    /// Binary logarithm of the bits in the filter before the hosts of the side in force; 0 where the lists name none.
    #[inline(always)]
    pub const fn host_bits(&self) -> u32 {
        self.flags >> GATE_HOST_BITS_SHIFT
    }
}

/// The one entry of the `CHECKS` array: what the checks read where a packet is not an ordinary one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckSettings {
    /// Secret of the hash over fragments.
    pub seed: u64,
    /// ICMP messages, see [`crate::sanity::limited_icmp`].
    pub icmp: Limit,
    /// [`Reason::UdpNoService`] looks at ports below this: from there on the kernel gives out ports to clients, and what
    /// comes in may be an answer.
    pub udp_below: u32,
    /// Zero.
    pub pad: u32,
}

/// Words of the `BUCKETS` array, a [`crate::bucket`] each.
pub mod bucket_index {
    /// ICMP messages.
    pub const ICMP: u32 = 0;
    /// How many there are.
    pub const COUNT: u32 = 1;
}

/// [`Clock::jiffies`] of a clock that is held: the programs take `ns` as it is. Tests do that.
pub const CLOCK_HELD: u64 = u64::MAX;
/// Most addresses in `OWN`.
pub const MAX_OWN_ADDRESSES: u32 = 256;

/// Binary logarithm of the bits in `VERDICT_HINT` for a table of `max_verdicts`: at least eight bits an entry, and a
/// page at least.
pub const fn verdict_bits(max_verdicts: u32) -> u32 {
    let bits = max_verdicts.next_power_of_two().trailing_zeros() + 3;
    if bits < MIN_VERDICT_BITS { MIN_VERDICT_BITS } else { bits }
}

/// Words of `VERDICT_HINT` for a table of `max_verdicts`.
pub const fn verdict_words(max_verdicts: u32) -> u32 {
    1 << (verdict_bits(max_verdicts) - 6)
}

/// Slots of `VERDICTS` for a table of `max_verdicts`: two for each, and more in a small one.
pub const fn verdict_slots(max_verdicts: u32) -> u32 {
    1 << crate::slots::slot_bits(verdict_bits(max_verdicts))
}

/// Slots of `VERDICTS` for [`DEFAULT_MAX_VERDICTS`].
pub const DEFAULT_VERDICT_SLOTS: u32 = verdict_slots(DEFAULT_MAX_VERDICTS);

/// Words of `VERDICT_HINT` for [`DEFAULT_MAX_VERDICTS`].
pub const DEFAULT_VERDICT_WORDS: u32 = verdict_words(DEFAULT_MAX_VERDICTS);

/// A page of bits, the least that can be mapped.
const MIN_VERDICT_BITS: u32 = 15;

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

/// The one entry of the `DAEMON` array: what the daemon leaves to the programs, and to whoever comes after it. Mapped into
/// the daemon.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DaemonState {
    /// `CLOCK_MONOTONIC` in nanoseconds when the daemon was last there.
    pub beat_ns: u64,
    /// It counts as away when it was not there for longer than this, in nanoseconds; 0 for never.
    pub fail_after_ns: u64,
    /// `net.ipv4.tcp_syncookies` as it was before the daemon raised it, plus one; 0 while it is not raised.
    pub syncookies: u64,
}

impl DaemonState {
    /// Whether the daemon stays away at this time.
    #[inline(always)]
    pub const fn is_away(&self, now_ns: u64) -> bool {
        self.fail_after_ns != 0 && now_ns.saturating_sub(self.beat_ns) > self.fail_after_ns
    }
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
        Binding, CheckSettings, Clock, Counter, DaemonState, GateConfig, HostKey, HostLine, PrefixValue, QuicKey,
        RuleName, Service, ServiceKey, SynState, VerdictSlot, WorkerLoad,
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
        DaemonState,
        GateConfig,
        HostKey,
        HostLine,
        PrefixValue,
        QuicKey,
        RuleName,
        Service,
        ServiceKey,
        SynState,
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
        let rows: [(&str, usize, usize, usize); 15] = [
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
        ];
        for ((name, size, align, sum), want) in rows.into_iter().zip(expected) {
            assert_eq!((size, align), want, "{name}");
            assert_eq!(size, sum, "{name} has implicit padding");
        }
    }

    #[test]
    fn a_daemon_is_away_after_its_time() {
        let state = DaemonState { beat_ns: 1_000, fail_after_ns: 50, syncookies: 0 };
        assert!(!state.is_away(1_050) && state.is_away(1_051));
        // The programs' clock lags by a tick.
        assert!(!state.is_away(900));
        assert!(!DaemonState::default().is_away(u64::MAX));
    }

    #[test]
    fn the_filter_has_eight_bits_a_verdict_and_the_table_two_slots() {
        for (max, bits) in [(1, 15), (4_096, 15), (4_097, 16), (DEFAULT_MAX_VERDICTS, 21), (MAX_VERDICTS, 23)] {
            assert_eq!(verdict_bits(max), bits, "{max}");
            assert!(verdict_slots(max) >= 2 * max, "{max}");
        }
    }
}
