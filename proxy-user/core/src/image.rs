//! What the kernel maps shall hold for one compiled policy set, as plain values, and what differs between two of them.

use crate::policy::{PacketRule, RuleTables};
use ipnet::IpNet;

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
        let Self { allow: _, deny: _, rules, tables, names } = self;
        Self { allow: Vec::new(), deny: Vec::new(), rules: rules.clone(), tables: tables.clone(), names: names.clone() }
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
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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
}
