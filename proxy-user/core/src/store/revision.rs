//! One set of policies as it was in force: the texts, what identifies them, and who brought them in when.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Who asked for a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Who {
    /// User, as the kernel tells it of the admin socket's peer; none where no peer asked, as at a start or a signal.
    pub uid: Option<u32>,
    /// Process, likewise.
    pub pid: Option<i32>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.uid, self.pid) {
            (Some(uid), Some(pid)) => write!(f, "uid {uid} pid {pid}"),
            (Some(uid), None) => write!(f, "uid {uid}"),
            _ => f.write_str("daemon"),
        }
    }
}

/// How a set came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From the config's files, at the daemon's start.
    Start,
    /// From the config's files, by a reload or by `apply` without files.
    Reload,
    /// From files that `apply` sent.
    Apply,
}

impl Origin {
    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Apply => "apply",
        }
    }
}

/// A list file's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListText {
    /// Name of the policy file that names it.
    pub policy: String,
    /// The name that it has there.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// The texts of a set: policy files in their order as names and texts, and the lists that they name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// Policy files: name for messages, and text.
    pub files: Vec<(String, String)>,
    /// List files.
    #[serde(default)]
    pub lists: Vec<ListText>,
}

impl Texts {
    /// What identifies the set: its texts in their order. Where the policy files lie does not matter.
    pub fn digest(&self) -> Digest {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for (name, text) in &self.files {
            parts.push(Digest::of(text.as_bytes()).bytes().to_vec());
            let mut lists: Vec<&ListText> = self.lists.iter().filter(|list| list.policy == *name).collect();
            lists.sort_by(|a, b| a.name.cmp(&b.name));
            for list in lists {
                // Its length is in front, so that no two sets give the same bytes.
                parts.push((list.name.len() as u64).to_be_bytes().to_vec());
                parts.push(list.name.clone().into_bytes());
                parts.push(Digest::of(list.text.as_bytes()).bytes().to_vec());
            }
            parts.push(u64::MAX.to_be_bytes().to_vec());
        }
        Digest::of_parts(parts.iter().map(Vec::as_slice))
    }
}

/// A policy file of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Name for messages.
    pub name: String,
    /// What identifies its text, and where that is kept.
    #[schemars(with = "String")]
    pub digest: Digest,
}

/// A list file of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListEntry {
    /// Name of the policy file that names it.
    pub policy: String,
    /// The name that it has there.
    pub name: String,
    /// What identifies its text, and where that is kept.
    #[schemars(with = "String")]
    pub digest: Digest,
}

/// One kept set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Counts up from 1; never given twice.
    pub number: u64,
    /// When it came into force first.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: jiff::Timestamp,
    /// Who brought it in.
    pub who: Who,
    /// How.
    pub origin: Origin,
    /// [`Texts::digest`].
    #[schemars(with = "String")]
    pub digest: Digest,
    /// Rules in it.
    pub rules: usize,
    /// Policy files.
    pub files: Vec<FileEntry>,
    /// List files.
    #[serde(default)]
    pub lists: Vec<ListEntry>,
    /// Bytes of all its texts.
    #[serde(default)]
    pub bytes: u64,
    /// The revision that was in force when it came in: where a rollback leads to.
    #[serde(default)]
    pub after: Option<u64>,
}

impl Revision {
    /// Describes a set that shall be kept.
    pub fn new(number: u64, texts: &Texts, rules: usize, origin: Origin, who: Who, time: jiff::Timestamp) -> Self {
        let file =
            |(name, text): &(String, String)| FileEntry { name: name.clone(), digest: Digest::of(text.as_bytes()) };
        let list = |list: &ListText| ListEntry {
            policy: list.policy.clone(),
            name: list.name.clone(),
            digest: Digest::of(list.text.as_bytes()),
        };
        let bytes = texts.files.iter().map(|(_, text)| text.len()).chain(texts.lists.iter().map(|l| l.text.len()));
        Self {
            number,
            time,
            who,
            origin,
            digest: texts.digest(),
            rules,
            files: texts.files.iter().map(file).collect(),
            lists: texts.lists.iter().map(list).collect(),
            bytes: bytes.sum::<usize>() as u64,
            after: None,
        }
    }

    /// The texts that it needs.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.files.iter().map(|file| file.digest).chain(self.lists.iter().map(|list| list.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)], lists: &[(&str, &str, &str)]) -> Texts {
        let list = |(policy, name, text): &(&str, &str, &str)| ListText {
            policy: (*policy).to_owned(),
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        };
        Texts {
            files: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            lists: lists.iter().map(list).collect(),
        }
    }

    #[test]
    fn the_digest_is_of_texts_and_order_not_of_places() {
        let one = texts(&[("a", "x"), ("b", "y")], &[("a", "l", "1"), ("a", "m", "2")]);
        let moved = texts(&[("d/a", "x"), ("d/b", "y")], &[("d/a", "m", "2"), ("d/a", "l", "1")]);
        assert_eq!(one.digest(), moved.digest());
        for other in [
            texts(&[("b", "y"), ("a", "x")], &[("a", "l", "1"), ("a", "m", "2")]),
            texts(&[("a", "x"), ("b", "y")], &[("b", "l", "1"), ("a", "m", "2")]),
            texts(&[("a", "x"), ("b", "y")], &[("a", "l", "1")]),
            texts(&[("a", "x"), ("b", "z")], &[("a", "l", "1"), ("a", "m", "2")]),
            texts(&[("a", "x"), ("b", "y")], &[("a", "l", "1"), ("a", "m", "3")]),
        ] {
            assert_ne!(one.digest(), other.digest(), "{other:?}");
        }
    }
}
