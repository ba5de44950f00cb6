//! The lists of a policy: their items from its text or from files, with what was edited at run time laid over them.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::edits::{Edits, ListSummary};
use super::super::lang::{Lists, NamedList};
use super::super::list_file::{ListFault, ListFile, ListFiles, check_list_name, hash};
use super::super::model::{List, ListKind, Policy};
use super::super::set::ListInfo;
use crate::json::join;
use crate::json::shape::Fault;
use crate::ranges::{RangeSet, network_ranges, parse_network};

/// The lists of a policy.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// As rules see them.
    pub lists: Lists,
    /// Those that were read from files.
    pub files: Vec<ListInfo>,
    /// All of them, for people.
    pub named: Vec<ListSummary>,
}

/// Reads the lists of the policy that stands in `file`. `files` are the list files that it names; `edits` are laid over,
/// those that stand at the time beside them.
pub(super) fn read(
    policy: &Policy,
    file: &str,
    files: &ListFiles,
    edits: (&Edits, jiff::Timestamp),
    faults: &mut Vec<Fault>,
) -> Found {
    let mut found = Found::default();
    for (name, list) in &policy.lists {
        let full = format!("{}/{name}", policy.id);
        if list.watch && list.file.is_none() {
            let message = "only a list that has its items in a `file` can be watched".to_owned();
            faults.push(Fault::at(format!("{}/watch", join("/lists", name)), message));
        }
        let own = match &list.file {
            None => items(name, list, faults),
            Some(list_file) => {
                let known = files.get(&(file.to_owned(), list_file.clone()));
                let known = from_file(name, list, list_file, known, faults);
                found.files.extend(known.map(|known| ListInfo {
                    name: full.clone(),
                    file: list_file.clone(),
                    items: known.items,
                    ranges: match &known.list {
                        NamedList::Cidr(ranges) => ranges.ranges().len(),
                        NamedList::Text(_) | NamedList::Hash(_) => 0,
                    },
                }));
                known.map_or_else(|| empty(list.kind), |known| known.list.clone())
            }
        };
        found.lists.insert(name.clone(), edits.0.over(&full, edits.1, own.clone()));
        found.named.push(ListSummary::new(full, list_items(list, file, files), own));
    }
    found
}

/// A list of this kind without items.
fn empty(kind: ListKind) -> NamedList {
    match kind {
        ListKind::Cidr => NamedList::Cidr(Arc::default()),
        ListKind::String => NamedList::Text(Arc::default()),
        ListKind::Hash => NamedList::Hash(Arc::default()),
    }
}

/// Items of a list, without what was edited.
fn list_items(list: &List, policy: &str, files: &ListFiles) -> usize {
    match &list.file {
        None => list.items.as_ref().map_or(0, Vec::len),
        Some(file) => match files.get(&(policy.to_owned(), file.clone())) {
            Some(Ok(list)) => list.items,
            _ => 0,
        },
    }
}

/// The pointer of a list, whose name is checked.
fn list_pointer(name: &str, faults: &mut Vec<Fault>) -> String {
    let pointer = join("/lists", name);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')) {
        let message = format!("`{name}` cannot be the name of a list: write letters, digits, `_`, `-` and `.`");
        faults.push(Fault::at_key(pointer.clone(), message));
    }
    pointer
}

/// A list from a file that the caller has read.
fn from_file<'f>(
    name: &str,
    list: &List,
    file: &str,
    known: Option<&'f Result<ListFile, ListFault>>,
    faults: &mut Vec<Fault>,
) -> Option<&'f ListFile> {
    let pointer = list_pointer(name, faults);
    let message = if list.items.is_some() {
        "a list has its items here or in a file, not both; make two lists, and name both in the rule".to_owned()
    } else if let Err(message) = check_list_name(file) {
        message
    } else {
        match known {
            Some(Ok(known)) if std::mem::discriminant(&known.list) != std::mem::discriminant(&empty(list.kind)) => {
                format!("`{file}` is named by two lists of different types; each list has its own file")
            }
            Some(Ok(known)) => return Some(known),
            Some(Err(ListFault::Unread(message))) => message.clone(),
            // Said line by line already.
            Some(Err(ListFault::Lines(_))) => return None,
            None => format!("`{file}` was not read; check the policy together with its files"),
        }
    };
    faults.push(Fault::at(format!("{pointer}/file"), message));
    None
}

fn items(name: &str, list: &List, faults: &mut Vec<Fault>) -> NamedList {
    let pointer = list_pointer(name, faults);
    if list.items.is_none() {
        let message = "a list needs `items`, or a `file` that holds them";
        faults.push(Fault::at(pointer.clone(), message.to_owned()));
    }
    let items = list.items.as_deref().unwrap_or_default();
    match list.kind {
        ListKind::String => NamedList::Text(Arc::new(items.iter().map(|item| item.as_bytes().into()).collect())),
        ListKind::Hash => {
            let mut hashes = HashSet::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                match hash(item.as_bytes()) {
                    Ok(digest) => _ = hashes.insert(digest),
                    Err(message) => faults.push(Fault::at(format!("{pointer}/items/{index}"), message)),
                }
            }
            NamedList::Hash(Arc::new(hashes))
        }
        ListKind::Cidr => {
            let mut ranges = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                match parse_network(item) {
                    Ok(network) => ranges.extend(network_ranges(network)),
                    Err(message) => faults.push(Fault::at(format!("{pointer}/items/{index}"), message)),
                }
            }
            NamedList::Cidr(Arc::new(RangeSet::new(ranges)))
        }
    }
}
