//! Which revisions stay: the newest, up to a number and to a size, and the one in force whatever its age.

use std::collections::HashSet;

use super::{MAX_REVISIONS, MAX_STORE_BYTES, Revision};
use crate::digest::Digest;

/// Numbers of the revisions to remove, oldest first. `revisions` are sorted by number; `current` is in force.
pub fn superfluous(revisions: &[Revision], current: Option<u64>) -> Vec<u64> {
    superfluous_within(revisions, current, MAX_REVISIONS, MAX_STORE_BYTES)
}

fn superfluous_within(revisions: &[Revision], current: Option<u64>, most: usize, most_bytes: u64) -> Vec<u64> {
    let in_force = revisions.iter().filter(|revision| Some(revision.number) == current);
    let others = revisions.iter().rev().filter(|revision| Some(revision.number) != current);
    let (mut kept, mut bytes) = (0, 0);
    let mut texts: HashSet<Vec<Digest>> = HashSet::new();
    let mut removed = Vec::new();
    for revision in in_force.chain(others) {
        let shared = !texts.insert(revision.digests().collect());
        // A whole set that stands already costs nothing; sets that share only some files are counted in full.
        let more = if shared { 0 } else { revision.bytes };
        if kept > 0 && (kept >= most || bytes + more > most_bytes) {
            removed.push(revision.number);
        } else {
            kept += 1;
            bytes += more;
        }
    }
    removed.sort_unstable();
    removed
}

/// Texts that no kept revision needs any more.
pub fn unused(kept: &[Revision], stored: impl IntoIterator<Item = Digest>) -> Vec<Digest> {
    let needed: HashSet<Digest> = kept.iter().flat_map(Revision::digests).collect();
    stored.into_iter().filter(|digest| !needed.contains(digest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Origin, Texts, Who};

    fn revision(number: u64, text: &str) -> Revision {
        let texts = Texts { files: vec![("p".to_owned(), text.to_owned())], lists: Vec::new() };
        Revision::new(number, &texts, 1, Origin::Apply, Who::default(), jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_newest_and_the_one_in_force_stay() {
        let all: Vec<Revision> = (1..=5).map(|n| revision(n, &"x".repeat(n as usize))).collect();
        assert_eq!(superfluous_within(&all, None, 3, 100), [1, 2]);
        assert_eq!(superfluous_within(&all, Some(1), 3, 100), [2, 3]);
        assert_eq!(superfluous_within(&all, Some(5), 9, 9), [1, 2, 3]);
        assert_eq!(superfluous_within(&all, Some(5), 9, 1), [1, 2, 3, 4], "the one in force may be over the bound");
        let same: Vec<Revision> = (1..=5).map(|n| revision(n, "same")).collect();
        assert!(superfluous_within(&same, None, 9, 4).is_empty());
        assert!(superfluous(&all, Some(2)).is_empty());
    }

    #[test]
    fn texts_that_nothing_names_go() {
        let kept = [revision(1, "a"), revision(2, "b")];
        let (a, c) = (Digest::of(b"a"), Digest::of(b"c"));
        assert_eq!(unused(&kept, [a, c]), [c]);
    }
}
