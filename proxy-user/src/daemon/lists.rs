//! Lists that are edited while the daemon runs: checked, compiled over the policies, written to the journal, all of it or
//! nothing. What was edited stays over reloads and starts, until its time is over or it is edited again.

use std::sync::Arc;
use std::time::Duration;

use proxy_core::policy::{Edit, ListSummary, MAX_EDITS, Standing, edit_item};
use proxy_core::store::Who;
use proxy_core::store::audit::Act;

use super::Daemon;
use crate::control::wire;
use crate::shared::ListChange;

/// Most items that one answer lists.
const MAX_LISTED: usize = 100_000;

impl Daemon {
    /// Adds items to a list and takes others out.
    pub(super) fn edit_list(&mut self, who: Who, change: &ListChange) -> Result<wire::ListEdited, String> {
        let result = self.try_edit(change);
        if let Err(fault) = &result {
            tracing::warn!(list = change.list, fault, "the list was not edited");
        }
        let ListChange { list, add, remove, .. } = change;
        let what = format!("{list}: {} added, {} removed", add.len(), remove.len());
        self.tell_of(Act::List, who, result.as_ref().map(|_| ()).map_err(String::as_str), Some(&what));
        result
    }

    fn try_edit(&mut self, change: &ListChange) -> Result<wire::ListEdited, String> {
        let now = jiff::Timestamp::now();
        let list = self.named(&change.list)?;
        let until = change.ttl.map(|ttl| until(now, ttl)).transpose()?;
        let mut wanted = Vec::new();
        for (items, added) in [(&change.add, true), (&change.remove, false)] {
            for text in items {
                let item = edit_item(list.kind, text)?;
                let before = self.edits.standing(&change.list, &item, now);
                wanted.push(list.edit(item, added, until, before));
            }
        }
        if self.edits.len() + wanted.len() > MAX_EDITS {
            Arc::make_mut(&mut self.edits).expire(now);
        }
        if self.edits.len() + wanted.len() > MAX_EDITS {
            return Err(format!("at most {MAX_EDITS} items can be edited at run time, {} are", self.edits.len()));
        }
        let edits = Arc::make_mut(&mut self.edits);
        let undo: Vec<Edit> = wanted.iter().map(|edit| edits.put(edit)).collect();
        let (generation, kernel) = match self.compiled(&self.sources).and_then(|policies| self.swap(policies)) {
            Ok(done) => done,
            Err(fault) => {
                let edits = Arc::make_mut(&mut self.edits);
                // Backwards: an item may have been named twice.
                undo.iter().rev().for_each(|edit| drop(edits.put(edit)));
                return Err(fault);
            }
        };
        let kept = self.history.journal(&wanted, &self.edits);
        Ok(wire::ListEdited {
            generation,
            added: change.add.len(),
            removed: change.remove.len(),
            written: kernel.written,
            not_kept: kept.err(),
        })
    }

    /// The lists of the policies in force, or one of them with its edits.
    pub(super) fn lists(&self, name: Option<&str>) -> Result<wire::Lists, String> {
        let now = jiff::Timestamp::now();
        let edited = |list: &ListSummary| wire::ListState {
            name: list.name.clone(),
            kind: list.kind,
            items: list.items,
            added: self.edits.of(&list.name, now).filter(|(_, standing)| standing.added).count(),
            removed: self.edits.of(&list.name, now).filter(|(_, standing)| !standing.added).count(),
        };
        let Some(name) = name else {
            let lists = self.shared.snapshot.load().policies.named_lists().iter().map(edited).collect();
            return Ok(wire::Lists { lists, edits: Vec::new(), truncated: false });
        };
        let list = self.named(name)?;
        let row = |(item, Standing { added, until }): (&str, Standing)| wire::ListItem {
            item: item.to_owned(),
            added,
            until,
        };
        let edits: Vec<wire::ListItem> = self.edits.of(name, now).take(MAX_LISTED).map(row).collect();
        let state = edited(&list);
        let truncated = edits.len() < state.added + state.removed;
        Ok(wire::Lists { lists: vec![state], edits, truncated })
    }

    fn named(&self, name: &str) -> Result<ListSummary, String> {
        let snapshot = self.shared.snapshot.load();
        let lists = snapshot.policies.named_lists();
        let found = lists.iter().find(|list| list.name == name).cloned();
        found.ok_or_else(|| {
            let near = proxy_core::diagnostic::hint(name, lists.iter().map(|list| list.name.as_str()));
            format!("no policy in force has the list `{name}`{near}; it is written POLICY/LIST")
        })
    }
}

fn until(now: jiff::Timestamp, ttl: Duration) -> Result<jiff::Timestamp, String> {
    now.checked_add(ttl).map_err(|_| format!("{} s is longer than time goes", ttl.as_secs()))
}
