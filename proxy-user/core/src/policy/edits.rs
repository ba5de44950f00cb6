//! What was added to lists and taken out of them at run time: kept beside the policies, so that it survives their reload,
//! and laid over their lists when they are compiled. Time is an argument; the journal's lines are made and read here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lang::NamedList;
use super::list_file::hash;
use crate::ranges::{RangeSet, network_ranges, parse_network};

/// Most edits of all lists together.
pub const MAX_EDITS: usize = 1_048_576;
/// Most bytes of an item of strings.
pub const MAX_EDIT_BYTES: usize = 1_024;

/// What is done to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EditKind {
    /// It is in the list, whatever the policy says.
    Add,
    /// It is not.
    Remove,
    /// As the policy says: the edit before is gone.
    Forget,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// `policy/list`
    pub list: String,
    /// As [`edit_item`] writes it.
    pub item: String,
    /// What is done.
    pub edit: EditKind,
    /// Until then; for good where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Edit {
    /// The journal's line, without its end.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What stands for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is in the list; else it is taken out.
    pub added: bool,
    /// Until then.
    pub until: Option<Timestamp>,
}

impl Standing {
    fn stands(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What a list's items are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// Addresses and networks.
    Cidr,
    /// Strings.
    String,
    /// SHA-256 digests of strings.
    Hash,
}

impl ItemKind {
    /// As policies write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cidr => "cidr",
            Self::String => "string",
            Self::Hash => "hash",
        }
    }
}

/// A list that rules may name, as its policy has it.
#[derive(Clone, Debug)]
pub struct ListSummary {
    /// `policy/list`
    pub name: String,
    /// What its items are.
    pub kind: ItemKind,
    /// Items that the policy gives it.
    pub items: usize,
    /// Without what was edited.
    own: NamedList,
}

impl ListSummary {
    pub(super) fn new(name: String, items: usize, own: NamedList) -> Self {
        let kind = match own {
            NamedList::Cidr(_) => ItemKind::Cidr,
            NamedList::Text(_) => ItemKind::String,
            NamedList::Hash(_) => ItemKind::Hash,
        };
        Self { name, kind, items, own }
    }

    /// Whether the policy itself has some of an item in the list.
    fn has(&self, item: &str) -> bool {
        match &self.own {
            NamedList::Text(strings) | NamedList::Hash(strings) => strings.contains(item.as_bytes()),
            NamedList::Cidr(ranges) => parse_network(item)
                .is_ok_and(|network| !ranges.intersection(&RangeSet::new(network_ranges(network))).is_empty()),
        }
    }

    /// The edit that has an item in the list or out of it, where `before` stands for it: what was edited is forgotten where
    /// the policy says the same.
    pub fn edit(&self, item: String, add: bool, until: Option<Timestamp>, before: Option<Standing>) -> Edit {
        let back = before.is_some_and(|before| before.added != add) && until.is_none() && self.has(&item) == add;
        let edit = match (back, add) {
            (true, _) => EditKind::Forget,
            (false, true) => EditKind::Add,
            (false, false) => EditKind::Remove,
        };
        Edit { list: self.name.clone(), item, edit, until }
    }
}

/// The edits of all lists.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    lists: BTreeMap<String, BTreeMap<String, Standing>>,
    count: usize,
}

/// No edits.
pub(super) static NO_EDITS: Edits = Edits { lists: BTreeMap::new(), count: 0 };

impl Edits {
    /// From a journal's lines, the last of an item counts; what is over by `now` is forgotten. Lines that are none, and items
    /// beyond [`MAX_EDITS`], are left out, and counted.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>, now: Timestamp) -> (Self, usize) {
        Self::read_most(lines, now, MAX_EDITS)
    }

    fn read_most<'a>(lines: impl IntoIterator<Item = &'a str>, now: Timestamp, most: usize) -> (Self, usize) {
        let (mut edits, mut left_out) = (Self::default(), 0);
        for line in lines {
            let Ok(mut edit) = serde_json::from_str::<Edit>(line) else {
                left_out += 1;
                continue;
            };
            if edit.until.is_some_and(|until| until <= now) {
                edit.edit = EditKind::Forget;
            }
            let known = || edits.lists.get(&edit.list).is_some_and(|items| items.contains_key(&edit.item));
            if edit.edit == EditKind::Forget || edits.count < most || known() {
                edits.put(&edit);
            } else {
                left_out += 1;
            }
        }
        (edits, left_out)
    }

    /// Makes an edit; tells the one that puts things back as they were.
    pub fn put(&mut self, edit: &Edit) -> Edit {
        let items = self.lists.entry(edit.list.clone()).or_default();
        let standing = Standing { added: edit.edit == EditKind::Add, until: edit.until };
        let before = match (items.entry(edit.item.clone()), edit.edit) {
            (Entry::Occupied(entry), EditKind::Forget) => Some(entry.remove()),
            (Entry::Occupied(mut entry), _) => Some(entry.insert(standing)),
            (Entry::Vacant(_), EditKind::Forget) => None,
            (Entry::Vacant(entry), _) => {
                entry.insert(standing);
                None
            }
        };
        match (before.is_some(), edit.edit == EditKind::Forget) {
            (false, false) => self.count += 1,
            (true, true) => self.count -= 1,
            _ => {}
        }
        if items.is_empty() {
            self.lists.remove(&edit.list);
        }
        let kind = match before {
            None => EditKind::Forget,
            Some(Standing { added: true, .. }) => EditKind::Add,
            Some(_) => EditKind::Remove,
        };
        Edit { edit: kind, until: before.and_then(|before| before.until), ..edit.clone() }
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Timestamp) {
        self.lists.retain(|_, items| {
            items.retain(|_, standing| standing.stands(now));
            !items.is_empty()
        });
        self.count = self.lists.values().map(BTreeMap::len).sum();
    }

    /// Edits that stand or have not been forgotten yet.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those of one list that stand.
    pub fn of(&self, list: &str, now: Timestamp) -> impl Iterator<Item = (&str, Standing)> {
        let items = self.lists.get(list).into_iter().flatten();
        items.filter(move |(_, standing)| standing.stands(now)).map(|(item, standing)| (item.as_str(), *standing))
    }

    /// What stands for one item.
    pub fn standing(&self, list: &str, item: &str, now: Timestamp) -> Option<Standing> {
        self.lists.get(list)?.get(item).copied().filter(|standing| standing.stands(now))
    }

    /// When the next one is over.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let all = self.lists.values().flat_map(BTreeMap::values);
        all.filter_map(|standing| standing.until).filter(|until| *until > now).min()
    }

    /// All of them as a journal's lines.
    pub fn journal(&self) -> impl Iterator<Item = String> {
        let edit = |list: &String, item: &String, standing: &Standing| Edit {
            list: list.clone(),
            item: item.clone(),
            edit: if standing.added { EditKind::Add } else { EditKind::Remove },
            until: standing.until,
        };
        self.lists
            .iter()
            .flat_map(move |(list, items)| items.iter().map(move |(item, standing)| edit(list, item, standing).line()))
    }

    /// Addresses of a list, edited.
    fn over_ranges(&self, list: &str, now: Timestamp, ranges: &Arc<RangeSet>) -> Arc<RangeSet> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (item, standing) in self.of(list, now) {
            // They were checked when they came; a journal that was altered has them left out.
            let Ok(network) = parse_network(item) else { continue };
            if standing.added { &mut added } else { &mut removed }.extend(network_ranges(network));
        }
        if added.is_empty() && removed.is_empty() {
            return Arc::clone(ranges);
        }
        let all = ranges.union(&RangeSet::new(added));
        let rest =
            if removed.is_empty() { all } else { all.intersection(&RangeSet::new(removed).complement(u128::MAX)) };
        Arc::new(rest)
    }

    /// A list of any kind, edited.
    pub(super) fn over(&self, list: &str, now: Timestamp, items: NamedList) -> NamedList {
        match items {
            NamedList::Cidr(ranges) => NamedList::Cidr(self.over_ranges(list, now, &ranges)),
            NamedList::Text(strings) => NamedList::Text(self.over_strings(list, now, strings)),
            NamedList::Hash(hashes) => NamedList::Hash(self.over_strings(list, now, hashes)),
        }
    }

    /// Strings of a list, edited.
    fn over_strings(
        &self,
        list: &str,
        now: Timestamp,
        mut strings: Arc<HashSet<Box<[u8]>>>,
    ) -> Arc<HashSet<Box<[u8]>>> {
        let mut edits = self.of(list, now).peekable();
        if edits.peek().is_none() {
            return strings;
        }
        let changed = Arc::make_mut(&mut strings);
        for (item, standing) in edits {
            if standing.added {
                changed.insert(item.as_bytes().into());
            } else {
                changed.remove(item.as_bytes());
            }
        }
        strings
    }
}

/// An item as it is kept: networks in one way of writing.
///
/// # Errors
/// It is no item of such a list.
pub fn edit_item(kind: ItemKind, text: &str) -> Result<String, String> {
    match kind {
        ItemKind::Cidr => parse_network(text).map(|network| {
            let host = network.prefix_len() == network.max_prefix_len();
            if host { network.addr().to_string() } else { network.to_string() }
        }),
        ItemKind::Hash => hash(text.as_bytes()).map(|digest| String::from_utf8_lossy(&digest).into_owned()),
        ItemKind::String if text.is_empty() => Err("an item is empty".to_owned()),
        ItemKind::String if text.len() > MAX_EDIT_BYTES => {
            Err(format!("an item has {} bytes, at most {MAX_EDIT_BYTES} are taken", text.len()))
        }
        ItemKind::String => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
