//! From files to a snapshot: config, policies, certificates, origins, all checked before any of it is used.
//! `tidegate check`, the start and every reload go through here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_core::config::{self, Config, Diagnostic};
use proxy_core::policy::{Edits, PolicySet};
use proxy_core::store::Texts;

use super::challenge_key;
use super::policies::{Sources, unpacked};
use crate::shared::Snapshot;
use crate::stages::Stages;
use crate::stages::hooks::Compiled;
use crate::tls;
use crate::upstream::origin::Origin;

/// Everything that a config file leads to.
#[derive(Debug)]
pub struct Loaded {
    /// Validated config.
    pub config: Arc<Config>,
    /// Directory that relative paths start at: the config file's.
    pub base: PathBuf,
    /// Texts of the policies.
    pub sources: Sources,
    /// Compiled policies.
    pub policies: Arc<PolicySet>,
    /// What workers see of it, as the first generation.
    pub snapshot: Snapshot,
    /// Certificates and their keys, authorities of clients.
    pub tls: tls::Loaded,
}

/// Reads the config at `path` and all that it names. `slots` are rule slots already in use, which rules of the same
/// name keep.
///
/// # Errors
/// Every fault that was found, one a line, each with its file and place.
pub fn load(path: &Path, slots: &[(u32, String)]) -> Result<Loaded, String> {
    load_after(path, slots, None, None, &Edits::default())
}

/// Reads the config at `path` and its policies, and none of the other files that it names: what the kernel half needs.
///
/// # Errors
/// As [`load`].
pub fn load_policies(path: &Path) -> Result<(Config, PolicySet), String> {
    let (config, base) = read_config(path)?;
    let sources = Sources::read(&config, &base)
        .map_err(|fault| named_where_placed(&fault, &|line: String| format!("{}: {line}", path.display())))?;
    let policies = sources.compile(&config, &[], None, &Edits::default())?;
    Ok((config, policies))
}

/// Reads the config at `path`, and tells the directory that its relative paths start at.
///
/// # Errors
/// Every fault that was found, one a line.
pub fn read_config(path: &Path) -> Result<(Config, PathBuf), String> {
    read_text(path).map(|(config, base, _)| (config, base))
}

/// And the config's text.
fn read_text(path: &Path) -> Result<(Config, PathBuf, String), String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{}: {error}; name a config with --config FILE", path.display()))?;
    let mut config = config::parse(&text).map_err(|faults| lines(path, &faults))?;
    let base = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    config.kept_challenge_key = base.join(&config.state_dir).join(challenge_key::FILE);
    for file in [&mut config.geo.country, &mut config.geo.asn, &mut config.challenge_key].into_iter().flatten() {
        *file = base.join(&*file);
    }
    Ok((config, base, text))
}

fn lines(path: &Path, faults: &[Diagnostic]) -> String {
    let lines: Vec<_> = faults.iter().map(|fault| format!("{}:{fault}", path.display())).collect();
    lines.join("\n")
}

/// Policies of a config's files, as texts.
///
/// # Errors
/// What cannot be read, a line each.
pub fn read_policies(path: &Path) -> Result<Texts, String> {
    let (config, base) = read_config(path)?;
    Sources::read(&config, &base).map(|sources| unpacked(sources.texts().clone()))
}

/// [`load`] where `previous` policies are in force: counts of rates that did not change go on. With `held` policies, the
/// config's policy files are not looked at. `edits` are laid over their lists.
///
/// # Errors
/// As [`load`].
pub fn load_after(
    path: &Path,
    slots: &[(u32, String)],
    previous: Option<&PolicySet>,
    held: Option<Sources>,
    edits: &Edits,
) -> Result<Loaded, String> {
    let (config, base, text) = read_text(path)?;
    let named = |fault: String| {
        let lines: Vec<_> = fault.lines().map(|line| format!("{}: {line}", path.display())).collect();
        lines.join("\n")
    };
    let mut faults = Vec::new();
    let sources = match held {
        Some(held) => Some(held),
        None => keep(&mut faults, Sources::read(&config, &base).map_err(|fault| named_where_placed(&fault, &named))),
    };
    let compiled = sources.as_ref().map(|sources| sources.compile(&config, slots, previous, edits));
    let policies = compiled.and_then(|compiled| keep(&mut faults, compiled)).map(Arc::new);
    let config = Arc::new(config);
    // Faults of stages are told also where other files have theirs.
    let judged = policies.clone().unwrap_or_default();
    let stages = Compiled::new(Stages::installed(), &config, &base, &judged)
        .map_err(|faults| lines(path, &config::locate(&text, faults)));
    let stages = keep(&mut faults, stages);
    let origins = keep(&mut faults, Origin::all(&config, &base).map_err(named));
    let tls = keep(&mut faults, tls::Loaded::read(&config, &base).map_err(named));
    match (sources, policies, stages, origins, tls) {
        (Some(sources), Some(policies), Some(stages), Some(origins), Some(tls)) => Ok(Loaded {
            snapshot: Snapshot::new(Arc::clone(&config), Arc::clone(&policies), stages, origins, 1),
            config,
            base,
            sources,
            policies,
            tls,
        }),
        _ => Err(faults.join("\n")),
    }
}

/// Lines that begin with a JSON pointer are about the config; the others name their own file.
fn named_where_placed(fault: &str, named: &impl Fn(String) -> String) -> String {
    let is_pointer = |line: &str| line.starts_with("/policies");
    let lines = fault.lines().map(|line| if is_pointer(line) { named(line.to_owned()) } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

fn keep<T>(faults: &mut Vec<String>, part: Result<T, String>) -> Option<T> {
    part.map_err(|fault| faults.push(fault)).ok()
}
