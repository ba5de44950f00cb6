//! From cubes to what the kernel's tables hold: prefixes where only the source counts, packet rules otherwise.

use super::cubes::{Cube, cubes};
use super::interfaces::Interfaces;
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
pub(super) fn lower(expr: &Expr, interfaces: Interfaces<'_>) -> Result<Lowered, String> {
    Ok(lowered(cubes(expr, interfaces)?))
}

/// Lowers those alternatives of an expression that packet fields alone decide; None where there are none.
pub(super) fn lower_alternatives(expr: &Expr, interfaces: Interfaces<'_>) -> Result<Option<Lowered>, String> {
    let Expr::Or(parts) = expr else { return Ok(None) };
    let mut found = Vec::new();
    for part in parts.iter().filter(|part| part.phases().packet) {
        found.extend(cubes(part, interfaces)?);
    }
    Ok((!found.is_empty()).then(|| lowered(found)))
}

fn lowered(cubes: Vec<Cube>) -> Lowered {
    if cubes.iter().all(Cube::is_source_only) {
        let sources = cubes.iter().fold(RangeSet::default(), |all, cube| all.union(&cube.src));
        return Lowered::Sources(sources);
    }
    Lowered::Rules(cubes)
}
