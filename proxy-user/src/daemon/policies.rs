//! Policy files: found by the config's patterns, read with the list files that they name, and handed to the compiler as one
//! set. What was read is kept, so that rules can expire without looking at files that someone may be editing.
//!
//! A list file lies in its policy's directory or below; symbolic links are followed, so whoever may write there chooses
//! what is read. It must be a regular file within a bound, and of a line that is no address at most 64 bytes are shown.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::net::if_::if_nametoindex;
use proxy_core::config::Config;
use proxy_core::policy::{self, ListFault, ListFile, ListFiles, MAX_LIST_FILE_BYTES, PolicySet};

/// Most policy files that a config's patterns may find; the compiler has bounds of its own.
const MAX_FILES: usize = 1_024;

/// Names and texts of policy files, and the lists that they name.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(String, String)>,
    lists: Arc<ListFiles>,
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
        let mut sources = Vec::new();
        for file in files.into_iter().take(MAX_FILES) {
            match std::fs::read_to_string(&file) {
                Ok(text) => sources.push((file.display().to_string(), text)),
                Err(error) => faults.push(format!("{}: {error}", file.display())),
            }
        }
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let lists = Arc::new(read_lists(&sources));
        Ok(Self { files: sources, lists })
    }

    /// Compiles them for `config`. `slots` are rule slots in use, `previous` is the set in force, whose counts go on.
    pub(super) fn compile(
        &self,
        config: &Config,
        slots: &[(u32, String)],
        previous: Option<&PolicySet>,
    ) -> Result<PolicySet, String> {
        let listeners: Vec<String> = config.listeners.iter().map(|listener| listener.name.clone()).collect();
        let interfaces = interfaces(config);
        let random = RandomState::new();
        let options = policy::Options {
            known_slots: slots,
            wall_now: jiff::Timestamp::now(),
            ipv6_prefix: config.gate.ipv6_prefix,
            listeners: &listeners,
            interfaces: &interfaces,
            seed: [random.hash_one(0), random.hash_one(1)],
            lists: &self.lists,
            previous,
        };
        policy::compile(&self.files, &options).map_err(|faults| {
            let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })
    }
}

/// The gate's interfaces with their indexes as of now. One that is made anew later has another, and no program: the next
/// start attaches to it and compiles again.
pub fn interfaces(config: &Config) -> Vec<(String, u32)> {
    let names = config.gate.interfaces.iter();
    names.map(|name| (name.clone(), if_nametoindex(name.as_str()).unwrap_or_else(|_| policy::stand_in(name)))).collect()
}

/// Reads the list files that policies name, given as names and texts. What cannot be read is said where the policy is
/// compiled.
pub fn read_lists(policies: &[(String, String)]) -> ListFiles {
    let mut found = ListFiles::new();
    for (policy, text) in policies {
        let base = Path::new(policy).parent().unwrap_or(Path::new(""));
        for name in policy::list_files(text) {
            let list = policy::check_list_name(&name).map_err(ListFault::Unread).and_then(|()| read_list(base, &name));
            found.insert((policy.clone(), name), list);
        }
    }
    found
}

fn read_list(base: &Path, name: &str) -> Result<ListFile, ListFault> {
    let path = base.join(name);
    let shown = path.display().to_string();
    let unread = |why: String| ListFault::Unread(format!("{shown}: {why}"));
    // Without waiting: a FIFO would.
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let text = open.and_then(|file| bytes_of(&file)).map_err(|error| unread(error.to_string()))?;
    match text {
        None => Err(unread("not a regular file".to_owned())),
        Some(text) if text.len() > MAX_LIST_FILE_BYTES => {
            Err(unread(format!("more than {MAX_LIST_FILE_BYTES} bytes, which no list that fits has")))
        }
        Some(text) => policy::parse_list(&shown, &text),
    }
}

/// What a regular file holds, up to a byte more than may be.
fn bytes_of(file: &File) -> std::io::Result<Option<Vec<u8>>> {
    let data = file.metadata()?;
    if !data.is_file() {
        return Ok(None);
    }
    let most = MAX_LIST_FILE_BYTES as u64 + 1;
    let mut text = Vec::with_capacity(data.len().min(most) as usize);
    file.take(most).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Files of one pattern. A pattern that finds nothing is in order; a plain name that is missing is not.
fn find(pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
    let whole = base.join(pattern);
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![whole]);
    }
    let text = whole.to_str().ok_or_else(|| format!("`{pattern}`: the path is not UTF-8"))?;
    let mut files = Vec::new();
    for found in glob::glob(text).map_err(|error| format!("`{pattern}` is not a pattern: {error}"))? {
        let file = found.map_err(|error| format!("`{pattern}`: {error}"))?;
        if file.is_file() {
            files.push(file);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_files_by_name_and_missing_files_are_faults() {
        let base = std::env::temp_dir().join(format!("tidegate-policies-{}", std::process::id()));
        std::fs::create_dir_all(base.join("d")).unwrap();
        for name in ["d/b.json", "d/a.json", "d/c.txt"] {
            std::fs::write(base.join(name), "x").unwrap();
        }
        let names = |pattern: &str| {
            let found = find(pattern, &base).unwrap();
            found.iter().map(|file| file.strip_prefix(&base).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("d/*.json"), ["d/a.json", "d/b.json"]);
        assert_eq!(names("none/*.json"), Vec::<String>::new());
        let text = r#"{"listeners":[{"name":"a","address":"127.0.0.1:80","protocol":"http"}],
            "routes":[{"upstream":"o"}],"upstreams":{"o":{"servers":["http://127.0.0.1:1"]}},
            "policies":["d/*.json","d/a.json","none.json","[z"]}"#;
        let config = proxy_core::config::parse(text).unwrap();
        let fault = Sources::read(&config, &base).unwrap_err();
        assert!(fault.contains("none.json: No such file") && fault.contains("/policies/3: `[z`"), "{fault}");
        std::fs::remove_dir_all(&base).unwrap();
    }
}
