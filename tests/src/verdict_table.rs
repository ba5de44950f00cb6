//! The verdict table: bytes in, reason, rule and action out. Each row runs through both halves
//! ([`crate::halves`]): the host's `decide()` and the loaded program must say what the row says, and the program's counters
//! must move by exactly that.
//!
//! The world is the same for all rows and listed first; a row names the scope in which it is judged.

use std::collections::{HashMap, HashSet};

use proxy_common::abi::{Reason, VERDICT_OWN_ONLY, VerdictValue, proto};
use proxy_common::addr::v6_mask;
use proxy_user::kernel::now_ns;

use crate::packets::{ACK, Frame, LINUX_OPTIONS, QINQ, RST, SYN, VLAN, ping, syn_with, tcp, tcp_flags, udp};
use crate::tables::{V4_PREFIX, World, addr};
use crate::verdict_rules;

/// What the gate may drop in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Packets for a service only.
    Own,
    /// Any packet.
    All,
}

/// One row.
pub struct Row {
    /// What it shows.
    pub name: &'static str,
    /// Scope of the gate.
    pub scope: Scope,
    /// The packet.
    pub frame: Frame,
    /// Why it is handled as it is; drops follow from it.
    pub reason: Reason,
    /// Rule slot that is counted.
    pub rule: Option<u32>,
    /// Slot of the shadow rule that is counted.
    pub would: Option<u32>,
}

// Services: TCP 192.0.2.1:443, TCP 0.0.0.0:80, TCP [2001:db8::1]:443, UDP 192.0.2.1:443, UDP [::]:443.
/// An address of ours.
pub const EDGE: &str = "192.0.2.1";
/// An IPv6 address of ours.
pub const EDGE6: &str = "2001:db8::1";
/// Somebody else's address.
pub const OTHER: &str = "192.0.2.200";
const OTHER6: &str = "2001:db8::200";
// Sources.
const GOOD: &str = "198.18.0.9";
const GOOD6: &str = "2001:db8:900d::9";
const BANNED: &str = "203.0.113.66"; // verdict on the listeners only, rule 5
const BANNED_ALL: &str = "203.0.113.68"; // verdict by the operator on all traffic, rule 0
const EXPIRED: &str = "203.0.113.67"; // verdict past its time
const BANNED_ALLOWED: &str = "198.51.100.9"; // verdict, but 198.51.100.0/24 is allowed by rule 2
const BANNED_NET6: &str = "2001:db8:bad:1::77"; // verdict on 2001:db8:bad:1::/64, rule 6
const BANNED_NET4: &str = "198.18.200.200"; // verdict on 198.18.200.0/24, rule 8
const BANNED_NET4_ALLOWED: &str = "10.9.77.7"; // verdict on the /24, in 10.9.0.0/16, which rule 3 allows
const EXPIRED_NET4: &str = "198.18.201.1"; // verdict on the /24, past its time
const LAPSED_NET4: &str = "198.18.200.7"; // verdict past its time, in that /24
const LAPSED_NET6: &str = "2001:db8:bad:1::78"; // verdict past its time, in that /64
const BANNED_HOST6: &str = "2001:db8:b0b::7"; // verdict on that host, rule 7
const EXPIRED_NET6: &str = "2001:db8:bad:2::1"; // verdict on the /64, past its time
const DENIED: &str = "10.200.0.1"; // 10.0.0.0/8, rule 11
const DENIED_LONGER: &str = "10.1.2.3"; // 10.1.2.0/24, rule 12
const DENIED_ALLOWED: &str = "10.9.0.1"; // 10.9.0.0/16 is allowed by rule 3
const DENIED_HOST: &str = "198.18.7.7"; // /32, rule 14
const DENIED6: &str = "2001:db8:dead::1"; // 2001:db8:dead::/48, rule 13
const DENIED_ALLOWED6: &str = "2001:db8:dead:600d::1"; // 2001:db8:dead:600d::/64 is allowed by rule 4
// Hosts of the lists, which stand in their own table.
const LISTED_LONGER: &str = "10.1.2.9"; // /32 in 10.1.2.0/24, rule 15
const LISTED_BOTH: &str = "198.18.7.10"; // denied by rule 16, allowed by rule 17
const LISTED_ALLOWED: &str = "10.77.0.1"; // /32 in 10.0.0.0/8, allowed by rule 18
const LISTED_COVERED: &str = "198.51.100.77"; // denied by rule 16 in 198.51.100.0/24, which rule 2 allows
const LISTED6: &str = "2001:db8:7::7"; // /128, rule 15
const LISTED_NET6: &str = "2001:db8:64::1"; // 2001:db8:64::/64, rule 16
const LISTED_NET6_ALLOWED: &str = "2001:db8:64::5"; // allowed by rule 18
const LISTED_NET6_HOST: &str = "2001:db8:64::6"; // /128 in that /64, rule 15
const LISTED_NET6_LONGER: &str = "2001:db8:65::1:9"; // /112 in 2001:db8:65::/64, rule 15
const RARE: &str = "198.18.97.1"; // source of rules on rare fields
const RARE6: &str = "2001:db8:97::1";
const PROBED: &str = "198.18.96.7"; // source of rules that look at the bytes
const PROBED6: &str = "2001:db8:96::7";
const RULED: &str = "198.18.99.1"; // source of the packet rules

/// The tables that all rows are judged by.
pub fn world(scope: Scope) -> World {
    let now = now_ns();
    let far = now + 3_600_000_000_000;
    let past = now.saturating_sub(1_000_000_000);
    let verdict =
        |expires_ns, rule, flags| VerdictValue { expires_ns, created_ns: now, rule, flags, ..Default::default() };
    let host = |text: &str| addr(text.parse().expect("an address")).host_key();
    let net6 = |text: &str| {
        let key = addr(text.parse().expect("an address")).prefix_key(v6_mask(64));
        assert!(key.prefix().is_some());
        key
    };
    let net4 = |text: &str| addr(text.parse().expect("an address")).v4_prefix_key(V4_PREFIX);
    let service = |text: &str, protocol, port| addr(text.parse().expect("an address")).service_key(protocol, port);
    let net = |text: &str, slot| (text.parse().expect("a prefix"), slot);
    World {
        own_only: scope == Scope::Own,
        verdicts: HashMap::from([
            (host(BANNED), verdict(far, 5, VERDICT_OWN_ONLY)),
            (host(BANNED_ALL), verdict(far, 0, 0)),
            (host(EXPIRED), verdict(past, 5, VERDICT_OWN_ONLY)),
            (host(BANNED_ALLOWED), verdict(far, 5, VERDICT_OWN_ONLY)),
            (net6(BANNED_NET6), verdict(far, 6, VERDICT_OWN_ONLY)),
            (net4(BANNED_NET4), verdict(far, 8, VERDICT_OWN_ONLY)),
            (net4(BANNED_NET4_ALLOWED), verdict(far, 8, VERDICT_OWN_ONLY)),
            (net4(EXPIRED_NET4), verdict(past, 8, VERDICT_OWN_ONLY)),
            (host(LAPSED_NET4), verdict(past, 5, VERDICT_OWN_ONLY)),
            (host(LAPSED_NET6), verdict(past, 5, VERDICT_OWN_ONLY)),
            (host(BANNED_HOST6), verdict(far, 7, VERDICT_OWN_ONLY)),
            (net6(EXPIRED_NET6), verdict(past, 6, VERDICT_OWN_ONLY)),
        ]),
        allow: vec![
            net("198.51.100.0/24", 2),
            net("10.9.0.0/16", 3),
            net("2001:db8:dead:600d::/64", 4),
            net("198.18.7.10/32", 17),
            net("10.77.0.1/32", 18),
            net("2001:db8:64::5/128", 18),
        ],
        deny: vec![
            net("10.0.0.0/8", 11),
            net("10.1.2.0/24", 12),
            net("2001:db8:dead::/48", 13),
            net("198.18.7.7/32", 14),
            net("10.1.2.9/32", 15),
            net("198.18.7.10/32", 16),
            net("198.51.100.77/32", 16),
            net("198.18.7.20/31", 16),
            net("2001:db8:7::7/128", 15),
            net("2001:db8:64::/64", 16),
            net("2001:db8:64::6/128", 15),
            net("2001:db8:65::/64", 16),
            net("2001:db8:65::1:0/112", 15),
        ],
        rules: verdict_rules::rules(),
        bindings: HashSet::from([
            service(EDGE, proto::TCP, 443),
            service("0.0.0.0", proto::TCP, 80),
            service(EDGE6, proto::TCP, 443),
            service(EDGE, proto::UDP, 443),
            service("::", proto::UDP, 443),
            service(EDGE, proto::TCP, 8_080),
        ]),
        now,
        ..World::default()
    }
    .seal()
}

/// All rows.
#[rustfmt::skip] // one row, one line: it reads as a table
pub fn rows() -> Vec<Row> {
    use Reason::{Allowed, ChainTooLong, Denied, Expired, Malformed, NonIp, NotOwn, Pass, Rule, Verdict};
    use Scope::{All, Own};
    let mut rows = Vec::new();
    let mut row = |name, scope, frame, reason, rule| rows.push(Row { name, scope, frame, reason, rule, would: None });

    // plain traffic
    row("TCP to a service",                       Own, tcp(GOOD, EDGE, 443),              Pass, None);
    row("UDP to a service",                       Own, udp(GOOD, EDGE, 443),              Pass, None);
    row("ICMP echo",                              Own, ping(GOOD, EDGE),                  Pass, None);
    row("IPv6 TCP to a service",                  Own, tcp(GOOD6, EDGE6, 443),            Pass, None);
    row("IPv6 UDP to any address",                Own, udp(GOOD6, OTHER6, 443),           Pass, None);
    row("ICMPv6 echo",                            Own, ping(GOOD6, EDGE6),                Pass, None);
    row("a protocol without ports",               Own, Frame::new(GOOD, EDGE, 47, vec![0; 8]), Pass, None);
    row("a large segment",                        Own, tcp_flags(GOOD, EDGE, 443, ACK).payload(1_400), Pass, None);
    row("padding behind a short packet",          Own, tcp(GOOD, EDGE, 443).padding(6),   Pass, None);

    // not IP
    row("ARP",                                    Own, tcp(GOOD, EDGE, 443).ethertype(0x0806), NonIp, None);
    row("an unknown EtherType",                   All, tcp(BANNED, EDGE, 443).ethertype(0x88b5), NonIp, None);
    row("nothing behind the Ethernet header",     Own, tcp(GOOD, EDGE, 443).ethertype(0x0806).cut(14), NonIp, None);

    // verdicts
    row("a banned source",                        Own, tcp(BANNED, EDGE, 443),            Verdict, Some(5));
    row("a banned source, established flow",      Own, tcp_flags(BANNED, EDGE, 443, ACK), Verdict, Some(5));
    row("a banned source over UDP",               Own, udp(BANNED, EDGE, 443),            Verdict, Some(5));
    row("a banned source, another port",          Own, tcp(BANNED, EDGE, 22),             NotOwn, None);
    row("a banned source, another address",       Own, tcp(BANNED, OTHER, 443),           NotOwn, None);
    row("a banned source, TCP port over UDP",     Own, udp(BANNED, EDGE, 80),             NotOwn, None);
    row("a banned source pings",                  Own, ping(BANNED, EDGE),                NotOwn, None);
    row("a request's verdict stays on the listeners in scope all", All, tcp(BANNED, EDGE, 22), NotOwn, None);
    row("a request's verdict in scope all",       All, tcp(BANNED, EDGE, 443),            Verdict, Some(5));
    row("an operator's verdict on all traffic",   All, tcp(BANNED_ALL, OTHER, 22),        Verdict, Some(0));
    row("an operator's verdict on ICMP",          All, ping(BANNED_ALL, EDGE),            Verdict, Some(0));
    row("an operator's verdict in scope own",     Own, tcp(BANNED_ALL, EDGE, 22),         NotOwn, None);
    row("an expired verdict",                     Own, tcp(EXPIRED, EDGE, 443),           Expired, None);
    row("an expired verdict on a prefix",         Own, tcp(EXPIRED_NET6, EDGE6, 443),     Expired, None);
    row("a banned source that is allowed",        Own, tcp(BANNED_ALLOWED, EDGE, 443),    Allowed, Some(2));
    row("a banned IPv4 prefix",                   Own, tcp(BANNED_NET4, EDGE, 443),       Verdict, Some(8));
    row("the first address of a banned IPv4 prefix", Own, tcp("198.18.200.0", EDGE, 443), Verdict, Some(8));
    row("the address behind a banned IPv4 prefix", Own, tcp("198.18.201.255", EDGE, 80),  Expired, None);
    row("the address before a banned IPv4 prefix", Own, tcp("198.18.199.255", EDGE, 80),  Pass, None);
    row("a banned IPv4 prefix, not to a service", Own, tcp(BANNED_NET4, EDGE, 22),        NotOwn, None);
    row("a banned IPv4 prefix that is allowed",   Own, tcp(BANNED_NET4_ALLOWED, EDGE, 443), Allowed, Some(3));
    row("an expired IPv4 prefix",                 Own, tcp(EXPIRED_NET4, EDGE, 443),      Expired, None);
    row("a banned IPv6 prefix",                   Own, tcp(BANNED_NET6, EDGE6, 443),      Verdict, Some(6));
    row("another host of a banned IPv6 prefix",   Own, udp("2001:db8:bad:1:ffff::1", OTHER6, 443), Verdict, Some(6));
    row("an expired verdict in a banned IPv4 prefix", Own, tcp(LAPSED_NET4, EDGE, 443),   Verdict, Some(8));
    row("an expired verdict in a banned IPv6 prefix", Own, tcp(LAPSED_NET6, EDGE6, 443),  Verdict, Some(6));
    row("the prefix beside a banned one",         Own, tcp("2001:db8:bad:3::77", EDGE6, 443), Pass, None);
    row("a banned IPv6 host",                     Own, tcp(BANNED_HOST6, EDGE6, 443),     Verdict, Some(7));
    row("a neighbour of a banned IPv6 host",      Own, tcp("2001:db8:b0b::8", EDGE6, 443), Pass, None);
    row("IPv6 does not reach an IPv4 any-address service", Own, tcp(BANNED_HOST6, EDGE6, 80), NotOwn, None);
    row("the v4-mapped form of a banned IPv4 source is that source", All, tcp("::ffff:203.0.113.68", EDGE6, 443), Verdict, Some(0));

    // denied prefixes
    row("a denied prefix",                        Own, tcp(DENIED, EDGE, 443),            Denied, Some(11));
    row("the longest denied prefix counts",       Own, tcp(DENIED_LONGER, EDGE, 443),     Denied, Some(12));
    row("a denied host",                          Own, tcp(DENIED_HOST, EDGE, 443),       Denied, Some(14));
    row("beside a denied host, same hint",        Own, tcp("198.18.7.8", EDGE, 443),      Pass, None);
    row("a denied host in a denied prefix counts", Own, tcp(LISTED_LONGER, EDGE, 443),     Denied, Some(15));
    row("beside a denied host in a denied prefix", Own, tcp("10.1.2.10", EDGE, 443),       Denied, Some(12));
    row("a denied host that is allowed",          Own, tcp(LISTED_BOTH, EDGE, 443),       Allowed, Some(17));
    row("an allowed host in a denied prefix",     Own, tcp(LISTED_ALLOWED, EDGE, 443),    Allowed, Some(18));
    row("beside an allowed host in a denied prefix", Own, tcp("10.77.0.2", EDGE, 443),    Denied, Some(11));
    row("a denied host in an allowed prefix",     Own, tcp(LISTED_COVERED, EDGE, 443),    Allowed, Some(2));
    row("two denied hosts written as one prefix", Own, tcp("198.18.7.21", EDGE, 443),     Denied, Some(16));
    row("beside them",                            Own, tcp("198.18.7.22", EDGE, 443),     Pass, None);
    row("a denied host, another port",            Own, tcp(DENIED_HOST, EDGE, 22),        NotOwn, None);
    row("a denied host, another port, scope all", All, tcp(DENIED_HOST, OTHER, 22),       Denied, Some(14));
    row("a denied IPv6 host",                     Own, tcp(LISTED6, EDGE6, 443),          Denied, Some(15));
    row("beside a denied IPv6 host, same hint",   Own, tcp("2001:db8:7::8", EDGE6, 443),  Pass, None);
    row("a denied /64",                           Own, tcp(LISTED_NET6, EDGE6, 443),      Denied, Some(16));
    row("a host of a denied /64 that is allowed", Own, tcp(LISTED_NET6_ALLOWED, EDGE6, 443), Allowed, Some(18));
    row("a denied host of a denied /64 counts",   Own, tcp(LISTED_NET6_HOST, EDGE6, 443), Denied, Some(15));
    row("a longer prefix in a denied /64 counts", Own, tcp(LISTED_NET6_LONGER, EDGE6, 443), Denied, Some(15));
    row("a denied /64 beside a longer prefix",    Own, tcp("2001:db8:65::2:9", EDGE6, 443), Denied, Some(16));
    row("the /64 after a denied one",             Own, tcp("2001:db8:64:1::1", EDGE6, 443), Pass, None);
    row("a denied IPv6 prefix",                   Own, tcp(DENIED6, EDGE6, 443),          Denied, Some(13));
    row("beside a denied IPv6 prefix, same hint", Own, tcp("2001:db8:deae::1", EDGE6, 443), Pass, None);
    row("a denied source, another port",          Own, tcp(DENIED, EDGE, 22),             NotOwn, None);
    row("a denied source, another port, scope all", All, tcp(DENIED, EDGE, 22),           Denied, Some(11));
    row("a denied source pings, scope all",       All, ping(DENIED, EDGE),                Denied, Some(11));
    row("a denied source that is allowed",        Own, tcp(DENIED_ALLOWED, EDGE, 443),    Allowed, Some(3));
    row("a denied IPv6 source that is allowed",   All, ping(DENIED_ALLOWED6, EDGE6),      Allowed, Some(4));

    // packet rules
    row("rule: allow by port range comes first",  All, tcp_flags(RULED, EDGE, 9_050, SYN | RST), Allowed, Some(20));
    row("rule: TCP flags",                        All, tcp_flags(RULED, EDGE, 443, SYN | RST | ACK), Rule, Some(21));
    row("rule: one of the flags is not both",     All, tcp_flags(RULED, EDGE, 443, SYN),  Pass, None);
    row("rule: source port beyond its range",     All, tcp(RULED, EDGE, 80),              Pass, None);
    row("rule: source and destination port",      All, tcp(RULED, EDGE, 80).lie(34, &[0x03, 0xff]), Rule, Some(22));
    row("rule: short UDP",                        All, udp(RULED, EDGE, 443),             Rule, Some(23));
    row("rule: longer UDP passes",                All, udp(RULED, EDGE, 443).payload(9),  Pass, None);
    row("rule: TTL at its bound",                 All, tcp(RULED, EDGE, 443).ttl(4),      Rule, Some(24));
    row("rule: TTL above its bound",              All, tcp(RULED, EDGE, 443).ttl(5),      Pass, None);
    row("rule: first fragment",                   All, udp(RULED, EDGE, 53).fragment(0, true), Rule, Some(25));
    row("rule: later fragment",                   All, udp(RULED, EDGE, 53).fragment(9, false), Rule, Some(25));
    row("rule: ICMP",                             All, ping(RULED, EDGE),                 Rule, Some(26));
    row("rule: another source",                   All, ping("198.18.95.1", EDGE),         Pass, None);
    row("rule: port range's lower end",           All, tcp(RULED, EDGE, 4_000),           Rule, Some(28));
    row("rule: port range's upper end",           All, tcp(RULED, EDGE, 4_999),           Rule, Some(28));
    row("rule: beyond the port range",            All, tcp(RULED, EDGE, 5_500),           Pass, None);
    row("rule: a drop stays on own traffic",      Own, tcp(RULED, EDGE, 4_500),           NotOwn, None);
    row("rule: an allow rule beats a verdict",    Own, tcp(BANNED, EDGE, 8_080),          Allowed, Some(27));
    row("rule: an allow rule beats a denied prefix", All, tcp(DENIED, EDGE, 8_080),       Allowed, Some(27));

    // rules on fields that few rules look at
    row("rule: ICMP type",                        All, kind(RARE6, 131),                  Rule, Some(29));
    row("rule: another ICMP type",                All, kind(RARE6, 133),                  Pass, None);
    row("rule: VLAN id",                          All, udp(RARE, EDGE, 53).tag(VLAN),     Rule, Some(30));
    row("rule: the outer VLAN id counts",         All, udp(RARE, EDGE, 53).tag(QINQ).tag(VLAN).lie(19, &[8]), Rule, Some(30));
    row("rule: another VLAN id",                  All, udp(RARE, EDGE, 53).tag(VLAN).lie(15, &[8]), Pass, None);
    row("rule: untagged",                         All, udp(RARE, EDGE, 53),               Pass, None);
    row("rule: TCP window",                       All, tcp(RARE, EDGE, 443).lie(48, &[4, 0]), Rule, Some(31));
    row("rule: TCP window beyond its range",      All, tcp(RARE, EDGE, 443).lie(48, &[4, 1]), Pass, None);
    row("rule: behind candidates that do not hold", All, tcp(RARE, EDGE, 25),             Rule, Some(32));
    row("rule: the first candidate that holds",   All, tcp(RARE, EDGE, 25).tag(VLAN),     Rule, Some(30));

    // rules on bytes of the packet, on SYNs and on interfaces
    row("probe: payload bytes",                   All, udp(PROBED, EDGE, 53),             Rule, Some(33));
    row("probe: other payload bytes",             All, udp(PROBED, EDGE, 53).lie(45, &[5]), Pass, None);
    row("probe: payload behind a VLAN tag",       All, udp(PROBED, EDGE, 53).tag(VLAN),   Rule, Some(33));
    row("probe: payload behind IPv4 options",     All, udp(PROBED, EDGE, 53).options(&[1; 8]), Rule, Some(33));
    row("probe: payload of a first fragment",     All, udp(PROBED, EDGE, 53).fragment(0, true), Rule, Some(33));
    row("probe: a later fragment has none",       All, udp(PROBED, EDGE, 53).fragment(9, true), Pass, None);
    row("probe: cut before its last byte",        All, udp(PROBED, EDGE, 53).lie(16, &[0, 31]), Pass, None);
    row("probe: padding is not the packet's",     All, udp(PROBED, EDGE, 53).lie(16, &[0, 28]), Pass, None);
    row("probe: masked bytes",                    All, masked(0xaa),                      Rule, Some(34));
    row("probe: masked bytes that differ",        All, masked(0xab),                      Pass, None);
    row("probe: masked bytes, one too few",       All, masked(0xaa).lie(16, &[0, 35]),    Pass, None);
    row("probe: a byte that is missing, negated", All, udp(PROBED, EDGE, 7).lie(44, &[9, 9]), Pass, None);
    row("probe: the IPv4 header",                 All, ping(PROBED, EDGE).lie(15, &[0xb8]), Rule, Some(36));
    row("probe: the IPv4 header, bits beside the mask", All, ping(PROBED, EDGE).lie(15, &[0xbb]), Rule, Some(36));
    row("probe: the IPv4 header differs",         All, ping(PROBED, EDGE).lie(15, &[0xb4]), Pass, None);
    row("probe: the IPv6 header",                 All, ping(PROBED6, EDGE6).lie(15, &[0xb8]), Rule, Some(36));
    row("probe: several, all hold",               All, tcp(PROBED, EDGE, 4).payload(3),   Rule, Some(46));
    row("probe: several, the last does not",      All, tcp(PROBED, EDGE, 4).payload(3).lie(56, &[1]), Pass, None);
    row("probe: several, the first does not",     All, tcp(PROBED, EDGE, 4).payload(4),   Pass, None);
    row("probe: behind candidates that do not hold", All, udp(PROBED, EDGE, 5).lie(45, &[5]), Rule, Some(47));
    row("fingerprint: as it is",                  All, linux(PROBED, EDGE),               Rule, Some(37));
    row("fingerprint: over IPv6, whose quirks do not count", All, linux(PROBED6, EDGE6),  Rule, Some(37));
    row("fingerprint: behind a VLAN tag",         All, syn_with(PROBED, EDGE, 443, &LINUX_OPTIONS).tag(VLAN).lie(24, &[0x40]), Rule, Some(37));
    row("fingerprint: some routers away",         All, linux(PROBED, EDGE).ttl(50),       Rule, Some(37));
    row("fingerprint: too many routers away",     All, linux(PROBED, EDGE).ttl(28),       Pass, None);
    row("fingerprint: a TTL beyond",              All, linux(PROBED, EDGE).ttl(128),      Pass, None);
    row("fingerprint: another MSS",               All, linux(PROBED, EDGE).lie(57, &[0xb5]), Pass, None);
    row("fingerprint: another window",            All, linux(PROBED, EDGE).lie(48, &[0x72, 0x10]), Pass, None);
    row("fingerprint: another window scale",      All, linux(PROBED, EDGE).lie(73, &[8]), Pass, None);
    row("fingerprint: another layout",            All, linux(PROBED, EDGE).lie(58, &[1, 1]), Pass, None);
    row("fingerprint: another quirk",             All, linux(PROBED, EDGE).lie(20, &[0]), Pass, None);
    row("fingerprint: with data",                 All, linux(PROBED, EDGE).payload(1),    Pass, None);
    row("fingerprint: with IPv4 options",         All, linux(PROBED, EDGE).options(&[1; 4]), Pass, None);
    row("fingerprint: no options",                All, tcp(PROBED, EDGE, 443).lie(18, &[0, 9, 0x40]), Pass, None);
    row("fingerprint: an answer is no SYN",       All, linux(PROBED, EDGE).lie(47, &[SYN | ACK]), Pass, None);
    row("fingerprint: a later fragment is no SYN", All, linux(PROBED, EDGE).fragment(9, false), Pass, None);
    row("fingerprint: a first fragment with its options", All, linux(PROBED, EDGE).lie(20, &[0x60]), Rule, Some(37));
    row("fingerprint: a first fragment without them", All, linux(PROBED, EDGE).lie(20, &[0x60]).lie(16, &[0, 44]), Pass, None);
    row("fingerprint: an option of length 0",     All, broken(&[2, 0, 5, 0xb4]),          Rule, Some(38));
    row("fingerprint: an option longer than the header", All, broken(&[2, 4, 5, 0xb4, 8, 10, 0, 0]), Rule, Some(38));
    row("fingerprint: an option without its length", All, broken(&[1, 1, 1, 2]),          Rule, Some(38));
    row("fingerprint: options in order",          All, broken(&[2, 4, 5, 0xb4]),          Pass, None);
    row("fingerprint: as many options as fit",    All, broken(&[1; 40]),                  Pass, None);
    row("fingerprint: forty bytes, the last one bad", All, broken(&{ let mut all = [1; 40]; all[39] = 3; all }), Rule, Some(38));
    row("interface: the packet's",                All, tcp(PROBED, EDGE, 1),              Rule, Some(39));
    row("interface: another",                     All, tcp(PROBED, EDGE, 2),              Pass, None);
    row("interface: any but another",             All, tcp(PROBED, EDGE, 3),              Rule, Some(45));

    // options, VLAN
    row("IPv4 options, banned",                   Own, tcp(BANNED, EDGE, 443).options(&[1; 7]), Verdict, Some(5));
    row("IPv4 options at their longest, banned",  Own, tcp(BANNED, EDGE, 443).options(&[1; 40]), Verdict, Some(5));
    row("one VLAN tag, banned",                   Own, tcp(BANNED, EDGE, 443).tag(VLAN),  Verdict, Some(5));
    row("two VLAN tags, banned",                  Own, tcp(BANNED, EDGE, 443).tag(QINQ).tag(VLAN), Verdict, Some(5));
    row("two VLAN tags, IPv6, banned",            Own, tcp(BANNED_NET6, EDGE6, 443).tag(VLAN).tag(VLAN), Verdict, Some(6));
    row("three VLAN tags are not looked through", Own, tcp(BANNED, EDGE, 443).tag(QINQ).tag(VLAN).tag(VLAN), NonIp, None);
    row("a VLAN tag cut short",                   Own, tcp(BANNED, EDGE, 443).tag(VLAN).cut(16), Malformed, None);

    // fragments
    row("first fragment of a banned source",      Own, udp(BANNED, EDGE, 443).fragment(0, true), Verdict, Some(5));
    row("later fragment has no port to own",      Own, udp(BANNED, EDGE, 443).fragment(64, false), NotOwn, None);
    row("later fragment, scope all",              All, udp(BANNED_ALL, EDGE, 443).fragment(64, true), Verdict, Some(0));
    row("IPv6 first fragment, banned",            Own, udp(BANNED_NET6, OTHER6, 443).fragment(0, true), Verdict, Some(6));
    row("IPv6 later fragment",                    Own, udp(BANNED_NET6, OTHER6, 443).fragment(64, false), NotOwn, None);
    row("IPv6 atomic fragment, banned",           Own, udp(BANNED_NET6, OTHER6, 443).fragment(0, false), Verdict, Some(6));

    // IPv6 extension headers
    row("hop-by-hop options, banned",             Own, tcp(BANNED_NET6, EDGE6, 443).extension(0, &[1, 4]), Verdict, Some(6));
    row("routing header, banned",                 Own, tcp(BANNED_NET6, EDGE6, 443).extension(43, &[4, 0]), Verdict, Some(6));
    row("destination options, banned",            Own, tcp(BANNED_NET6, EDGE6, 443).extension(60, &[1; 14]), Verdict, Some(6));
    row("authentication header, banned",          Own, tcp(BANNED_NET6, EDGE6, 443).extension(51, &[0; 22]), Verdict, Some(6));
    row("six extension headers, banned",          Own, chain(BANNED_NET6, 6),             Verdict, Some(6));
    row("seven extension headers are too many",   Own, chain(GOOD6, 7),                   ChainTooLong, None);
    row("too long a chain of a banned source has no port to own", Own, chain(BANNED_NET6, 7), NotOwn, None);
    row("too long a chain of a denied source, scope all", All, chain(DENIED6, 7),         Denied, Some(13));
    row("no next header",                         Own, Frame::new(GOOD6, EDGE6, 59, vec![]), Pass, None);
    row("an extension header longer than the packet", Own, tcp(GOOD6, EDGE6, 443).extension(60, &[1; 6]).lie(55, &[200]), Malformed, None);
    row("an extension header cut short",          Own, tcp(GOOD6, EDGE6, 443).extension(60, &[1; 6]).cut(56), Malformed, None);

    // runts and lies
    row("Ethernet header alone",                  Own, tcp(GOOD, EDGE, 443).cut(14),      Malformed, None);
    row("IPv4 header cut short",                  Own, tcp(GOOD, EDGE, 443).cut(33),      Malformed, None);
    row("IPv4 header alone, TCP missing",         Own, tcp(GOOD, EDGE, 443).cut(34),      Malformed, None);
    row("TCP header cut short",                   Own, tcp(BANNED, EDGE, 443).cut(50),    Malformed, None);
    row("TCP header shorter than the IP length says", Own, tcp(BANNED, EDGE, 443).lie(16, &[0, 30]), Malformed, None);
    row("UDP header cut by the IP length",        Own, udp(BANNED, EDGE, 443).lie(16, &[0, 27]), Malformed, None);
    row("ICMP header cut by the IP length",       Own, ping(BANNED, EDGE).lie(16, &[0, 24]), Malformed, None);
    row("IPv4 version 5",                         Own, tcp(BANNED, EDGE, 443).lie(14, &[0x55]), Malformed, None);
    row("IPv4 header length 4 words",             Own, tcp(BANNED, EDGE, 443).lie(14, &[0x44]), Malformed, None);
    row("IPv4 header longer than the packet",     Own, tcp(BANNED, EDGE, 443).lie(14, &[0x4f]), Malformed, None);
    row("IPv4 total length below the header",     Own, tcp(BANNED, EDGE, 443).lie(16, &[0, 19]), Malformed, None);
    row("IPv4 total length beyond the frame",     Own, tcp(BANNED, EDGE, 443).lie(16, &[0xff, 0xff]), Malformed, None);
    row("IPv6 version 4",                         Own, tcp(BANNED_NET6, EDGE6, 443).lie(14, &[0x40]), Malformed, None);
    row("IPv6 header cut short",                  Own, tcp(GOOD6, EDGE6, 443).cut(53),    Malformed, None);
    row("IPv6 payload length beyond the frame",   Own, tcp(GOOD6, EDGE6, 443).lie(18, &[0x7f, 0xff]), Malformed, None);
    row("TCP data offset of 4 words",             Own, tcp(BANNED, EDGE, 443).lie(46, &[0x40]), Malformed, None);
    row("TCP data offset beyond the packet",      Own, tcp(BANNED, EDGE, 443).lie(46, &[0x60]), Malformed, None);
    row("an IPv4 header under the IPv6 EtherType", Own, tcp(BANNED, EDGE, 443).ethertype(0x86dd), Malformed, None);

    // shadow rules
    let mut would = |name, scope, frame, reason, rule, would: u32| {
        rows.push(Row { name, scope, frame, reason, rule, would: (would != 0).then_some(would) });
    };
    would("shadow: would be dropped",             All, tcp(RULED, EDGE, 5_000),           Pass, None, 40);
    would("shadow: by its source alone",          All, udp("198.18.98.7", EDGE, 53),      Pass, None, 41);
    would("shadow: beyond the shadow rule",       All, tcp(RULED, EDGE, 5_101),           Pass, None, 0);
    would("shadow: an enforced drop stands",      All, tcp(RULED, EDGE, 4_950),           Rule, Some(28), 0);
    would("shadow: an enforced drop would be spared", All, tcp(RULED, EDGE, 4_005),       Rule, Some(28), 42);
    would("shadow: a verdict would be spared",    Own, tcp(BANNED, OTHER, 80),            Verdict, Some(5), 43);
    would("shadow: not on own traffic",           Own, tcp(RULED, EDGE, 5_000),           Pass, None, 0);
    would("shadow: on own traffic",               Own, udp("198.18.98.7", EDGE, 443),     Pass, None, 41);
    rows
}

/// UDP with eight bytes of payload, of which this is the sixth.
fn masked(sixth: u8) -> Frame {
    udp(PROBED, EDGE, 53).payload(4).lie(42, &[0xaa, 1, 1, 1, 1, sixth, 1, 1])
}

/// A SYN as Linux sends it, that may not be fragmented.
fn linux(src: &str, dst: &str) -> Frame {
    let frame = syn_with(src, dst, 443, &LINUX_OPTIONS);
    if src.contains(':') { frame } else { frame.lie(20, &[0x40]) }
}

/// A SYN with sequence number 0 and these options.
fn broken(options: &[u8]) -> Frame {
    syn_with(PROBED, EDGE, 443, options).lie(20, &[0x40]).lie(41, &[0])
}

/// An ICMPv6 message of a type.
fn kind(src: &str, kind: u8) -> Frame {
    Frame::new(src, EDGE6, 58, vec![kind, 0, 0, 0, 0, 1, 0, 1])
}

/// A chain of destination options.
fn chain(src: &str, headers: usize) -> Frame {
    (0..headers).fold(tcp(src, EDGE6, 443), |frame, _| frame.extension(60, &[1; 6]))
}
