//! Reading policy files and the list files that they name.
//!
//! A list file lies in its policy's directory or below; symbolic links are followed, so whoever may write there chooses
//! what is read. It must be a regular file within a bound, and of a line that is no address at most 64 bytes are shown.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use proxy_core::policy::{self, ListFault, ListFiles, MAX_LIST_FILE_BYTES, NamedFile};
use proxy_core::store::{ListText, Texts};

/// Reads the list files that policies name, given as names and texts. What cannot be read is said where the policy is
/// compiled. The texts come beside: where one is not UTF-8, with marks for what is not, which can only be in a comment.
pub fn read_lists(policies: &[(String, String)]) -> (ListFiles, Vec<ListText>) {
    let mut found = ListFiles::new();
    let mut texts = Vec::new();
    for (policy, text) in policies {
        for NamedFile { name, kind, .. } in policy::list_files(text) {
            let read = policy::check_list_name(&name).map_err(ListFault::Unread);
            let read = read.and_then(|()| read_list(&shown(policy, &name)).map_err(ListFault::Unread));
            let list = read.and_then(|bytes| {
                let list = policy::parse_list(&shown(policy, &name).display().to_string(), kind, &bytes)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                texts.push(ListText { policy: policy.clone(), name: name.clone(), text });
                Ok(list)
            });
            found.insert((policy.clone(), name), list);
        }
    }
    (found, texts)
}

/// Reads policy files: names and texts of those that can be read, and what is wrong with the others, a line each.
pub fn read_files(paths: &[PathBuf]) -> (Vec<(String, String)>, Vec<String>) {
    let (mut files, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => files.push((name, text)),
            Err(error) => faults.push(format!("{name}: {error}")),
        }
    }
    (files, faults)
}

/// Reads policy files and the lists that they name.
///
/// # Errors
/// What cannot be read, a line each.
pub fn read_texts(paths: &[PathBuf]) -> Result<Texts, Vec<String>> {
    let (files, mut faults) = read_files(paths);
    let mut texts = Texts { files, lists: Vec::new() };
    let (lists, list_texts) = read_lists(&texts.files);
    for ((policy, _), list) in &lists {
        match list {
            Ok(_) => {}
            Err(ListFault::Unread(why)) => faults.push(format!("{policy}: {why}")),
            Err(ListFault::Lines(lines)) => faults.extend(lines.iter().map(ToString::to_string)),
        }
    }
    texts.lists = list_texts;
    if faults.is_empty() { Ok(texts) } else { Err(faults) }
}

/// The lists of texts that came together.
pub(super) fn parse_lists(texts: &Texts) -> ListFiles {
    let mut found = ListFiles::new();
    for (policy, text) in &texts.files {
        for NamedFile { name, kind, .. } in policy::list_files(text) {
            if let Some(list) = texts.lists.iter().find(|list| list.policy == *policy && list.name == name) {
                let shown = shown(policy, &name).display().to_string();
                found.insert((policy.clone(), name), policy::parse_list(&shown, kind, list.text.as_bytes()));
            }
        }
    }
    found
}

/// Where a list of a policy lies.
pub(super) fn shown(policy: &str, list: &str) -> PathBuf {
    Path::new(policy).parent().unwrap_or(Path::new("")).join(list)
}

pub(super) fn read_list(path: &Path) -> Result<Vec<u8>, String> {
    let unread = |why: String| format!("{}: {why}", path.display());
    // Without waiting: a FIFO would.
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let text = open.and_then(|file| bytes_of(&file)).map_err(|error| unread(error.to_string()))?;
    match text {
        None => Err(unread("not a regular file".to_owned())),
        Some(text) if text.len() > MAX_LIST_FILE_BYTES => {
            Err(unread(format!("more than {MAX_LIST_FILE_BYTES} bytes, which no list that fits has")))
        }
        Some(text) => Ok(text),
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
pub(super) fn find(pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
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
