//! The class table: flat look-ups by ports and lengths, tries by addresses.

use std::collections::HashMap;

use proxy_common::classify::{CLASS_ENTRIES, NODE, NODE_ENTRIES, class_place, dimension};

use super::rows::Line;

/// The class table in the making.
pub(super) struct Tables {
    entries: Vec<u16>,
    /// Place and mask of each dimension's table.
    places: [u64; dimension::COUNT],
    /// Nodes by content: equal ones are kept once.
    nodes: HashMap<Vec<u16>, u16>,
}

impl Tables {
    pub fn new() -> Self {
        Self { entries: vec![0; class_place::FREE], places: [0; dimension::COUNT], nodes: HashMap::new() }
    }

    pub fn places(&self) -> [u64; dimension::COUNT] {
        self.places
    }

    pub fn into_entries(self) -> Vec<u16> {
        self.entries
    }

    /// Sets one entry.
    pub fn set(&mut self, at: usize, entry: u16) {
        if let Some(place) = self.entries.get_mut(at) {
            *place = entry;
        }
    }

    /// Fills a table of a fixed place.
    pub fn fixed(&mut self, at: usize, count: usize, line: &Line) {
        (0..count).for_each(|value| self.set(at + value, line.at(value as u128)));
    }

    /// The table of a dimension with the values `0..=last`; one entry where all are the same.
    pub fn flat(&mut self, dimension: usize, line: &Line, last: u32) -> Result<(), String> {
        if let [(_, row)] = line.steps() {
            self.constant(dimension, *row);
            return Ok(());
        }
        let at = self.room(last as usize + 1)?;
        for (number, (first, row)) in line.steps().iter().enumerate() {
            let end = line.steps().get(number + 1).map_or(last as usize + 1, |(next, _)| *next as usize);
            if let Some(part) = self.entries.get_mut(at + *first as usize..at + end) {
                part.fill(*row);
            }
        }
        // The mask lets every value through; values are bounded by their type.
        self.place(dimension, at, last.next_power_of_two().saturating_mul(2) - 1);
        Ok(())
    }

    /// The trie of an address family: `bits` wide, its first address at `first` of the line.
    pub fn trie(&mut self, dimension: usize, line: &Line, first: u128, bits: u32) -> Result<(), String> {
        /// Entries of the first level.
        const TOP: usize = 1 << 16;
        if let [(_, row)] = line.steps() {
            self.constant(dimension, *row);
            return Ok(());
        }
        let at = self.room(TOP)?;
        let shift = bits - 16;
        let mut steps = line.steps();
        for value in 0..TOP {
            let low = first + ((value as u128) << shift);
            steps = from(steps, low);
            let entry = self.node(steps, low, shift)?;
            self.set(at + value, entry);
        }
        self.place(dimension, at, u32::from(u16::MAX));
        Ok(())
    }

    /// The entry for the `1 << bits` addresses from `low` on; `steps` begins with the one that holds at `low`.
    fn node(&mut self, steps: &[(u128, u16)], low: u128, bits: u32) -> Result<u16, String> {
        let high = low + ((1_u128 << bits) - 1);
        let row = steps.first().map_or(0, |(_, row)| *row);
        if steps.get(1).is_none_or(|(next, _)| *next > high) {
            return Ok(row);
        }
        let shift = bits - 8;
        let mut children = Vec::with_capacity(NODE_ENTRIES);
        let mut steps = steps;
        for value in 0..NODE_ENTRIES {
            let low = low + ((value as u128) << shift);
            steps = from(steps, low);
            children.push(self.node(steps, low, shift)?);
        }
        if let Some(known) = self.nodes.get(&children) {
            return Ok(*known);
        }
        let at = self.room(NODE_ENTRIES)?;
        if let Some(place) = self.entries.get_mut(at..at + NODE_ENTRIES) {
            place.copy_from_slice(&children);
        }
        let entry = NODE | (at / NODE_ENTRIES) as u16;
        self.nodes.insert(children, entry);
        Ok(entry)
    }

    fn constant(&mut self, dimension: usize, row: u16) {
        self.set(class_place::CONSTANT + dimension, row);
        self.place(dimension, class_place::CONSTANT + dimension, 0);
    }

    fn place(&mut self, dimension: usize, at: usize, mask: u32) {
        if let Some(place) = self.places.get_mut(dimension) {
            *place = (u64::from(mask) << 32) | at as u64;
        }
    }

    /// Room for so many entries, at a node's border.
    fn room(&mut self, count: usize) -> Result<usize, String> {
        let at = self.entries.len();
        let end = (at + count).next_multiple_of(NODE_ENTRIES);
        if end > CLASS_ENTRIES {
            return Err(format!(
                "the addresses and ports of all policies' packet rules need more than {} KiB of look-up tables: name \
                 fewer or larger networks; sets of sources alone, without other fields, take none of this",
                CLASS_ENTRIES * size_of::<u16>() / 1_024
            ));
        }
        self.entries.resize(end, 0);
        Ok(at)
    }
}

/// The steps from the one that holds at `low` on.
fn from(steps: &[(u128, u16)], low: u128) -> &[(u128, u16)] {
    let behind = steps.iter().take_while(|(at, _)| *at <= low).count();
    steps.get(behind.saturating_sub(1)..).unwrap_or_default()
}
