//! Whether a verdict is on a source: what the filter says, and what has expired counts as none. Where verdicts stand is in
//! [`crate::slots`], what becomes of a packet in [`crate::decide`].

use crate::abi::GateConfig;
use crate::addr::Addr;
use crate::decide::Tables;
use crate::hint;

/// Whether the filter has a verdict on the host, its IPv6 prefix, or the prefix that begins at this address.
#[inline(always)]
pub fn hinted<T: Tables>(addr: Addr, tables: &T, config: &GateConfig) -> bool {
    let (word, bit) = hint::verdict_place(addr, config.v6_mask, config.verdict_bits);
    (tables.verdict_hint(word) >> bit) & 1 != 0
}

/// The verdict with its rule slot and its flags, where it has not expired; `expired` is told where it has.
#[inline(always)]
pub(crate) fn in_force<T: Tables>(
    found: Option<T::Verdict>,
    source: Addr,
    tables: &T,
    expired: &mut bool,
) -> Option<(T::Verdict, u32, u32)> {
    let verdict = found?;
    let (expires_ns, rule, flags) = tables.verdict_terms(verdict, source);
    if tables.now_ns() < expires_ns {
        return Some((verdict, rule, flags));
    }
    *expired = true;
    None
}

/// The verdict on the source's prefix. The filter has the same bit for an IPv6 prefix as for all hosts in it, which is
/// `source_hinted`; for an IPv4 prefix it has the bit of the first address.
#[inline(always)]
pub(crate) fn on_prefix<T: Tables>(
    source: Addr,
    source_hinted: bool,
    tables: &T,
    config: &GateConfig,
) -> Option<T::Verdict> {
    if !source.is_v4() {
        return if source_hinted { tables.verdict(&source.prefix_key(config.v6_mask)) } else { None };
    }
    let bits = config.v4_prefix();
    if bits == 0 || !hinted(source.v4_network(bits), tables, config) {
        return None;
    }
    tables.verdict(&source.v4_prefix_key(bits))
}
