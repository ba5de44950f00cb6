//! The checks as [`crate::decide`] makes them: what [`crate::sanity`] finds in the packet, what takes tables to find, and
//! which of it applies.
//!
//! A check is off, counted or enforced. A counted one goes by the same scope and the same allow list as an enforced one,
//! so that its counter says what enforcing it would drop.
//!
//! In the scope `own` the checks look at packets to our services, and at packets without ports (ICMP, later fragments, other
//! protocols) to our own addresses. UDP to a port of ours without a service only ever fails [`Reason::UdpNoService`].

use crate::abi::{GATE_OWN_ONLY, GateConfig, Limit, REASONS, Reason, bucket_index, frag, proto};
use crate::bucket;
use crate::decide::{Decision, Tables, unless_spared};
use crate::fragments::{self, First};
use crate::parse::{Frame, Packet};
use crate::sanity;

/// What becomes of a frame whose headers cannot be. Nobody can say whom it is for: in the scope `own` it passes.
#[inline(always)]
pub(crate) fn malformed<V>(config: &GateConfig) -> Decision<V> {
    let drop = config.checked & Reason::MalformedDropped.bit();
    if drop == 0 || config.flags & GATE_OWN_ONLY != 0 {
        Decision::new(Reason::Malformed)
    } else if config.enforced & drop != 0 {
        Decision::new(Reason::MalformedDropped)
    } else {
        Decision { counted: drop, ..Decision::new(Reason::Malformed) }
    }
}

/// Makes the checks and applies what they say: the decision if an enforced one fails; `counted` is told of the others.
#[inline(always)]
pub(crate) fn apply<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    tables: &T,
    config: &GateConfig,
    counted: &mut u64,
) -> Option<Decision<T::Verdict>> {
    if config.checked == 0 || sanity::ordinary(packet, config.checked, config.own_bits) {
        return None;
    }
    let found = tables.check(frame, packet, tables.look_up(frame, packet));
    if found == 0 {
        return None;
    }
    let reason = Reason::of(found as u32 & NUMBER_MASK);
    if reason == Reason::NotOwn {
        return Some(Decision::new(reason));
    }
    let drop = unless_spared(frame, packet, tables, config, false, None, Decision::new(reason));
    if drop.reason != Reason::Allowed {
        *counted = found & !NUMBERS & !config.enforced;
    }
    (reason != Reason::Pass).then_some(drop)
}

/// Makes the checks of a packet that is not [`sanity::ordinary`]; `found` is what [`look_up`] found. The low bits are the
/// number of the reason that decides: the first enforced check that failed, or [`Reason::NotOwn`] where the scope spares
/// the packet, or 0. Above them stand the bits of all failed checks that the scope covers.
#[inline(always)]
pub fn run<F: Frame + ?Sized, T: Tables>(frame: &F, packet: &Packet, tables: &T, found: u64) -> u64 {
    let config = tables.config();
    let udp = packet.proto == proto::UDP && packet.ports;
    let fact = if udp || packet.frag == frag::LATER { sanity::fact(frame, packet) } else { 0 };
    let quic = udp && found & TO_SERVICE != 0;
    let failed = (tables.examine(packet, quic, fact) | found) & config.checked;
    if found & (IN_SCOPE | FOLLOWS) != 0 {
        failed | u64::from(first(failed & config.enforced))
    } else if found & Reason::UdpNoService.bit() != 0 {
        // Whatever else is wrong with it, it may be for another server of this host.
        let failed = failed & Reason::UdpNoService.bit();
        failed | u64::from(first(failed & config.enforced))
    } else if failed & config.enforced != 0 {
        Reason::NotOwn as u64
    } else {
        0
    }
}

/// The low bits of what [`run`] returns, where no check has its bit.
pub(crate) const NUMBERS: u64 = Reason::TcpNull.bit() - 1;
/// Mask over a reason's number.
pub(crate) const NUMBER_MASK: u32 = 63;
const _: () = assert!(REASONS <= NUMBER_MASK + 1 && NUMBERS > NUMBER_MASK as u64, "a reason's number has six bits");

/// In what [`look_up`] returns: the first fragment was dropped, and whom it was for was known then.
const FOLLOWS: u64 = 1;
/// In what [`look_up`] returns: the packet is for one of our services.
const TO_SERVICE: u64 = 2;
/// In what [`look_up`] returns: the scope covers the packet.
const IN_SCOPE: u64 = 4;

/// What takes tables to know: the bits of the checks that fail by them, and the bits above.
#[inline(always)]
pub fn look_up<F: Frame + ?Sized, T: Tables>(frame: &F, packet: &Packet, tables: &T) -> u64 {
    let config = tables.config();
    let settings = tables.check_settings();
    let service = tables.for_a_service(packet);
    let portless = !packet.ports && is_own(packet.dst, tables, &config);
    let in_scope = config.flags & GATE_OWN_ONLY == 0 || service || portless;
    let mut found = if service { TO_SERVICE } else { 0 } | if in_scope { IN_SCOPE } else { 0 };
    if is_own(packet.src, tables, &config) {
        found |= Reason::SpoofedOwn.bit();
    }
    if packet.frag == frag::LATER && config.checked & Reason::FragmentStray.bit() != 0 {
        let hash = fragments::hash(packet, sanity::ident(frame, packet), settings.seed);
        found |= match fragments::first(tables.fragment(fragments::slot(hash)), hash, tables.now_ns()) {
            First::Passed => 0,
            First::Dropped => Reason::FragmentStray.bit() | FOLLOWS,
            First::Unknown => Reason::FragmentStray.bit(),
        };
    }
    if in_scope && config.checked & Reason::IcmpLimit.bit() != 0 && sanity::limited_icmp(packet) {
        found |= if take(bucket_index::ICMP, settings.icmp, tables) { 0 } else { Reason::IcmpLimit.bit() };
    }
    let unserved = packet.proto == proto::UDP && packet.ports && !service;
    if unserved && u32::from(packet.dport) < settings.udp_below && is_own(packet.dst, tables, &config) {
        found |= Reason::UdpNoService.bit();
    }
    found
}

#[inline(always)]
fn is_own<T: Tables>(addr: crate::addr::Addr, tables: &T, config: &GateConfig) -> bool {
    (config.own_bits >> sanity::own_bit(addr)) & 1 != 0 && tables.own(addr)
}

/// Takes a token; without a limit there always is one.
#[inline(always)]
fn take<T: Tables>(index: u32, limit: Limit, tables: &T) -> bool {
    if !limit.is_set() {
        return true;
    }
    let mut tried = 0;
    while tried < bucket::TRIES {
        let word = tables.bucket(index);
        let Some(next) = bucket::take(word, tables.now_ns(), limit, 1) else { return false };
        if tables.advance_bucket(index, word, next) {
            return true;
        }
        tried += 1;
    }
    false
}

/// Keeps what became of a first fragment, for those that come later.
#[inline(always)]
pub fn note_fragment<F: Frame + ?Sized, T: Tables>(frame: &F, packet: &Packet, tables: &T, passed: bool) {
    let hash = fragments::hash(packet, sanity::ident(frame, packet), tables.check_settings().seed);
    tables.set_fragment(fragments::slot(hash), fragments::word(hash, tables.now_ns(), passed));
}

/// Number of the first check among these bits; 0 for none.
#[inline(always)]
const fn first(failed: u64) -> u32 {
    if failed == 0 {
        return 0;
    }
    // The index of the lowest bit by halves: the BPF target has no instruction for it, and a table would be a map.
    let mut rest = failed;
    let mut number = 0;
    let mut half = 32;
    while half > 0 {
        if rest & ((1 << half) - 1) == 0 {
            rest >>= half;
            number += half;
        }
        half >>= 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_check_decides() {
        for check in Reason::ALL.into_iter().filter(|reason| reason.is_check()) {
            assert_eq!(Reason::of(first(check.bit())), check);
            assert_eq!(Reason::of(first(check.bit() | Reason::MalformedDropped.bit())), check);
        }
        assert_eq!(Reason::of(first(0)), Reason::Pass);
        assert_eq!(first(1 << 63), 63);
    }
}
