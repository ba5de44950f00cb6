//! The ABI of what the programs read for every packet: the settings of the gate and of its checks, and whether the daemon is
//! there.

use super::Limit;

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
/// From this bit on, [`GateConfig::flags`] holds in six bits the length of the IPv4 prefixes that verdicts may be on; 0 where there
/// are none.
pub const GATE_V4_PREFIX_SHIFT: u32 = 16;
/// Those bits.
pub const GATE_V4_PREFIX: u32 = 63 << GATE_V4_PREFIX_SHIFT;
/// From this bit on, [`GateConfig::flags`] holds the binary logarithm of the bits in the filter before the hosts; 0 without
/// any, allowed or denied.
pub const GATE_HOST_BITS_SHIFT: u32 = 27;

/// The one entry of the `GATE` array: what the programs read at run time. What a policy swap flips stands in `flags`, one
/// word: a packet sees one revision whole.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GateConfig {
    /// [`super::LAYOUT_VERSION`] of whoever wrote the maps.
    pub layout: u32,
    /// `GATE_*` bits.
    pub flags: u32,
    /// Packet rules in force, at most [`super::MAX_PACKET_RULES`]; for people, the programs go by [`GATE_HAS_RULES`].
    pub rules: u32,
    /// Policy revision that the maps hold; grows by one at each load.
    pub revision: u32,
    /// Mask over the first eight bytes (big-endian) of an IPv6 source before a look-up of its prefix, see [`super::PREFIX_MARK`].
    pub v6_mask: u64,
    /// The filter before `VERDICTS` has `1 << verdict_bits` bits; see [`super::verdict_bits`].
    pub verdict_bits: u32,
    /// 1 while some service may answer SYNs with cookies: TCP packets take the way through `front_syn`. Set by `steer`,
    /// cleared by the daemon.
    pub cookies: u32,
    /// Fingerprint of the packet rules in force; 0 for none.
    pub rules_print: u64,
    /// Checks that are made: the bits of their [`super::Reason`]s. 0 makes none.
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

    /// Length of the IPv4 prefixes that verdicts may be on; 0 where none is.
    #[inline(always)]
    pub const fn v4_prefix(&self) -> u32 {
        (self.flags & GATE_V4_PREFIX) >> GATE_V4_PREFIX_SHIFT
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
    /// [`super::Reason::UdpNoService`] looks at ports below this: from there on the kernel gives out ports to clients, and what
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_away_after_its_time() {
        let state = DaemonState { beat_ns: 1_000, fail_after_ns: 50, syncookies: 0 };
        assert!(!state.is_away(1_050) && state.is_away(1_051));
        // The programs' clock lags by a tick.
        assert!(!state.is_away(900));
        assert!(!DaemonState::default().is_away(u64::MAX));
    }
}
