//! What the daemon keeps of the policies that were in force, and what it logs of changes. Without a store, which is
//! said at the start and in `status`, policies work as ever, and there is nothing to roll back to.

use std::path::Path;

use proxy_core::config::Config;
use proxy_core::policy::{Edit, Edits};
use proxy_core::store::audit::{Act, Event, Outcome};
use proxy_core::store::bundle::{Mark, follows};
use proxy_core::store::{Origin, Revision, Who};

use super::policies::Sources;
use crate::store::{self, Current, Store};

/// Revisions and audit log, where there is a place for them.
#[derive(Debug)]
pub(super) struct History {
    store: Result<Store, String>,
    /// What is in force, whether it could be written or not; its newest bundle only ever grows.
    current: Current,
}

/// What is to be logged of a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    /// What was asked.
    pub act: Act,
    /// Who asked.
    pub who: Who,
    /// The revision that is in force by it, or why there was no change.
    pub outcome: Result<Option<u64>, &'a str>,
    /// What was changed, in words.
    pub what: Option<&'a str>,
}

impl History {
    /// Opens the store in `state_dir`. Where that fails, what was `left` in force there is held to all the same.
    pub fn open(state_dir: &Path, left: Current) -> Self {
        let store = Store::open(state_dir).map_err(|error| format!("{error:#}"));
        if let Err(why) = &store {
            tracing::warn!(why, "policies are not kept: there will be no rollback and no audit log");
        }
        let current = store.as_ref().map_or(left, Store::current);
        Self { store, current }
    }

    /// Why there is no store.
    pub fn missing(&self) -> Option<&str> {
        self.store.as_ref().err().map(String::as_str)
    }

    /// The store.
    ///
    /// # Errors
    /// Why there is none.
    pub fn store(&self) -> Result<&Store, String> {
        self.store.as_ref().map_err(|why| format!("policies are not kept: {why}"))
    }

    /// What is in force.
    pub fn current(&self) -> Current {
        self.current
    }

    /// Keeps a set that compiled; the number that it has, none where there is no store, or nothing worth keeping yet.
    ///
    /// # Errors
    /// It could not be written.
    pub fn keep(&mut self, sources: &Sources, rules: usize, origin: Origin, who: Who) -> Result<Option<u64>, String> {
        let Ok(store) = &mut self.store else { return Ok(None) };
        let texts = sources.texts();
        let digest = texts.digest();
        if let Some(known) = store.revisions().iter().rev().find(|revision| revision.digest == digest) {
            return Ok(Some(known.number));
        }
        if texts.files.is_empty() && store.revisions().is_empty() {
            return Ok(None);
        }
        let number = store.next_number();
        let revision = Revision::new(number, texts, rules, origin, who, jiff::Timestamp::now());
        let revision = Revision { after: self.current.revision, ..revision };
        store.add(revision, texts).map_err(|error| format!("the policies could not be kept: {error:#}"))?;
        Ok(Some(number))
    }

    /// A kept set did not come into force: it is forgotten where it was new.
    pub fn forget(&mut self, number: Option<u64>, next_before: Option<u64>) {
        if let Ok(store) = &mut self.store
            && number.is_some()
            && number == next_before
        {
            store.remove_last();
        }
    }

    /// The number that a new set would get.
    pub fn next_number(&self) -> Option<u64> {
        self.store.as_ref().ok().map(Store::next_number)
    }

    /// Whether sources may come into force, by the bundles that were before.
    ///
    /// # Errors
    /// They are an older bundle, or another one of the same number.
    pub fn follows(&self, sources: &Sources) -> Result<(), String> {
        sources.mark().map_or(Ok(()), |mark| follows(self.current.newest, mark))
    }

    /// Says that a set is in force: from now on here, and on disk, where a set that is not kept leaves the one before. `back`
    /// where a rollback led to it.
    ///
    /// # Errors
    /// It could not be written, which is logged: the next start does not know of it.
    pub fn in_force(
        &mut self,
        revision: Option<u64>,
        held: bool,
        back: bool,
        mark: Option<Mark>,
    ) -> Result<(), String> {
        let left = self.current;
        let before = if left.revision == revision { left.before } else { left.revision.filter(|_| !back) };
        let newest = left.newest;
        let newer = mark.filter(|mark| newest.is_none_or(|newest| mark.revision > newest.revision));
        self.current = Current { revision, held, before, newest: newer.or(newest) };
        let Ok(store) = &mut self.store else { return Ok(()) };
        let revision = revision.or(store.current().revision);
        store.set_current(Current { revision, ..self.current }).map_err(|error| {
            let error = format!("which policies are in force could not be written: {error:#}");
            tracing::error!("{error}");
            error
        })
    }

    /// Writes edits of lists that were made.
    ///
    /// # Errors
    /// They will be forgotten at the next start, and why.
    pub fn journal(&mut self, made: &[Edit], edits: &Edits) -> Result<(), String> {
        let store = self.store.as_mut().map_err(|why| why.clone())?;
        store.journal().append(made, edits).map_err(|error| format!("{error:#}"))
    }

    /// Logs a change.
    pub fn log(&mut self, change: Change<'_>) {
        let Ok(store) = &mut self.store else { return };
        let revision = change.outcome.ok().flatten();
        let event = Event {
            time: jiff::Timestamp::now(),
            who: change.who,
            act: change.act,
            outcome: if change.outcome.is_ok() { Outcome::Done } else { Outcome::Refused },
            revision,
            digest: revision.and_then(|number| store.revision(number)).map(|revision| revision.digest),
            detail: match (change.what, change.outcome.err().and_then(|why| why.lines().next())) {
                (Some(what), Some(why)) => Some(format!("{what}: {why}")),
                (what, why) => what.or(why).map(str::to_owned),
            },
        };
        if let Err(error) = store.audit().append(&event) {
            tracing::error!(error = format!("{error:#}"), "the audit log could not be written");
        }
    }
}

/// What an earlier run of the daemon left.
#[derive(Default)]
pub(super) struct Left {
    /// What was in force.
    pub current: Current,
    /// The set, where it can still be read and is signed as the config asks.
    pub sources: Option<Sources>,
}

/// What an earlier run of the daemon left in force, checked as the config asks. Which bundle was the newest is known whatever
/// became of the texts.
pub(super) fn left_in_force(config: &Config, base: &Path) -> Left {
    let state_dir = base.join(&config.state_dir);
    let unusable = |error: String| tracing::error!(error, "the revision that was in force cannot be used");
    let current = match store::peek(&state_dir) {
        Ok(current) => current,
        Err(error) => {
            unusable(format!("{error:#}"));
            return Left::default();
        }
    };
    let texts = current.revision.map(|number| store::peek_texts(&state_dir, number));
    let sources = texts.map(|texts| Sources::new(texts.map_err(|error| format!("{error:#}"))?, config));
    Left { current, sources: sources.and_then(|sources| sources.map_err(unusable).ok()) }
}
