//! Lists that stand in files of their own: which ones a policy names, and what a file's text holds. The texts come from the
//! caller; this reads no files.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path};
use std::sync::Arc;

use proxy_common::abi::{MAX_HOSTS, MAX_PREFIXES};
use serde_json::Value;

use super::edits::{ItemKind, MAX_EDIT_BYTES};
use super::lang::NamedList;
use crate::diagnostic::{Diagnostic, FileDiagnostic};
use crate::json::MAX_DIAGNOSTICS;
use crate::ranges::{RangeSet, network_ranges, parse_network};

/// Most bytes of one list file.
pub const MAX_LIST_FILE_BYTES: usize = 64 << 20;
/// Most items of one list file: what the kernel's tables hold at the most.
pub const MAX_LIST_FILE_ITEMS: usize = MAX_HOSTS as usize + MAX_PREFIXES as usize;
/// The longest network in text: a v4-mapped address and `/128`. Longer lines are not repeated in messages: the file may be
/// another than was meant.
const MAX_ITEM_BYTES: usize = 49;
/// Hex digits of a SHA-256 digest.
const DIGEST_DIGITS: usize = 64;

/// What a list file holds.
#[derive(Clone, Debug)]
pub struct ListFile {
    pub(super) list: NamedList,
    /// Lines with an item.
    pub items: usize,
}

/// Why there is no list.
#[derive(Clone, Debug)]
pub enum ListFault {
    /// The file cannot be read; said where the policy names it.
    Unread(String),
    /// What is wrong in it, line by line.
    Lines(Vec<FileDiagnostic>),
}

/// List files, by the name of the policy file and by the name that it has there.
pub type ListFiles = BTreeMap<(String, String), Result<ListFile, ListFault>>;

/// No list files.
pub(super) static NONE: ListFiles = ListFiles::new();

/// A list file that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// As the policy names it.
    pub name: String,
    /// What it holds.
    pub kind: ItemKind,
    /// Whether it is taken up by itself when it changes.
    pub watch: bool,
}

/// The list files that a policy's text names, each once. What is wrong with the text is said when it is compiled.
pub fn list_files(text: &str) -> Vec<NamedFile> {
    // The word is searched for first: most policies have no such list, and need not be read twice.
    let value: Value =
        if text.contains("\"file\"") { serde_json::from_str(text).unwrap_or_default() } else { Value::Null };
    let lists = value.get("lists").and_then(Value::as_object).into_iter().flatten();
    let file = |(_, list): (&String, &Value)| {
        let kind = match list.get("type").and_then(Value::as_str) {
            Some("string") => ItemKind::String,
            Some("hash") => ItemKind::Hash,
            _ => ItemKind::Cidr,
        };
        let watch = list.get("watch") == Some(&Value::Bool(true));
        Some(NamedFile { name: list.get("file").and_then(Value::as_str)?.to_owned(), kind, watch })
    };
    let mut files: Vec<NamedFile> = lists.filter_map(file).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|again, first| {
        let same = again.name == first.name;
        first.watch |= same && again.watch;
        same
    });
    files
}

/// Checks the name of a list file: it lies in the policy's directory or below.
///
/// # Errors
/// What is expected.
pub fn check_list_name(name: &str) -> Result<(), String> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !name.is_empty() && Path::new(name).components().all(plain) {
        return Ok(());
    }
    Err(format!("`{name}` leads out of the policy's directory; write a name in it or below, such as `lists/bad.txt`"))
}

/// Reads a list, an item a line. Addresses, networks and hashes: what follows `#` or `;` is for people. Strings: lines that
/// begin with `#` are, and blanks at both ends do not count. `name` is for messages.
///
/// # Errors
/// Every line that is no item, up to a bound.
pub fn parse_list(name: &str, kind: ItemKind, text: &[u8]) -> Result<ListFile, ListFault> {
    let mut ranges = Vec::new();
    let mut strings = HashSet::new();
    let mut faults = Vec::new();
    let (mut items, mut bad) = (0, 0_usize);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let comment = |byte: &u8| kind != ItemKind::String && matches!(byte, b'#' | b';');
        let end = line.iter().position(comment).unwrap_or(line.len());
        let item = line.get(..end).unwrap_or(line).trim_ascii();
        if item.is_empty() || (kind == ItemKind::String && item.starts_with(b"#")) {
            continue;
        }
        items += 1;
        let found = match kind {
            ItemKind::Cidr => network(item).map(|found| ranges.extend(network_ranges(found))),
            ItemKind::String if item.len() > MAX_EDIT_BYTES => {
                Err(format!("an item has {} bytes, at most {MAX_EDIT_BYTES} are taken", item.len()))
            }
            ItemKind::String => {
                strings.insert(item.into());
                Ok(())
            }
            ItemKind::Hash => hash(item).map(|found| {
                strings.insert(found);
            }),
        };
        if let Err(message) = found {
            bad += 1;
            if bad <= MAX_DIAGNOSTICS {
                let column = line.len() - line.trim_ascii_start().len() + 1;
                faults.push(fault(name, number, column, message));
            }
        }
    }
    if bad > MAX_DIAGNOSTICS {
        faults.push(fault(name, 1, 1, format!("and {} more lines that are no items", bad - MAX_DIAGNOSTICS)));
    }
    if items > MAX_LIST_FILE_ITEMS {
        let message = format!(
            "{items} items; at most {MAX_LIST_FILE_ITEMS} are read: drop what is out of date, or list the networks that \
             most of them lie in"
        );
        faults.push(fault(name, 1, 1, message));
    }
    if !faults.is_empty() {
        return Err(ListFault::Lines(faults));
    }
    let list = match kind {
        ItemKind::Cidr => NamedList::Cidr(Arc::new(RangeSet::new(ranges))),
        ItemKind::String => NamedList::Text(Arc::new(strings)),
        ItemKind::Hash => NamedList::Hash(Arc::new(strings)),
    };
    Ok(ListFile { list, items })
}

/// A digest as lists of hashes hold it.
///
/// # Errors
/// It is none.
pub(super) fn hash(item: &[u8]) -> Result<Box<[u8]>, String> {
    if item.len() == DIGEST_DIGITS && item.iter().all(u8::is_ascii_hexdigit) {
        return Ok(item.to_ascii_lowercase().into_boxed_slice());
    }
    Err(format!("not a SHA-256 digest: write {DIGEST_DIGITS} hex digits, such as `printf %s VALUE | sha256sum` prints"))
}

fn network(item: &[u8]) -> Result<ipnet::IpNet, String> {
    const EXPECTED: &str = "write one address or network a line, and `#` before what is for people";
    if item.len() > MAX_ITEM_BYTES {
        return Err(format!("{} bytes are no address; {EXPECTED}", item.len()));
    }
    let text = std::str::from_utf8(item).map_err(|_| format!("not text; {EXPECTED}"))?;
    parse_network(text).map_err(|message| {
        // Where it says what to write instead, that is enough.
        if message.contains("write ") { message } else { format!("{message}; {EXPECTED}") }
    })
}

fn fault(name: &str, line: usize, column: usize, message: String) -> FileDiagnostic {
    let diagnostic = Diagnostic { pointer: String::new(), line, column, message };
    FileDiagnostic { file: name.to_owned(), diagnostic }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match parse_list("bad.txt", ItemKind::Cidr, text.as_bytes()) {
            Err(ListFault::Lines(found)) => found.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn items_comments_and_line_ends() {
        let text =
            "\u{feff}# a feed\r\n192.0.2.1\r\n\n  198.51.100.0/24 ; SBL1\n2001:db8::/32 # v6\n192.0.2.0\n10.0.0.1";
        let list = parse_list("x", ItemKind::Cidr, text.as_bytes()).expect("a list");
        assert_eq!(list.items, 5);
        let NamedList::Cidr(ranges) = &list.list else { panic!("{list:?}") };
        let shown: Vec<String> = ranges.networks().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1/32", "192.0.2.0/31", "198.51.100.0/24", "2001:db8::/32"]);
        assert_eq!(parse_list("x", ItemKind::Cidr, b"# nothing\n").expect("empty").items, 0);
    }

    #[test]
    fn strings_are_whole_lines() {
        let list = parse_list("x", ItemKind::String, b"# names\n a.example \r\n\nb#1;x\na.example\n").expect("a list");
        let NamedList::Text(strings) = &list.list else { panic!("{list:?}") };
        let mut shown: Vec<&[u8]> = strings.iter().map(|item| &**item).collect();
        shown.sort_unstable();
        assert_eq!((list.items, shown), (3, vec![&b"a.example"[..], b"b#1;x"]));
        assert!(parse_list("x", ItemKind::String, &[b'x'; MAX_EDIT_BYTES + 1]).is_err());
    }

    #[test]
    fn hashes_have_sixty_four_digits() {
        let text = format!("{}  # one\n{}\n", "Ab".repeat(32), "ab".repeat(32));
        let list = parse_list("x", ItemKind::Hash, text.as_bytes()).expect("a list");
        let NamedList::Hash(hashes) = &list.list else { panic!("{list:?}") };
        assert_eq!((list.items, hashes.len()), (2, 1));
        for wrong in ["abc", &"g".repeat(64), &"a".repeat(65)] {
            assert!(parse_list("x", ItemKind::Hash, wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn faults_name_their_line() {
        let found = faults(
            "192.0.2.1\n  192.0.2.300\n10.0.0.1/8\nroot:x:0:0:root:/root:/bin/bash and so on and so on and so on\n",
        );
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("bad.txt:2:3: `192.0.2.300` is neither an address nor a network"), "{}", found[0]);
        assert!(found[1].starts_with("bad.txt:3:1: ") && found[1].contains("write 10.0.0.0/8"), "{}", found[1]);
        assert!(found[2].starts_with("bad.txt:4:1: ") && !found[2].contains("root"), "{}", found[2]);
        let many = faults(&"x\n".repeat(1_000));
        assert_eq!(many.len(), MAX_DIAGNOSTICS + 1);
        assert!(many[MAX_DIAGNOSTICS].contains("and 950 more"), "{}", many[MAX_DIAGNOSTICS]);
    }

    #[test]
    fn names_stay_below_the_policy() {
        for name in ["bad.txt", "lists/bad.txt", "./bad.txt"] {
            assert_eq!(check_list_name(name), Ok(()), "{name}");
        }
        for name in ["", "/etc/passwd", "../bad.txt", "lists/../../bad.txt"] {
            assert!(check_list_name(name).is_err(), "{name}");
        }
        let named = |name: &str, kind, watch| NamedFile { name: name.to_owned(), kind, watch };
        let text =
            r#"{"lists":{"a":{"type":"cidr","file":"a.txt"},"b":{"items":[]},"c":{"file":"a.txt","watch":true}}}"#;
        assert_eq!(list_files(text), [named("a.txt", ItemKind::Cidr, true)]);
        let text = r#"{"lists":{"a":{"type":"string","file":"names.txt"}}}"#;
        assert_eq!(list_files(text), [named("names.txt", ItemKind::String, false)]);
        assert!(list_files("{\"file\"").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for kind in [ItemKind::Cidr, ItemKind::String, ItemKind::Hash] {
                let _ = parse_list("x", kind, &text);
            }
        }
    }
}
