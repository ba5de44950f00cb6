//! The short answer for the packets of a flood: an everyday packet from a host that a verdict is on, where nothing can spare
//! it. Decided from what [`crate::plain`] just read, before the packet is written down for [`decide`](crate::decide::decide).
//!
//! It says nothing that `decide` would not say: what it is not sure of it leaves to that. Only the kernel side asks it, so
//! that the comparison of both halves checks it.

use crate::abi::{GATE_FAIL_OPEN, GATE_HAS_ALLOW, GATE_HAS_RULES, GATE_OWN_ONLY, GateConfig, VERDICT_OWN_ONLY};
use crate::addr::{Addr, port_bits_of, port_place};
use crate::decide::Tables;
use crate::standing::hinted;

/// Settings under which something may spare a packet that a verdict is on, or has its say about it.
const UNSURE: u32 = GATE_HAS_ALLOW | GATE_HAS_RULES | GATE_FAIL_OPEN;

/// What is known of the packet at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prompt<V> {
    /// The filter has no verdict on its host.
    Clear,
    /// `decide` must say.
    Unsure,
    /// It is dropped by this verdict, whose rule slot stands beside it.
    Drop(V, u32),
}

/// Answers for a packet of [`crate::plain`]: IPv4, whole, with ports.
#[inline(always)]
pub fn prompt<T: Tables>(
    src: Addr,
    dst: Addr,
    proto: u8,
    dport: u16,
    tables: &T,
    config: &GateConfig,
) -> Prompt<T::Verdict> {
    if !hinted(src, tables, config) {
        return Prompt::Clear;
    }
    if config.flags & UNSURE != 0 {
        return Prompt::Unsure;
    }
    let Some((verdict, (expires_ns, rule, flags))) = tables.verdict_at_home(src) else { return Prompt::Unsure };
    if tables.now_ns() >= expires_ns {
        return Prompt::Unsure;
    }
    if (config.flags & GATE_OWN_ONLY) | (flags & VERDICT_OWN_ONLY) != 0 {
        // Services at single addresses are looked up by `decide`.
        let (word, shift) = port_place(dport);
        let (any, _) = port_bits_of(dst, proto);
        if (tables.port_word(word) >> shift) as u8 & any == 0 {
            return Prompt::Unsure;
        }
    }
    Prompt::Drop(verdict, rule)
}
