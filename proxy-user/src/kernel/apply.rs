//! From the image of a policy set to the maps: the least writes, in an order in which no packet meets half a prefix list.

use std::net::Ipv6Addr;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::abi::{
    GATE_HAS_ALLOW, GATE_HAS_DENY, GATE_OWN_ONLY, GateConfig, HINT_WORDS, LAYOUT_VERSION, PacketRule, PrefixValue,
    RULE_NAME_LEN, RuleName,
};
use proxy_common::addr::v6_mask;
use proxy_common::hint;
use proxy_core::config::Scope;
use proxy_core::image::KernelImage;
use serde::Serialize;

use super::Kernel;
use super::load::TrieKey;
use super::syscall::Map;
use super::verdicts::mapped;

/// What [`Kernel::apply`] changed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Applied {
    /// Map entries written.
    pub written: u32,
    /// Map entries removed.
    pub removed: u32,
    /// Standing verdicts retracted because an allow rule covers them now.
    pub retracted: u32,
}

/// The first address of the v4-mapped block, RFC 4291 section 2.5.5.2.
const V4_MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);

impl Kernel {
    /// Writes the difference between what the maps hold and `image`, and retracts the verdicts that its allow list
    /// covers. Allowed prefixes go in before denied ones and out after them, so that nobody is dropped between.
    pub fn apply(&self, image: &KernelImage) -> Result<Applied> {
        let before = self.maps.gate.get(&0)?.unwrap_or_default();
        let diff = image.diff(&self.standing(&before)?);
        // A slot whose rule is gone keeps its name: verdicts that the rule pushed may stand.
        for (slot, name) in diff.names_changed.iter().filter(|(_, name)| !name.is_empty()) {
            self.maps.rule_names.set(slot, &rule_name(name)).context("writing RULE_NAMES")?;
        }
        self.maps.allow.set_many(&entries(&diff.allow_add)).context("writing ALLOW")?;
        self.write_gate(GateConfig { flags: before.flags | GATE_HAS_ALLOW, ..before })?;
        let hints = hints(&image.deny);
        self.set_hints(&hints, true)?;
        self.maps.deny.set_many(&entries(&diff.deny_add)).context("writing DENY")?;
        self.maps.deny.remove_many(&keys(&diff.deny_remove)).context("writing DENY")?;
        self.set_hints(&hints, false)?;
        if diff.rules_changed {
            self.write_rules(image, &before)?;
        }
        self.maps.allow.remove_many(&keys(&diff.allow_remove)).context("writing ALLOW")?;

        let mut flags = if self.scope == Scope::Own { GATE_OWN_ONLY } else { 0 };
        if !image.deny.is_empty() {
            flags |= GATE_HAS_DENY;
        }
        if !image.allow.is_empty() {
            flags |= GATE_HAS_ALLOW;
        }
        self.write_gate(GateConfig {
            layout: LAYOUT_VERSION,
            flags,
            rules: image.rules.len() as u32,
            revision: before.revision.wrapping_add(1),
            v6_mask: v6_mask(self.ipv6_prefix),
            ..before
        })?;
        let rules = if diff.rules_changed { image.rules.len() } else { 0 };
        Ok(Applied {
            written: (diff.allow_add.len() + diff.deny_add.len() + rules) as u32,
            removed: (diff.allow_remove.len() + diff.deny_remove.len()) as u32,
            retracted: self.retract(&image.allow).context("retracting verdicts")?,
        })
    }

    /// The image that the maps hold now: what an earlier load, or an earlier process, left.
    fn standing(&self, gate: &GateConfig) -> Result<KernelImage> {
        let mut rules = Vec::new();
        for index in 0..gate.rules {
            rules.extend(self.maps.rules.get(&index)?);
        }
        let mut names = self.rule_names()?;
        names.sort_unstable();
        let allow = prefixes(&self.maps.allow).context("reading ALLOW")?;
        let deny = prefixes(&self.maps.deny).context("reading DENY")?;
        Ok(KernelImage { allow, deny, rules, names })
    }

    fn write_gate(&self, config: GateConfig) -> Result<()> {
        self.maps.gate.set(&0, &config).context("writing GATE")
    }

    /// `add`: sets the bits of the new image beside the old ones. Else: leaves only the new ones.
    fn set_hints(&self, hints: &[u64], add: bool) -> Result<()> {
        for (word, bits) in (0u32..).zip(hints) {
            let old = self.maps.deny_hint.get(&word)?.unwrap_or(0);
            let new = if add { old | bits } else { *bits };
            if new != old {
                self.maps.deny_hint.set(&word, &new).context("writing DENY_HINT")?;
            }
        }
        Ok(())
    }

    /// Writes the ordered rules. They are off for the moment of the change: a list that is half old and half new could
    /// drop what neither does.
    fn write_rules(&self, image: &KernelImage, before: &GateConfig) -> Result<()> {
        if before.rules > 0 {
            let current = self.maps.gate.get(&0)?.unwrap_or_default();
            self.write_gate(GateConfig { rules: 0, ..current })?;
        }
        let rules: Vec<(u32, PacketRule)> = (0..).zip(image.rules.iter().copied()).collect();
        self.maps.rules.set_many(&rules).context("writing RULES")?;
        for index in image.rules.len() as u32..before.rules {
            self.maps.rules.set(&index, &PacketRule::default()).context("writing RULES")?;
        }
        Ok(())
    }
}

fn entries(list: &[(IpNet, u32)]) -> Vec<(TrieKey, PrefixValue)> {
    list.iter().map(|(net, rule)| (trie_key(net), PrefixValue { rule: *rule })).collect()
}

fn keys(list: &[IpNet]) -> Vec<TrieKey> {
    list.iter().map(trie_key).collect()
}

/// What a trie holds, sorted.
fn prefixes(trie: &Map<TrieKey, PrefixValue>) -> Result<Vec<(IpNet, u32)>> {
    let mut found = Vec::new();
    for key in trie.keys()? {
        if let (Some(net), Some(value)) = (prefix(&key), trie.get(&key)?) {
            found.push((net, value.rule));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The prefix that a key of the tries stands for.
fn prefix(key: &TrieKey) -> Option<IpNet> {
    let addr = Ipv6Addr::from(key.addr);
    let bits = u8::try_from(key.bits).ok()?;
    match (addr.to_ipv4_mapped(), bits.checked_sub(96)) {
        (Some(v4), Some(bits)) => Ipv4Net::new(v4, bits).ok().map(IpNet::V4),
        _ => Ipv6Net::new(addr, bits).ok().map(IpNet::V6),
    }
}

/// A prefix as the tries hold it.
pub fn trie_key(net: &IpNet) -> TrieKey {
    let bits = match net {
        IpNet::V4(net) => u32::from(net.prefix_len()) + 96,
        IpNet::V6(net) => u32::from(net.prefix_len()),
    };
    TrieKey { bits, addr: mapped(net.network()).to_bytes() }
}

/// The hint words of a set of denied prefixes.
fn hints(denied: &[(IpNet, u32)]) -> Vec<u64> {
    let mut words = vec![0u64; 2 * HINT_WORDS as usize];
    for (net, _) in denied {
        hint::mark(mapped(net.network()), net.prefix_len(), |word, bit| {
            if let Some(word) = words.get_mut(word as usize) {
                *word |= 1 << bit;
            }
        });
        if let IpNet::V6(net) = net
            && net.contains(&V4_MAPPED)
        {
            // A prefix that covers ::ffff:0:0/96 covers all of IPv4 in the trie: every bucket.
            words.fill(u64::MAX);
        }
    }
    words
}

fn rule_name(name: &str) -> RuleName {
    let mut end = name.len().min(RULE_NAME_LEN);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0; RULE_NAME_LEN];
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    RuleName { name: bytes }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn trie_keys_count_v4_behind_the_mapped_bits() {
        let key = trie_key(&"192.0.2.0/24".parse().unwrap());
        assert_eq!(key.bits, 120);
        assert_eq!(key.addr[10..], [0xff, 0xff, 192, 0, 2, 0]);
        assert_eq!(trie_key(&"2001:db8::/32".parse().unwrap()).bits, 32);
        for net in ["0.0.0.0/0", "192.0.2.7/32", "::/0", "2001:db8::/32", "2001:db8::1/128"] {
            let net: IpNet = net.parse().unwrap();
            assert_eq!(prefix(&trie_key(&net)), Some(net));
        }
    }

    #[test]
    fn hints_cover_every_denied_address() {
        let denied: Vec<(IpNet, u32)> =
            ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"].iter().map(|net| (net.parse().unwrap(), 1)).collect();
        let words = hints(&denied);
        let hit = |ip: &str| {
            let (word, bit) = hint::place(mapped(ip.parse::<IpAddr>().unwrap()));
            words[word as usize] >> bit & 1 == 1
        };
        assert!(hit("10.200.3.4") && hit("192.0.2.7") && hit("2001:db8:1::9"));
        assert!(!hit("11.0.0.1") && !hit("198.51.100.1") && !hit("2001:db9::1"));
        assert!(hints(&[("::/0".parse().unwrap(), 1)]).iter().all(|word| *word == u64::MAX));
    }

    #[test]
    fn names_are_cut_at_a_character() {
        let name = "ä".repeat(40);
        let stored = rule_name(&name).name;
        assert_eq!(std::str::from_utf8(&stored).unwrap(), "ä".repeat(32));
    }
}
