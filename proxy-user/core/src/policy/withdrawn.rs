//! Which verdicts stay when a rollback puts a set in another's place: what wrong rules banned shall not outlive them. It decides
//! by rule slots; the verdicts themselves are the kernel half's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::RuleSlot;
use super::explain::Told;
use super::set::{PolicySet, Rate, RequestRule};

impl PolicySet {
    /// Rules whose verdicts stay when this set takes the place of `before`: those that push here too, in policies that are the
    /// same in both. Of another policy any rule may be why a source was banned: its list, an `allow` before it, its rate.
    pub fn keeps_verdicts_of(&self, before: &Self) -> HashSet<RuleSlot> {
        let old = before.by_policy();
        let same = self.by_policy().into_iter().filter(|(id, rules)| {
            old.get(id).is_some_and(|old| {
                old.len() == rules.len() && old.iter().zip(rules).all(|(old, new)| is_the_same(*old, *new))
            })
        });
        let rules = same.flat_map(|(_, rules)| rules);
        rules.filter(|(rule, _)| rule.push.is_some()).map(|(rule, _)| rule.slot).collect()
    }

    /// The request rules of each policy, in their order.
    fn by_policy(&self) -> HashMap<&str, Vec<(&RequestRule, &Told)>> {
        let mut found: HashMap<&str, Vec<_>> = HashMap::new();
        for told in &self.told {
            let rule = told.request.and_then(|at| self.requests.get(at));
            if let (Some(rule), Some(policy)) = (rule, self.policies.get(told.policy)) {
                found.entry(policy.id.as_str()).or_default().push((rule, told));
            }
        }
        found
    }
}

/// Whether two rules match the same and do the same, as far as that bears on whom they ban.
fn is_the_same((old, before): (&RequestRule, &Told), (new, told): (&RequestRule, &Told)) -> bool {
    // A table of counts is taken over from the set before only where its terms are the same.
    let same_rate = |old: Option<&Rate>, new: Option<&Rate>| match (old, new) {
        (Some(old), Some(new)) => Arc::ptr_eq(&old.table, &new.table),
        (None, None) => true,
        _ => false,
    };
    let same_push = match (&old.push, &new.push) {
        (Some(old), Some(new)) => old.scope == new.scope && same_rate(old.after.as_ref(), new.after.as_ref()),
        (None, None) => true,
        _ => false,
    };
    old.name == new.name
        && before.when == told.when
        && before.lists == told.lists
        && old.effect == new.effect
        && same_rate(old.rate.as_ref(), new.rate.as_ref())
        && same_push
}
