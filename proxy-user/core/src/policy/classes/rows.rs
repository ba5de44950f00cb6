//! Rows: sets of rules as bit vectors, each kept once, and the lines that say which row holds from which value on.

use std::collections::HashMap;

use proxy_common::classify::{MAX_ROWS, MAX_WORDS, ROW_WORDS};

use crate::ranges::RangeSet;

/// A set of rules, one bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bits([u64; MAX_WORDS]);

impl Bits {
    /// The set of some bits.
    pub fn of(bits: impl Iterator<Item = usize>) -> Self {
        let mut set = Self([0; MAX_WORDS]);
        bits.for_each(|bit| set.set(bit, true));
        set
    }

    /// Puts a bit in or takes it out.
    pub fn set(&mut self, bit: usize, on: bool) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word = if on { *word | 1 << (bit % 64) } else { *word & !(1 << (bit % 64)) };
        }
    }
}

/// Rows by number. Row 0 holds all rules: it is where a field that no rule looks at leads.
pub(super) struct Rows {
    known: HashMap<Bits, u16>,
    list: Vec<Bits>,
}

impl Rows {
    pub fn new(all: Bits) -> Self {
        Self { known: HashMap::from([(all.clone(), 0)]), list: vec![all] }
    }

    /// Number of the row with exactly these rules.
    pub fn number(&mut self, bits: Bits) -> Result<u16, String> {
        if let Some(number) = self.known.get(&bits) {
            return Ok(*number);
        }
        let number = u16::try_from(self.list.len()).ok().filter(|number| usize::from(*number) < MAX_ROWS);
        let number = number.ok_or_else(|| {
            format!(
                "the packet rules of all policies tell more than {MAX_ROWS} classes of addresses, ports and lengths \
                 apart: use fewer rules, or sets that overlap less"
            )
        })?;
        self.known.insert(bits.clone(), number);
        self.list.push(bits);
        Ok(number)
    }

    /// The rows along the values `0..=max` of one field. `sets` holds each rule's bit and values.
    pub fn along(&mut self, sets: &[(usize, &RangeSet)], max: u128) -> Result<Line, String> {
        let mut changes: Vec<(u128, usize, bool)> = Vec::new();
        for (bit, set) in sets {
            for (low, high) in set.ranges() {
                changes.push((*low, *bit, true));
                if let Some(behind) = high.checked_add(1).filter(|behind| *behind <= max) {
                    changes.push((behind, *bit, false));
                }
            }
        }
        changes.sort_unstable();
        let mut line = Line(Vec::new());
        let mut here = Bits::of(std::iter::empty());
        if changes.first().is_none_or(|(at, _, _)| *at > 0) {
            line.push(0, self.number(here.clone())?);
        }
        for same in changes.chunk_by(|a, b| a.0 == b.0) {
            // The ranges of a set do not touch: no bit both goes and comes at one place.
            for (_, bit, on) in same {
                here.set(*bit, *on);
            }
            if let Some((at, _, _)) = same.first() {
                line.push(*at, self.number(here.clone())?);
            }
        }
        Ok(line)
    }

    /// Appends the descriptors and the words of all rows. Leading and trailing zero words are left out: nothing reads
    /// a word that the summary does not name.
    pub fn write(&self, table: &mut Vec<u64>) -> Result<(), String> {
        let mut words: Vec<u64> = Vec::new();
        let first_word = table.len() + 2 * self.list.len();
        for bits in &self.list {
            let summary = bits.0.iter().enumerate().fold(0_u64, |sum, (w, word)| sum | (u64::from(*word != 0) << w));
            let (first, last) = (summary.trailing_zeros() as usize, 64 - summary.leading_zeros() as usize);
            let here = first_word + words.len();
            table.push(summary);
            table.push(if summary == 0 { 0 } else { (here - first) as u64 });
            words.extend(bits.0.get(first..last).unwrap_or_default());
        }
        table.extend(words);
        if table.len() > ROW_WORDS {
            return Err(format!(
                "the packet rules of all policies need {} KiB for their {} classes, at most {} KiB fit: use fewer rules, \
                 or sets that overlap less",
                table.len() / 128,
                self.list.len(),
                ROW_WORDS / 128
            ));
        }
        Ok(())
    }
}

/// `(first value, row)`, sorted; each row holds up to the next.
#[derive(Clone, Debug)]
pub(super) struct Line(Vec<(u128, u16)>);

impl Line {
    /// Adds what holds from `at` on.
    pub fn push(&mut self, at: u128, row: u16) {
        if self.0.last().is_none_or(|(_, last)| *last != row) {
            self.0.push((at, row));
        }
    }

    /// The steps.
    pub fn steps(&self) -> &[(u128, u16)] {
        &self.0
    }

    /// The row of a value.
    pub fn at(&self, value: u128) -> u16 {
        let behind = self.0.partition_point(|(first, _)| *first <= value);
        behind.checked_sub(1).and_then(|at| self.0.get(at)).map_or(0, |(_, row)| *row)
    }

    /// From `low` to `high` only.
    pub fn part(&self, low: u128, high: u128) -> Self {
        let mut line = Self(vec![(low, self.at(low))]);
        for (at, row) in self.0.iter().filter(|(at, _)| (low..=high).contains(at)) {
            line.push(*at, *row);
        }
        line
    }

    /// Without what holds from `low` to `high`, which nobody asks for: the row before goes on.
    pub fn without(&self, low: u128, high: u128) -> Self {
        let mut line = Self(Vec::new());
        for (at, row) in self.0.iter().filter(|(at, _)| *at < low) {
            line.push(*at, *row);
        }
        line.push(high + 1, self.at(high + 1));
        for (at, row) in self.0.iter().filter(|(at, _)| *at > high) {
            line.push(*at, *row);
        }
        line
    }
}
