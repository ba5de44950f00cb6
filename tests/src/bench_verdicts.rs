//! `cargo xtask bench verdicts`: how long from a worker's decision to the verdict standing in the kernel map, over many
//! verdicts, and whether any packet of a source passes once it stands.
//!
//! The clock starts where the decision is taken and stops when the write has returned: from then on the map holds it.
//! Behind each write a packet of that source runs through the loaded `front`, which must drop it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_common::abi::proto;
use proxy_core::policy::{Push, PushScope, RuleSlot};
use serde::Serialize;

use crate::gate::Gate;
use crate::packets::tcp;
use crate::tables::{World, addr};

/// Verdicts pushed, half of them IPv6.
const PUSHES: u32 = 20_000;
/// The target for the 99th percentile.
const TARGET: Duration = Duration::from_millis(1);
const TTL: Duration = Duration::from_secs(600);
const XDP_DROP: u32 = 1;

/// What was measured, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Verdicts pushed.
    pub pushes: u32,
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// Packets that passed after their source's verdict stood; must be 0.
    pub passed_after: u32,
    /// Whether the target held: p99 under 1 ms and nothing passed.
    pub ok: bool,
    /// Verdicts a second when all are listed, in batches.
    pub listed_per_second: f64,
}

/// Pushes, checks and measures.
pub fn run() -> Result<Report> {
    let gate = Gate::load("bench-verdicts", "own", 131_072)?;
    let mut world = World { own_only: true, ..World::default() };
    for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        world.bindings.insert(addr(any).service_key(proto::TCP, 443));
    }
    gate.fill(&world)?;
    let mut times = Vec::with_capacity(PUSHES as usize);
    let mut passed_after = 0;
    let push = Push { rule: RuleSlot(1), ttl: TTL, scope: PushScope::Source };
    for n in 0..PUSHES {
        let (source, edge): (IpAddr, &str) = if n % 2 == 0 {
            (Ipv4Addr::from(0x2000_0000 + n).into(), "192.0.2.1")
        } else {
            (Ipv6Addr::from((0x2001_0db8_u128 << 96) | (u128::from(n) << 64) | 1).into(), "2001:db8::1")
        };
        let decided = Instant::now();
        ensure!(gate.kernel.push_verdict(source, &push, true)?, "the push of {source} was refused");
        times.push(decided.elapsed());
        let frame = tcp(&source.to_string(), edge, 443).build();
        if gate.kernel.try_frame(&frame, 1)?.0 != XDP_DROP {
            passed_after += 1;
        }
    }
    let start = Instant::now();
    let listed = gate.kernel.verdicts()?.len();
    let listed_per_second = f64::from(PUSHES) / start.elapsed().as_secs_f64();
    ensure!(listed == PUSHES as usize, "{listed} verdicts are listed of {PUSHES} pushed");
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1_000];
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Report {
        pushes: PUSHES,
        p50_us: us(at(500)),
        p99_us: us(at(990)),
        max_us: us(at(1_000)),
        passed_after,
        ok: at(990) < TARGET && passed_after == 0,
        listed_per_second,
    })
}
