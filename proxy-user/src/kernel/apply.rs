//! From the image of a policy set to the maps: what changes goes to the side that no packet reads, then one word flips.

use std::net::Ipv6Addr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::abi::{
    GATE_FAIL_OPEN, GATE_HAS_ALLOW, GATE_HAS_DENY, GATE_HAS_HOSTS, GATE_HAS_RATES, GATE_HAS_RULES,
    GATE_HOST_BITS_SHIFT, GATE_OWN_ONLY, GATE_PREFIXES_B, GATE_RULES_B, GateConfig, HINT_WORDS, LAYOUT_VERSION,
    PrefixValue, RULE_NAME_LEN, RuleName,
};
use proxy_common::addr::{Addr, v6_mask};
use proxy_common::hosts::terms;
use proxy_core::config::Scope;
use proxy_core::hosts::split;
use proxy_core::image::{KernelImage, prefix_hints};
use proxy_core::policy::RuleTables;
use serde::Serialize;

use super::Kernel;
use super::hosts::Difference;
use super::load::TrieKey;
use super::syscall::{Map, wait_for_programs};

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

impl Kernel {
    /// Puts `image` in force, and retracts the verdicts that its allow list covers. What changes is written to the side
    /// that no packet reads; then one write of `GATE` flips to it, so that a packet meets the old revision or the new one,
    /// whole. On an error the old one stays.
    pub fn apply(&self, image: &KernelImage) -> Result<Applied> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.maps.gate.get(&0)?.unwrap_or_default();
        let parts = split(&image.allow, &image.deny);
        let allowed = &image.allow;
        // What the tries and the rules' tables shall hold; the hosts stand elsewhere.
        let image = &KernelImage { allow: parts.allow, deny: parts.deny, ..image.without_prefixes() };
        let hosts = parts.hosts;
        let diff = image.diff(&self.standing(&before)?);
        let changed_hosts = self.hosts.difference(before.prefixes_side(), &hosts);
        let prefixes_changed = diff.prefixes_changed() || changed_hosts != Difference::default();
        let rules_changed = diff.rules_changed && !image.rules.is_empty();
        if prefixes_changed || rules_changed {
            wait_for_programs();
        }
        // A slot whose rule is gone keeps its name: verdicts that the rule pushed may stand.
        for (slot, name) in diff.names_changed.iter().filter(|(_, name)| !name.is_empty()) {
            self.maps.rule_names.set(slot, &rule_name(name)).context("writing RULE_NAMES")?;
        }
        let mut flags = before.flags & (GATE_RULES_B | GATE_PREFIXES_B | GATE_HAS_RATES | GATE_FAIL_OPEN);
        let mut host_bits = before.host_bits();
        if prefixes_changed {
            flags ^= GATE_PREFIXES_B;
            self.write_prefixes(image, 1 - before.prefixes_side())?;
            host_bits = self.hosts.write(1 - before.prefixes_side(), &hosts)?;
        }
        flags |= host_bits << GATE_HOST_BITS_SHIFT;
        if rules_changed {
            flags ^= GATE_RULES_B;
            self.write_rules(image, 1 - before.rules_side())?;
        }
        flags |= self.wanted_v4_prefixes(image.on_v4_prefixes);
        for (set, flag) in [
            (self.scope == Scope::Own, GATE_OWN_ONLY),
            (!image.rules.is_empty(), GATE_HAS_RULES),
            (!image.deny.is_empty(), GATE_HAS_DENY),
            (!allowed.is_empty(), GATE_HAS_ALLOW),
            (hosts.iter().any(|(_, terms)| terms::denies(*terms)), GATE_HAS_HOSTS),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let after = GateConfig {
            layout: LAYOUT_VERSION,
            flags,
            rules: image.rules.len() as u32,
            revision: before.revision.wrapping_add(1),
            v6_mask: v6_mask(self.ipv6_prefix),
            rules_print: image.tables.print,
            ..before
        };
        // This word belongs to the kernel programs and `tick_syn`: as it stands now.
        let cookies = self.maps.gate.get(&0)?.unwrap_or_default().cookies;
        self.maps.gate.set(&0, &GateConfig { cookies, ..after }).context("writing GATE")?;
        self.prefixes_side.store(after.prefixes_side(), Ordering::Release);
        let rules = if diff.rules_changed { image.rules.len() } else { 0 };
        Ok(Applied {
            written: (diff.allow_add.len() + diff.deny_add.len() + rules) as u32 + changed_hosts.written,
            removed: (diff.allow_remove.len() + diff.deny_remove.len()) as u32 + changed_hosts.removed,
            retracted: self.retract(allowed),
        })
    }

    /// Whether the policies in force allow a source.
    pub(super) fn is_allowed(&self, addr: Addr) -> Result<bool> {
        let side = self.prefixes_side.load(Ordering::Acquire);
        if self.hosts.find(side, addr).allowed().is_some() {
            return Ok(true);
        }
        let key = TrieKey { bits: 128, addr: addr.to_bytes() };
        Ok(side_of(&self.maps.allow, side).get(&key)?.is_some())
    }

    /// The image that the maps hold now: what an earlier load, or an earlier process, left.
    fn standing(&self, gate: &GateConfig) -> Result<KernelImage> {
        // Of the packet rules only the fingerprint is kept: whether they differ is all that is asked.
        let mut tables = RuleTables::default();
        tables.print = gate.rules_print;
        let mut names = self.rule_names()?;
        names.sort_unstable();
        let allow = prefixes(side_of(&self.maps.allow, gate.prefixes_side())).context("reading ALLOW")?;
        let deny = prefixes(side_of(&self.maps.deny, gate.prefixes_side())).context("reading DENY")?;
        Ok(KernelImage { allow, deny, tables, names, ..KernelImage::default() })
    }

    /// Brings a side of the prefixes that no packet reads up to date, by what differs.
    fn write_prefixes(&self, image: &KernelImage, side: u32) -> Result<()> {
        let (allow, deny) = (side_of(&self.maps.allow, side), side_of(&self.maps.deny, side));
        let here = KernelImage {
            allow: prefixes(allow).context("reading ALLOW")?,
            deny: prefixes(deny).context("reading DENY")?,
            ..KernelImage::default()
        };
        let diff = image.diff(&here);
        // Removed first: the tables have room for one image.
        allow.remove_many(&keys(&diff.allow_remove)).context("writing ALLOW")?;
        deny.remove_many(&keys(&diff.deny_remove)).context("writing DENY")?;
        allow.set_many(&entries(&diff.allow_add)).context("writing ALLOW")?;
        deny.set_many(&entries(&diff.deny_add)).context("writing DENY")?;
        let hints: Vec<(u32, u64)> = (side * 2 * HINT_WORDS..).zip(prefix_hints(&image.deny)).collect();
        self.maps.deny_hint.set_many(&hints).context("writing DENY_HINT")
    }

    /// Fills a side of the packet rules that no packet reads.
    fn write_rules(&self, image: &KernelImage, side: u32) -> Result<()> {
        let too_long = "the compiled packet rules are longer than their table";
        let classes = image.tables.classes().context(too_long)?;
        let rows = image.tables.rows().context(too_long)?;
        self.maps.rule_classes.set(&side, &classes).context("writing RULE_CLASSES")?;
        self.maps.rule_rows.set(&side, &rows).context("writing RULE_ROWS")
    }
}

fn side_of<T>(sides: &[T; 2], side: u32) -> &T {
    let [a, b] = sides;
    if side == 0 { a } else { b }
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
    TrieKey { bits, addr: Addr::from(net.network()).to_bytes() }
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
    fn names_are_cut_at_a_character() {
        let name = "ä".repeat(40);
        let stored = rule_name(&name).name;
        assert_eq!(std::str::from_utf8(&stored).unwrap(), "ä".repeat(32));
    }
}
