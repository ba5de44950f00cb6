//! Sets of numbers as sorted ranges: addresses (v4-mapped, so that both families are one number line), ports, lengths.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// First number of the v4-mapped addresses `::ffff:0:0/96`.
pub(crate) const V4_FIRST: u128 = 0xffff_0000_0000;
/// Last number of the v4-mapped addresses.
pub(crate) const V4_LAST: u128 = 0xffff_ffff_ffff;

/// A set of numbers. The ranges include both ends, are sorted and neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeSet {
    ranges: Vec<(u128, u128)>,
}

impl RangeSet {
    /// From ranges in any order; those that are empty (`low > high`) are left out.
    pub fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.retain(|(low, high)| low <= high);
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1 || kept.1.checked_add(1) == Some(next.0);
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
        Self { ranges }
    }

    /// `0..=max`.
    pub fn full(max: u128) -> Self {
        Self { ranges: vec![(0, max)] }
    }

    /// Whether it is `0..=max`.
    pub fn is_full(&self, max: u128) -> bool {
        self.ranges == [(0, max)]
    }

    /// The ranges, sorted.
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the number is in it; a binary search.
    pub fn contains(&self, number: u128) -> bool {
        let behind = self.ranges.partition_point(|(low, _)| *low <= number);
        behind.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, high)| number <= *high)
    }

    /// Whether all of `low..=high` is in it.
    pub fn contains_range(&self, low: u128, high: u128) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= low);
        behind.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| high <= *last)
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.ranges.iter().chain(&other.ranges).copied().collect())
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let mut found = Vec::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let (low, high) = (x.0.max(y.0), x.1.min(y.1));
            if low <= high {
                found.push((low, high));
            }
            if x.1 < y.1 {
                a.next()
            } else {
                b.next()
            };
        }
        Self { ranges: found }
    }

    /// What of `0..=max` is not in it.
    #[must_use]
    pub fn complement(&self, max: u128) -> Self {
        let mut found = Vec::new();
        let mut next = Some(0);
        for (low, high) in &self.ranges {
            if let Some(from) = next
                && from < *low
            {
                found.push((from, low - 1));
            }
            next = high.checked_add(1);
        }
        if let Some(from) = next.filter(|from| *from <= max) {
            found.push((from, max));
        }
        Self { ranges: found }
    }

    /// All numbers whose first `bits` of 128, with zeros behind, are a number in the set.
    #[must_use]
    pub(crate) fn of_prefixes(&self, bits: u8) -> Self {
        let behind = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
        let blocks = self.ranges.iter().filter_map(|(low, high)| {
            let first = if low & behind == 0 { *low } else { (low | behind).checked_add(1)? };
            let last = high & !behind;
            (first <= last).then_some((first, last | behind))
        });
        Self::new(blocks.collect())
    }

    /// The fewest `(first number, prefix length)` of 128 bits that make up the set, sorted.
    pub fn prefixes(&self) -> Vec<(u128, u8)> {
        let mut found = Vec::new();
        for &(low, high) in &self.ranges {
            let mut from = low;
            loop {
                // The largest block that starts here and does not go beyond the end.
                let left = high - from;
                let room = left.checked_add(1).map_or(128, u128::ilog2);
                let bits = from.trailing_zeros().min(room);
                found.push((from, (128 - bits) as u8));
                let last = if bits == 128 { u128::MAX } else { from + ((1_u128 << bits) - 1) };
                if last >= high {
                    break;
                }
                from = last + 1;
            }
        }
        found
    }

    /// The set as networks. Over v4-mapped numbers: what lies in `::ffff:0:0/96` becomes IPv4, and a shorter prefix that
    /// holds it covers both families.
    pub fn networks(&self) -> Vec<IpNet> {
        self.prefixes().into_iter().filter_map(|(first, length)| network(first, length)).collect()
    }
}

/// The network of a first number and a length of 128 bits, IPv4 where it lies in the v4-mapped addresses.
pub(crate) fn network(first: u128, length: u8) -> Option<IpNet> {
    if length >= 96 && (V4_FIRST..=V4_LAST).contains(&first) {
        return Ipv4Net::new(Ipv4Addr::from_bits(first as u32), length - 96).ok().map(IpNet::V4);
    }
    Ipv6Net::new(Ipv6Addr::from_bits(first), length).ok().map(IpNet::V6)
}

/// An address as a number; IPv4 in its v4-mapped form.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of a number; v4-mapped ones are IPv4.
pub(crate) fn address(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).to_canonical()
}

/// The numbers of a network. An IPv6 network that holds the v4-mapped addresses does not mean IPv4: they are left out.
pub fn network_ranges(network: IpNet) -> Vec<(u128, u128)> {
    match network {
        IpNet::V4(v4) => vec![(number(v4.network().into()), number(v4.broadcast().into()))],
        IpNet::V6(v6) => {
            let (low, high) = (v6.network().to_bits(), v6.broadcast().to_bits());
            if low < V4_FIRST && high > V4_LAST {
                vec![(low, V4_FIRST - 1), (V4_LAST + 1, high)]
            } else {
                vec![(low, high)]
            }
        }
    }
}

/// The numbers of a prefix of an image, on the number line of the maps' keys: an IPv6 prefix that holds the v4-mapped
/// addresses covers them.
pub fn mapped_range(network: &IpNet) -> (u128, u128) {
    (number(network.network()), number(network.broadcast()))
}

/// Reads `192.0.2.0/24`, `2001:db8::/32` or an address; the message says what is wrong.
pub(crate) fn parse_network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet =
        text.parse().map_err(|_| format!("`{text}` is neither an address nor a network such as 192.0.2.0/24"))?;
    if network.trunc() != network {
        return Err(format!("`{text}` has bits set behind its prefix; write {}", network.trunc()));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(networks: &[&str]) -> RangeSet {
        RangeSet::new(networks.iter().flat_map(|n| network_ranges(parse_network(n).expect(n))).collect())
    }

    fn shown(set: &RangeSet) -> Vec<String> {
        set.networks().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn families_stay_apart() {
        assert!(!set(&["::/0"]).contains(number("192.0.2.1".parse().expect("address"))));
        assert!(set(&["::/0"]).contains(number("2001:db8::1".parse().expect("address"))));
        assert!(!set(&["0.0.0.0/0"]).contains(number("2001:db8::1".parse().expect("address"))));
        assert!(set(&["::ffff:192.0.2.0/120"]).contains(number("192.0.2.1".parse().expect("address"))));
        assert_eq!(shown(&set(&["0.0.0.0/0", "::/0"])), ["::/0"]);
        assert_eq!(shown(&set(&["0.0.0.0/0"])), ["0.0.0.0/0"]);
    }

    #[test]
    fn networks_are_merged_and_split() {
        assert_eq!(shown(&set(&["192.0.2.0/25", "192.0.2.128/25", "192.0.2.7"])), ["192.0.2.0/24"]);
        let rest = set(&["10.0.0.0/8"]).complement(u128::MAX);
        assert_eq!(rest.networks().len(), 104);
        assert_eq!(rest.complement(u128::MAX), set(&["10.0.0.0/8"]));
        assert!(parse_network("10.0.0.1/8").unwrap_err().contains("write 10.0.0.0/8"));
    }

    fn arbitrary() -> impl Strategy<Value = Vec<(u128, u128)>> {
        prop::collection::vec((0_u128..40, 0_u128..12).prop_map(|(low, more)| (low, low + more)), 0..6)
    }

    proptest! {
        #[test]
        fn as_the_naive_version(a in arbitrary(), b in arbitrary()) {
            const MAX: u128 = 63;
            let naive = |list: &[(u128, u128)], n| list.iter().any(|(low, high)| (*low..=*high).contains(&n));
            let (x, y) = (RangeSet::new(a.clone()), RangeSet::new(b.clone()));
            let (union, both, not) = (x.union(&y), x.intersection(&y), x.complement(MAX));
            let blocks = x.prefixes();
            for n in 0..=MAX {
                prop_assert_eq!(x.contains(n), naive(&a, n));
                prop_assert_eq!(union.contains(n), naive(&a, n) || naive(&b, n));
                prop_assert_eq!(both.contains(n), naive(&a, n) && naive(&b, n));
                prop_assert_eq!(not.contains(n), !naive(&a, n));
                let covering = blocks.iter().filter(|(first, length)| n >> (128 - length) == first >> (128 - length));
                prop_assert_eq!(covering.count(), usize::from(naive(&a, n)));
            }
        }

        #[test]
        fn networks_are_the_set(networks in prop::collection::vec((any::<u32>(), 0_u8..=32), 1..20), probe: u32) {
            let nets: Vec<Ipv4Net> = networks.iter()
                .map(|(a, l)| Ipv4Net::new(Ipv4Addr::from_bits(*a), *l).expect("length").trunc()).collect();
            let set = RangeSet::new(nets.iter().flat_map(|n| network_ranges(IpNet::V4(*n))).collect());
            for address in nets.iter().map(Ipv4Net::broadcast).chain([Ipv4Addr::from_bits(probe)]) {
                let naive = nets.iter().any(|n| n.contains(&address));
                prop_assert_eq!(set.contains(number(address.into())), naive);
                prop_assert_eq!(set.networks().iter().any(|n| n.contains(&IpAddr::V4(address))), naive);
            }
        }
    }
}
