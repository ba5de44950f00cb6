//! From the image of a policy set to the maps: the least writes, in an order in which no packet meets half a prefix list.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use anyhow::{Context, Result};
use ipnet::IpNet;
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
        let mut applied = Applied::default();
        for (slot, name) in &image.names {
            self.maps.rule_names.set(slot, &rule_name(name)).context("writing RULE_NAMES")?;
        }
        let allow = TrieChange::of(&self.maps.allow, &image.allow).context("reading ALLOW")?;
        let deny = TrieChange::of(&self.maps.deny, &image.deny).context("reading DENY")?;
        let before = self.maps.gate.get(&0)?.unwrap_or_default();

        allow.write(&self.maps.allow, &mut applied).context("writing ALLOW")?;
        self.write_gate(GateConfig { flags: before.flags | GATE_HAS_ALLOW, ..before })?;
        let hints = hints(&image.deny);
        self.set_hints(&hints, true)?;
        deny.write(&self.maps.deny, &mut applied).context("writing DENY")?;
        deny.erase(&self.maps.deny, &mut applied).context("writing DENY")?;
        self.set_hints(&hints, false)?;
        let rules = self.write_rules(image, &before, &mut applied)?;
        allow.erase(&self.maps.allow, &mut applied).context("writing ALLOW")?;

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
            rules,
            revision: before.revision.wrapping_add(1),
            v6_mask: v6_mask(self.ipv6_prefix),
        })?;
        applied.retracted = self.retract(&image.allow).context("retracting verdicts")?;
        Ok(applied)
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

    /// The ordered rules. When they change, they are off for the moment of the change: a rule list that is half old
    /// and half new could drop what neither does.
    fn write_rules(&self, image: &KernelImage, before: &GateConfig, applied: &mut Applied) -> Result<u32> {
        let count = image.rules.len() as u32;
        let mut changed = Vec::new();
        for (index, rule) in (0u32..).zip(&image.rules) {
            if self.maps.rules.get(&index)?.as_ref() != Some(rule) {
                changed.push((index, *rule));
            }
        }
        if changed.is_empty() && count == before.rules {
            return Ok(count);
        }
        if before.rules > 0 {
            let current = self.maps.gate.get(&0)?.unwrap_or_default();
            self.write_gate(GateConfig { rules: 0, ..current })?;
        }
        applied.written += changed.len() as u32;
        self.maps.rules.set_many(&changed).context("writing RULES")?;
        for index in count..before.rules {
            self.maps.rules.set(&index, &PacketRule::default()).context("writing RULES")?;
            applied.removed += 1;
        }
        Ok(count)
    }
}

/// What must change in a trie.
struct TrieChange {
    write: Vec<(TrieKey, PrefixValue)>,
    erase: Vec<TrieKey>,
}

impl TrieChange {
    fn of(trie: &Map<TrieKey, PrefixValue>, wanted: &[(IpNet, u32)]) -> Result<Self> {
        let wanted: HashMap<TrieKey, PrefixValue> =
            wanted.iter().map(|(net, rule)| (trie_key(net), PrefixValue { rule: *rule })).collect();
        let mut standing = HashMap::new();
        for key in trie.keys()? {
            if let Some(value) = trie.get(&key)? {
                standing.insert(key, value);
            }
        }
        let write = wanted.iter().filter(|(k, v)| standing.get(*k) != Some(*v)).map(|(k, v)| (*k, *v)).collect();
        let erase = standing.into_keys().filter(|key| !wanted.contains_key(key)).collect();
        Ok(Self { write, erase })
    }

    fn write(&self, trie: &Map<TrieKey, PrefixValue>, applied: &mut Applied) -> Result<()> {
        applied.written += self.write.len() as u32;
        Ok(trie.set_many(&self.write)?)
    }

    fn erase(&self, trie: &Map<TrieKey, PrefixValue>, applied: &mut Applied) -> Result<()> {
        applied.removed += self.erase.len() as u32;
        Ok(trie.remove_many(&self.erase)?)
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
