//! The dynamic table (RFC 7541 sections 2.3.2 and 4), as both sides of a connection keep it.

use std::collections::VecDeque;

use super::TABLE_SIZE;

/// Entries, the newest first, and what each counts for.
#[derive(Debug)]
pub(super) struct Dynamic<T> {
    entries: VecDeque<(T, usize)>,
    size: usize,
    most: usize,
}

impl<T> Default for Dynamic<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE_SIZE }
    }
}

impl<T> Dynamic<T> {
    /// What it may count for.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// What it counts for.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many entries it has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// It may count for so much from now on (section 4.3).
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most;
        self.evict(0);
    }

    /// Puts an entry before the others, as many of which go as it needs; one that is larger than the table leaves it empty (section
    /// 4.4).
    pub(super) fn push(&mut self, entry: T, counts: usize) {
        self.evict(counts);
        if counts <= self.most {
            self.size += counts;
            self.entries.push_front((entry, counts));
        }
    }

    /// An entry, counted from 0, and what it counts for.
    pub(super) fn get(&self, index: usize) -> Option<(&T, usize)> {
        self.entries.get(index).map(|(entry, counts)| (entry, *counts))
    }

    /// The index of the newest that is meant.
    pub(super) fn find(&self, mut is: impl FnMut(&T) -> bool) -> Option<usize> {
        self.entries.iter().position(|(entry, _)| is(entry))
    }

    fn evict(&mut self, counts: usize) {
        while self.size + counts > self.most
            && let Some((_, freed)) = self.entries.pop_back()
        {
            self.size -= freed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut table = Dynamic::default();
        for (entry, counts) in [('a', 2_000), ('b', 2_000), ('c', 96), ('d', 97)] {
            table.push(entry, counts);
        }
        let show = |table: &Dynamic<char>| -> String {
            (0..).map_while(|index| table.get(index).map(|(entry, _)| *entry)).collect()
        };
        assert_eq!((show(&table).as_str(), table.size(), table.find(|entry| *entry == 'b')), ("dcb", 2_193, Some(2)));
        table.resize(193);
        assert_eq!((show(&table).as_str(), table.size(), table.find(|entry| *entry == 'b')), ("dc", 193, None));
        table.push('e', 194);
        assert_eq!((table.len(), table.size(), table.most()), (0, 0, 193));
    }
}
