//! Reloads: of the config with all that it names, of certificates alone, and of policies of which a part has expired.

use std::sync::Arc;

use proxy_core::config::needs_restart;
use proxy_core::store::Who;
use proxy_core::store::audit::Act;

use super::load::{Loaded, load_after};
use super::{Daemon, challenge_key, load_same_host, warn_of, watch_tls};
use crate::kernel::{Applied, Kernel};
use crate::shared::Reloaded;
use crate::tls;
use crate::tls::acme::{self, Asking};
use crate::tls::files::files as tls_files;
use crate::watch::Stamps;

impl Daemon {
    /// All or nothing: whatever is faulty, the old snapshot stays.
    pub(super) fn reload(&mut self, who: Who) -> Result<Reloaded, String> {
        let result = self.try_reload(who);
        match &result {
            Ok(reloaded) => {
                tracing::info!(generation = reloaded.generation, kernel = ?reloaded.kernel, "reloaded");
                for pointer in &reloaded.needs_restart {
                    tracing::warn!(pointer, "this change takes effect at the next start");
                }
            }
            Err(faults) => tracing::error!("not reloaded, the old config stays in force:\n{faults}"),
        }
        self.tell(Act::Reload, who, result.as_ref().map(|_| ()).map_err(String::as_str));
        result
    }

    fn try_reload(&mut self, who: Who) -> Result<Reloaded, String> {
        let known = self.rule_slots()?;
        let before = self.shared.snapshot.load_full();
        let current = self.history.current();
        let held = current.held.then(|| self.sources.clone());
        let mut loaded = load_after(&self.path, &known, Some(&before.policies), held, &self.edits)?;
        if current.held {
            self.sources.may_stay(&loaded.config)?;
        }
        self.history.follows(&loaded.sources).or_else(|fault| if current.held { Ok(()) } else { Err(fault) })?;
        let kernel = match &self.shared.kernel {
            Some(kernel) => apply(kernel, &loaded).map_err(|error| format!("{error:#}"))?,
            None => Applied::default(),
        };
        let needs_restart = needs_restart(&self.boot, &loaded.config);
        warn_of(&loaded.policies);
        challenge_key::keep(&loaded.config, &loaded.policies);
        if !current.held {
            self.history.reloaded(&mut loaded.sources, loaded.policies.rules().len(), who);
        }
        let Loaded { config, base, tls, sources, mut snapshot, .. } = loaded;
        let stamps = tls.stamps.clone();
        let generation = before.generation + 1;
        snapshot.generation = generation;
        snapshot.same_host = load_same_host(&config, before.same_host());
        if let Some(in_force) = &self.shared.tls {
            in_force.replace(tls)?;
        }
        self.shared.snapshot.store(Arc::new(snapshot));
        self.follow(sources);
        self.stamps = stamps;
        if let (Some(log), Some(file)) = (&self.log, &config.access_log.file) {
            log.reopen(&base.join(file));
        }
        let prepared = acme::prepare(&config, &base);
        self.watch = Some(watch_tls(&config, &base, self.changed.0.clone()));
        if let Some(tls) = &self.shared.tls {
            let before = self.acme.take();
            let asking = prepared.and_then(|()| Asking::start(&config, &base, tls.challenges(), before));
            self.acme = asking.unwrap_or_else(|error| {
                tracing::error!(error = format!("{error:#}"), "no certificates are asked for; reload to try again");
                None
            });
        }
        Ok(Reloaded { generation, kernel, needs_restart, held: current.revision.filter(|_| current.held) })
    }

    /// After a change of the files; a broken one keeps what is in force.
    pub(super) fn reload_certificates(&mut self) {
        let config = Arc::clone(&self.shared.snapshot.load().config);
        let base = self.path.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
        let stamps = Stamps::take(tls_files(&config, &base));
        if stamps == self.stamps {
            return;
        }
        let Some(in_force) = &self.shared.tls else { return };
        match tls::Loaded::read(&config, &base).and_then(|loaded| in_force.replace(loaded)) {
            Ok(()) => tracing::info!("certificates read again"),
            Err(faults) => tracing::error!("certificates not read again, the old ones stay in force:\n{faults}"),
        }
        self.stamps = stamps;
        // The files may lie behind other links now.
        self.watch = Some(watch_tls(&config, &base, self.changed.0.clone()));
    }

    /// A rule's time has come: the same texts are compiled again, without it.
    pub(super) fn expire(&self) {
        match self.compiled(&self.sources).and_then(|policies| self.swap(policies)) {
            Ok((generation, ..)) => tracing::info!(generation, "rules or items of lists have expired"),
            Err(faults) => tracing::error!("expired rules stay in force, reload to try again:\n{faults}"),
        }
    }

    /// Rule slots that the kernel maps name.
    pub(super) fn rule_slots(&self) -> Result<Vec<(u32, String)>, String> {
        match &self.shared.kernel {
            Some(kernel) => kernel.rule_names().map_err(|error| format!("{error:#}")),
            None => Ok(Vec::new()),
        }
    }
}

/// Takes a loaded config into the kernel half: interfaces that come in first, those that go last. Where it fails, none
/// came in.
fn apply(kernel: &Kernel, loaded: &Loaded) -> anyhow::Result<Applied> {
    let gate = &loaded.config.gate;
    let added = kernel.add_interfaces(gate)?;
    let applied = kernel
        .apply(loaded.policies.kernel_image())
        .and_then(|applied| kernel.set_checks(&loaded.config).map(|()| applied))
        .and_then(|applied| kernel.set_rates(&loaded.config).map(|()| applied))
        .and_then(|applied| kernel.set_fail(gate).map(|()| applied));
    match &applied {
        Ok(_) => {
            kernel.drop_interfaces(gate, None)?;
            kernel.set_syn(gate)?;
        }
        Err(_) => kernel.drop_interfaces(gate, Some(&added))?,
    }
    applied
}
