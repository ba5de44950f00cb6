//! Which bit each rule gets. Rules that look alike stand in the same words, so that a packet that meets none of them skips
//! the word by its summary; a bit's place is not a priority.

use std::collections::BTreeMap;

use crate::policy::cubes::Cube;
use crate::ranges::RangeSet;

/// Fields by which rules are told apart.
const FIELDS: usize = 7;

/// The bit of each rule; rules are given in the order of their priority, and keep it inside a word.
pub(super) fn bits(cubes: &[&Cube]) -> Vec<usize> {
    let keys = keys(cubes);
    // Rules that constrain the same fields first: a packet outside what they have in common meets none.
    let constrained = |key: &[u32; FIELDS]| {
        key.iter().enumerate().fold(0_u32, |mask, (field, id)| mask | (u32::from(*id != 0) << field))
    };
    let mut order: Vec<(usize, [u32; FIELDS])> = keys.into_iter().enumerate().collect();
    order.sort_by_key(|(_, key)| constrained(key));
    for group in order.chunk_by_mut(|a, b| constrained(&a.1) == constrained(&b.1)) {
        arrange(group, (1 << FIELDS) - 1);
    }
    for word in order.chunks_mut(64) {
        word.sort_by_key(|(rule, _)| *rule);
    }
    let mut bits = vec![0; order.len()];
    for (bit, (rule, _)) in order.iter().enumerate() {
        if let Some(place) = bits.get_mut(*rule) {
            *place = bit;
        }
    }
    bits
}

/// Sorts by the field with the most values, and runs of one value by the fields that are left.
fn arrange(rules: &mut [(usize, [u32; FIELDS])], left: u32) {
    let diversity = |field: usize| {
        let mut values: Vec<u32> = rules.iter().filter_map(|(_, key)| key.get(field)).copied().collect();
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    let most = (0..FIELDS).filter(|field| left & (1 << field) != 0).map(|field| (diversity(field), field)).max();
    let Some((2.., field)) = most else { return };
    let value = |key: &[u32; FIELDS]| key.get(field).copied().unwrap_or_default();
    rules.sort_by_key(|(_, key)| value(key));
    for run in rules.chunk_by_mut(|a, b| value(&a.1) == value(&b.1)) {
        arrange(run, left & !(1 << field));
    }
}

/// Each rule's value of each field, as a number that sorts as the sets do; 0 is the set of all.
fn keys(cubes: &[&Cube]) -> Vec<[u32; FIELDS]> {
    let all = Cube::all();
    let sets: [fn(&Cube) -> &RangeSet; 6] =
        [|c| &c.src, |c| &c.dst, |c| &c.dport, |c| &c.sport, |c| &c.len, |c| &c.ttl];
    let mut keys = vec![[0; FIELDS]; cubes.len()];
    for (field, set) in sets.into_iter().enumerate() {
        number(cubes, &mut keys, field, |cube| (set(cube) != set(&all)).then(|| set(cube).ranges()));
    }
    let kind = |cube: &Cube| (cube.protos, cube.tcp_mask, cube.tcp_flags, cube.frag);
    number(cubes, &mut keys, FIELDS - 1, |cube| (kind(cube) != kind(&all)).then(|| kind(cube)));
    keys
}

fn number<'a, K: Ord>(
    cubes: &[&'a Cube],
    keys: &mut [[u32; FIELDS]],
    field: usize,
    value: impl Fn(&'a Cube) -> Option<K>,
) {
    let mut known: BTreeMap<K, u32> = cubes.iter().filter_map(|cube| value(cube)).map(|value| (value, 0)).collect();
    known.values_mut().zip(1..).for_each(|(id, next)| *id = next);
    for (key, cube) in keys.iter_mut().zip(cubes) {
        if let Some(place) = key.get_mut(field) {
            *place = value(cube).and_then(|value| known.get(&value)).copied().unwrap_or_default();
        }
    }
}
