//! `front`: the maps as the tables of `decide()`, and the counting that follows a decision.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::{debug, info};
use proxy_common::abi::{
    Clock, GateConfig, HINT_WORDS, HostKey, MAX_RULE_SLOTS, PrefixData, Reason, ServiceKey, VerdictValue, proto,
};
use proxy_common::addr::Addr;
use proxy_common::classify::{Found, classify, first_candidate};
use proxy_common::decide::{Decision, Tables, decide};
use proxy_common::parse::{Frame, Packet as IpPacket, Parsed, parse};

use crate::count;
use crate::events;
use crate::frame::Packet;
use crate::maps::{
    ALLOW_A, ALLOW_B, BINDINGS, CLOCK, DENY_A, DENY_B, DENY_HINT, GATE, PORTS, RULE_CLASSES, RULE_HITS, RULE_ROWS,
    SHADOW_HITS, VERDICT_HINT, VERDICTS,
};

/// What becomes of a packet.
pub enum Outcome {
    /// It is dropped.
    Drop,
    /// It passes.
    Pass,
    /// It passes unless `front_syn` has something to say.
    SynDefence,
}

/// Decides on the packet, counts, and says what becomes of it.
#[inline(always)]
pub fn judge(ctx: &XdpContext) -> Outcome {
    let packet = Packet(ctx);
    let length = packet.len() as u64;
    let parsed = parse(&packet);
    let maps = Maps { gate: GATE.get(0) };
    let decision = decide(parsed, &maps);
    count::reason(decision.reason, length);
    if let Some(rule) = decision.rule {
        count::add(RULE_HITS.get_ptr_mut(rule & (MAX_RULE_SLOTS - 1)), length);
    }
    if let Some(rule) = decision.would {
        count::add(SHADOW_HITS.get_ptr_mut(rule & (MAX_RULE_SLOTS - 1)), length);
    }
    if let Some(verdict) = decision.verdict {
        mark_drop(verdict, length);
    }
    events::sample(ctx, &decision);
    log(ctx, &parsed, &decision);
    if decision.reason.drops() {
        return Outcome::Drop;
    }
    match (maps.gate, parsed) {
        (Some(gate), Parsed::Ip(packet)) if gate.cookies != 0 && packet.proto == proto::TCP => Outcome::SynDefence,
        _ => Outcome::Pass,
    }
}

struct Maps {
    gate: Option<&'static GateConfig>,
}

impl Tables for Maps {
    type Verdict = *mut VerdictValue;

    #[inline(always)]
    fn config(&self) -> GateConfig {
        self.gate.copied().unwrap_or_default()
    }

    #[inline(always)]
    fn verdict_hint(&self, word: u32) -> u64 {
        VERDICT_HINT.get(word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn verdict(&self, key: &HostKey) -> Option<Self::Verdict> {
        VERDICTS.get_ptr_mut(key)
    }

    #[inline(always)]
    fn verdict_terms(&self, verdict: Self::Verdict) -> (u64, u32, u32) {
        // SAFETY: a value of `VERDICTS`, which the kernel keeps valid memory for the length of the program. Userspace
        // may replace the value meanwhile: each field is one load, and any mix of old and new is a verdict on the
        // same source.
        unsafe { ((*verdict).expires_ns, (*verdict).rule, (*verdict).flags) }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        let Some(clock) = CLOCK.get_ptr_mut(0) else { return 0 };
        // SAFETY: helpers without arguments, and a value of a per-CPU array that only this program on this CPU writes.
        // Reading the tick counter is one load where the clock is a call: the clock is read once a tick.
        unsafe {
            let jiffies = bpf_jiffies64();
            if (*clock).jiffies != jiffies {
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
    fn classify(&self, packet: &IpPacket, side: u32) -> Found {
        Found::of(find_rule(packet, side))
    }
}

/// The first matching rule as [`Found`] reads it. A global function: the verifier checks it once, for any arguments.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_rule(packet: *const IpPacket, side: u32) -> u64 {
    // SAFETY: the one caller passes a reference. The verifier, which does not know, wants the check for null.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
    let (Some(classes), Some(rows)) = (RULE_CLASSES.get(side), RULE_ROWS.get(side)) else { return 0 };
    classify(packet, classes, rows, |w, word| check_candidates(packet, side, w, word))
}

/// [`first_candidate`]: a loop within the loop of `find_rule`, for the verifier to check once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn check_candidates(packet: *const IpPacket, side: u32, w: u64, candidates: u64) -> u64 {
    // SAFETY: as in `find_rule`.
    let Some(packet) = (unsafe { packet.as_ref() }) else { return u64::MAX };
    let Some(rows) = RULE_ROWS.get(side) else { return u64::MAX };
    first_candidate(packet, rows, w, candidates)
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

/// Counts the drop on the verdict, and notes the time of the first.
#[inline(always)]
fn mark_drop(verdict: *mut VerdictValue, length: u64) {
    // SAFETY: as in `verdict_terms`. The BPF target has no stable atomic add: two CPUs that drop the same source at the
    // same moment may count once. `RULE_HITS` is per CPU and exact.
    unsafe {
        let before = (*verdict).drops;
        if before == 0 {
            (*verdict).first_drop_ns = bpf_ktime_get_ns();
        }
        (*verdict).drops = before + 1;
        (*verdict).drop_bytes += length;
    }
}

/// Diagnostics; pruned by the verifier while the level is off.
#[inline(always)]
fn log(ctx: &XdpContext, parsed: &Parsed, decision: &Decision<*mut VerdictValue>) {
    let Parsed::Ip(packet) = parsed else { return };
    let source = packet.src.to_bytes();
    let rule = decision.rule.unwrap_or(0);
    if decision.reason.drops() {
        info!(ctx, "drop {:i} port {} reason {} rule {}", source, packet.dport, decision.reason as u32, rule);
    } else if decision.reason != Reason::Pass {
        debug!(ctx, "pass {:i} port {} reason {} rule {}", source, packet.dport, decision.reason as u32, rule);
    }
}
