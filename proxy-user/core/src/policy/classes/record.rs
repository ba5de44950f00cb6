//! Records: what few rules look at, compared on the rules that are left when everything else has matched; and the probes that
//! they lead to.

use std::collections::HashMap;

use proxy_common::classify::{Probe, ROW_WORDS, Record, row_place};

use crate::policy::cubes::Cube;
use crate::ranges::RangeSet;

/// Lists of probes, each kept once.
#[derive(Default)]
pub(super) struct Probes {
    words: Vec<u64>,
    known: HashMap<Vec<Probe>, u32>,
}

impl Probes {
    /// Place of the first among all words of probes, if there is one.
    pub fn place(&mut self, probes: &[Probe]) -> Option<u32> {
        let (last, before) = probes.split_last()?;
        let behind = self.words.len() as u32;
        let at = *self.known.entry(probes.to_vec()).or_insert(behind);
        if at == behind {
            self.words.extend(before.iter().flat_map(|probe| probe.words(true)));
            self.words.extend(last.words(false));
        }
        Some(at)
    }
}

/// How many records a cube takes: asked before they are made.
pub(super) fn count(cube: &Cube) -> usize {
    cube.rare().iter().fold(1, |product, set| product.saturating_mul(set.ranges().len()))
}

/// The records of a cube, one for each combination of ranges; one `None` where no rare field counts. `probes` is the
/// place of its probes.
pub(super) fn of(cube: &Cube, probes: Option<u32>) -> Vec<Option<(Record, Option<u32>)>> {
    let all = Cube::all();
    if cube.rare() == all.rare() && probes.is_none() {
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
                    for (low, high) in cube.interfaces.ranges() {
                        let interface = [*low as u32, *high as u32];
                        let record = Record { icmp_type, icmp_code, vlan, window, interface, probes: 0 };
                        records.push(Some((record, probes)));
                    }
                }
            }
        }
    }
    records
}

/// Appends the records and the probes to the row table.
pub(super) fn write(records: &[(Record, Option<u32>)], probes: &Probes, table: &mut Vec<u64>) -> Result<(), String> {
    let at = table.len() as u64;
    if let Some(word) = table.get_mut(row_place::RECORDS) {
        *word = at;
    }
    let behind = records.first().map_or(0, |(record, _)| records.len() * record.words().len());
    let first = (table.len() + behind) as u32;
    // A place of probes is never 0, which is that of the fingerprint.
    let placed = |(record, at): &(Record, Option<u32>)| Record { probes: at.map_or(0, |at| first + at), ..*record };
    table.extend(records.iter().flat_map(|record| placed(record).words()));
    table.extend(&probes.words);
    if table.len() > ROW_WORDS {
        return Err(format!(
            "the packet rules of all policies need more than {} KiB: use fewer rules",
            ROW_WORDS / 128
        ));
    }
    Ok(())
}
