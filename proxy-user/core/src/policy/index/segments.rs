//! Many sets of numbers or addresses on one line: a binary search says which of them a number is in.

use crate::ranges::RangeSet;

/// Most entries of all segments together: sets that overlap a lot would otherwise take the square of their number.
const MAX_ENTRIES: usize = 1 << 20;

/// Where segments begin, and the rules of each.
#[derive(Debug, Default)]
pub(super) struct Segments {
    starts: Vec<u128>,
    /// Where the rules of a segment begin in `rules`; one more than segments.
    places: Vec<u32>,
    rules: Vec<u32>,
}

/// Sets and their rules.
#[derive(Debug, Default)]
pub(super) struct Build {
    /// `(first number, past the last or None, rule)`
    ranges: Vec<(u128, Option<u128>, u32)>,
}

impl Segments {
    /// The rules whose set the number is in.
    pub fn find(&self, number: u128) -> &[u32] {
        let Some(at) = self.starts.partition_point(|start| *start <= number).checked_sub(1) else { return &[] };
        let (Some(from), Some(to)) = (self.places.get(at), self.places.get(at + 1)) else { return &[] };
        self.rules.get(*from as usize..*to as usize).unwrap_or_default()
    }
}

impl Build {
    pub fn add(&mut self, set: &RangeSet, rule: u32) {
        self.ranges.extend(set.ranges().iter().map(|(low, high)| (*low, high.checked_add(1), rule)));
    }

    /// The table, or the rules if it would be too large.
    pub fn finish(self) -> Result<Segments, Vec<u32>> {
        let mut edges: Vec<(u128, bool, u32)> = Vec::new();
        for (low, past, rule) in &self.ranges {
            edges.push((*low, true, *rule));
            edges.extend(past.map(|past| (past, false, *rule)));
        }
        edges.sort_unstable();
        let mut active = std::collections::BTreeMap::<u32, u32>::new();
        let mut found = Segments::default();
        let mut edges = edges.into_iter().peekable();
        while let Some((start, opens, rule)) = edges.next() {
            let depth = active.entry(rule).or_default();
            *depth = if opens { *depth + 1 } else { depth.saturating_sub(1) };
            if *depth == 0 {
                active.remove(&rule);
            }
            if edges.peek().is_some_and(|(next, ..)| *next == start) {
                continue;
            }
            found.starts.push(start);
            found.places.push(found.rules.len() as u32);
            found.rules.extend(active.keys());
            if found.rules.len() > MAX_ENTRIES {
                return Err(self.ranges.into_iter().map(|(_, _, rule)| rule).collect());
            }
        }
        found.places.push(found.rules.len() as u32);
        Ok(found)
    }
}
