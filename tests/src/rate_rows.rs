//! Rows of the rate limits: limits in force, packets in, what becomes of them. Every kind of limit with everything that it can
//! count, and what spares a packet.

use proxy_common::abi::Reason;
use serde_json::{Value, json};

use crate::check_rows::quic;
use crate::packets::{ACK, Frame, SYN, ping, tcp, tcp_flags, udp};
use crate::verdict_table::{EDGE, EDGE6, OTHER, Scope};

/// What is done in a row, one after the other.
pub enum Step {
    /// So many such packets, and what becomes of each: the reason, the rule that is counted, the counted limits.
    Send(u32, Frame, Reason, Option<u32>, u64),
    /// Time goes by, in milliseconds.
    Wait(u64),
    /// A source completes a handshake.
    Known(&'static str),
}

/// One row.
pub struct Row {
    /// What it shows.
    pub name: String,
    /// Scope of the gate.
    pub scope: Scope,
    /// `gate.rates`.
    pub rates: Value,
    /// What happens.
    pub steps: Vec<Step>,
}

use Reason::{Allowed, Pass, RatePrefix, RateService, RateSource, RateTotal};

fn pass(times: u32, frame: Frame) -> Step {
    Step::Send(times, frame, Pass, None, 0)
}

fn drop(times: u32, frame: Frame, reason: Reason) -> Step {
    Step::Send(times, frame, reason, None, 0)
}

/// Bytes of an IP packet of which 49 make 65,535, but not 50.
const PAYLOAD: usize = 1_311 - 40;

/// A packet that a unit counts, from a source; `n` makes it a flow of its own.
fn counted(of: &str, src: &str, n: u8) -> Frame {
    match of {
        "packets" => tcp_flags(src, EDGE, 443, ACK),
        "bytes" => tcp_flags(src, EDGE, 443, ACK).payload(PAYLOAD),
        "syns" => tcp(src, EDGE, 443),
        "udp_flows" => udp(src, EDGE, 443).lie(34, &[0x50, n]),
        _ => initial(src, EDGE),
    }
}

/// A QUIC Initial of version 1.
fn initial(src: &str, dst: &str) -> Frame {
    quic(dst, 443, 0xc3, 1, 1_200).from(src)
}

/// A packet of the same protocol that the unit does not count, or none.
fn uncounted(of: &str, src: &str) -> Option<Frame> {
    match of {
        "syns" => Some(tcp_flags(src, EDGE, 443, SYN | ACK)),
        "udp_flows" => Some(tcp(src, EDGE, 443)),
        "quic_initials" => Some(quic(EDGE, 443, 0xe3, 1, 1_200).from(src)),
        _ => None,
    }
}

/// Every kind of limit with every unit: what it lets by at once, what it drops, whom it leaves alone, and what comes in later.
fn matrix() -> Vec<Row> {
    let kinds = [("source", RateSource), ("prefix", RatePrefix), ("service", RateService), ("total", RateTotal)];
    let mut rows = Vec::new();
    for ((per, reason), place) in kinds.into_iter().zip(1u8..) {
        for (of, number) in ["packets", "bytes", "syns", "udp_flows", "quic_initials"].into_iter().zip(0u8..) {
            let shared = matches!(per, "service" | "total");
            // Half of what services and all have at once is for known sources.
            let (times, limit, burst): (u8, u32, u32) = match (of, shared) {
                ("bytes", false) => (49, 65_535, 65_535),
                ("bytes", true) => (49, 65_535, 131_070),
                (_, false) => (5, 5, 5),
                (_, true) => (5, 5, 10),
            };
            let (bad, near, far) = (
                format!("9.{place}.{number}.9"),
                format!("9.{place}.{number}.10"),
                format!("9.{place}.{}.9", number + 100),
            );
            let mut steps: Vec<Step> = (0..times).map(|n| pass(1, counted(of, &bad, n))).collect();
            steps.push(drop(2, counted(of, &bad, 200), reason));
            match per {
                "source" => steps.push(pass(1, counted(of, &near, 0))),
                "prefix" => steps.extend([drop(1, counted(of, &near, 0), reason), pass(1, counted(of, &far, 0))]),
                _ => steps.push(drop(1, counted(of, &far, 0), reason)),
            }
            steps.extend(uncounted(of, &bad).map(|frame| pass(3, frame)));
            if of == "udp_flows" {
                steps.push(pass(3, counted(of, &bad, 3)));
            }
            // Another service has its own bucket; a total has not.
            let other = if matches!(of, "syns" | "packets") { Some(tcp(&bad, EDGE, 80)) } else { None };
            match (per, other) {
                ("service", Some(frame)) => steps.push(pass(1, frame)),
                ("total", Some(frame)) => steps.push(drop(1, frame, reason)),
                _ => {}
            }
            steps.extend([
                Step::Wait(210),
                pass(1, counted(of, &bad, 201)),
                Step::Wait(1_000),
                pass(1, counted(of, &bad, 202)),
            ]);
            let rates = json!([{ "per": per, "of": of, "limit": limit, "burst": burst }]);
            rows.push(Row { name: format!("per {per}, of {of}"), scope: Scope::Own, rates, steps });
        }
    }
    rows
}

/// The frames of all rows.
pub fn frames() -> impl Iterator<Item = Frame> {
    rows().into_iter().flat_map(|row| row.steps).filter_map(|step| match step {
        Step::Send(_, frame, ..) => Some(frame),
        _ => None,
    })
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let mut rows = matrix();
    let mut row = |name: &str, scope, rates, steps| rows.push(Row { name: name.to_owned(), scope, rates, steps });
    let packets = |per: &str, limit: u32| json!([{ "per": per, "of": "packets", "limit": limit }]);
    let from = |src: &str| tcp(src, EDGE, 443);

    row(
        "in the scope own, other traffic neither counts nor is dropped",
        Scope::Own,
        packets("source", 2),
        vec![
            pass(5, tcp("8.1.0.1", EDGE, 22)),
            pass(5, tcp("8.1.0.1", OTHER, 443)),
            pass(5, ping("8.1.0.1", EDGE)),
            pass(2, from("8.1.0.1")),
            drop(1, from("8.1.0.1"), RateSource),
            pass(1, tcp("8.1.0.1", EDGE, 22)),
        ],
    );
    row(
        "in the scope all, all traffic counts",
        Scope::All,
        packets("source", 3),
        vec![
            pass(1, tcp("8.2.0.1", EDGE, 22)),
            pass(1, ping("8.2.0.1", EDGE)),
            pass(1, udp("8.2.0.1", OTHER, 53).fragment(9, false)),
            drop(1, from("8.2.0.1"), RateSource),
        ],
    );
    row(
        "what is allowed is not dropped",
        Scope::Own,
        packets("source", 2),
        vec![
            pass(2, from("198.51.100.7")),
            Step::Send(3, from("198.51.100.7"), Allowed, Some(2), 0),
            Step::Send(3, tcp("8.3.0.1", EDGE, 8_080), Allowed, Some(27), 0),
            pass(2, from("8.3.0.1")),
        ],
    );
    row(
        "what is dropped before counts nothing",
        Scope::Own,
        packets("total", 4),
        vec![
            Step::Send(5, from("203.0.113.66"), Reason::Verdict, Some(5), 0),
            Step::Send(5, from("10.200.0.1"), Reason::Denied, Some(11), 0),
            pass(2, from("8.4.0.1")),
            drop(1, from("8.4.0.1"), RateTotal),
        ],
    );
    row(
        "a counted limit drops nothing",
        Scope::Own,
        json!([{ "per": "source", "of": "syns", "limit": 2, "mode": "count" }, { "per": "total", "of": "packets", "limit": 8 }]),
        vec![
            pass(2, from("8.5.0.1")),
            Step::Send(2, from("8.5.0.1"), Pass, None, RateSource.bit()),
            Step::Send(1, from("8.5.0.1"), RateTotal, None, RateSource.bit()),
        ],
    );
    row(
        "a limit that is off",
        Scope::Own,
        json!([{ "per": "source", "of": "packets", "limit": 1, "mode": "off" }]),
        vec![pass(5, from("8.6.0.1"))],
    );
    row(
        "the source's limit comes before the total's",
        Scope::Own,
        json!([{ "per": "total", "of": "packets", "limit": 20 }, { "per": "source", "of": "packets", "limit": 4 }]),
        vec![
            pass(4, from("8.7.0.1")),
            drop(9, from("8.7.0.1"), RateSource),
            pass(4, from("8.7.0.2")),
            pass(2, from("8.7.0.3")),
            drop(1, from("8.7.0.3"), RateTotal),
        ],
    );
    row(
        "a limit of one listener",
        Scope::Own,
        json!([{ "per": "source", "of": "packets", "limit": 2, "listener": "web" }]),
        vec![
            pass(9, from("8.8.0.1")),
            pass(2, tcp("8.8.0.1", EDGE, 80)),
            drop(1, tcp("8.8.0.1", EDGE, 80), RateSource),
            pass(1, from("8.8.0.1")),
        ],
    );
    row(
        "an IPv6 source is its /64",
        Scope::Own,
        packets("source", 2),
        vec![
            pass(1, tcp("2a00:1:2:3::1", EDGE6, 443)),
            pass(1, tcp("2a00:1:2:3:ffff::2", EDGE6, 443)),
            drop(1, tcp("2a00:1:2:3::3", EDGE6, 443), RateSource),
            pass(1, tcp("2a00:1:2:4::1", EDGE6, 443)),
        ],
    );
    row(
        "an IPv6 prefix is its /48",
        Scope::Own,
        packets("prefix", 2),
        vec![
            pass(1, tcp("2a00:1:9:3::1", EDGE6, 443)),
            pass(1, tcp("2a00:1:9:4::1", EDGE6, 443)),
            drop(1, tcp("2a00:1:9:5::1", EDGE6, 443), RatePrefix),
            pass(1, tcp("2a00:1:a:3::1", EDGE6, 443)),
        ],
    );
    row(
        "lengths are settable",
        Scope::Own,
        json!([{ "per": "source", "of": "packets", "limit": 2, "ipv4_prefix": 31, "ipv6_prefix": 32 }]),
        vec![
            pass(1, from("8.9.0.2")),
            pass(1, from("8.9.0.3")),
            drop(1, from("8.9.0.2"), RateSource),
            pass(1, from("8.9.0.4")),
            pass(1, tcp("2a01:1:1::1", EDGE6, 443)),
            pass(1, tcp("2a01:1:2::1", EDGE6, 443)),
            drop(1, tcp("2a01:1:3::1", EDGE6, 443), RateSource),
        ],
    );
    row(
        "known sources have the other half of a total",
        Scope::Own,
        packets("total", 8),
        vec![
            Step::Known("8.10.0.1"),
            Step::Known("2a00:77::1"),
            pass(4, from("8.10.0.2")),
            drop(1, from("8.10.0.2"), RateTotal),
            pass(2, from("8.10.0.1")),
            pass(2, tcp("2a00:77::2", EDGE6, 443)),
            drop(1, from("8.10.0.1"), RateTotal),
            drop(1, from("8.10.0.2"), RateTotal),
            Step::Wait(130),
            drop(1, from("8.10.0.2"), RateTotal),
            pass(1, from("8.10.0.1")),
        ],
    );
    row(
        "known sources have the other half of a service",
        Scope::Own,
        packets("service", 8),
        vec![
            Step::Known("8.11.0.1"),
            pass(4, from("8.11.0.2")),
            drop(1, from("8.11.0.2"), RateService),
            pass(4, from("8.11.0.1")),
            drop(1, from("8.11.0.1"), RateService),
        ],
    );
    row(
        "known sources have no more than others of their own",
        Scope::Own,
        packets("source", 2),
        vec![Step::Known("8.12.0.1"), pass(2, from("8.12.0.1")), drop(1, from("8.12.0.1"), RateSource)],
    );
    row(
        "Initials over IPv6 and of version 2",
        Scope::Own,
        json!([{ "per": "source", "of": "quic_initials", "limit": 2 }]),
        vec![
            pass(1, initial("2a00:88::1", EDGE6)),
            pass(1, quic(EDGE6, 443, 0xd3, 0x6b33_43cf, 1_200).from("2a00:88::1")),
            pass(3, quic(EDGE6, 443, 0xc3, 0x6b33_43cf, 1_200).from("2a00:88::1")),
            drop(1, initial("2a00:88::1", EDGE6), RateSource),
            pass(1, initial("2a00:89::1", EDGE6)),
        ],
    );
    row(
        "what is not IP or malformed is not counted",
        Scope::All,
        packets("total", 2),
        vec![
            Step::Send(3, from("8.13.0.1").ethertype(0x0806), Reason::NonIp, None, 0),
            Step::Send(3, from("8.13.0.1").cut(33), Reason::Malformed, None, 0),
            pass(1, from("8.13.0.1")),
            drop(1, from("8.13.0.1"), RateTotal),
        ],
    );
    rows
}
