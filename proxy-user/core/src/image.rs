//! What the kernel maps shall hold for one compiled policy set, as plain values, and what differs between two of them.

use std::net::Ipv6Addr;

use ipnet::IpNet;
use proxy_common::abi::HINT_WORDS;
use proxy_common::hint;

use crate::policy::{PacketRule, RuleTables};
use crate::ranges::network;

/// The first address of the v4-mapped block, RFC 4291 section 2.5.5.2.
const V4_MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);

/// The packet half of a compiled policy set. `kernel` writes the difference of two images to the maps.
///
/// Prefixes stand on the number line of the maps' keys, where IPv4 is v4-mapped: an IPv6 prefix that holds
/// `::ffff:0:0/96`, such as `::/0`, covers IPv4 too. The compiler writes it only where both families are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelImage {
    /// Allowed prefixes (hosts are /32 and /128), sorted, each once, with the rule slot it comes from.
    pub allow: Vec<(IpNet, u32)>,
    /// Denied prefixes, sorted, each once, with the rule slot it comes from.
    pub deny: Vec<(IpNet, u32)>,
    /// Ordered rules over other packet fields, at most `MAX_PACKET_RULES`.
    pub rules: Vec<PacketRule>,
    /// The same, compiled.
    pub tables: RuleTables,
    /// `(slot, "policy/rule")` of every rule, for `RULE_NAMES`.
    pub names: Vec<(u32, String)>,
    /// A rule pushes verdicts on IPv4 prefixes: packets look for them.
    pub on_v4_prefixes: bool,
}

/// The least writes that turn one image into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageDiff {
    /// Allowed prefixes to write: new ones, and those whose slot changed.
    pub allow_add: Vec<(IpNet, u32)>,
    /// Allowed prefixes to remove.
    pub allow_remove: Vec<IpNet>,
    /// Denied prefixes to write.
    pub deny_add: Vec<(IpNet, u32)>,
    /// Denied prefixes to remove.
    pub deny_remove: Vec<IpNet>,
    /// The packet rules differ: write their tables.
    pub rules_changed: bool,
    /// Names to write; an empty one frees its slot.
    pub names_changed: Vec<(u32, String)>,
}

impl ImageDiff {
    /// Whether any prefix is to be written or removed.
    pub fn prefixes_changed(&self) -> bool {
        let removed = self.allow_remove.len() + self.deny_remove.len();
        self.allow_add.len() + self.deny_add.len() + removed > 0
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl KernelImage {
    /// The same without its prefixes, which may be many.
    #[must_use]
    pub fn without_prefixes(&self) -> Self {
        let Self { allow: _, deny: _, rules, tables, names, on_v4_prefixes } = self;
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            rules: rules.clone(),
            tables: tables.clone(),
            names: names.clone(),
            on_v4_prefixes: *on_v4_prefixes,
        }
    }

    /// What to write where the maps hold `old`.
    pub fn diff(&self, old: &Self) -> ImageDiff {
        let (allow_add, allow_remove) = changes(&self.allow, &old.allow);
        let (deny_add, deny_remove) = changes(&self.deny, &old.deny);
        let (mut names_changed, freed) = changes(&self.names, &old.names);
        names_changed.extend(freed.into_iter().map(|slot| (slot, String::new())));
        names_changed.sort_unstable();
        ImageDiff {
            allow_add,
            allow_remove,
            deny_add,
            deny_remove,
            rules_changed: self.tables.print != old.tables.print,
            names_changed,
        }
    }
}

/// The slot of the longest prefix of an image's sorted list that covers an address in the v4-mapped number line. One
/// search for each length: lists may be long.
pub(crate) fn longest(list: &[(IpNet, u32)], address: u128) -> Option<u32> {
    (0..=128).rev().find_map(|length| {
        let first = address & u128::MAX.checked_shl(128 - length).unwrap_or(0);
        let wanted = network(first, length as u8)?;
        let at = list.binary_search_by(|(net, _)| net.cmp(&wanted)).ok()?;
        list.get(at).map(|(_, slot)| *slot)
    })
}

/// The words of `DENY_HINT` for a set of denied prefixes, both families.
pub fn prefix_hints(denied: &[(IpNet, u32)]) -> Vec<u64> {
    let mut words = vec![0_u64; 2 * HINT_WORDS as usize];
    for (net, _) in denied {
        hint::mark(net.network().into(), net.prefix_len(), |word, bit| {
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

/// Entries of `new` that `old` lacks or has otherwise, and keys of `old` that `new` lacks. Both are sorted by key.
fn changes<K: Ord + Clone, V: PartialEq + Clone>(new: &[(K, V)], old: &[(K, V)]) -> (Vec<(K, V)>, Vec<K>) {
    let find = |list: &[(K, V)], key: &K| list.binary_search_by(|(k, _)| k.cmp(key)).ok();
    let value = |key: &K| find(old, key).and_then(|at| old.get(at)).map(|(_, value)| value);
    let added = new.iter().filter(|(key, v)| value(key) != Some(v)).cloned().collect();
    let removed = old.iter().map(|(key, _)| key).filter(|key| find(new, key).is_none()).cloned().collect();
    (added, removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Cube, compile_rules};
    use crate::ranges::number;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    fn nets() -> impl Strategy<Value = Vec<(IpNet, u32)>> {
        prop::collection::btree_map(0_u8..12, 0_u32..3, 0..8).prop_map(|entries| {
            let net = |n| IpNet::V4(ipnet::Ipv4Net::new_assert([n, 0, 0, 0].into(), 8));
            entries.into_iter().map(|(n, slot)| (net(n), slot)).collect()
        })
    }

    proptest! {
        #[test]
        fn the_difference_leads_from_old_to_new(old in nets(), new in nets()) {
            let image = |allow: &[(IpNet, u32)]| KernelImage { allow: allow.to_vec(), ..KernelImage::default() };
            let diff = image(&new).diff(&image(&old));
            let mut map: BTreeMap<IpNet, u32> = old.iter().copied().collect();
            for net in &diff.allow_remove {
                prop_assert!(map.remove(net).is_some());
            }
            for (net, slot) in &diff.allow_add {
                prop_assert_ne!(map.insert(*net, *slot), Some(*slot), "written without need");
            }
            prop_assert_eq!(map.into_iter().collect::<Vec<_>>(), new.clone());
            prop_assert_eq!(diff.is_empty(), old == new);
        }
    }

    #[test]
    fn names_and_rules() {
        let image = |names: &[(u32, &str)]| KernelImage {
            names: names.iter().map(|(slot, name)| (*slot, (*name).to_owned())).collect(),
            ..KernelImage::default()
        };
        let mut new = image(&[(1, "a/x"), (3, "a/z")]);
        let rule = PacketRule { cube: Cube { frag: 1, ..Cube::all() }, action: 2, slot: 1, shadow: false };
        new.tables = compile_rules(&[rule]).expect("room");
        let diff = new.diff(&image(&[(1, "a/x"), (2, "a/y"), (3, "a/q")]));
        assert_eq!(diff.names_changed, [(2, String::new()), (3, "a/z".to_owned())]);
        assert!(diff.rules_changed && !diff.is_empty());
        assert!(new.diff(&new).is_empty());
    }

    #[test]
    fn the_longest_prefix_counts_in_both_families() {
        let mut list: Vec<(IpNet, u32)> =
            [("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("::/0", 3), ("2001:db8::/32", 4), ("192.0.2.7/32", 5)]
                .iter()
                .map(|(net, slot)| (net.parse().unwrap(), *slot))
                .collect();
        list.sort_unstable();
        let of = |list: &[(IpNet, u32)], ip: &str| longest(list, number(ip.parse().unwrap()));
        for (ip, slot) in
            [("10.2.0.1", 1), ("10.1.2.3", 2), ("192.0.2.7", 5), ("192.0.2.8", 3), ("2001:db8::1", 4), ("fe80::1", 3)]
        {
            assert_eq!(of(&list, ip), Some(slot), "{ip}");
        }
        assert_eq!(of(&list[..2], "11.0.0.1"), None);
    }

    #[test]
    fn hints_cover_every_denied_address() {
        let denied: Vec<(IpNet, u32)> =
            ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"].iter().map(|net| (net.parse().unwrap(), 1)).collect();
        let words = prefix_hints(&denied);
        let hit = |ip: &str| {
            let (word, bit) = hint::place(ip.parse::<IpAddr>().unwrap().into());
            words[word as usize] >> bit & 1 == 1
        };
        assert!(hit("10.200.3.4") && hit("192.0.2.7") && hit("2001:db8:1::9"));
        assert!(!hit("11.0.0.1") && !hit("198.51.100.1") && !hit("2001:db9::1"));
        assert!(prefix_hints(&[("::/0".parse().unwrap(), 1)]).iter().all(|word| *word == u64::MAX));
    }
}
