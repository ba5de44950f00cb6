//! What happens to a packet: allow list → verdicts → denied prefixes → packet rules → pass.
//!
//! The allow list, the allow rules and the question "is it for one of our listeners?" can only turn a drop into a pass,
//! so they are asked last, when a drop stands: a packet that nothing applies to pays for none of them.

use crate::abi::{GATE_HAS_ALLOW, GATE_HAS_DENY, GATE_OWN_ONLY, GateConfig, HostKey, MAX_PACKET_RULES, PacketRule};
use crate::abi::{Reason, ServiceKey, VERDICT_OWN_ONLY, rule_action};
use crate::addr::{Addr, port_bits_of, port_place};
use crate::hint;
use crate::parse::{Packet, Parsed};

/// The tables that a decision reads. In the kernel they are maps, in host tests plain collections.
pub trait Tables {
    /// A found verdict; the shell counts the drop on it.
    type Verdict: Copy;

    /// Run-time settings.
    fn config(&self) -> GateConfig;
    /// Word of the filter before the verdicts.
    fn verdict_hint(&self, word: u32) -> u64;
    /// Looks a host or prefix up among the verdicts.
    fn verdict(&self, key: &HostKey) -> Option<Self::Verdict>;
    /// `(expires_ns, rule, flags)` of a verdict.
    fn verdict_terms(&self, verdict: Self::Verdict) -> (u64, u32, u32);
    /// `CLOCK_MONOTONIC` in nanoseconds; may lag by a tick. Asked only where a verdict was found.
    fn now_ns(&self) -> u64;
    /// Word of the prefix hint.
    fn hint(&self, word: u32) -> u64;
    /// Rule slot of the longest denied prefix that covers the address.
    fn denied(&self, addr: Addr) -> Option<u32>;
    /// Rule slot of the longest allowed prefix that covers the address.
    fn allowed(&self, addr: Addr) -> Option<u32>;
    /// Word of `PORTS`.
    fn port_word(&self, word: u32) -> u64;
    /// Whether a service listens at exactly this address.
    fn bound(&self, key: &ServiceKey) -> bool;
    /// [`first_rule`] over the rule table. The kernel side calls it as a function of its own, which the verifier looks
    /// at once instead of once for each way through the parser.
    fn first_rule(&self, packet: &Packet, count: u32, allow_only: bool) -> Option<(u32, u32)>;
}

/// What is to be done with the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision<V> {
    /// Why; [`Reason::drops`] says whether to drop.
    pub reason: Reason,
    /// Rule slot to count, where one decided.
    pub rule: Option<u32>,
    /// The verdict that dropped the packet.
    pub verdict: Option<V>,
}

impl<V> Decision<V> {
    #[inline(always)]
    const fn new(reason: Reason) -> Self {
        Self { reason, rule: None, verdict: None }
    }

    #[inline(always)]
    const fn by_rule(reason: Reason, rule: u32) -> Self {
        Self { reason, rule: Some(rule), verdict: None }
    }
}

/// Decides on one parsed frame.
#[inline(always)]
pub fn decide<T: Tables>(parsed: Parsed, tables: &T) -> Decision<T::Verdict> {
    let packet = match parsed {
        Parsed::NonIp => return Decision::new(Reason::NonIp),
        Parsed::Malformed => return Decision::new(Reason::Malformed),
        Parsed::Ip(packet) => packet,
    };
    let config = tables.config();
    let own_only = config.flags & GATE_OWN_ONLY != 0;
    let mut expired = false;

    let (word, bit) = hint::verdict_place(packet.src, config.v6_mask, config.verdict_bits);
    if (tables.verdict_hint(word) >> bit) & 1 != 0
        && let Some(verdict) = standing(packet.src, tables, &config)
    {
        let (expires_ns, rule, flags) = tables.verdict_terms(verdict);
        if tables.now_ns() < expires_ns {
            let own_only = own_only || flags & VERDICT_OWN_ONLY != 0;
            return match spared(&packet, tables, &config, own_only) {
                Some(decision) => decision,
                None => Decision { reason: Reason::Verdict, rule: Some(rule), verdict: Some(verdict) },
            };
        }
        expired = true;
    }

    if config.flags & GATE_HAS_DENY != 0 {
        let (word, bit) = hint::place(packet.src);
        if (tables.hint(word) >> bit) & 1 != 0
            && let Some(rule) = tables.denied(packet.src)
        {
            return match spared(&packet, tables, &config, own_only) {
                Some(decision) => decision,
                None => Decision::by_rule(Reason::Denied, rule),
            };
        }
    }

    if config.rules > 0
        && let Some((action, rule)) = tables.first_rule(&packet, config.rules, false)
    {
        if action == rule_action::ALLOW {
            return Decision::by_rule(Reason::Allowed, rule);
        }
        return match spared(&packet, tables, &config, own_only) {
            Some(decision) => decision,
            None => Decision::by_rule(Reason::Rule, rule),
        };
    }

    if expired {
        return Decision::new(Reason::Expired);
    }
    Decision::new(if packet.chain_too_long { Reason::ChainTooLong } else { Reason::Pass })
}

/// The verdict on the host, or else on its IPv6 prefix.
#[inline(always)]
fn standing<T: Tables>(source: Addr, tables: &T, config: &GateConfig) -> Option<T::Verdict> {
    match tables.verdict(&source.host_key()) {
        None if !source.is_v4() => tables.verdict(&source.prefix_key(config.v6_mask)),
        found => found,
    }
}

/// Why a packet that would be dropped passes after all, if it does.
#[inline(always)]
fn spared<T: Tables>(packet: &Packet, tables: &T, config: &GateConfig, own_only: bool) -> Option<Decision<T::Verdict>> {
    if own_only && !for_a_service(packet, tables) {
        return Some(Decision::new(Reason::NotOwn));
    }
    if config.flags & GATE_HAS_ALLOW != 0
        && let Some(rule) = tables.allowed(packet.src)
    {
        return Some(Decision::by_rule(Reason::Allowed, rule));
    }
    if config.rules > 0
        && let Some((_, rule)) = tables.first_rule(packet, config.rules, true)
    {
        return Some(Decision::by_rule(Reason::Allowed, rule));
    }
    None
}

/// Whether the packet is addressed to a service. Later fragments carry no ports and are nobody's: without their first
/// fragment, which is dropped, they are never put together.
#[inline(always)]
fn for_a_service<T: Tables>(packet: &Packet, tables: &T) -> bool {
    if !packet.ports {
        return false;
    }
    let (word, shift) = port_place(packet.dport);
    let bits = (tables.port_word(word) >> shift) as u8;
    let (any, some) = port_bits_of(packet.dst, packet.proto);
    bits & any != 0 || (bits & some != 0 && tables.bound(&packet.dst.service_key(packet.proto, packet.dport)))
}

/// Action and slot of the first rule that matches; with `allow_only`, of the first allow rule that does.
#[inline(always)]
pub fn first_rule<'a>(
    packet: &Packet,
    table: impl Fn(u32) -> Option<&'a PacketRule>,
    count: u32,
    allow_only: bool,
) -> Option<(u32, u32)> {
    let mut index = 0;
    while index < MAX_PACKET_RULES && index < count {
        if let Some(rule) = table(index)
            && (!allow_only || rule.action == rule_action::ALLOW)
            && matches(rule, packet)
        {
            return Some((rule.action, rule.rule));
        }
        index += 1;
    }
    None
}

/// Whether all of the rule's conditions hold.
#[inline(always)]
pub fn matches(rule: &PacketRule, packet: &Packet) -> bool {
    rule.action != 0
        && (rule.proto == 0 || rule.proto == packet.proto)
        && rule.frag & packet.frag != 0
        && within(rule.ttl[0].into(), packet.ttl.into(), rule.ttl[1].into())
        && within(rule.len[0], packet.len, rule.len[1])
        && port_matches(rule.sport, packet.sport, packet.ports)
        && port_matches(rule.dport, packet.dport, packet.ports)
        && packet.tcp_flags & rule.tcp_mask == rule.tcp_flags
        && covers(&rule.src, &rule.src_mask, packet.src)
        && covers(&rule.dst, &rule.dst_mask, packet.dst)
}

#[inline(always)]
fn within(low: u16, value: u16, high: u16) -> bool {
    low <= value && value <= high
}

/// A range that leaves ports out needs ports to look at; the full range does not.
#[inline(always)]
fn port_matches(range: [u16; 2], port: u16, ports: bool) -> bool {
    (range[0] == 0 && range[1] == u16::MAX) || (ports && within(range[0], port, range[1]))
}

#[inline(always)]
fn covers(prefix: &[u8; 16], mask: &[u8; 16], addr: Addr) -> bool {
    let prefix = Addr::from_bytes(*prefix);
    let mask = Addr::from_bytes(*mask);
    (addr.hi & mask.hi) == prefix.hi && (addr.lo & mask.lo) == prefix.lo
}
