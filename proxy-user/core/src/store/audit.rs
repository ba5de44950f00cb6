//! The audit log of policies: one JSON object a line, each with the hash of the one before, so that a line that was
//! changed, taken out or put in shows. Makes and checks lines; reads and writes no files.
//!
//! A chain does not show that its end was cut off: for that the log's head, number and hash of the last entry, is kept
//! beside it, and can be written down elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Who;
use crate::digest::Digest;

/// Most bytes of an entry's detail; what is longer is cut off.
pub const MAX_DETAIL_BYTES: usize = 512;
/// Most faults that a check reports.
pub const MAX_FAULTS: usize = 50;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// The daemon started with a set.
    Start,
    /// Config and policies were read again.
    Reload,
    /// Files were sent and taken.
    Apply,
    /// A kept revision was restored.
    Rollback,
    /// A list was edited.
    List,
    /// A line that a crash had left torn was found; its digest is in the detail.
    Recovered,
}

impl Act {
    /// As written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::List => "list",
            Self::Recovered => "recovered",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is in force.
    Done,
    /// Nothing was changed; the detail says why.
    Refused,
}

/// One thing to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub time: jiff::Timestamp,
    /// Who asked.
    pub who: Who,
    /// What was asked.
    pub act: Act,
    /// What came of it.
    pub outcome: Outcome,
    /// Revision that is in force by it, or was asked for.
    pub revision: Option<u64>,
    /// What identifies the set.
    pub digest: Option<Digest>,
    /// More, in words.
    pub detail: Option<String>,
}

/// An entry without its hash: what is hashed, in this order of fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    seq: u64,
    time: jiff::Timestamp,
    uid: Option<u32>,
    pid: Option<i32>,
    act: Act,
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    previous: Digest,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    body: Body,
    hash: Digest,
}

impl Body {
    fn hash(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The end of a log: number and hash of its last entry; zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// Number of the last entry, counted from 1.
    pub seq: u64,
    /// Its hash.
    #[schemars(with = "String")]
    pub hash: Digest,
}

impl Head {
    /// The line, without its end, that logs an event behind this head, and the head behind it.
    pub fn append(self, event: &Event) -> (String, Self) {
        let detail = event.detail.as_ref().map(|detail| {
            let end = (0..=MAX_DETAIL_BYTES.min(detail.len())).rev().find(|end| detail.is_char_boundary(*end));
            detail.get(..end.unwrap_or_default()).unwrap_or_default().to_owned()
        });
        let body = Body {
            seq: self.seq + 1,
            time: event.time,
            uid: event.who.uid,
            pid: event.who.pid,
            act: event.act,
            outcome: event.outcome,
            revision: event.revision,
            digest: event.digest,
            detail,
            previous: self.hash,
        };
        let hash = body.hash();
        let head = Self { seq: body.seq, hash };
        (serde_json::to_string(&Entry { body, hash }).unwrap_or_default(), head)
    }

    /// The head behind a line that is whole and right in itself.
    pub fn of_line(line: &str) -> Option<Self> {
        let entry = read(line).ok()?;
        Some(Self { seq: entry.body.seq, hash: entry.hash })
    }

    /// The head behind a line, where that is the one that follows on this head.
    pub fn next_in(self, line: &str) -> Option<Self> {
        let Entry { body, hash } = read(line).ok()?;
        (self.seq.checked_add(1) == Some(body.seq) && body.previous == self.hash)
            .then_some(Self { seq: body.seq, hash })
    }
}

/// Whether one of these lines is an entry of this hash, whole and right in itself.
pub fn holds<'a>(lines: impl IntoIterator<Item = &'a str>, hash: Digest) -> bool {
    lines.into_iter().any(|line| Head::of_line(line).is_some_and(|head| head.hash == hash))
}

/// What a check of a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Entries that were read.
    pub entries: u64,
    /// Number of the first one.
    pub first: u64,
    /// Lines that a crash tore and that the next entry accounts for.
    pub torn: u64,
    /// The log's end.
    pub head: Head,
    /// What is wrong, each with its line.
    pub faults: Vec<String>,
}

/// Checks the lines of a log, oldest first, and its end against the head that is kept beside it. A log may begin
/// anywhere: older parts of it may lie elsewhere.
pub fn check<'a>(lines: impl IntoIterator<Item = &'a str>, kept: Option<Head>) -> Checked {
    let mut checked = Checked::default();
    let mut torn: Option<(u64, Digest)> = None;
    let fault = |faults: &mut Vec<String>, line: u64, what: String| {
        if faults.len() < MAX_FAULTS {
            faults.push(format!("line {line}: {what}"));
        }
    };
    for (number, line) in (1..).zip(lines) {
        let entry = match read(line) {
            Ok(entry) => entry,
            Err(why) => {
                if let Some((line, _)) = torn.replace((number, Digest::of(line.as_bytes()))) {
                    fault(&mut checked.faults, line, "not an entry of this log".to_owned());
                }
                if why == Unread::Altered {
                    torn = None;
                    fault(&mut checked.faults, number, "its hash does not fit what it says: it was altered".to_owned());
                }
                continue;
            }
        };
        if let Some((line, digest)) = torn.take() {
            let accounted = entry.body.act == Act::Recovered && entry.body.detail == Some(recovered(&digest));
            if accounted {
                checked.torn += 1;
            } else {
                fault(&mut checked.faults, line, "not an entry of this log".to_owned());
            }
        }
        let Body { seq, previous, .. } = entry.body;
        if checked.entries == 0 {
            checked.first = seq;
            if seq == 1 && previous != Digest::default() {
                fault(
                    &mut checked.faults,
                    number,
                    "the first entry follows on another: entries before it are gone".into(),
                );
            }
            if let Some(kept) = kept.filter(|kept| kept.seq < seq)
                && kept.next_in(line).is_none()
            {
                let what =
                    format!("the first entry, {seq}, does not follow on entry {}, which was written last", kept.seq);
                fault(&mut checked.faults, number, what);
            }
        } else if seq != checked.head.seq + 1 {
            let (expected, last) = (checked.head.seq + 1, checked.head.seq);
            let what = format!("entry {seq} follows on {last}, expected {expected}: entries were taken out or put in");
            fault(&mut checked.faults, number, what);
        } else if previous != checked.head.hash {
            fault(&mut checked.faults, number, format!("entry {seq} names another hash than entry {} has", seq - 1));
        }
        if kept.is_some_and(|kept| kept.seq == seq && kept.hash != entry.hash) {
            fault(&mut checked.faults, number, format!("entry {seq} is another than the one that was written"));
        }
        checked.entries += 1;
        checked.head = Head { seq, hash: entry.hash };
    }
    if let Some((line, _)) = torn {
        fault(&mut checked.faults, line, "not an entry of this log, or torn by a crash".to_owned());
    }
    if let Some(kept) = kept {
        let Head { seq, .. } = checked.head;
        if kept.seq > seq {
            let what = format!("the log ends with entry {seq}, but {} were written: its end was cut off", kept.seq);
            checked.faults.push(what);
        }
    }
    checked
}

/// Detail of the entry that accounts for a torn line.
pub fn recovered(torn: &Digest) -> String {
    format!("a torn line, sha256 {torn}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// No entry at all.
    Foreign,
    /// An entry whose hash, or whose very bytes, are not what was written.
    Altered,
}

fn read(line: &str) -> Result<Entry, Unread> {
    let entry: Entry = serde_json::from_str(line).map_err(|_| Unread::Foreign)?;
    let written = serde_json::to_string(&entry).unwrap_or_default();
    if entry.body.hash() == entry.hash && written == line { Ok(entry) } else { Err(Unread::Altered) }
}

#[cfg(test)]
mod tests;
