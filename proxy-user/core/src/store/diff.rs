//! What differs between two sets of policies, as people ask it: policies, rules, items of lists. Compares texts, not what
//! they compile to, so that sets which no longer compile can be compared too.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;
use serde_json::Value;

use super::Texts;

/// Most items of a list that a difference names, of those added and of those removed.
pub const MAX_SHOWN_ITEMS: usize = 20;

/// What became of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Only the new set has it.
    Added,
    /// Only the old set has it.
    Removed,
    /// Both have it, otherwise.
    Changed,
}

/// What differs; empty where nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SetDiff {
    /// By id.
    pub policies: Vec<PolicyDiff>,
    /// Policies that both have are asked in another order.
    pub reordered: bool,
    /// Files that are no policies, which cannot be compared but as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

impl SetDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What differs in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyDiff {
    /// Its id.
    pub id: String,
    /// What became of it.
    pub change: Change,
    /// Keys beside `rules` and `lists` that differ, such as `mode`.
    pub keys: Vec<String>,
    /// Rules by id, in the order of the newer set.
    pub rules: Vec<RuleDiff>,
    /// Rules that both have are asked in another order.
    pub reordered: bool,
    /// Lists by name.
    pub lists: Vec<ListDiff>,
}

/// What differs in a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleDiff {
    /// Its id.
    pub id: String,
    /// What became of it.
    pub change: Change,
    /// Keys that differ, with the old and the new value.
    pub keys: Vec<KeyDiff>,
}

/// A key of a rule that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyDiff {
    /// Such as `when`.
    pub key: String,
    /// The old value.
    pub old: Option<Value>,
    /// The new value.
    pub new: Option<Value>,
}

/// What differs in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListDiff {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// Items that only the new list has.
    pub added: usize,
    /// Items that only the old list has.
    pub removed: usize,
    /// The first of those added.
    pub first_added: Vec<String>,
    /// The first of those removed.
    pub first_removed: Vec<String>,
}

/// What differs between `old` and `new`.
pub fn diff(old: &Texts, new: &Texts) -> SetDiff {
    let mut found = SetDiff::default();
    let (old, old_unread) = policies(old);
    let (new, new_unread) = policies(new);
    found.unread = old_unread.symmetric_difference(&new_unread).map(|(name, _)| name.clone()).collect();
    found.unread.dedup();
    for policy in &new {
        let before = old.iter().find(|other| other.id == policy.id);
        found.policies.extend(compare(&policy.id, before, Some(policy)));
    }
    for policy in old.iter().filter(|policy| new.iter().all(|other| other.id != policy.id)) {
        found.policies.extend(compare(&policy.id, Some(policy), None));
    }
    found.reordered = reordered(old.iter().map(|p| p.id.as_str()), new.iter().map(|p| p.id.as_str()));
    found
}

/// A policy as it is written.
struct Written<'t> {
    id: String,
    value: Value,
    /// Name of its file, and all list files.
    file: &'t str,
    texts: &'t Texts,
}

type Unread<'t> = BTreeSet<(String, &'t str)>;

fn policies(texts: &Texts) -> (Vec<Written<'_>>, Unread<'_>) {
    let mut found = Vec::new();
    let mut unread = Unread::new();
    for (file, text) in &texts.files {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        match value.get("id").and_then(Value::as_str).map(str::to_owned) {
            Some(id) => found.push(Written { id, value, file, texts }),
            None => drop(unread.insert((file.clone(), text.as_str()))),
        }
    }
    (found, unread)
}

/// None where nothing differs.
fn compare(id: &str, old: Option<&Written<'_>>, new: Option<&Written<'_>>) -> Option<PolicyDiff> {
    let change = match (old, new) {
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        _ => Change::Changed,
    };
    let of = |policy: Option<&Written<'_>>, key: &str| policy.and_then(|policy| policy.value.get(key).cloned());
    let keys = |policy: Option<&Written<'_>>| -> BTreeSet<String> {
        let object = policy.and_then(|policy| policy.value.as_object());
        object.into_iter().flat_map(|object| object.keys().cloned()).collect()
    };
    let all: BTreeSet<String> = keys(old).union(&keys(new)).cloned().collect();
    let own = |key: &String| !matches!(key.as_str(), "rules" | "lists" | "id" | "schema" | "$schema");
    let differs = |key: &String| of(old, key) != of(new, key);
    let keys =
        if change == Change::Changed { all.into_iter().filter(own).filter(differs).collect() } else { Vec::new() };
    let (old_rules, new_rules) = (rules(old), rules(new));
    let mut rules = Vec::new();
    for (id, rule) in &new_rules {
        let before = old_rules.iter().find(|(other, _)| other == id).map(|(_, rule)| rule);
        rules.extend(compare_rules(id, before, Some(rule)));
    }
    for (id, rule) in old_rules.iter().filter(|(id, _)| new_rules.iter().all(|(other, _)| other != id)) {
        rules.extend(compare_rules(id, Some(rule), None));
    }
    let ids = |rules: &'_ [(String, Value)]| rules.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let (old_ids, new_ids) = (ids(&old_rules), ids(&new_rules));
    let reordered = reordered(old_ids.iter().map(String::as_str), new_ids.iter().map(String::as_str));
    let lists = compare_lists(old, new);
    let found = PolicyDiff { id: id.to_owned(), change, keys, rules, reordered, lists };
    let same = found.keys.is_empty() && found.rules.is_empty() && !found.reordered && found.lists.is_empty();
    (change != Change::Changed || !same).then_some(found)
}

/// Rules by id; without one by their place.
fn rules(policy: Option<&Written<'_>>) -> Vec<(String, Value)> {
    let rules = policy.and_then(|policy| policy.value.get("rules")).and_then(Value::as_array);
    let id = |(place, rule): (usize, &Value)| {
        let id = rule.get("id").and_then(Value::as_str).map_or_else(|| format!("#{place}"), str::to_owned);
        (id, rule.clone())
    };
    rules.into_iter().flatten().enumerate().map(id).collect()
}

fn compare_rules(id: &str, old: Option<&Value>, new: Option<&Value>) -> Option<RuleDiff> {
    let change = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        (Some(old), Some(new)) if old == new => return None,
        _ => Change::Changed,
    };
    let of = |rule: Option<&Value>, key: &str| rule.and_then(|rule| rule.get(key)).cloned();
    let keys = |rule: Option<&Value>| -> BTreeSet<String> {
        let object = rule.and_then(Value::as_object);
        object.into_iter().flat_map(|object| object.keys().cloned()).collect()
    };
    let all = keys(old).union(&keys(new)).cloned().collect::<BTreeSet<_>>();
    let keys = all.into_iter().filter(|key| key != "id" && of(old, key) != of(new, key));
    let keys = keys.map(|key| KeyDiff { old: of(old, &key), new: of(new, &key), key });
    Some(RuleDiff { id: id.to_owned(), change, keys: keys.collect() })
}

fn compare_lists(old: Option<&Written<'_>>, new: Option<&Written<'_>>) -> Vec<ListDiff> {
    let names = |policy: Option<&Written<'_>>| -> BTreeSet<String> {
        let lists = policy.and_then(|policy| policy.value.get("lists")).and_then(Value::as_object);
        lists.into_iter().flat_map(|lists| lists.keys().cloned()).collect()
    };
    let (old_names, new_names) = (names(old), names(new));
    let mut found = Vec::new();
    for name in old_names.union(&new_names) {
        let (before, after) = (items(old, name), items(new, name));
        let added: BTreeSet<&str> = after.difference(&before).copied().collect();
        let removed: BTreeSet<&str> = before.difference(&after).copied().collect();
        let change = match (old_names.contains(name), new_names.contains(name)) {
            (false, _) => Change::Added,
            (_, false) => Change::Removed,
            _ if added.is_empty() && removed.is_empty() => continue,
            _ => Change::Changed,
        };
        let first =
            |items: &BTreeSet<&str>| items.iter().take(MAX_SHOWN_ITEMS).map(|item| (*item).to_owned()).collect();
        found.push(ListDiff {
            name: name.clone(),
            change,
            first_added: first(&added),
            first_removed: first(&removed),
            added: added.len(),
            removed: removed.len(),
        });
    }
    found
}

/// Items of a list, from the policy or from its file.
fn items<'p>(policy: Option<&'p Written<'_>>, name: &str) -> HashSet<&'p str> {
    let Some(policy) = policy else { return HashSet::new() };
    let Some(list) = policy.value.get("lists").and_then(|lists| lists.get(name)) else { return HashSet::new() };
    if let Some(file) = list.get("file").and_then(Value::as_str) {
        let text = policy.texts.lists.iter().find(|list| list.policy == policy.file && list.name == file);
        let lines = text.map(|list| list.text.as_str()).unwrap_or_default().lines();
        let item = |line: &'p str| line.split(['#', ';']).next().unwrap_or_default().trim();
        return lines.map(item).filter(|item| !item.is_empty()).collect();
    }
    list.get("items").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether what both have stands in another order.
fn reordered<'a>(old: impl Iterator<Item = &'a str>, new: impl Iterator<Item = &'a str>) -> bool {
    let old: Vec<&str> = old.collect();
    let places: BTreeMap<&str, usize> = old.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let common: Vec<usize> = new.filter_map(|id| places.get(id).copied()).collect();
    !common.is_sorted()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::ListText;

    fn texts(policies: &[Value]) -> Texts {
        let file = |(place, policy): (usize, &Value)| (format!("{place}.json"), policy.to_string());
        Texts { files: policies.iter().enumerate().map(file).collect(), lists: Vec::new() }
    }

    fn policy(id: &str, rules: &[(&str, &str)]) -> Value {
        let rules: Vec<Value> = rules.iter().map(|(id, when)| json!({ "id": id, "when": when })).collect();
        json!({ "id": id, "rules": rules })
    }

    #[test]
    fn equal_sets_do_not_differ() {
        let set = texts(&[policy("a", &[("x", "1")]), policy("b", &[])]);
        assert!(diff(&set, &set).is_empty());
        let mut moved = set.clone();
        moved.files[0].0 = "elsewhere.json".to_owned();
        assert!(diff(&set, &moved).is_empty(), "where a file lies does not matter");
    }

    #[test]
    fn policies_and_rules_come_go_and_change() {
        let old = texts(&[policy("a", &[("x", "1"), ("y", "2"), ("z", "3")]), policy("gone", &[("x", "1")])]);
        let mut changed = policy("a", &[("z", "3"), ("x", "1!"), ("new", "4")]);
        changed["mode"] = json!("shadow");
        let new = texts(&[changed, policy("came", &[("x", "1")])]);
        let found = diff(&old, &new);
        let shown: Vec<_> = found.policies.iter().map(|policy| (policy.id.as_str(), policy.change)).collect();
        assert_eq!(shown, [("a", Change::Changed), ("came", Change::Added), ("gone", Change::Removed)]);
        let a = &found.policies[0];
        let rules: Vec<_> = a.rules.iter().map(|rule| (rule.id.as_str(), rule.change)).collect();
        assert_eq!(rules, [("x", Change::Changed), ("new", Change::Added), ("y", Change::Removed)]);
        assert_eq!((a.keys.as_slice(), a.reordered), (&["mode".to_owned()][..], true));
        let key = &a.rules[0].keys[0];
        assert_eq!((key.key.as_str(), &key.old, &key.new), ("when", &Some(json!("1")), &Some(json!("1!"))));
        assert_eq!(found.policies[2].rules[0].change, Change::Removed);
    }

    #[test]
    fn items_of_lists_inline_and_from_files() {
        let with = |items: &[&str], file: &str| {
            let mut policy = policy("a", &[]);
            policy["lists"] = json!({ "l": { "type": "cidr", "items": items }, "f": { "file": "f.txt" } });
            let list = ListText { policy: "0.json".into(), name: "f.txt".into(), text: file.into() };
            Texts { lists: vec![list], ..texts(&[policy]) }
        };
        let old = with(&["192.0.2.1", "192.0.2.2"], "10.0.0.1 # one\n10.0.0.2\n");
        let new = with(&["192.0.2.2", "192.0.2.3", "192.0.2.4"], "# a feed\n10.0.0.1\n");
        let found = diff(&old, &new);
        let [file, inline] = found.policies[0].lists.as_slice() else { panic!("{found:?}") };
        assert_eq!((file.added, file.removed, file.first_removed.as_slice()), (0, 1, &["10.0.0.2".to_owned()][..]));
        assert_eq!((inline.added, inline.removed, inline.first_added[0].as_str()), (2, 1, "192.0.2.3"));
        assert!(diff(&old, &with(&["192.0.2.2", "192.0.2.1"], "10.0.0.2\n10.0.0.1")).is_empty(), "order is no change");
    }

    #[test]
    fn files_that_are_no_policies_are_named() {
        let broken = Texts { files: vec![("x.json".into(), "{".into())], lists: Vec::new() };
        assert_eq!(diff(&Texts::default(), &broken).unread, ["x.json"]);
        assert!(diff(&broken, &broken).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(old in "\\PC{0,60}", new in "\\PC{0,60}") {
            let set = |text: &str| Texts { files: vec![("f".to_owned(), text.to_owned())], lists: Vec::new() };
            let found = diff(&set(&old), &set(&new));
            proptest::prop_assert!(old != new || found.is_empty());
        }
    }
}
