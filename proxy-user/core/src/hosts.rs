//! Hosts of an image: which of its prefixes are hosts, and the table of [`proxy_common::hosts`] that they fill. Pure; who
//! writes the table where packets read it is the kernel half.

use std::collections::HashSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_common::abi::{HostKey, HostLine, MAX_HOSTS};
use proxy_common::addr::Addr;
use proxy_common::hosts::{PROBES, Shape, V4_SLOTS, V6_PREFIX, V6_SLOTS, hint_place, host_bits, prefix_of, terms};

/// IPv4 prefixes of this length and longer become hosts: merging two neighbours of a list must not turn two hosts into a
/// prefix, of which there is less room. IPv6: [`SMALL_V6`].
const SMALL_V4: u8 = 29;
const SMALL_V6: u8 = 125;
/// A table that has no room within [`PROBES`] lines of a place is made larger this often, by a quarter each time.
const GROWTHS: u32 = 8;

/// Prefixes with the rule slot of each.
pub type Prefixes = Vec<(IpNet, u32)>;

/// An image's prefixes by where they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Allowed prefixes that are no hosts, sorted.
    pub allow: Prefixes,
    /// Denied prefixes that are no hosts, sorted.
    pub deny: Prefixes,
    /// Hosts and IPv6 /64 with their [`terms`], sorted by key.
    pub hosts: Vec<(HostKey, u32)>,
}

/// A filled table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTable {
    /// The table, its first line among them.
    pub lines: Vec<HostLine>,
    /// The filter before the denied hosts.
    pub hint: Vec<u64>,
    /// Binary logarithm of the filter's bits; 0 where no host is listed.
    pub bits: u32,
}

/// Splits sorted prefixes. What the longest of them says of an address is what the host says, or else what the rest says.
pub fn split(allow: &[(IpNet, u32)], deny: &[(IpNet, u32)]) -> Parts {
    // Small prefixes go into the table where it has room for them.
    let wide: u64 = [allow, deny].into_iter().flatten().map(|(net, _)| hosts_of(net)).sum();
    let expand = wide <= u64::from(MAX_HOSTS);
    let (allow, allowed) = split_one(allow, expand);
    let (deny, denied) = split_one(deny, expand);
    Parts { allow, deny, hosts: merged(&allowed, &denied) }
}

/// Hosts that a prefix takes in the table when small prefixes are expanded, at the most.
fn hosts_of(net: &IpNet) -> u64 {
    match net {
        IpNet::V4(net) if net.prefix_len() >= SMALL_V4 => 1 << (32 - net.prefix_len()),
        IpNet::V6(net) if net.prefix_len() >= SMALL_V6 => 1 << (128 - net.prefix_len()),
        IpNet::V6(net) if net.prefix_len() == V6_PREFIX => 1,
        _ => 0,
    }
}

/// One list: what stays a prefix, and the hosts, sorted by key, each once.
fn split_one(list: &[(IpNet, u32)], expand: bool) -> (Prefixes, Vec<(HostKey, u32)>) {
    let small = |len, least, most| if expand { len >= least } else { len == most };
    // A /64 above longer prefixes that stay: the trie has to tell which of them is the longest.
    let mixed: HashSet<[u8; 16]> = list
        .iter()
        .filter_map(|(net, _)| match net {
            IpNet::V6(net) if net.prefix_len() > V6_PREFIX && !small(net.prefix_len(), SMALL_V6, 128) => {
                Some(prefix_of(Addr::from(std::net::IpAddr::from(net.network()))).addr)
            }
            _ => None,
        })
        .collect();
    let mut rest = Vec::new();
    let mut hosts: Vec<([u8; 16], u8, u32)> = Vec::with_capacity(list.len());
    for (net, slot) in list {
        let first = Addr::from(net.network());
        match net {
            IpNet::V4(v4) if small(v4.prefix_len(), SMALL_V4, 32) => {
                hosts.extend(v4_hosts(*v4).map(|host| (host, 96 + v4.prefix_len(), *slot)));
            }
            IpNet::V6(v6) if small(v6.prefix_len(), SMALL_V6, 128) => {
                hosts.extend(v6_hosts(*v6).map(|host| (host, v6.prefix_len(), *slot)));
            }
            // ::/64 holds the v4-mapped addresses: it speaks of IPv4 too, which only the trie can do.
            IpNet::V6(v6) if v6.prefix_len() == V6_PREFIX && first.hi != 0 => {
                let key = prefix_of(first).addr;
                if mixed.contains(&key) {
                    rest.push((*net, *slot));
                } else {
                    hosts.push((key, V6_PREFIX, *slot));
                }
            }
            _ => rest.push((*net, *slot)),
        }
    }
    // Of several that cover a host the longest speaks.
    hosts.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    hosts.dedup_by_key(|(host, ..)| *host);
    (rest, hosts.into_iter().map(|(addr, _, slot)| (HostKey { addr }, slot)).collect())
}

fn v4_hosts(net: Ipv4Net) -> impl Iterator<Item = [u8; 16]> {
    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
    (first..=last).map(|host| std::net::Ipv4Addr::from_bits(host).to_ipv6_mapped().octets())
}

fn v6_hosts(net: Ipv6Net) -> impl Iterator<Item = [u8; 16]> {
    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
    (first..=last).map(u128::to_be_bytes)
}

/// Two sorted lists as one, with the terms of both.
fn merged(allowed: &[(HostKey, u32)], denied: &[(HostKey, u32)]) -> Vec<(HostKey, u32)> {
    let mut found = Vec::with_capacity(allowed.len() + denied.len());
    let (mut a, mut d) = (allowed.iter().peekable(), denied.iter().peekable());
    loop {
        let order = match (a.peek(), d.peek()) {
            (None, None) => return found,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((x, _)), Some((y, _))) => x.addr.cmp(&y.addr),
        };
        let allow = if order.is_le() { a.next() } else { None };
        let deny = if order.is_ge() { d.next() } else { None };
        let terms = allow.map_or(0, |(_, slot)| terms::allow(*slot)) | deny.map_or(0, |(_, slot)| terms::deny(*slot));
        found.extend(allow.or(deny).map(|(key, _)| (*key, terms)));
    }
}

impl HostTable {
    /// Fills a table with hosts sorted by key. `seed` is random, or that of the table which this one replaces: then equal
    /// hosts stand in equal lines. `None` where no size has room within [`PROBES`] lines, which takes a broken `seed`.
    pub fn build(hosts: &[(HostKey, u32)], seed: u64) -> Option<Self> {
        let mut shape = shape_for(hosts, seed);
        for _ in 0..GROWTHS {
            let mut lines = vec![HostLine::default(); shape.lines() as usize];
            if hosts.iter().all(|(key, terms)| place(&mut lines, shape, key, *terms).is_some()) {
                if let Some(first) = lines.first_mut() {
                    *first = shape.line();
                }
                let (hint, bits) = filter(hosts);
                return Some(Self { lines, hint, bits });
            }
            shape.v4 += shape.v4 / 4;
            shape.v6 += shape.v6 / 4;
            shape.seed = shape.seed.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        None
    }
}

/// The size of the table of some hosts: IPv4 lines are a quarter to half full, IPv6 lines a fifth to two fifths.
fn shape_for(hosts: &[(HostKey, u32)], seed: u64) -> Shape {
    let v4 = hosts.iter().filter(|(key, _)| Addr::from_bytes(key.addr).is_v4()).count();
    let v6 = hosts.len() - v4;
    let slots = |count: usize| if count == 0 { 0 } else { (2 * count).next_power_of_two().max(64) };
    Shape {
        v4: slots(v4).div_ceil(V4_SLOTS) as u32,
        v6: (slots(v6) * 5 / 4).div_ceil(V6_SLOTS) as u32,
        seed,
        hosts: hosts.len() as u32,
    }
}

/// Puts a host into the first line with room.
fn place(lines: &mut [HostLine], shape: Shape, key: &HostKey, terms: u32) -> Option<()> {
    let addr = Addr::from_bytes(key.addr);
    let v4 = addr.is_v4();
    let first = if v4 { shape.v4_line(addr.v4_number()) } else { shape.v6_line(addr) } as usize;
    let lines = lines.get_mut(first..first + PROBES as usize)?;
    lines
        .iter_mut()
        .find_map(|line| if v4 { place_v4(line, addr.v4_number(), terms) } else { place_v6(line, addr, terms) })
}

fn place_v4(line: &mut HostLine, address: u32, terms: u32) -> Option<()> {
    let free = line.words.iter_mut().find(|word| **word as u32 == 0)?;
    *free = (u64::from(address) << 32) | u64::from(terms);
    Some(())
}

fn place_v6(line: &mut HostLine, key: Addr, terms: u32) -> Option<()> {
    let [a_hi, a_lo, b_hi, b_lo, c_hi, c_lo, ab, c] = &mut line.words;
    let terms = u64::from(terms);
    if *ab as u32 == 0 {
        (*a_hi, *a_lo, *ab) = (key.hi, key.lo, terms);
    } else if *ab >> 32 == 0 {
        (*b_hi, *b_lo, *ab) = (key.hi, key.lo, *ab | (terms << 32));
    } else if *c == 0 {
        (*c_hi, *c_lo, *c) = (key.hi, key.lo, terms);
    } else {
        return None;
    }
    Some(())
}

/// The filter before the denied hosts, and the binary logarithm of its bits.
fn filter(hosts: &[(HostKey, u32)]) -> (Vec<u64>, u32) {
    if hosts.is_empty() {
        return (Vec::new(), 0);
    }
    let denied = || hosts.iter().filter(|(_, terms)| *terms & 0xffff != 0);
    let bits = host_bits(denied().count() as u32);
    let mut words = vec![0; 1 << (bits - 6)];
    for (key, _) in denied() {
        let (word, mask) = hint_place(key.first_addr(), bits);
        if let Some(word) = words.get_mut(word as usize) {
            *word |= mask;
        }
    }
    (words, bits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use proptest::prelude::*;
    use proxy_common::hosts::{HostFound, entry, find};

    use super::*;

    fn list(nets: &[(&str, u32)]) -> Prefixes {
        let mut list: Prefixes = nets.iter().map(|(net, slot)| (net.parse().expect(net), *slot)).collect();
        list.sort_unstable();
        list
    }

    fn asked(table: &HostTable, ip: &str) -> HostFound {
        find(ip.parse::<IpAddr>().expect(ip).into(), |line| table.lines.get(line as usize))
    }

    #[test]
    fn hosts_leave_the_tries() {
        let deny = list(&[
            ("192.0.2.7/32", 1),
            ("192.0.2.0/24", 2),
            ("192.0.2.6/31", 3),
            ("2001:db8::1/128", 4),
            ("2001:db8:0:1::/64", 5),
            ("2001:db8:0:2::/64", 6),
            ("2001:db8:0:2::/96", 7),
            ("::/64", 8),
        ]);
        let allow = list(&[("192.0.2.7/32", 9), ("2001:db8:0:1::5/128", 10)]);
        let parts = split(&allow, &deny);
        assert_eq!(
            parts.deny,
            list(&[("192.0.2.0/24", 2), ("2001:db8:0:2::/64", 6), ("2001:db8:0:2::/96", 7), ("::/64", 8)])
        );
        assert!(parts.allow.is_empty());
        let table = HostTable::build(&parts.hosts, 0x1234_5678_9abc_def1).expect("room");
        let rows = [
            ("192.0.2.7", Some(1), Some(9)),
            ("192.0.2.6", Some(3), None),
            ("192.0.2.5", None, None),
            ("2001:db8::1", Some(4), None),
            ("2001:db8:0:1::5", Some(5), Some(10)),
            ("2001:db8:0:1::6", Some(5), None),
            ("2001:db8:0:2::1", None, None),
            ("::1", None, None),
        ];
        for (ip, denied, allowed) in rows {
            let found = asked(&table, ip);
            assert_eq!((found.denied(), found.allowed()), (denied, allowed), "{ip}");
        }
    }

    #[test]
    fn a_full_table_holds_all_and_nothing_else() {
        let hosts: Vec<(HostKey, u32)> = {
            let v4 = (0..100_000_u32).map(|n| IpAddr::from(std::net::Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1))));
            let v6 = (0..20_000_u128).map(|n| IpAddr::from(std::net::Ipv6Addr::from_bits((0x2001 << 112) | n)));
            let mut all: Vec<_> = v4.chain(v6).map(|ip| (Addr::from(ip).host_key(), terms::deny(1))).collect();
            all.sort_unstable_by_key(|(key, _)| key.addr);
            all
        };
        let table = HostTable::build(&hosts, 0xfeed_beef_dead_cafe).expect("room");
        for (key, terms) in &hosts {
            assert_eq!(entry(key, |line| table.lines.get(line as usize)).terms, *terms);
            let (word, mask) = hint_place(key.first_addr(), table.bits);
            assert_eq!(table.hint[word as usize] & mask, mask);
        }
        assert_eq!(asked(&table, "2001:db8::1"), HostFound::default());
        let strangers = (0..100_000_u32).map(|n| Addr::from(IpAddr::from(std::net::Ipv4Addr::from_bits(n * 2 + 1))));
        let known: HashSet<_> = hosts.iter().map(|(key, _)| *key).collect();
        let strangers: Vec<Addr> = strangers.filter(|addr| !known.contains(&addr.host_key())).collect();
        let met = |addr: &&Addr| {
            let (word, mask) = hint_place(**addr, table.bits);
            table.hint[word as usize] & mask == mask
        };
        let by = strangers.iter().filter(met).count();
        assert!(by * 20 < strangers.len(), "the filter lets {by} of {} by", strangers.len());
        // The same hosts but for one: lines that do not hold it are the same.
        let fewer = HostTable::build(&hosts[1..], 0xfeed_beef_dead_cafe).expect("room");
        let differ = table.lines.iter().zip(&fewer.lines).filter(|(a, b)| a != b).count();
        assert!(differ <= 1 + PROBES as usize, "{differ} lines differ");
    }

    /// The longest prefix that covers an address, over the whole list.
    fn longest(list: &[(IpNet, u32)], ip: IpAddr) -> Option<u32> {
        list.iter().filter(|(net, _)| net.contains(&ip)).max_by_key(|(net, _)| net.prefix_len()).map(|(_, slot)| *slot)
    }

    proptest! {
        #[test]
        fn host_then_trie_is_the_longest(
            v4 in prop::collection::vec((0_u32..64, 26_u8..=32), 0..12),
            v6 in prop::collection::vec((0_u128..4, 0_u128..4, 60_u8..=128), 0..12),
        ) {
            let base = 0x2001_0db8_u128 << 96;
            let nets = v4.iter().map(|(a, len)| IpNet::V4(Ipv4Net::new((0xc000_0200 | a).into(), *len).unwrap().trunc()))
                .chain(v6.iter().map(|(net, host, len)|
                    IpNet::V6(Ipv6Net::new((base | (net << 64) | host).into(), *len).unwrap().trunc())));
            let deny: Prefixes = (1..).zip(nets).map(|(slot, net)| (net, slot)).collect::<BTreeMap<IpNet, u32>>()
                .into_iter().collect();
            let parts = split(&[], &deny);
            let table = HostTable::build(&parts.hosts, 0x0123_4567_89ab_cdef).unwrap();
            let probes = (0..64_u32).map(|n| IpAddr::from(std::net::Ipv4Addr::from_bits(0xc000_0200 | n)))
                .chain((0..4_u128).flat_map(|net| (0..4_u128)
                    .map(move |host| IpAddr::from(std::net::Ipv6Addr::from_bits(base | (net << 64) | host)))));
            for ip in probes {
                let found = find(ip.into(), |line| table.lines.get(line as usize)).denied();
                prop_assert_eq!(found.or_else(|| longest(&parts.deny, ip)), longest(&deny, ip), "{}", ip);
            }
        }
    }
}
