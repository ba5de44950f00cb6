//! Packet rules compiled to the tables of [`proxy_common::classify`]: which bit each rule is, the rows, and the look-ups
//! that lead to them. Pure: rules in, plain words out, or the bound that they do not fit.

mod arrange;
mod record;
mod rows;
mod table;

#[cfg(test)]
mod tests;

use proxy_common::abi::{MAX_PACKET_RULES, frag, proto, rule_action};
use proxy_common::classify::{
    self, Answer, ClassTable, MAX_WORDS, Probe, RowTable, checked_entry, class_place, dimension, entry, row_place,
};
use proxy_common::fingerprint::{self, Syn};
use proxy_common::parse::{Frame, Packet};
use proxy_common::siphash::siphash24;

use super::cubes::{ANY_PROTO, Cube, OTHER};
use super::lang::ProtoSet;
use crate::ranges::{RangeSet, V4_FIRST, V4_LAST};
use record::Probes;
use rows::{Bits, Rows};
use table::Tables;

/// One packet rule: what it matches, what it does, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketRule {
    /// The packets that it matches.
    pub cube: Cube,
    /// One of [`rule_action`].
    pub action: u32,
    /// Rule slot.
    pub slot: u32,
    /// Whether it is only counted, beside the rules that are enforced.
    pub shadow: bool,
}

impl PacketRule {
    /// Whether the packet is in each of the rule's sets. What the compiled tables must agree with.
    pub fn matches<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet) -> bool {
        let cube = &self.cube;
        let address = |addr: proxy_common::addr::Addr| u128::from_be_bytes(addr.to_bytes());
        let port = |set: &RangeSet, port: u16| {
            if packet.ports { set.contains(port.into()) } else { set.is_full(u16::MAX.into()) }
        };
        let flags = if packet.proto == proto::TCP && packet.ports { packet.tcp_flags } else { 0 };
        protos(cube.protos)(packet.proto)
            && cube.frag & packet.frag != 0
            && flags & cube.tcp_mask == cube.tcp_flags
            && cube.ttl.contains(packet.ttl.into())
            && cube.icmp_type.contains(packet.icmp_type.into())
            && cube.icmp_code.contains(packet.icmp_code.into())
            && cube.vlan.contains(packet.vlan.into())
            && cube.window.contains(packet.window.into())
            && cube.interfaces.contains(frame.interface().into())
            && cube.len.contains(packet.len.into())
            && port(&cube.sport, packet.sport)
            && port(&cube.dport, packet.dport)
            && cube.src.contains(address(packet.src))
            && cube.dst.contains(address(packet.dst))
            && cube.probes.iter().all(|probe| answers(frame, packet, probe))
    }
}

fn answers<F: Frame + ?Sized>(frame: &F, packet: &Packet, probe: &Probe) -> bool {
    let mut syn = Syn::default();
    fingerprint::read(frame, packet, &mut syn);
    probe.ask(frame, packet, &syn) == Answer::Yes
}

/// Compiled packet rules: the parts of the two tables that are used. The rest of the tables is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTables {
    /// Fingerprint of the content; 0 for none.
    pub print: u64,
    classes: Vec<u16>,
    rows: Vec<u64>,
}

impl RuleTables {
    /// The class table in full. `None` never: the compiled part is no longer than the table.
    pub fn classes(&self) -> Option<Box<ClassTable>> {
        filled(&self.classes)
    }

    /// The row table in full; likewise.
    pub fn rows(&self) -> Option<Box<RowTable>> {
        filled(&self.rows)
    }

    /// Bytes of both tables that are used.
    pub fn bytes(&self) -> usize {
        self.classes.len() * size_of::<u16>() + self.rows.len() * size_of::<u64>()
    }
}

fn filled<T: Copy + Default, const N: usize>(part: &[T]) -> Option<Box<[T; N]>> {
    let mut all = part.to_vec();
    all.resize(N, T::default());
    all.into_boxed_slice().try_into().ok()
}

/// Compiles rules given in the order of their priority; allow rules come before all others. Shadow rules are found beside
/// the others. The error names the bound.
pub fn compile(rules: &[PacketRule]) -> Result<RuleTables, String> {
    if rules.is_empty() {
        return Ok(RuleTables::default());
    }
    let allows = |rule: &&PacketRule| rule.action == rule_action::ALLOW;
    let ordered = rules.iter().filter(allows).chain(rules.iter().filter(|rule| !allows(rule)));
    // A record holds one range of each rare field: a rule with several takes a bit for each combination.
    let count = rules.iter().fold(0_usize, |sum, rule| sum.saturating_add(record::count(&rule.cube)));
    if count > MAX_PACKET_RULES as usize {
        return Err(format!("there are {count} packet rules in all policies, at most {MAX_PACKET_RULES} fit"));
    }
    let mut probes = Probes::default();
    let mut split = Vec::new();
    for rule in ordered {
        let place = probes.place(&rule.cube.probes);
        split.extend(record::of(&rule.cube, place).into_iter().map(|record| (rule, record)));
    }
    let ordered: Vec<&PacketRule> = split.iter().map(|(rule, _)| *rule).collect();
    let cubes: Vec<&Cube> = ordered.iter().map(|rule| &rule.cube).collect();
    let bits = bits(&ordered)?;

    let mut rows = Rows::new(Bits::of(bits.iter().copied()));
    let mut tables = Tables::new();
    kinds(&cubes, &bits, &mut rows, &mut tables)?;
    let all = |pick: fn(&Cube) -> &RangeSet| -> Vec<(usize, &RangeSet)> {
        bits.iter().copied().zip(cubes.iter().map(|cube| pick(cube))).collect()
    };
    let ttl = rows.along(&all(|cube| &cube.ttl), u8::MAX.into())?;
    tables.fixed(class_place::TTL, 256, &ttl);
    for (pick, v4, v6) in [
        (all(|cube| &cube.src), dimension::SRC4, dimension::SRC6),
        (all(|cube| &cube.dst), dimension::DST4, dimension::DST6),
    ] {
        let line = rows.along(&pick, u128::MAX)?;
        tables.trie(v4, &line.part(V4_FIRST, V4_LAST), V4_FIRST, 32)?;
        tables.trie(v6, &line.without(V4_FIRST, V4_LAST), 0, 128)?;
    }
    for (pick, place) in [(all(|cube| &cube.sport), dimension::SPORT), (all(|cube| &cube.dport), dimension::DPORT)] {
        let without = Bits::of(pick.iter().filter(|(_, set)| set.is_full(u16::MAX.into())).map(|(bit, _)| *bit));
        let mut line = rows.along(&pick, u16::MAX.into())?;
        line.push(classify::NO_PORT.into(), rows.number(without)?);
        tables.flat(place, &line, classify::NO_PORT)?;
    }
    let line = rows.along(&all(|cube| &cube.len), u16::MAX.into())?;
    tables.flat(dimension::LEN, &line, u16::MAX.into())?;

    let mut words = vec![0; row_place::ROW];
    let mut records = Vec::new();
    for (priority, ((rule, record), bit)) in (0_u16..).zip(split.iter().zip(&bits)) {
        let mut entry = entry(priority, rule.shadow, rule.action, rule.slot);
        if let Some(record) = record {
            let known = records.iter().position(|known| known == record);
            entry = checked_entry(entry, known.unwrap_or(records.len()) as u16);
            if known.is_none() {
                records.push(*record);
            }
        }
        if let Some(word) = words.get_mut(row_place::ENTRY + bit) {
            *word = entry;
        }
    }
    for (number, place) in tables.places().into_iter().enumerate() {
        if let Some(word) = words.get_mut(row_place::DIMENSION + number) {
            *word = place;
        }
    }
    rows.write(&mut words)?;
    record::write(&records, &probes, &mut words)?;
    let classes = tables.into_entries();
    let print = fingerprint(&classes, &words);
    if let Some(word) = words.get_mut(row_place::PRINT) {
        *word = print;
    }
    Ok(RuleTables { print, classes, rows: words })
}

/// The bit of each rule: enforced ones first, shadow rules in words of their own.
fn bits(ordered: &[&PacketRule]) -> Result<Vec<usize>, String> {
    let of = |shadow: bool| -> Vec<&Cube> {
        ordered.iter().filter(|rule| rule.shadow == shadow).map(|rule| &rule.cube).collect()
    };
    let (enforced, shadow) = (arrange::bits(&of(false)), arrange::bits(&of(true)));
    let first = words_of(enforced.len());
    if first + words_of(shadow.len()) > MAX_WORDS {
        return Err(format!(
            "{} packet rules and {} in shadow mode do not fit beside each other: at most {MAX_PACKET_RULES}, each kind \
             rounded up to a multiple of 64",
            enforced.len(),
            shadow.len()
        ));
    }
    let (mut enforced, mut shadow) = (enforced.into_iter(), shadow.into_iter().map(|bit| first * 64 + bit));
    let next = |rule: &&PacketRule| if rule.shadow { shadow.next() } else { enforced.next() };
    Ok(ordered.iter().filter_map(next).collect())
}

/// Never 0, which stands for no rules.
fn fingerprint(classes: &[u16], rows: &[u64]) -> u64 {
    let packed = classes.chunks(4).map(|four| four.iter().fold(0, |word, entry| (word << 16) | u64::from(*entry)));
    packed.chain(rows.iter().copied()).fold(rows.len() as u64, |sum, word| siphash24(sum, !sum, word)).max(1)
}

/// Whether a protocol number is in the bits of a cube.
fn protos(bits: u8) -> impl Fn(u8) -> bool {
    move |number| {
        let named = ProtoSet::NAMES.iter().position(|(_, known)| *known == number);
        bits & named.map_or(OTHER, |bit| 1 << bit) != 0
    }
}

/// The table by fragment state, protocol and TCP flags.
fn kinds(cubes: &[&Cube], bits: &[usize], rows: &mut Rows, tables: &mut Tables) -> Result<(), String> {
    let wide = |cube: &Cube| cube.protos == ANY_PROTO && cube.frag == frag::ANY && cube.tcp_mask == 0;
    let always = Bits::of(cubes.iter().zip(bits).filter(|(cube, _)| wide(cube)).map(|(_, bit)| *bit));
    let narrow: Vec<(&Cube, usize)> =
        cubes.iter().zip(bits).filter(|(cube, _)| !wide(cube)).map(|(cube, bit)| (*cube, *bit)).collect();
    for (state, fragment) in [frag::NONE, frag::FIRST, frag::LATER].into_iter().enumerate() {
        for what in 0..512_u16 {
            let (number, flags) = if what < 256 { (what as u8, 0) } else { (proto::TCP, what as u8) };
            let holds = |cube: &Cube| {
                cube.frag & fragment != 0 && protos(cube.protos)(number) && flags & cube.tcp_mask == cube.tcp_flags
            };
            let mut found = always.clone();
            narrow.iter().filter(|(cube, _)| holds(cube)).for_each(|(_, bit)| found.set(*bit, true));
            let row = rows.number(found)?;
            tables.set(class_place::KIND + state * 512 + usize::from(what), row);
        }
    }
    Ok(())
}

/// Words that so many rules take.
const fn words_of(rules: usize) -> usize {
    rules.div_ceil(64)
}

const _: () = assert!(words_of(MAX_PACKET_RULES as usize) == MAX_WORDS);
