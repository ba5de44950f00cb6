//! The maps as the tables of `decide()`: look-ups and stores, nothing else.

use core::ptr::NonNull;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use proxy_common::abi::{
    CLOCK_HELD, CheckSettings, Clock, DaemonState, GateConfig, HINT_WORDS, HOST_HINT_WORDS, HostKey, PrefixData,
    RateLimit, RateSettings, ServiceKey, VerdictSlot,
};
use proxy_common::addr::Addr;
use proxy_common::classify::Found;
use proxy_common::decide::Tables;
use proxy_common::hosts::HostFound;
use proxy_common::parse::{Frame, Packet as IpPacket};
use proxy_common::standing::hinted;

use crate::checks::{check_packet, examine, find_host, for_a_service, look_up, note_fragment};
use crate::maps::{
    ALLOW_A, ALLOW_B, BINDINGS, BUCKETS, CHECKS, CLOCK, DAEMON, DENY_A, DENY_B, DENY_HINT, FLOWS, FRAGMENTS, GATE,
    HOST_HINT, KNOWN, OWN, PORTS, RATE_BUCKETS, RATE_LIMITS, RATES, VERDICT_HINT,
};
use crate::rates::{limit_rates, service_of, take_rate};
use crate::{rules, verdicts};

/// The maps, and the context for the functions that read the packet once more.
pub struct Maps {
    /// The program's context, or null for functions that read no packet.
    pub ctx: *mut xdp_md,
    /// The entry of `GATE`: looked up once.
    gate: Option<&'static GateConfig>,
    /// The filter was asked for the packet's source, and has no verdict on it.
    pub clear: bool,
}

impl Maps {
    /// Looks up what all decisions read.
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx, gate: GATE.get(0), clear: false }
    }
}

impl Tables for Maps {
    type Verdict = NonNull<VerdictSlot>;

    #[inline(always)]
    fn config(&self) -> GateConfig {
        self.gate.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn verdict_hint(&self, word: u32) -> u64 {
        VERDICT_HINT.get(word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn source_hinted(&self, source: Addr, config: &GateConfig) -> bool {
        !self.clear && hinted(source, self, config)
    }

    #[inline(always)]
    fn verdict(&self, key: &HostKey) -> Option<Self::Verdict> {
        verdicts::find(key, self.gate?)
    }

    #[inline(always)]
    fn verdict_terms(&self, verdict: Self::Verdict, source: Addr) -> (u64, u32, u32) {
        verdicts::terms(verdict, source, self.gate.map_or(0, |gate| gate.v6_mask))
    }

    #[inline(always)]
    fn verdict_at_home(&self, source: Addr) -> Option<(Self::Verdict, (u64, u32, u32))> {
        verdicts::at_home(source, self.gate?)
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        let Some(clock) = CLOCK.get_ptr_mut(0) else { return 0 };
        // SAFETY: helpers without arguments, and a value of a per-CPU array that only this program on this CPU writes.
        // Reading the tick counter is one load where the clock is a call: the clock is read once a tick.
        unsafe {
            let jiffies = bpf_jiffies64();
            if (*clock).jiffies != jiffies && (*clock).jiffies != CLOCK_HELD {
                *clock = Clock { jiffies, ns: bpf_ktime_get_coarse_ns() };
            }
            (*clock).ns
        }
    }

    #[inline(always)]
    fn hint(&self, side: u32, word: u32) -> u64 {
        DENY_HINT.get(side * 2 * HINT_WORDS + word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn host_hint(&self, side: u32, word: u32) -> u64 {
        HOST_HINT.get(side * HOST_HINT_WORDS + word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn host(&self, side: u32, packet: &IpPacket) -> HostFound {
        HostFound::unpack(find_host(packet, side))
    }

    #[inline(always)]
    fn denied(&self, side: u32, addr: Addr) -> Option<u32> {
        let key = TrieKey::new(addr);
        if side == 0 { DENY_A.get(&key.key) } else { DENY_B.get(&key.key) }.map(|value| value.rule)
    }

    #[inline(always)]
    fn allowed(&self, side: u32, addr: Addr) -> Option<u32> {
        let key = TrieKey::new(addr);
        if side == 0 { ALLOW_A.get(&key.key) } else { ALLOW_B.get(&key.key) }.map(|value| value.rule)
    }

    #[inline(always)]
    fn port_word(&self, word: u32) -> u64 {
        PORTS.get(word).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn bound(&self, key: &ServiceKey) -> bool {
        BINDINGS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn classify<F: Frame + ?Sized>(&self, _: &F, packet: &IpPacket, side: u32) -> Found {
        rules::find(self.ctx, packet, side)
    }

    #[inline(always)]
    fn check<F: Frame + ?Sized>(&self, _: &F, packet: &IpPacket, found: u64) -> u64 {
        check_packet(self.ctx, packet, found)
    }

    #[inline(always)]
    fn examine(&self, packet: &IpPacket, quic: bool, fact: u64) -> u64 {
        examine(packet, u32::from(quic), fact)
    }

    #[inline(always)]
    fn look_up<F: Frame + ?Sized>(&self, _: &F, packet: &IpPacket) -> u64 {
        look_up(self.ctx, packet)
    }

    #[inline(always)]
    fn for_a_service(&self, packet: &IpPacket) -> bool {
        for_a_service(packet) != 0
    }

    #[inline(always)]
    fn note_fragment<F: Frame + ?Sized>(&self, _: &F, packet: &IpPacket, passed: bool) {
        note_fragment(self.ctx, packet, u32::from(passed));
    }

    #[inline(always)]
    fn daemon(&self) -> DaemonState {
        DAEMON.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn check_settings(&self) -> CheckSettings {
        CHECKS.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn own(&self, addr: Addr) -> bool {
        OWN.get_ptr(&addr.host_key()).is_some()
    }

    #[inline(always)]
    fn fragment(&self, slot: u32) -> u64 {
        FRAGMENTS.get(slot).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn set_fragment(&self, slot: u32, word: u64) {
        store(FRAGMENTS.get_ptr_mut(slot), word);
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> u64 {
        BUCKETS.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn advance_bucket(&self, index: u32, from: u64, to: u64) -> bool {
        advance(BUCKETS.get_ptr_mut(index), from, to)
    }

    #[inline(always)]
    fn limit_rates<F: Frame + ?Sized>(&self, _: &F, packet: &IpPacket) -> u64 {
        limit_rates(self.ctx, packet)
    }

    #[inline(always)]
    fn take_rate(&self, packet: &IpPacket, index: u32, units: u32, service: u32) -> u32 {
        take_rate(packet, index, units, service)
    }

    #[inline(always)]
    fn service_of(&self, packet: &IpPacket) -> u32 {
        service_of(packet)
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<u32> {
        // SAFETY: a value of `BINDINGS`, valid for the length of the program.
        BINDINGS.get_ptr(key).map(|binding| unsafe { (*binding).service })
    }

    #[inline(always)]
    fn rate_settings(&self) -> RateSettings {
        RATES.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn rate_limit(&self, index: u32) -> Option<RateLimit> {
        RATE_LIMITS.get(index).copied()
    }

    #[inline(always)]
    fn rate_bucket(&self, index: u32) -> u64 {
        RATE_BUCKETS.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn advance_rate_bucket(&self, index: u32, from: u64, to: u64) -> bool {
        advance(RATE_BUCKETS.get_ptr_mut(index), from, to)
    }

    #[inline(always)]
    fn known(&self, slot: u32) -> u64 {
        KNOWN.get(slot).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn flow(&self, slot: u32) -> u64 {
        FLOWS.get(slot).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn set_flow(&self, slot: u32, word: u64) {
        store(FLOWS.get_ptr_mut(slot), word);
    }
}

/// A full-length trie key whose address lies on an eight-byte border: the stack takes only aligned words.
#[repr(C, align(8))]
struct TrieKey {
    pad: u32,
    key: Key<PrefixData>,
}

impl TrieKey {
    #[inline(always)]
    fn new(addr: Addr) -> Self {
        Self { pad: 0, key: Key::new(128, addr.to_bytes()) }
    }
}

/// Compares and exchanges; false where there is no such word, too, for nothing can be taken from it.
#[inline(always)]
fn advance(place: Option<*mut u64>, from: u64, to: u64) -> bool {
    let Some(place) = place else { return false };
    // SAFETY: a value of an array, eight bytes and aligned, which the programs touch only by this and by whole loads.
    unsafe { exchange(place, from, to) == from }
}

/// Writes `to` where `from` stands, in one step; returns what stood there. Rust's own atomics have none for this target, whose
/// oldest machine lacks it; the kernel has the instruction since 5.12 (`BPF_CMPXCHG`).
///
/// # Safety
/// `place` is a word of a map, aligned.
#[inline(always)]
unsafe fn exchange(place: *mut u64, from: u64, to: u64) -> u64 {
    let found;
    // SAFETY: the caller's; the instruction takes and returns what is compared in `r0`.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {to})",
            place = in(reg) place,
            to = in(reg) to,
            inout("r0") from => found,
            options(nostack),
        );
    }
    found
}

#[inline(always)]
fn store(place: Option<*mut u64>, word: u64) {
    if let Some(place) = place {
        // SAFETY: a value of an array, eight bytes and aligned: one store, which other CPUs see whole or not at all. What
        // two of them store at the same moment is documented where the word is.
        unsafe { place.write_volatile(word) };
    }
}
