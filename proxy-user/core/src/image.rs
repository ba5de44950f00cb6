//! What the kernel maps shall hold for one compiled policy set, as plain values.

use ipnet::IpNet;
use proxy_common::abi::PacketRule;

/// The packet half of a compiled policy set. `kernel` writes the difference of two images to the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelImage {
    /// Allowed prefixes (hosts are /32 and /128), sorted, each once, with the rule slot it comes from.
    pub allow: Vec<(IpNet, u32)>,
    /// Denied prefixes, sorted, each once, with the rule slot it comes from.
    pub deny: Vec<(IpNet, u32)>,
    /// Ordered rules over other packet fields, at most `MAX_PACKET_RULES`.
    pub rules: Vec<PacketRule>,
    /// `(slot, "policy/rule")` of every rule, for `RULE_NAMES`.
    pub names: Vec<(u32, String)>,
}
