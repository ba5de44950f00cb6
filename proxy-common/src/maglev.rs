//! Maglev hashing (Eisenbud and others, NSDI 2016, section 3.4), with weights: a table in which each member holds as many
//! places as its weight says, and few places change hands when members come or go.

use crate::siphash::siphash24;

/// A good size of a table: a prime, so that every member's steps visit all places.
pub const PLACES: usize = 4_093;

/// Where a member stands while a table is filled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Member {
    /// What tells it from the others, whatever their order: a hash of its name.
    pub id: u64,
    /// Its share; a member of weight 0 gets no place.
    pub weight: u32,
    /// Of [`fill`].
    step: u32,
    /// Of [`fill`].
    credit: u32,
}

impl Member {
    /// One that has no place yet.
    pub const fn new(id: u64, weight: u32) -> Self {
        Self { id, weight, step: 0, credit: 0 }
    }
}

/// Fills a table of [`PLACES`] places with the indexes of `members`. Without any weight all places are `u16::MAX`.
///
/// At most 65,535 members.
pub fn fill(table: &mut [u16; PLACES], members: &mut [Member]) {
    table.fill(u16::MAX);
    let most = members.iter().map(|member| member.weight).max().unwrap_or(0);
    if most == 0 {
        return;
    }
    let mut left = PLACES;
    for member in members.iter_mut() {
        (member.step, member.credit) = (0, 0);
    }
    while left > 0 {
        for (index, member) in members.iter_mut().enumerate() {
            // The heaviest takes a place in each round, the others in as many rounds as their weight is of its.
            member.credit = member.credit.saturating_add(member.weight);
            if member.credit < most {
                continue;
            }
            member.credit -= most;
            let offset = siphash24(0x6f66_6673, 0, member.id) % PLACES as u64;
            let skip = siphash24(0x736b_6970, 0, member.id) % (PLACES as u64 - 1) + 1;
            while left > 0 {
                let place = ((offset + u64::from(member.step) * skip) % PLACES as u64) as usize;
                member.step += 1;
                if let Some(free) = table.get_mut(place).filter(|held| **held == u16::MAX) {
                    *free = index as u16;
                    left -= 1;
                    break;
                }
            }
        }
    }
}

/// The member for a key, by its hash; `None` of a table without members.
pub fn find(table: &[u16; PLACES], hash: u64) -> Option<usize> {
    let place = (hash % PLACES as u64) as usize;
    table.get(place).copied().filter(|index| *index != u16::MAX).map(usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(members: &[(u64, u32)]) -> [u16; PLACES] {
        let mut table = [0; PLACES];
        let mut members: [Member; 16] = core::array::from_fn(|at| {
            members.get(at).map_or(Member::new(0, 0), |(id, weight)| Member::new(*id, *weight))
        });
        fill(&mut table, &mut members);
        table
    }

    fn count(table: &[u16; PLACES], index: u16) -> usize {
        table.iter().filter(|held| **held == index).count()
    }

    #[test]
    fn places_are_shared_by_weight() {
        let even = table(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
        for index in 0..4 {
            assert!((1_020..1_027).contains(&count(&even, index)), "{}", count(&even, index));
        }
        let uneven = table(&[(1, 3), (2, 1), (3, 0)]);
        assert!((3_060..3_080).contains(&count(&uneven, 0)), "{}", count(&uneven, 0));
        assert_eq!((count(&uneven, 2), count(&uneven, u16::MAX)), (0, 0));
        assert_eq!(find(&table(&[(1, 0)]), 7), None);
    }

    #[test]
    fn few_places_change_hands_when_a_member_goes() {
        let all = table(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
        let four = table(&[(1, 1), (2, 1), (3, 0), (4, 1), (5, 1)]);
        let moved = all.iter().zip(&four).filter(|(before, after)| **before != 2 && before != after).count();
        assert!(moved < PLACES / 20, "{moved} of {PLACES} places moved beside those of the one that went");
    }
}
