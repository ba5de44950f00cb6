//! Policies that change without their config: sent by `policy apply`, restored by `policy rollback`. A revision that came
//! in by either is held: it stays in force over reloads and starts, until `policy apply` without files lets go of it.

use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use proxy_core::policy::{Edits, PolicySet};
use proxy_core::store::audit::Act;
use proxy_core::store::bundle::follows;
use proxy_core::store::{Origin, Who};

use super::challenge_key;
use super::history::{Change, History, Left, left_in_force};
use super::load::{Loaded, load_after, read_config};
use super::policies::{Sources, unpacked};
use super::{Daemon, warn_of};
use crate::control::wire;
use crate::kernel::Applied;
use crate::shared::{Applying, Kept, Proposal, Snapshot};
use crate::stages::Stages;
use crate::stages::hooks::Compiled;
use crate::store::{self, Current};

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

/// What a daemon starts with.
pub(super) struct First {
    /// Config and policies.
    pub loaded: Loaded,
    /// Whose policies they are.
    pub begin: Begin,
    /// Of their lists, at run time.
    pub edits: Edits,
    /// What the run before left in force.
    pub left: Current,
}

/// Loads what the daemon starts with: a held revision, else the config's policies, else, where these have faults, what
/// was in force before.
pub(super) fn first_load(path: &Path) -> anyhow::Result<First> {
    // What is wrong with the config is said below, with whatever else is.
    let read = read_config(path).ok();
    let Left { current: left, sources } =
        read.as_ref().map(|(config, base)| left_in_force(config, base)).unwrap_or_default();
    let edits = read.map(|(config, base)| store::peek_edits(&base.join(config.state_dir))).unwrap_or_default();
    let load = |sources: Option<Sources>| load_after(path, &[], None, sources, &edits);
    if left.held {
        let unread = || "it cannot be read, or is not signed as the config asks".to_owned();
        match sources.clone().ok_or_else(unread).and_then(|sources| load(Some(sources))) {
            Ok(loaded) => return Ok(First { loaded, begin: Begin::Held, edits, left }),
            Err(faults) => {
                tracing::error!(
                    "the held revision cannot be loaded, the config's policies are tried instead:\n{faults}"
                );
            }
        }
    }
    let in_order = |loaded: Loaded| match loaded.sources.mark() {
        Some(mark) => follows(left.newest, mark).map(|()| loaded),
        None => Ok(loaded),
    };
    let faults = match load(None).and_then(in_order) {
        Ok(loaded) => return Ok(First { loaded, begin: Begin::Files, edits, left }),
        Err(faults) => faults,
    };
    if let Some(sources) = sources
        && let Ok(loaded) = load(Some(sources))
    {
        tracing::error!("the policies have faults, those that were in force before stay:\n{faults}");
        return Ok(First { loaded, begin: Begin::LastGood, edits, left });
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
        let before = self.current();
        let lost = (begin == Begin::Files && before.held).then_some("the revision that was held could not be loaded");
        if begin == Begin::Files {
            self.took(sources, rules, Origin::Start, Who::default());
        }
        sources.forget_texts();
        let current = self.current();
        if current.revision.is_some() || lost.is_some() {
            self.log(Change { act: Act::Start, who: Who::default(), outcome: Ok(current.revision), what: lost });
        }
    }

    /// A reload took the config's files.
    pub(super) fn reloaded(&mut self, sources: &mut Sources, rules: usize, who: Who) {
        self.took(sources, rules, Origin::Reload, who);
        sources.forget_texts();
    }

    /// The config's files are in force; that they cannot be kept is no reason not to use them.
    fn took(&mut self, sources: &Sources, rules: usize, origin: Origin, who: Who) {
        let kept = self.keep(sources, rules, origin, who);
        if let Err(error) = &kept {
            tracing::error!(error, "the policies are in force, and not kept");
        }
        // What goes wrong is logged there.
        drop(self.in_force(kept.unwrap_or_default(), false, false, sources.mark()));
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
        let back = matches!(proposal, Proposal::Revision(_));
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
        let mut warnings: Vec<String> = policies.warnings().iter().map(ToString::to_string).collect();
        let next = self.history.next_number();
        let number = self.history.keep(&sources, rules, origin, who)?;
        let (generation, mut applied) = self.swap(policies).inspect_err(|_| self.history.forget(number, next))?;
        if let Some(kernel) = self.shared.kernel.as_deref().filter(|_| back) {
            // Whom the rules that are left had banned is let in again.
            let kept = self.shared.snapshot.load().policies.keeps_verdicts_of(&before.policies);
            applied.retracted += kernel.withdraw(&kept);
        }
        let written = self.history.in_force(number, held, back, sources.mark());
        sources.forget_texts();
        self.follow(sources);
        let held = held && written.is_ok();
        warnings.extend(written.err().map(|error| format!("reloads keep these policies, a restart does not: {error}")));
        Ok(Applying { generation, kernel: applied, revision: number, held, rules, warnings })
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
        challenge_key::keep(&before.config, &policies);
        let generation = before.generation + 1;
        let (config, origins) = (Arc::clone(&before.config), before.origins.clone());
        let mut snapshot = Snapshot::new(config, Arc::new(policies), stages, origins, generation);
        snapshot.same_host.clone_from(&before.same_host);
        self.shared.snapshot.store(Arc::new(snapshot));
        Ok((generation, kernel))
    }

    /// The revision that a rollback leads to.
    fn earlier(&self, number: Option<u64>) -> Result<u64, String> {
        let store = self.history.store()?;
        if let Some(number) = number {
            return store.revision(number).map(|revision| revision.number).ok_or_else(|| store.unknown(number));
        }
        let now = self.history.current();
        let current = now.revision.ok_or("no revision is in force: there is nothing to go back from")?;
        // What it took the place of, which another rollback may have led to; where that is not known or kept, the one that
        // came in before it.
        let left = now.before.or_else(|| store.revision(current)?.after).and_then(|number| store.revision(number));
        let older = || store.revisions().iter().rev().find(|revision| revision.number < current);
        let earlier = left.or_else(older).map(|revision| revision.number);
        earlier.ok_or_else(|| format!("no revision before {current} is kept"))
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
        let current = self.history.current();
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
        let current = self.history.current().revision;
        let number = number.or(current).ok_or("no revision is in force yet: no policies were loaded")?;
        let policies = unpacked(store.texts(number).map_err(|error| format!("{error:#}"))?);
        let revision = store.revision(number).cloned().ok_or_else(|| store.unknown(number))?;
        Ok(wire::RevisionTexts { revision, policies })
    }
}

#[cfg(test)]
mod tests {
    use proxy_core::digest::Digest;
    use proxy_core::store::bundle::{Bundle, Payload, SecretKey};
    use proxy_core::store::{Revision, Texts};

    use super::*;
    use crate::store::Store;

    fn bundle(revision: u64, key: &SecretKey) -> Texts {
        let policy =
            r#"{"schema":"tidegate.policy/v1","id":"p","rules":[{"id":"r","when":"true","action":{"type":"log"}}]}"#;
        let policies = Texts { files: vec![("p.json".to_owned(), policy.to_owned())], lists: Vec::new() };
        let mut bundle = Bundle::new(&Payload { revision, created: jiff::Timestamp::UNIX_EPOCH, policies });
        bundle.sign(key);
        Texts { files: vec![("b.json".to_owned(), bundle.text())], lists: Vec::new() }
    }

    #[test]
    fn an_older_bundle_is_refused_whatever_became_of_the_newest_ones_texts() {
        let dir = std::env::temp_dir().join(format!("tidegate-first-load-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let key = SecretKey::new([7; 32]).unwrap();
        let config = serde_json::json!({
            "listeners": [{ "name": "a", "address": "127.0.0.1:1", "protocol": "http" }],
            "routes": [{ "upstream": "o" }], "upstreams": { "o": { "servers": ["http://127.0.0.1:1"] } },
            "policies": ["b.json"], "state_dir": "state", "gate": { "enabled": false },
            "require_signature": true, "trusted_keys": [key.public()],
        });
        let path = dir.join("c.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut store = Store::open(&dir.join("state")).unwrap();
        let held = bundle(2, &key);
        let revision = Revision::new(1, &held, 1, Origin::Apply, Who::default(), jiff::Timestamp::UNIX_EPOCH);
        store.add(revision, &held).unwrap();
        let config = read_config(&path).unwrap().0;
        let newest = Sources::new(held.clone(), &config).unwrap().mark();
        let left = Current { revision: Some(1), held: true, newest, ..Current::default() };
        store.set_current(left).unwrap();
        std::fs::write(dir.join("b.json"), &bundle(1, &key).files[0].1).unwrap();
        assert_eq!(first_load(&path).unwrap().begin, Begin::Held);

        let object = Digest::of(held.files[0].1.as_bytes()).to_string();
        std::fs::write(store::directory(&dir.join("state")).join("objects").join(object), "altered").unwrap();
        let refused = first_load(&path).err().map(|error| error.to_string());
        assert!(refused.as_ref().is_some_and(|why| why.contains("2 was in force already")), "{refused:?}");
        std::fs::write(dir.join("b.json"), &bundle(3, &key).files[0].1).unwrap();
        let first = first_load(&path).unwrap();
        assert_eq!((first.begin, first.left), (Begin::Files, left));

        // The store is another's: what was left holds in memory.
        let mut history = History::open(&dir.join("state"), first.left);
        assert!(history.missing().is_some() && history.current() == left);
        let older = Sources::new(bundle(1, &key), &config).unwrap();
        assert!(history.follows(&older).is_err() && history.follows(&first.loaded.sources).is_ok());
        history.in_force(None, false, false, first.loaded.sources.mark()).unwrap();
        let again = Sources::new(held, &config).unwrap();
        assert!(history.follows(&again).is_err() && !history.current().held);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
