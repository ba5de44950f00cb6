//! What happens to a packet: allow list → verdicts → denied hosts → denied prefixes → checks → packet rules → rate limits →
//! pass.
//!
//! The allow list, the allow rules and the question "is it for one of our listeners?" can only turn a drop into a pass,
//! so they are asked last, when a drop stands: a packet that nothing applies to pays for none of them.

use crate::abi::{CheckSettings, DaemonState, GATE_FAIL_OPEN, Reason, ServiceKey, VERDICT_OWN_ONLY, frag, rule_action};
use crate::abi::{GATE_HAS_ALLOW, GATE_HAS_DENY, GATE_HAS_HOSTS, GATE_HAS_RATES, GATE_HAS_RULES, GATE_OWN_ONLY};
use crate::abi::{GateConfig, HostKey, RateLimit, RateSettings};
use crate::addr::{Addr, port_bits_of, port_place};
use crate::checks;
use crate::classify::Found;
use crate::hint;
use crate::hosts::{self, HostFound};
use crate::parse::{Frame, Packet, Parsed};
use crate::standing::{self, in_force, on_prefix};
use crate::{rates, sanity};

/// The tables that a decision reads. In the kernel they are maps, in host tests plain collections.
pub trait Tables {
    /// A found verdict; the shell counts the drop on it.
    type Verdict: Copy;

    /// Run-time settings.
    fn config(&self) -> GateConfig;
    /// Word of the filter before the verdicts.
    fn verdict_hint(&self, word: u32) -> u64;
    /// [`standing::hinted`] for a packet's own source, which the kernel side may have asked before.
    #[inline(always)]
    fn source_hinted(&self, source: Addr, config: &GateConfig) -> bool
    where
        Self: Sized,
    {
        standing::hinted(source, self, config)
    }
    /// Looks a host or prefix up among the verdicts.
    fn verdict(&self, key: &HostKey) -> Option<Self::Verdict>;
    /// `(expires_ns, rule, flags)` of a verdict on `source`; zeros where it went since it was found.
    fn verdict_terms(&self, verdict: Self::Verdict, source: Addr) -> (u64, u32, u32);
    /// Both at once, for a host; `None` also where the verdict takes more than a look to find.
    #[inline(always)]
    fn verdict_at_home(&self, source: Addr) -> Option<(Self::Verdict, (u64, u32, u32))> {
        self.verdict(&source.host_key()).map(|verdict| (verdict, self.verdict_terms(verdict, source)))
    }
    /// `CLOCK_MONOTONIC` in nanoseconds; may lag by a tick. Asked only where a verdict was found.
    fn now_ns(&self) -> u64;
    /// Word of the prefix hint of a side.
    fn hint(&self, side: u32, word: u32) -> u64;
    /// Word of the filter before the denied hosts of a side.
    fn host_hint(&self, side: u32, word: u32) -> u64;
    /// What the lists say of the packet's source as a host, [`hosts::find`].
    fn host(&self, side: u32, packet: &Packet) -> HostFound;
    /// Rule slot of the longest denied prefix that covers the address.
    fn denied(&self, side: u32, addr: Addr) -> Option<u32>;
    /// Rule slot of the longest allowed prefix that covers the address.
    fn allowed(&self, side: u32, addr: Addr) -> Option<u32>;
    /// Word of `PORTS`.
    fn port_word(&self, word: u32) -> u64;
    /// Whether a service listens at exactly this address.
    fn bound(&self, key: &ServiceKey) -> bool;
    /// The first packet rule that matches, allow rules before others ([`crate::classify`]). The kernel side calls it as a
    /// function of its own, which the verifier looks at once instead of once for each way through the parser.
    fn classify<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, side: u32) -> Found;
    /// [`checks::run`], in the kernel as a function of its own too: what it does with the packet, times what it found
    /// before, would be more than the verifier looks at.
    #[inline(always)]
    fn check<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, found: u64) -> u64
    where
        Self: Sized,
    {
        checks::run(frame, packet, self, found)
    }
    /// [`crate::sanity::examine`], likewise: each check is a branch.
    #[inline(always)]
    fn examine(&self, packet: &Packet, quic: bool, fact: u64) -> u64 {
        sanity::examine(packet, quic, fact)
    }
    /// [`checks::look_up`], likewise.
    #[inline(always)]
    fn look_up<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet) -> u64
    where
        Self: Sized,
    {
        checks::look_up(frame, packet, self)
    }
    /// [`is_for_a_service`], likewise.
    #[inline(always)]
    fn for_a_service(&self, packet: &Packet) -> bool
    where
        Self: Sized,
    {
        is_for_a_service(packet, self)
    }
    /// [`checks::note_fragment`], likewise.
    #[inline(always)]
    fn note_fragment<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, passed: bool)
    where
        Self: Sized,
    {
        checks::note_fragment(frame, packet, self, passed);
    }
    /// When the daemon was last there. Asked only where a drop stands and the gate is told to stand open without it.
    fn daemon(&self) -> DaemonState;
    /// What the checks go by.
    fn check_settings(&self) -> CheckSettings;
    /// Whether the address is one of our own.
    fn own(&self, addr: Addr) -> bool;
    /// Word of the table of fragments.
    fn fragment(&self, slot: u32) -> u64;
    /// Writes a word of the table of fragments.
    fn set_fragment(&self, slot: u32, word: u64);
    /// Word of a bucket, one of [`crate::abi::bucket_index`].
    fn bucket(&self, index: u32) -> u64;
    /// Writes a bucket's word, where it is `from` still: reads and writes it as one step. False where another CPU was faster.
    fn advance_bucket(&self, index: u32, from: u64, to: u64) -> bool;
    /// [`rates::run`], in the kernel as a function of its own too.
    #[inline(always)]
    fn limit_rates<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet) -> u64
    where
        Self: Sized,
    {
        rates::run(frame, packet, self)
    }
    /// [`rates::take`], likewise: it stands in a loop.
    #[inline(always)]
    fn take_rate(&self, packet: &Packet, index: u32, units: u32, service: u32) -> u32
    where
        Self: Sized,
    {
        rates::take(packet, index, units, service, self)
    }
    /// [`rates::service_of`], likewise.
    #[inline(always)]
    fn service_of(&self, packet: &Packet) -> u32
    where
        Self: Sized,
    {
        rates::service_of(packet, self)
    }
    /// Number of the service that listens at exactly this address.
    fn service(&self, key: &ServiceKey) -> Option<u32>;
    /// What the rate limits have in common.
    fn rate_settings(&self) -> RateSettings;
    /// A rate limit.
    fn rate_limit(&self, index: u32) -> Option<RateLimit>;
    /// Word of a rate limit's bucket.
    fn rate_bucket(&self, index: u32) -> u64;
    /// As [`Tables::advance_bucket`], for a word of a rate limit's bucket.
    fn advance_rate_bucket(&self, index: u32, from: u64, to: u64) -> bool;
    /// Word of the table of known sources.
    fn known(&self, slot: u32) -> u64;
    /// Word of the table of UDP flows.
    fn flow(&self, slot: u32) -> u64;
    /// Writes a word of the table of UDP flows.
    fn set_flow(&self, slot: u32, word: u64);
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
    /// Slot of the shadow rule that would have had it otherwise: dropped what passes, or spared what is dropped.
    pub would: Option<u32>,
    /// Checks that would have dropped the packet, were they enforced and not only counted; the bits of their [`Reason`]s.
    pub counted: u64,
}

impl<V> Decision<V> {
    /// A decision that no rule and no verdict took.
    #[inline(always)]
    pub const fn new(reason: Reason) -> Self {
        Self { reason, rule: None, verdict: None, would: None, counted: 0 }
    }

    #[inline(always)]
    const fn by_rule(reason: Reason, rule: u32) -> Self {
        Self { reason, rule: Some(rule), verdict: None, would: None, counted: 0 }
    }
}

/// Decides on one frame, `parsed` by [`crate::parse::parse`].
#[inline(always)]
pub fn decide<F: Frame + ?Sized, T: Tables>(frame: &F, parsed: Parsed<&Packet>, tables: &T) -> Decision<T::Verdict> {
    let config = tables.config();
    let packet = match parsed {
        Parsed::NonIp => return Decision::new(Reason::NonIp),
        Parsed::Malformed => return attended(checks::malformed(&config), tables, &config),
        Parsed::Ip(packet) => packet,
    };
    let mut counted = 0;
    let mut decision = attended(judge(frame, packet, tables, &config, &mut counted), tables, &config);
    decision.counted = counted;
    if packet.frag == frag::FIRST && config.checked & Reason::FragmentStray.bit() != 0 {
        tables.note_fragment(frame, packet, !decision.reason.drops());
    }
    decision
}

/// The decision, unless it is a drop, the daemon stays away, and the gate is told to stand open then.
#[inline(always)]
fn attended<T: Tables>(decision: Decision<T::Verdict>, tables: &T, config: &GateConfig) -> Decision<T::Verdict> {
    let open =
        config.flags & GATE_FAIL_OPEN != 0 && decision.reason.drops() && tables.daemon().is_away(tables.now_ns());
    if open { Decision::new(Reason::Unattended) } else { decision }
}

/// As [`decide`]; `counted` is told of the checks that are only counted.
#[inline(always)]
fn judge<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    tables: &T,
    config: &GateConfig,
    counted: &mut u64,
) -> Decision<T::Verdict> {
    let own_only = config.flags & GATE_OWN_ONLY != 0;
    let mut expired = false;

    let hinted = tables.source_hinted(packet.src, config);
    let on_host = if hinted { tables.verdict(&packet.src.host_key()) } else { None };
    let mut standing = in_force(on_host, packet.src, tables, &mut expired);
    if standing.is_none() {
        // An expired one on the host, not swept yet, hides none on its prefix.
        let found = on_prefix(packet.src, hinted, tables, config);
        standing = in_force(found, packet.src, tables, &mut expired);
    }
    if let Some((verdict, rule, flags)) = standing {
        let own_only = own_only || flags & VERDICT_OWN_ONLY != 0;
        let drop =
            Decision { reason: Reason::Verdict, rule: Some(rule), verdict: Some(verdict), would: None, counted: 0 };
        // Asked in place, not by a call: this is the way of a flood.
        if own_only && !is_for_a_service(packet, tables) {
            return Decision::new(Reason::NotOwn);
        }
        return unless_spared(frame, packet, tables, config, false, None, drop);
    }

    // A host is the longest prefix there is, so it is asked for before the others.
    if config.flags & GATE_HAS_HOSTS != 0 {
        let (word, mask) = hosts::hint_place(packet.src, config.host_bits());
        let side = config.prefixes_side();
        if tables.host_hint(side, word) & mask == mask
            && let Some(rule) = tables.host(side, packet).denied()
        {
            let drop = Decision::by_rule(Reason::Denied, rule);
            return unless_spared(frame, packet, tables, config, own_only, None, drop);
        }
    }

    if config.flags & GATE_HAS_DENY != 0 {
        let (word, bit) = hint::place(packet.src);
        let side = config.prefixes_side();
        if (tables.hint(side, word) >> bit) & 1 != 0
            && let Some(rule) = tables.denied(side, packet.src)
        {
            let drop = Decision::by_rule(Reason::Denied, rule);
            return unless_spared(frame, packet, tables, config, own_only, None, drop);
        }
    }

    if let Some(decision) = checks::apply(frame, packet, tables, config, counted) {
        return decision;
    }

    let mut would = None;
    let mut found = Found::default();
    if config.flags & GATE_HAS_RULES != 0 {
        found = tables.classify(frame, packet, config.rules_side());
        if found.action == rule_action::ALLOW {
            return Decision::by_rule(Reason::Allowed, found.slot);
        }
        if found.action == rule_action::DROP {
            let drop = Decision::by_rule(Reason::Rule, found.slot);
            return unless_spared(frame, packet, tables, config, own_only, Some(found), drop);
        }
        if found.shadow_action == rule_action::DROP {
            let drop = Decision::by_rule(Reason::Rule, found.shadow_slot);
            let would_be = unless_spared(frame, packet, tables, config, own_only, Some(found), drop);
            would = if would_be.reason.drops() { would_be.rule } else { None };
        }
    }

    if config.flags & GATE_HAS_RATES != 0
        && let Some(decision) = rates::apply(frame, packet, tables, config, found, counted)
    {
        return decision;
    }

    let reason = if expired {
        Reason::Expired
    } else if packet.chain_too_long {
        Reason::ChainTooLong
    } else {
        Reason::Pass
    };
    Decision { would, ..Decision::new(reason) }
}

/// The drop, unless something spares the packet. `rules` is what the packet rules say, where they were asked already.
#[inline(always)]
pub(crate) fn unless_spared<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    packet: &Packet,
    tables: &T,
    config: &GateConfig,
    own_only: bool,
    rules: Option<Found>,
    drop: Decision<T::Verdict>,
) -> Decision<T::Verdict> {
    if own_only && !tables.for_a_service(packet) {
        return Decision::new(Reason::NotOwn);
    }
    if config.flags & GATE_HAS_ALLOW != 0 {
        let side = config.prefixes_side();
        let host = if config.host_bits() != 0 { tables.host(side, packet).allowed() } else { None };
        if let Some(rule) = host.or_else(|| tables.allowed(side, packet.src)) {
            return Decision::by_rule(Reason::Allowed, rule);
        }
    }
    let found = match rules {
        Some(found) => found,
        None if config.flags & GATE_HAS_RULES != 0 => tables.classify(frame, packet, config.rules_side()),
        None => Found::default(),
    };
    if found.action == rule_action::ALLOW {
        return Decision::by_rule(Reason::Allowed, found.slot);
    }
    let would = if found.shadow_action == rule_action::ALLOW { Some(found.shadow_slot) } else { None };
    Decision { would, ..drop }
}

/// Whether the packet is addressed to a service. Later fragments carry no ports and are nobody's: without their first
/// fragment, which is dropped, they are never put together.
#[inline(always)]
pub fn is_for_a_service<T: Tables>(packet: &Packet, tables: &T) -> bool {
    if !packet.ports {
        return false;
    }
    let (word, shift) = port_place(packet.dport);
    let bits = (tables.port_word(word) >> shift) as u8;
    let (any, some) = port_bits_of(packet.dst, packet.proto);
    bits & any != 0 || (bits & some != 0 && tables.bound(&packet.dst.service_key(packet.proto, packet.dport)))
}
