//! Records: what few rules look at, compared on the rules that are left when everything else has matched.

use proxy_common::classify::{ROW_WORDS, Record, row_place};

use crate::policy::cubes::Cube;
use crate::ranges::RangeSet;

/// How many records a cube takes: asked before they are made.
pub(super) fn count(cube: &Cube) -> usize {
    cube.rare().iter().fold(1, |product, set| product.saturating_mul(set.ranges().len()))
}

/// The records of a cube, one for each combination of ranges; one `None` where no rare field counts.
pub(super) fn of(cube: &Cube) -> Vec<Option<Record>> {
    let all = Cube::all();
    if cube.rare() == all.rare() {
        return vec![None];
    }
    let bytes =
        |set: &RangeSet| -> Vec<[u8; 2]> { set.ranges().iter().map(|(low, high)| [*low as u8, *high as u8]).collect() };
    let words = |set: &RangeSet| -> Vec<[u16; 2]> {
        set.ranges().iter().map(|(low, high)| [*low as u16, *high as u16]).collect()
    };
    let mut records = Vec::new();
    for &icmp_type in &bytes(&cube.icmp_type) {
        for &icmp_code in &bytes(&cube.icmp_code) {
            for &vlan in &words(&cube.vlan) {
                for &window in &words(&cube.window) {
                    records.push(Some(Record { icmp_type, icmp_code, vlan, window }));
                }
            }
        }
    }
    records
}

/// Appends the records to the row table.
pub(super) fn write(records: &[Record], table: &mut Vec<u64>) -> Result<(), String> {
    let at = table.len() as u64;
    if let Some(word) = table.get_mut(row_place::RECORDS) {
        *word = at;
    }
    table.extend(records.iter().flat_map(Record::words));
    if table.len() > ROW_WORDS {
        return Err(format!(
            "the packet rules of all policies need more than {} KiB: use fewer rules",
            ROW_WORDS / 128
        ));
    }
    Ok(())
}
