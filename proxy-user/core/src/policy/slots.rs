//! Which number each rule has in the kernel's counters and verdicts. A name keeps its number as long as anyone knows it.

use std::collections::{BTreeMap, HashMap, HashSet};

use proxy_common::abi::MAX_RULE_SLOTS;

/// Gives every name a slot of `1..MAX_RULE_SLOTS`; the error is the first name that finds none.
///
/// A known name keeps its slot. New names take slots that nobody knows, and only when those are used up the slots of rules
/// that are gone, because verdicts and counters may still carry their numbers.
pub(super) fn allocate(names: &[&str], known: &[(u32, String)]) -> Result<BTreeMap<String, u32>, String> {
    let mut by_name: HashMap<&str, u32> = HashMap::new();
    let mut taken = HashSet::new();
    for (slot, name) in known {
        if (1..MAX_RULE_SLOTS).contains(slot) && taken.insert(*slot) {
            by_name.entry(name).or_insert(*slot);
        }
    }
    let kept: HashSet<u32> = names.iter().filter_map(|name| by_name.get(name)).copied().collect();
    let unknown = (1..MAX_RULE_SLOTS).filter(|slot| !taken.contains(slot));
    let gone = (1..MAX_RULE_SLOTS).filter(|slot| taken.contains(slot) && !kept.contains(slot));
    let mut fresh = unknown.chain(gone);
    let mut found = BTreeMap::new();
    for name in names {
        let slot = by_name.get(name).copied().or_else(|| fresh.next()).ok_or_else(|| (*name).to_owned())?;
        found.insert((*name).to_owned(), slot);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_names_keep_their_slot() {
        let known = [(3, "a/x".to_owned()), (1, "gone/y".to_owned()), (0, "b/z".to_owned())];
        let found = allocate(&["b/z", "a/x", "c/q"], &known).expect("room");
        assert_eq!(found.get("a/x"), Some(&3));
        assert_eq!(found.get("b/z"), Some(&2), "neither 0 nor the slot of a rule that is gone");
        assert_eq!(found.get("c/q"), Some(&4));
    }

    #[test]
    fn slots_run_out() {
        let names: Vec<String> = (0..MAX_RULE_SLOTS).map(|n| format!("p/{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(allocate(&names, &[]), Err("p/16383".to_owned()));
        let all: Vec<(u32, String)> = (1..MAX_RULE_SLOTS).map(|n| (n, format!("old/{n}"))).collect();
        assert_eq!(allocate(&names[..16_383], &all).expect("slots of gone rules are taken").len(), 16_383);
    }

    proptest! {
        #[test]
        fn slots_are_unique(names in prop::collection::hash_set("[a-d]/[a-d]", 0..12),
                            known in prop::collection::vec((0_u32..20, "[a-d]/[a-d]"), 0..20)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let found = allocate(&names, &known).expect("room");
            let slots: HashSet<u32> = found.values().copied().collect();
            prop_assert_eq!(slots.len(), names.len());
            prop_assert!(!slots.contains(&0));
        }
    }
}
