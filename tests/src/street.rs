//! The topology of every end-to-end test and of the demo.
//!
//! ```text
//!   good (10.71.1.2) ──┐                  wan        lan
//!                      wire ──────────── edge ──────────── origin (10.71.9.2)
//!   scanner (10.71.2.2, 10.72.0.0/16) ──┘
//! ```
//!
//! `wire` routes, as the internet does: all clients reach the edge through one interface, `wan`, which carries the gate.

use anyhow::Result;

use crate::netns::{End, Netns, wire};

/// The edge's address that clients use.
pub const EDGE_V4: &str = "10.71.0.1";
/// The same for IPv6.
pub const EDGE_V6: &str = "fd71::1";
/// The edge's client-facing interface.
pub const WAN: &str = "wan";
/// The well-behaved client.
pub const GOOD_V4: &str = "10.71.1.2";
/// The same for IPv6.
pub const GOOD_V6: &str = "fd71:1::2";
/// The client that probes.
pub const SCANNER_V4: &str = "10.71.2.2";
/// The same for IPv6.
pub const SCANNER_V6: &str = "fd71:2::2";
/// First two bytes of the addresses that the scanner may also use, `10.72.0.0/16`.
pub const CROWD: &str = "10.72";
/// The origin.
pub const ORIGIN_V4: &str = "10.71.9.2";

/// The namespaces, wired.
#[derive(Debug)]
pub struct Street {
    /// A client that must never notice anything.
    pub good: Netns,
    /// A client that gets itself banned.
    pub scanner: Netns,
    /// Where the daemon runs.
    pub edge: Netns,
    /// Where the origin runs.
    pub origin: Netns,
    /// Routes between clients and edge.
    pub wire: Netns,
}

impl Street {
    /// Makes and wires the namespaces.
    pub fn build() -> Result<Self> {
        let street = Self {
            good: Netns::create("good")?,
            scanner: Netns::create("scanner")?,
            edge: Netns::create("edge")?,
            origin: Netns::create("origin")?,
            wire: Netns::create("wire")?,
        };
        let Self { good, scanner, edge, origin, wire: middle } = &street;
        let pairs = [
            (edge, WAN, ["10.71.0.1/24", "fd71::1/64"], "edge", ["10.71.0.254/24", "fd71::fe/64"]),
            (good, "eth0", ["10.71.1.2/24", "fd71:1::2/64"], "good", ["10.71.1.254/24", "fd71:1::fe/64"]),
            (scanner, "eth0", ["10.71.2.2/24", "fd71:2::2/64"], "scanner", ["10.71.2.254/24", "fd71:2::fe/64"]),
        ];
        for family in ["ipv4/conf/all", "ipv6/conf/all"] {
            middle.sysctl(&format!("net/{family}/forwarding"), "1")?;
        }
        for (netns, name, addresses, far, far_addresses) in &pairs {
            wire(
                End { netns, name, addresses: &addresses[..] },
                End { netns: middle, name: far, addresses: &far_addresses[..] },
            )?;
            for gateway in far_addresses {
                let gateway = gateway.split('/').next().unwrap_or_default();
                netns.ip(&format!("route add default via {gateway}"))?;
            }
        }
        wire(
            End { netns: edge, name: "lan", addresses: &["10.71.9.1/24", "fd71:9::1/64"] },
            End { netns: origin, name: "eth0", addresses: &["10.71.9.2/24", "fd71:9::2/64"] },
        )?;
        scanner.ip(&format!("route add local {CROWD}.0.0/16 dev lo"))?;
        middle.ip(&format!("route add {CROWD}.0.0/16 via {SCANNER_V4}"))?;
        Ok(street)
    }
}
