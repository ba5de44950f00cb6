//! Policy files: found by the config's patterns, read with the list files that they name, and handed to the compiler as one
//! set. What was read is kept, so that rules can expire without looking at files that someone may be editing.

mod read;
mod signed;

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::net::if_::if_nametoindex;
use proxy_core::config::{Config, Geo};
use proxy_core::geo::{Databases, MAX_FILE_BYTES};
use proxy_core::policy::{self, Edits, ItemKind, ListFault, ListFiles, NamedFile, PolicySet};
use proxy_core::store::Texts;
use proxy_core::store::bundle::{Mark, PublicKey};

use self::read::{find, parse_lists, read_list, shown};
pub use self::read::{read_files, read_lists, read_texts};
pub use self::signed::unpacked;
use self::signed::{Signed, bundled, some_signed};
use super::challenge_key;
use crate::watch::Stamps;

/// Most policy files that a config's patterns may find; the compiler has bounds of its own.
const MAX_FILES: usize = 1_024;

/// Names and texts of policy files, and the lists that they name.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
    lists: Arc<ListFiles>,
    /// What identifies the signed bundle that they came in.
    mark: Option<Mark>,
    /// The key that signed it.
    signer: Option<PublicKey>,
    /// As they came, until they are kept: lists may be large.
    came: Texts,
    /// Files of lists that are taken up when they change: those of the config's own policies only.
    watched: Vec<WatchedFile>,
    /// Of these files, before they were read.
    stamps: Stamps,
}

/// A list file that is taken up by itself.
#[derive(Clone, Debug)]
struct WatchedFile {
    /// Name of the policy file, and the name that the list file has there.
    key: (String, String),
    kind: ItemKind,
    path: PathBuf,
}

impl Sources {
    /// Reads every policy file that the config names, patterns in the order of the config, files of one by name.
    pub(super) fn read(config: &Config, base: &Path) -> Result<Self, String> {
        let mut files: Vec<PathBuf> = Vec::new();
        let mut faults = Vec::new();
        for (index, pattern) in config.policies.iter().enumerate() {
            match find(pattern, base) {
                // A file that two patterns find is read once.
                Ok(found) => found.into_iter().for_each(|file| {
                    if !files.contains(&file) {
                        files.push(file);
                    }
                }),
                Err(fault) => faults.push(format!("/policies/{index}: {fault}")),
            }
        }
        if files.len() > MAX_FILES {
            faults.push(format!("/policies: {} files; at most {MAX_FILES} are taken", files.len()));
        }
        files.truncate(MAX_FILES);
        let (sources, unread) = read_files(&files);
        faults.extend(unread);
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        // A config that names no policies asks for none; patterns that find nothing may be all that somebody left.
        if !config.policies.is_empty() {
            some_signed(&sources, config).map_err(|fault| format!("/policies: {fault}"))?;
        }
        if let Some(signed) = bundled(&sources, config)? {
            return Ok(Self::signed(signed, Texts { files: sources, lists: Vec::new() }));
        }
        let watched = watched(&sources);
        let stamps = Stamps::take(watched.iter().map(|file| &file.path));
        let (lists, list_texts) = read_lists(&sources);
        let came = Texts { files: sources.clone(), lists: list_texts };
        Ok(Self { files: sources, lists: Arc::new(lists), came, watched, stamps, ..Self::default() })
    }

    /// Texts that came by another way than the config's files, a signed bundle among them.
    ///
    /// # Errors
    /// The config requires a signature, and there is no good one; or there is one, and it is not good.
    pub fn new(texts: Texts, config: &Config) -> Result<Self, String> {
        some_signed(&texts.files, config)?;
        match bundled(&texts.files, config)? {
            Some(signed) => Ok(Self::signed(signed, texts)),
            None => Ok(Self::unsigned(texts)),
        }
    }

    /// Texts that are no bundle.
    pub fn unsigned(texts: Texts) -> Self {
        Self { lists: Arc::new(parse_lists(&texts)), files: texts.files.clone(), came: texts, ..Self::default() }
    }

    fn signed(Signed { inside, mark, signer }: Signed, came: Texts) -> Self {
        let lists = Arc::new(parse_lists(&inside));
        Self { lists, files: inside.files, mark: Some(mark), signer: Some(signer), came, ..Self::default() }
    }

    /// Whether they may stay in force under another config than the one that they were taken by.
    ///
    /// # Errors
    /// It requires a signature, and they have none; or it no longer trusts the key that signed them.
    pub(super) fn may_stay(&self, config: &Config) -> Result<(), String> {
        match self.signer {
            None if config.require_signature => {
                Err("the revision that is held is not signed, which the config requires (`require_signature`)"
                    .to_owned())
            }
            Some(signer) if !config.trusted_keys.contains(&signer) => Err(format!(
                "the revision that is held is signed by {signer}, which is no longer among the trusted keys: bring in \
                 policies that another key signed (`tidegate policy apply`) before `trusted_keys` drops this one"
            )),
            _ => Ok(()),
        }
    }

    /// The lists that the policies name.
    pub fn lists(&self) -> &ListFiles {
        &self.lists
    }

    /// The files of their lists that are taken up when they change, and what told them when they were read.
    pub(super) fn watched(&self) -> (Vec<PathBuf>, Stamps) {
        (self.watched.iter().map(|file| file.path.clone()).collect(), self.stamps.clone())
    }

    /// Reads one of the watched files again, by its number; how many items there are now. On a fault nothing changes.
    ///
    /// # Errors
    /// What is wrong with it, a line each.
    pub(super) fn read_again(&mut self, number: usize) -> Result<usize, String> {
        let file = self.watched.get(number).ok_or("no such file")?;
        let list = read_list(&file.path)
            .map_err(ListFault::Unread)
            .and_then(|bytes| policy::parse_list(&file.path.display().to_string(), file.kind, &bytes));
        let list = list.map_err(|fault| match fault {
            ListFault::Unread(why) => why,
            ListFault::Lines(lines) => lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        })?;
        let items = list.items;
        let had_some = matches!(self.lists.get(&file.key), Some(Ok(before)) if before.items > 0);
        if items == 0 && had_some {
            // More often a download that failed than a list that nobody is in any more.
            return Err(format!("{}: no item is left in it; `tidegate reload` takes it as it is", file.path.display()));
        }
        Arc::make_mut(&mut self.lists).insert(file.key.clone(), Ok(list));
        Ok(items)
    }

    /// What identifies the signed bundle that they came in, if they did.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// All texts as they came, a bundle as one of them; none once [`Self::forget_texts`] was called.
    pub fn texts(&self) -> &Texts {
        &self.came
    }

    /// Frees the texts as they came: what is in force needs what they came to.
    pub(super) fn forget_texts(&mut self) {
        self.came = Texts::default();
    }

    /// Compiles them for `config`. `slots` are rule slots in use, `previous` is the set in force, whose counts go on, `edits`
    /// are laid over the lists.
    pub(super) fn compile(
        &self,
        config: &Config,
        slots: &[(u32, String)],
        previous: Option<&PolicySet>,
        edits: &Edits,
    ) -> Result<PolicySet, String> {
        let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.name.clone()).collect();
        let interfaces = interfaces(config);
        let places = Arc::new(places(&config.geo)?);
        let random = RandomState::new();
        let options = policy::Options {
            known_slots: slots,
            wall_now: jiff::Timestamp::now(),
            ipv6_prefix: config.gate.ipv6_prefix,
            listeners: &listeners,
            interfaces: &interfaces,
            seed: [random.hash_one(0), random.hash_one(1)],
            challenge_key: challenge_key::read(config)?,
            lists: &self.lists,
            places: Some(&places),
            edits,
            previous,
        };
        policy::compile(&self.files, &options).map_err(|faults| {
            let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })
    }
}

/// The files that tell where addresses are.
fn places(files: &Geo) -> Result<Databases, String> {
    let read = |key: &str, file: Option<&PathBuf>| {
        let Some(file) = file else { return Ok(None) };
        let wrong = |error: String| format!("/geo/{key}: {}: {error}", file.display());
        let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(wrong(format!("it has {size} bytes, at most {MAX_FILE_BYTES} are read")));
        }
        std::fs::read(file).map(Some).map_err(|error| wrong(error.to_string()))
    };
    let (country, asn) = (read("country", files.country.as_ref())?, read("asn", files.asn.as_ref())?);
    Databases::new(country, asn).map_err(|(key, error)| format!("/geo/{key}: {error}"))
}

/// The gate's interfaces with their indexes as of now. One that is made anew later has another, and no program: the next
/// start attaches to it and compiles again.
pub fn interfaces(config: &Config) -> Vec<(String, u32)> {
    let names = config.gate.interfaces.iter();
    names.map(|name| (name.clone(), if_nametoindex(name.as_str()).unwrap_or_else(|_| policy::stand_in(name)))).collect()
}

/// The list files that policies want to have watched.
fn watched(policies: &[(String, String)]) -> Vec<WatchedFile> {
    let of = |(policy, text): &(String, String)| {
        let files = policy::list_files(text).into_iter();
        let files = files.filter(|file| file.watch && policy::check_list_name(&file.name).is_ok());
        let found = files.map(|NamedFile { name, kind, .. }| {
            let path = shown(policy, &name);
            WatchedFile { key: (policy.clone(), name), kind, path }
        });
        found.collect::<Vec<_>>()
    };
    policies.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests;
