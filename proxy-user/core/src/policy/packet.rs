//! From cubes to what the kernel's tables hold: prefixes where only the source counts, packet rules otherwise.

use proxy_common::abi::{MAX_PACKET_RULES, PacketRule, frag};

use super::cubes::{ANY_PROTO, Cube, OTHER, cubes};
use super::lang::{Expr, ProtoSet};
use crate::ranges::RangeSet;

/// The packet form of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lowered {
    /// Only the source counts: prefixes of the `ALLOW` or `DENY` trie.
    Sources(RangeSet),
    /// Alternatives, with action and slot still 0.
    Rules(Vec<PacketRule>),
}

/// What can be expressed, for messages.
const EXPRESSIBLE: &str = "the packet phase knows sets of sources, and combinations of single prefixes, port, length and TTL \
                           ranges, protocols and flags";

/// Lowers an expression over packet fields.
pub(super) fn lower(expr: &Expr) -> Result<Lowered, String> {
    let cubes = cubes(expr)?;
    if cubes.iter().all(Cube::is_source_only) {
        let sources = cubes.iter().fold(RangeSet::default(), |all, cube| all.union(&cube.src));
        return Ok(Lowered::Sources(sources));
    }
    // Counted before anything is built: the product of large sets is not to be held in memory.
    let count = cubes.iter().fold(0_usize, |sum, cube| sum.saturating_add(size(cube)));
    if count > MAX_PACKET_RULES as usize {
        return Err(format!(
            "this comes to {count} packet rules, at most {MAX_PACKET_RULES} fit: {EXPRESSIBLE}. \
             A large set of sources goes into a rule of its own; what a negation leaves over is large"
        ));
    }
    let mut rules = Vec::new();
    for cube in &cubes {
        emit(cube, &mut rules)?;
    }
    Ok(Lowered::Rules(rules))
}

fn size(cube: &Cube) -> usize {
    let addresses = [&cube.src, &cube.dst].map(|set| set.prefixes().len());
    let ranges = [&cube.sport, &cube.dport, &cube.len, &cube.ttl].map(|set| set.ranges().len());
    let protos = if cube.protos == ANY_PROTO { 1 } else { cube.protos.count_ones() as usize };
    addresses.into_iter().chain(ranges).fold(protos, usize::saturating_mul)
}

fn emit(cube: &Cube, rules: &mut Vec<PacketRule>) -> Result<(), String> {
    let protos = protocols(cube.protos)?;
    for (src, src_mask) in masks(&cube.src) {
        for (dst, dst_mask) in masks(&cube.dst) {
            for &proto in &protos {
                for sport in ranges(&cube.sport) {
                    for dport in ranges(&cube.dport) {
                        for len in ranges(&cube.len) {
                            for ttl in ranges(&cube.ttl) {
                                rules.push(PacketRule {
                                    src,
                                    src_mask,
                                    dst,
                                    dst_mask,
                                    sport,
                                    dport,
                                    len,
                                    ttl: ttl.map(|n| n as u8),
                                    proto,
                                    tcp_mask: cube.tcp_mask,
                                    tcp_flags: cube.tcp_flags,
                                    frag: cube.frag & frag::ANY,
                                    ..PacketRule::default()
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Protocol numbers; 0 is any.
fn protocols(bits: u8) -> Result<Vec<u8>, String> {
    if bits == ANY_PROTO {
        return Ok(vec![0]);
    }
    if bits & OTHER != 0 {
        let message = "this also means protocols without a name here, as a negated protocol, port or flag does; \
                       say which are meant, e.g. by `ip.proto eq \"tcp\" and …` or `ip.proto in {\"udp\" \"icmp\"}`";
        return Err(format!("{message}: {EXPRESSIBLE}"));
    }
    Ok(ProtoSet::NAMES.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, (_, n))| *n).collect())
}

fn masks(set: &RangeSet) -> Vec<([u8; 16], [u8; 16])> {
    let mask = |length: u8| u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    set.prefixes().into_iter().map(|(first, length)| (first.to_be_bytes(), mask(length).to_be_bytes())).collect()
}

fn ranges(set: &RangeSet) -> Vec<[u16; 2]> {
    set.ranges().iter().map(|(low, high)| [*low as u16, *high as u16]).collect()
}
