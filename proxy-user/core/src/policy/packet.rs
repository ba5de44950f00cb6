//! From cubes to what the kernel's tables hold: prefixes where only the source counts, packet rules otherwise.

use super::cubes::{Cube, cubes};
use super::lang::Expr;
use crate::ranges::RangeSet;

/// The packet form of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lowered {
    /// Only the source counts: prefixes of the `ALLOW` or `DENY` trie.
    Sources(RangeSet),
    /// Alternatives.
    Rules(Vec<Cube>),
}

/// Lowers an expression over packet fields.
pub(super) fn lower(expr: &Expr) -> Result<Lowered, String> {
    let cubes = cubes(expr)?;
    if cubes.iter().all(Cube::is_source_only) {
        let sources = cubes.iter().fold(RangeSet::default(), |all, cube| all.union(&cube.src));
        return Ok(Lowered::Sources(sources));
    }
    Ok(Lowered::Rules(cubes))
}
