//! Policies that change without their config: sent by `policy apply`, restored by `policy rollback`. A revision that came
//! in by either is held: it stays in force over reloads and starts, until `policy apply` without files lets go of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use proxy_core::policy::{Edits, PolicySet};
use proxy_core::store::audit::Act;
use proxy_core::store::bundle::follows;
use proxy_core::store::{Origin, Who};

use super::history::{Change, History, left_in_force};
use super::load::{Loaded, load_after, read_config};
use super::policies::{Sources, unpacked};
use super::{Daemon, warn_of};
use crate::control::wire;
use crate::kernel::Applied;
use crate::shared::{Applying, Kept, Proposal, Snapshot};
use crate::stages::Stages;
use crate::stages::hooks::Compiled;
use crate::store;

/// Which policies a daemon starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Those of the config's files.
    Files,
    /// The revision that is held.
    Held,
    /// The revision that was in force: the config's files have faults.
    LastGood,
}

/// Loads what the daemon starts with: a held revision, else the config's policies, else, where these have faults, what
/// was in force before.
pub(super) fn first_load(path: &Path) -> anyhow::Result<(Loaded, Begin, Edits)> {
    // What is wrong with the config is said below, with whatever else is.
    let read = read_config(path).ok();
    let left = read.as_ref().and_then(|(config, base)| left_in_force(config, base));
    let edits = read.map(|(config, base)| store::peek_edits(&base.join(config.state_dir))).unwrap_or_default();
    let newest = left.as_ref().and_then(|left| left.current.newest);
    let load = |sources: Option<Sources>| load_after(path, &[], None, sources, &edits);
    if let Some(left) = left.as_ref().filter(|left| left.current.held) {
        match load(Some(left.sources.clone())) {
            Ok(loaded) => return Ok((loaded, Begin::Held, edits)),
            Err(faults) => {
                tracing::error!(
                    "the held revision cannot be loaded, the config's policies are tried instead:\n{faults}"
                );
            }
        }
    }
    let in_order = |loaded: Loaded| match loaded.sources.mark() {
        Some(mark) => follows(newest, mark).map(|()| loaded),
        None => Ok(loaded),
    };
    let faults = match load(None).and_then(in_order) {
        Ok(loaded) => return Ok((loaded, Begin::Files, edits)),
        Err(faults) => faults,
    };
    if let Some(left) = left
        && let Ok(loaded) = load(Some(left.sources))
    {
        tracing::error!("the policies have faults, those that were in force before stay:\n{faults}");
        return Ok((loaded, Begin::LastGood, edits));
    }
    Err(anyhow!("{faults}"))
}

impl History {
    /// Which policies are in force, for `status`.
    pub(super) fn kept(&self) -> Kept {
        Kept { current: self.current(), missing: self.missing().map(str::to_owned) }
    }

    /// The daemon starts with a set.
    pub(super) fn started(&mut self, sources: &mut Sources, rules: usize, begin: Begin) {
        if begin == Begin::Files {
            self.took(sources, rules, Origin::Start, Who::default());
        }
        sources.forget_texts();
        let current = self.current();
        if current.revision.is_some() {
            self.log(Change { act: Act::Start, who: Who::default(), outcome: Ok(current.revision), what: None });
        }
    }

    /// A reload took the config's files.
    pub(super) fn reloaded(&mut self, sources: &mut Sources, rules: usize, who: Who) {
        self.took(sources, rules, Origin::Reload, who);
        sources.forget_texts();
    }

    /// The config's files are in force; that they cannot be kept is no reason not to use them.
    fn took(&mut self, sources: &Sources, rules: usize, origin: Origin, who: Who) {
        match self.keep(sources, rules, origin, who) {
            Ok(number) => self.in_force(number, false, sources.mark()),
            Err(error) => tracing::error!(error, "the policies are in force, and not kept"),
        }
    }
}

impl Daemon {
    /// Loads other policies; whatever is faulty, the old ones stay.
    pub(super) fn apply(&mut self, who: Who, proposal: Proposal) -> Result<Applying, String> {
        let act = if matches!(proposal, Proposal::Revision(_)) { Act::Rollback } else { Act::Apply };
        let result = self.try_apply(who, proposal);
        match &result {
            Ok(done) => tracing::info!(revision = done.revision, generation = done.generation, "{} done", act.name()),
            Err(faults) => tracing::error!("{} refused, the policies that were in force stay:\n{faults}", act.name()),
        }
        self.tell(act, who, result.as_ref().map(|_| ()).map_err(String::as_str));
        result
    }

    fn try_apply(&mut self, who: Who, proposal: Proposal) -> Result<Applying, String> {
        let before = self.shared.snapshot.load_full();
        let (mut sources, origin, held) = match proposal {
            Proposal::Texts(texts) => {
                let sources = Sources::new(texts, &before.config)?;
                self.history.follows(&sources)?;
                (sources, Origin::Apply, true)
            }
            Proposal::Config => {
                let base = self.path.parent().unwrap_or(Path::new(""));
                let sources = Sources::read(&before.config, base)?;
                self.history.follows(&sources)?;
                (sources, Origin::Reload, false)
            }
            Proposal::Revision(number) => {
                let number = self.earlier(number)?;
                let texts = self.history.store()?.texts(number).map_err(|error| format!("{error:#}"))?;
                // Older bundles too: what is kept was in force once, and who asks is logged.
                (Sources::new(texts, &before.config)?, Origin::Apply, true)
            }
        };
        if held {
            // What is not kept could not be held.
            self.history.store()?;
        }
        // Compiled first: only what is sound is kept, and only what is kept comes into force.
        let policies = self.compiled(&sources)?;
        let rules = policies.rules().len();
        let warnings = policies.warnings().iter().map(ToString::to_string).collect();
        let next = self.history.next_number();
        let number = self.history.keep(&sources, rules, origin, who)?;
        let (generation, kernel) = self.swap(policies).inspect_err(|_| self.history.forget(number, next))?;
        self.history.in_force(number, held, sources.mark());
        sources.forget_texts();
        self.sources = sources;
        Ok(Applying { generation, kernel, revision: number, held, rules, warnings })
    }

    /// Sources, compiled for the config in force; counts of rates that did not change go on.
    pub(super) fn compiled(&self, sources: &Sources) -> Result<PolicySet, String> {
        let before = self.shared.snapshot.load_full();
        sources.compile(&before.config, &self.rule_slots()?, Some(&before.policies), &self.edits)
    }

    /// Puts compiled policies in force beside the config that is; tells the generation and what changed in the kernel.
    pub(super) fn swap(&self, policies: PolicySet) -> Result<(u64, Applied), String> {
        let before = self.shared.snapshot.load_full();
        let base = self.path.parent().unwrap_or(Path::new(""));
        let stages = Compiled::new(Stages::installed(), &before.config, base, &policies)
            .map_err(|faults| faults.iter().map(|(at, what)| format!("{at}: {what}")).collect::<Vec<_>>().join("\n"))?;
        let kernel = match &self.shared.kernel {
            Some(kernel) => kernel.apply(policies.kernel_image()).map_err(|error| format!("{error:#}"))?,
            None => Applied::default(),
        };
        warn_of(&policies);
        let generation = before.generation + 1;
        let (config, origins) = (Arc::clone(&before.config), before.origins.clone());
        let snapshot = Snapshot::new(config, Arc::new(policies), stages, origins, generation);
        self.shared.snapshot.store(Arc::new(snapshot));
        Ok((generation, kernel))
    }

    /// The revision that a rollback leads to.
    fn earlier(&self, number: Option<u64>) -> Result<u64, String> {
        let store = self.history.store()?;
        if let Some(number) = number {
            return store.revision(number).map(|revision| revision.number).ok_or_else(|| store.unknown(number));
        }
        let current = store.current().revision.ok_or("no revision is in force: there is nothing to go back from")?;
        let earlier = store.revisions().iter().rev().find(|revision| revision.number < current);
        earlier.map(|revision| revision.number).ok_or_else(|| format!("no revision before {current} is kept"))
    }

    /// Writes down a change of policies, and shows it in `status`.
    pub(super) fn tell(&mut self, act: Act, who: Who, outcome: Result<(), &str>) {
        self.tell_of(act, who, outcome, None);
    }

    /// [`Self::tell`], with what was changed in words.
    pub(super) fn tell_of(&mut self, act: Act, who: Who, outcome: Result<(), &str>, what: Option<&str>) {
        let revision = self.history.current().revision;
        self.history.log(Change { act, who, outcome: outcome.map(|()| revision), what });
        self.shared.kept.store(Arc::new(self.history.kept()));
    }

    /// What is kept.
    pub(super) fn history(&self) -> Result<wire::History, String> {
        let store = self.history.store()?;
        let current = store.current();
        Ok(wire::History {
            current: current.revision,
            held: current.held,
            revisions: store.revisions().to_vec(),
            audit: store.audit_head(),
        })
    }

    /// Texts of a revision, or of the one in force.
    pub(super) fn texts(&self, number: Option<u64>) -> Result<wire::RevisionTexts, String> {
        let store = self.history.store()?;
        let number =
            number.or(store.current().revision).ok_or("no revision is in force yet: no policies were loaded")?;
        let policies = unpacked(store.texts(number).map_err(|error| format!("{error:#}"))?);
        let revision = store.revision(number).cloned().ok_or_else(|| store.unknown(number))?;
        Ok(wire::RevisionTexts { revision, policies })
    }
}
