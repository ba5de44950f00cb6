//! Rate limits: token buckets per source, per prefix, per service and in all, over what checks and rules let pass.
//!
//! **Bounded.** All buckets stand in one array of fixed size; no packet inserts anything. A limit on sources or prefixes has
//! two rows of words, and a source one word in each, by a keyed hash that nobody outside can aim at. What counts is the
//! fuller of the two buckets (a count-min sketch with conservative update, of [`crate::bucket`] words): both are brought up
//! to it, so that a neighbour in one row harms nobody. A source is treated as another one only where both rows' buckets are
//! shared with sources that are at their limit: with `w` words a row and `n` such sources, (1 − e^(−n/w))² of the others.
//! `w` is 262,144 for a single limit (4 MiB in both rows), and that share 0.0014% at 1,000 such sources, 0.14% at 10,000,
//! 10% at 100,000; more limits share the same memory. Random sources that send a packet each fill no bucket as long as fewer of
//! them come while one token does than there are words.
//!
//! **Order.** Limits stand sorted: source, prefix, service, total; the first that has no tokens left decides, so that what a
//! source sends beyond its own limit takes nothing from the others. Limits that only count are asked, too.
//!
//! **Known sources.** A limit per service or in all keeps half of its bucket for sources that completed a handshake lately
//! ([`crate::seen`], written by the workers). New sources drop first, and known ones get the whole rate before new ones get any.
//!
//! In the scope `own` only packets to our services are looked at. What the allow list spares is not dropped; it takes tokens.

use crate::abi::{GATE_OWN_ONLY, GateConfig, MAX_SERVICES, Reason, frag, proto};
use crate::addr::{Addr, port_bits_of, port_place};
use crate::bucket::{self, Limit};
use crate::checks::{NUMBER_MASK, NUMBERS};
use crate::classify::Found;
use crate::decide::{Decision, Tables, unless_spared};
use crate::fragments::mix;
use crate::parse::{Frame, Packet};
use crate::wire::tcp_flag;
use crate::{sanity, seen};

/// Most rate limits.
pub const MAX_RATES: u32 = 16;
/// Entries of `RATE_LIMITS`: packets read one half while the other is filled.
pub const RATE_LIMIT_ENTRIES: u32 = 2 * MAX_RATES;
/// Words that the limits on sources and prefixes share.
pub const RATE_WORDS: u32 = 1 << 19;
/// Words between the buckets of two services: a cache line each, which CPUs fight over one by one.
const SERVICE_STRIDE: u32 = 8;
/// Words of a limit per service, or in all.
pub const SERVICE_WORDS: u32 = MAX_SERVICES * SERVICE_STRIDE;
/// Words of `RATE_BUCKETS`.
pub const RATE_BUCKETS: u32 = RATE_WORDS + MAX_RATES * SERVICE_WORDS;
/// Seconds without a packet after which a UDP flow counts as new.
pub const FLOW_LIFETIME_S: u32 = 60;
/// What [`service_of`] says of packets that are for no service.
pub const NO_SERVICE: u32 = MAX_SERVICES;

const _: () = assert!(MAX_SERVICES == u64::BITS, "a set of services is one word");

/// What a limit counts; one bit each.
pub mod rate_unit {
    /// Packets.
    pub const PACKETS: u32 = 1;
    /// Bytes of the IP packet.
    pub const BYTES: u32 = 2;
    /// TCP SYNs without ACK.
    pub const SYNS: u32 = 4;
    /// UDP packets of flows that were not seen for [`super::FLOW_LIFETIME_S`].
    pub const UDP_FLOWS: u32 = 8;
    /// QUIC Initials to a service.
    pub const QUIC_INITIALS: u32 = 16;
    /// Not a unit, in [`super::RateSettings::units`]: some limit asks which service a packet is for.
    pub const SERVICE: u32 = 32;
}

/// The one entry of the `RATES` array.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateSettings {
    /// First half of the hashes' secret.
    pub k0: u64,
    /// Second half.
    pub k1: u64,
    /// Entry of the first limit in `RATE_LIMITS`: 0 or [`MAX_RATES`].
    pub first: u32,
    /// Limits in force, at most [`MAX_RATES`].
    pub count: u32,
    /// Units that some limit counts, bits of [`rate_unit`].
    pub units: u32,
    /// Seconds for which a source that completed a handshake is known.
    pub known_s: u32,
}

/// Entry of the `RATE_LIMITS` array.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateLimit {
    /// Rate and depth.
    pub limit: Limit,
    /// The depth for sources that are not known, at most that of `limit`.
    pub new_ns: u64,
    /// Mask over the first eight bytes (big-endian) of an IPv6 source.
    pub v6_mask: u64,
    /// Services that it looks at, a bit each; all ones for any packet.
    pub services: u64,
    /// Mask over an IPv4 source as a number.
    pub v4_mask: u32,
    /// First word in `RATE_BUCKETS`.
    pub base: u32,
    /// Words of a row less one.
    pub row_mask: u32,
    /// From the first row to the second; 0 where there is one row only.
    pub second: u32,
    /// [`Reason::RateSource`], `RatePrefix`, `RateService` or `RateTotal`.
    pub reason: u32,
    /// One of [`rate_unit`].
    pub unit: u32,
    /// 1 to drop, 0 to count.
    pub enforce: u32,
    /// Zero.
    pub pad: u32,
}

/// In what [`take`] returns: the limit drops.
const DROPS: u32 = NUMBER_MASK + 1;

/// Asks the limits, and applies what they say: the decision if an enforced one has no tokens left; `counted` is told of
/// those that only count. `rules` is what the packet rules said.
#[inline(always)]
pub(crate) fn apply<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    tables: &T,
    config: &GateConfig,
    rules: Found,
    counted: &mut u64,
) -> Option<Decision<T::Verdict>> {
    let found = tables.limit_rates(frame, packet);
    if found == 0 {
        return None;
    }
    let reason = Reason::of(found as u32 & NUMBER_MASK);
    let drop = unless_spared(frame, packet, tables, config, false, Some(rules), Decision::new(reason));
    if drop.reason != Reason::Allowed {
        *counted |= found & !NUMBERS;
    }
    (reason != Reason::Pass).then_some(drop)
}

/// Asks the limits one by one. The low bits are the number of the reason that drops, or 0; above them stand the bits of the
/// reasons of counted limits without tokens.
#[inline(always)]
pub fn run<F: Frame + ?Sized, T: Tables>(frame: &F, packet: &Packet, tables: &T) -> u64 {
    if tables.config().flags & GATE_OWN_ONLY != 0 && !tables.for_a_service(packet) {
        return 0;
    }
    let settings = tables.rate_settings();
    let mut units = rate_unit::PACKETS | rate_unit::BYTES;
    let mut flow = 0;
    if packet.proto == proto::TCP {
        if packet.ports && packet.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN {
            units |= rate_unit::SYNS;
        }
    } else if packet.proto == proto::UDP && packet.ports {
        if settings.units & rate_unit::QUIC_INITIALS != 0
            && packet.frag == frag::NONE
            && sanity::quic_initial(sanity::fact(frame, packet))
            && tables.for_a_service(packet)
        {
            units |= rate_unit::QUIC_INITIALS;
        }
        if settings.units & rate_unit::UDP_FLOWS != 0 {
            flow = flow_hash(packet, &settings);
            units |= if is_seen(flow, tables) { 0 } else { rate_unit::UDP_FLOWS };
        }
    }
    let service = if settings.units & rate_unit::SERVICE != 0 { tables.service_of(packet) } else { NO_SERVICE };
    let mut found = 0;
    let mut index = 0;
    while index < MAX_RATES && index < settings.count {
        let said = tables.take_rate(packet, settings.first + index, units, service);
        if said & DROPS != 0 {
            return found | u64::from(said & NUMBER_MASK);
        }
        if said != 0 {
            found |= 1 << (said & NUMBER_MASK);
        }
        index += 1;
    }
    if flow != 0 {
        note_flow(flow, tables);
    }
    found
}

/// Takes what the packet costs from one limit: 0 where it had enough or does not look at the packet, else the number of its
/// reason, and [`DROPS`] where it is enforced. `units` are those that the packet counts for.
#[inline(always)]
pub fn take<T: Tables>(packet: &Packet, index: u32, units: u32, service: u32, tables: &T) -> u32 {
    let Some(limit) = tables.rate_limit(index) else { return 0 };
    if limit.unit & units == 0 {
        return 0;
    }
    if limit.services != u64::MAX && (service >= MAX_SERVICES || (limit.services >> service) & 1 == 0) {
        return 0;
    }
    let place = if limit.reason == Reason::RateTotal as u32 {
        0
    } else if limit.reason == Reason::RateService as u32 {
        if service >= MAX_SERVICES {
            return 0;
        }
        let word = u64::from(service * SERVICE_STRIDE);
        word << 32 | word
    } else {
        let settings = tables.rate_settings();
        hash(source(packet.src, limit.v4_mask, limit.v6_mask), &settings)
    };
    let first = limit.base + (place as u32 & limit.row_mask);
    let second = limit.base + limit.second + ((place >> 32) as u32 & limit.row_mask);
    let count = if limit.unit == rate_unit::BYTES { u32::from(packet.len) } else { 1 };
    let now_ns = tables.now_ns();
    let mut depth = Limit { burst_ns: limit.new_ns, ..limit.limit };
    let mut tried = 0;
    while tried < bucket::TRIES {
        let (in_first, in_second) = (tables.rate_bucket(first), tables.rate_bucket(second));
        let full_at = if in_first < in_second { in_first } else { in_second };
        if let Some(next) = bucket::take(full_at, now_ns, depth, count) {
            // Both words are brought up to what was reckoned from both, or neither counts: two packets of a source that meet
            // here differ in at least one, whichever of them is first.
            if (in_first >= next || tables.advance_rate_bucket(first, in_first, next))
                && (in_second >= next || second == first || tables.advance_rate_bucket(second, in_second, next))
            {
                return 0;
            }
        } else if depth.burst_ns != limit.limit.burst_ns && is_known(packet.src, tables, now_ns) {
            depth = limit.limit;
        } else {
            break;
        }
        tried += 1;
    }
    limit.reason | if limit.enforce != 0 { DROPS } else { 0 }
}

/// The service that the packet is for, as `BINDINGS` numbers it, or [`NO_SERVICE`].
#[inline(always)]
pub fn service_of<T: Tables>(packet: &Packet, tables: &T) -> u32 {
    if !packet.ports {
        return NO_SERVICE;
    }
    let (word, shift) = port_place(packet.dport);
    let bits = (tables.port_word(word) >> shift) as u8;
    let (any, some) = port_bits_of(packet.dst, packet.proto);
    if bits & some != 0
        && let Some(service) = tables.service(&packet.dst.service_key(packet.proto, packet.dport))
    {
        return service;
    }
    if bits & any != 0
        && let Some(service) = tables.service(&packet.dst.any().service_key(packet.proto, packet.dport))
    {
        return service;
    }
    NO_SERVICE
}

/// What counts as one source: the masked address in a word. An IPv4 address stands where the IPv6 prefix `0:ffff::/32` does, which
/// nobody has.
#[inline(always)]
pub const fn source(addr: Addr, v4_mask: u32, v6_mask: u64) -> u64 {
    if addr.is_v4() { addr.lo & (0xffff_0000_0000 | v4_mask as u64).to_be() } else { addr.hi & v6_mask.to_be() }
}

/// Keyed hash of a word: two rounds of [`mix`] with a secret before each, which nobody outside can aim at.
#[inline(always)]
pub const fn hash(word: u64, settings: &RateSettings) -> u64 {
    mix(mix(word ^ settings.k0) ^ settings.k1)
}

/// Hash of a source as `KNOWN` has it: an IPv4 host, or an IPv6 prefix of `gate.ipv6_prefix` bits. With a mark, so that its bits
/// are not those of the source's buckets.
#[inline(always)]
pub const fn known_hash(addr: Addr, v6_mask: u64, settings: &RateSettings) -> u64 {
    hash(hash(source(addr, u32::MAX, v6_mask), settings), settings)
}

#[inline(always)]
fn is_known<T: Tables>(addr: Addr, tables: &T, now_ns: u64) -> bool {
    let settings = tables.rate_settings();
    let hash = known_hash(addr, tables.config().v6_mask, &settings);
    seen::lately(hash, now_ns, settings.known_s, |slot| tables.known(slot))
}

/// Keyed hash of a flow's addresses and ports; never 0.
#[inline(always)]
const fn flow_hash(packet: &Packet, settings: &RateSettings) -> u64 {
    let word = mix(packet.src.hi ^ settings.k0) ^ packet.src.lo;
    let word = mix(word) ^ packet.dst.hi;
    let word = mix(word) ^ packet.dst.lo;
    let word = mix(word) ^ ((packet.sport as u64) << 16 | packet.dport as u64);
    mix(mix(word) ^ settings.k1) | 1
}

#[inline(always)]
fn is_seen<T: Tables>(hash: u64, tables: &T) -> bool {
    seen::lately(hash, tables.now_ns(), FLOW_LIFETIME_S, |slot| tables.flow(slot))
}

/// Enters a flow whose packet passes, or the second in which it was last seen.
#[inline(always)]
fn note_flow<T: Tables>(hash: u64, tables: &T) {
    let (slot, there, word) = seen::place(hash, tables.now_ns(), |slot| tables.flow(slot));
    if there != word {
        tables.set_flow(slot, word);
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::{RateLimit, RateSettings};

    // SAFETY: `repr(C)`, made of integers only, and without implicit padding (tested in `rates_tests.rs`).
    unsafe impl aya::Pod for RateSettings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for RateLimit {}
}

#[cfg(test)]
#[path = "rates_tests.rs"]
mod tests;
