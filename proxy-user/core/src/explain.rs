//! Why a packet is passed or dropped: the decision that XDP runs, with every question that it asks of the tables.
//!
//! It decides nothing of its own: [`Traced`] stands between `decide()` and the tables, notes each call and its answer, and
//! so follows whatever the decision comes to ask. Reads only; where the tables come from is the caller's.

mod traced;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;

use proxy_common::abi::{Reason, frag, proto};
use proxy_common::addr::Addr;
use proxy_common::decide::{Tables, decide};
use proxy_common::parse::{Frame, Parsed, parse};
use serde::{Deserialize, Serialize};

use traced::Traced;

/// A decision with its reasons.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Explanation {
    /// Bytes of the packet, link header included.
    pub length: usize,
    /// What the parser made of it.
    pub packet: String,
    /// What was asked of the tables, in order.
    pub steps: Vec<Step>,
    /// Why it is handled as it is, as counters name it.
    pub reason: String,
    /// `pass` or `drop`.
    pub action: String,
    /// `policy/rule` that decided, or `operator`.
    pub rule: Option<String>,
    /// Shadow rule that would have had it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would: Option<String>,
    /// Map and key, in hex, of the entry that decided.
    pub key: Option<String>,
}

/// One question.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Step {
    /// Table, as `bpftool` names it.
    pub table: String,
    /// What was looked up, as people write it.
    pub asked: String,
    /// The same as bytes of the map's key, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What was found.
    pub answer: String,
}

/// The first bytes of a packet that may have been longer.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// What is known of it, from the link header on.
    pub bytes: &'a [u8],
    /// Its length on the wire.
    pub length: usize,
    /// Index of the interface that it came in on.
    pub interface: u32,
}

impl Frame for Snapshot<'_> {
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        Frame::bytes(self.bytes, offset)
    }

    fn len(&self) -> usize {
        self.length
    }

    fn interface(&self) -> u32 {
        self.interface
    }
}

/// Decides on a frame and tells why. `name` is the name of a rule slot.
pub fn explain<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T, name: &dyn Fn(u32) -> String) -> Explanation {
    let traced = Traced { tables, name, steps: RefCell::default() };
    let parsed = parse(frame);
    let decision = decide(frame, parsed.as_ref(), &traced);
    let steps = traced.steps.into_inner();
    let decisive = match decision.reason {
        Reason::Verdict | Reason::Expired => Some("VERDICTS"),
        // A host that is listed ends the search; otherwise a prefix did.
        Reason::Denied if steps.iter().any(|step| step.table.starts_with("DENY_") && step.table != "DENY_HINT") => {
            Some("DENY_")
        }
        Reason::Denied => Some("HOSTS_"),
        Reason::Rule => Some("RULE_CLASSES"),
        reason if reason.is_rate() => Some("RATE_LIMITS"),
        Reason::Allowed => steps.last().map(|step| step.table.as_str()),
        _ => None,
    };
    // The last question to that table is the one that was answered with yes.
    let entry = decisive
        .and_then(|table| steps.iter().rev().find(|step| step.table.starts_with(table) && step.table != "DENY_HINT"));
    let key = entry.and_then(|step| step.key.as_ref().map(|key| format!("{} {key}", step.table)));
    Explanation {
        length: frame.len(),
        packet: describe(&parsed),
        key,
        steps,
        reason: decision.reason.name().to_owned(),
        action: if decision.reason.drops() { "drop" } else { "pass" }.to_owned(),
        rule: decision.rule.map(name),
        would: decision.would.map(name),
    }
}

fn protocol(number: u8) -> String {
    match number {
        proto::TCP => "TCP".to_owned(),
        proto::UDP => "UDP".to_owned(),
        proto::ICMP => "ICMP".to_owned(),
        proto::ICMPV6 => "ICMPv6".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// Bytes in hex, two digits each.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn describe(parsed: &Parsed) -> String {
    let packet = match parsed {
        Parsed::NonIp => return "neither IPv4 nor IPv6".to_owned(),
        Parsed::Malformed => return "headers cut short or lengths that cannot be".to_owned(),
        Parsed::Ip(packet) => packet,
    };
    let end = |addr: Addr, port: u16| match (IpAddr::from(addr), packet.ports) {
        (ip @ IpAddr::V6(_), true) => format!("[{ip}]:{port}"),
        (ip, true) => format!("{ip}:{port}"),
        (ip, false) => ip.to_string(),
    };
    let mut text = format!(
        "{} {} -> {}, {} bytes, TTL {}",
        protocol(packet.proto),
        end(packet.src, packet.sport),
        end(packet.dst, packet.dport),
        packet.len,
        packet.ttl
    );
    if packet.proto == proto::TCP && packet.frag != frag::LATER {
        text += ", flags ";
        text += &flags(packet.tcp_flags);
    }
    match packet.frag {
        frag::FIRST => text += ", first fragment",
        frag::LATER => text += ", later fragment",
        _ => {}
    }
    text
}

/// TCP flags as letters (RFC 9293 section 3.1), `none` without any.
fn flags(bits: u8) -> String {
    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set: Vec<&str> =
        NAMES.iter().enumerate().filter(|(bit, _)| (bits >> bit) & 1 != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join(" ") }
}
