//! The worlds of the search: those of the verdict table and of the checks, and any number made up from a seed, each with
//! its own scope, modes of the checks, verdicts, prefixes, packet rules and services.
//!
//! What a new kind of table or rule needs to be searched stands here: fill it in [`made_up`], and name in the [`Pool`] what
//! frames must hold to meet it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;
use proxy_common::abi::{CheckSettings, DaemonState, HostKey, Limit, Reason, VERDICT_OWN_ONLY, VerdictValue, proto};
use proxy_common::addr::v6_mask;
use proxy_core::config::Mode;
use proxy_user::kernel::now_ns;
use serde_json::{Map, Value, json};

use super::frames::Pool;
use super::rules::rules;
use crate::cases::checks::{self, Setting};
use crate::cases::table;
use crate::gate::Gate;
use crate::halves::Bench;
use crate::random::Random;
use crate::tables::{V4_PREFIX, World, addr};
use crate::verdict_table::{EDGE, EDGE6, OTHER, Scope};
use crate::{check_rows, rate_rows, verdict_table};

/// A loaded world and what its frames are made of.
pub struct Place {
    /// For people.
    pub name: String,
    /// Both halves.
    pub bench: Bench,
    /// What frames are composed of.
    pub pool: Pool,
}

/// Worlds that are not made up.
pub const FIXED: u64 = 5;
/// Rules of the made-up worlds, in turn: none, some, one word of bits and more, many.
const RULES: [usize; 4] = [0, 12, 130, 900];
/// Networks that sources are drawn from.
const NETWORKS: [&str; 16] = [
    "9.9.9.0/24",
    "9.9.8.0/22",
    "10.1.2.0/24",
    "127.0.0.0/30",
    "192.0.2.0/30",
    "198.18.99.0/28",
    "203.0.113.64/29",
    "224.0.0.0/28",
    "0.0.0.0/31",
    "2001:db8::/126",
    "2001:db8:bad:1::/124",
    "2606:4700::/60",
    "2606:4700:0:1::/125",
    "fe80::/125",
    "ff02::/126",
    "::ffff:9.9.9.0/124",
];
/// Sources of a world.
const SOURCES: usize = 64;
/// Longer than any run, the most that `gate.fail_after` takes; and its least.
const DAY_NS: u64 = 86_400 * 1_000_000_000;
const FAIL_SOON_NS: u64 = 3 * 1_000_000_000;
/// Seconds around now in which verdicts expire: some before the first frame, some while frames run.
const AROUND: u64 = 120;

/// World number `number` of the search with this seed. Loading moves the thread into a network namespace of its own.
pub fn load(seed: u64, number: u64) -> Result<Place> {
    let fixed = |name: String, bench| {
        let pool = table_pool();
        Place { name, bench, pool }
    };
    Ok(match number {
        0 => fixed("verdict table, scope own".to_owned(), table::load(Scope::Own)?),
        1 => fixed("verdict table, scope all".to_owned(), table::load(Scope::All)?),
        2..FIXED => {
            let setting = Setting::ALL[number as usize - 2];
            fixed(format!("checks, {setting:?}"), checks::load(setting, &format!("search-{number}"))?)
        }
        _ => made_up(&mut Random::part(seed, number), number)?,
    })
}

/// Frames of both tables, and their addresses.
pub fn table_pool() -> Pool {
    let rows = verdict_table::rows().into_iter().map(|row| row.frame).chain(rate_rows::frames());
    let corpus: Vec<Vec<u8>> =
        rows.chain(check_rows::rows().into_iter().map(|row| row.frame)).map(|frame| frame.build()).collect();
    let ips = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect();
    Pool {
        sources: ips(&[
            "198.18.99.1",
            "203.0.113.66",
            "203.0.113.68",
            "10.1.2.3",
            "9.9.9.9",
            "2001:db8:bad:1::77",
            EDGE,
        ]),
        destinations: destinations(),
        ports: vec![22, 53, 80, 443, 4_005, 4_950, 5_000, 8_080, 9_050, 40_000, 0],
        corpus,
    }
}

/// Where frames go.
pub(super) fn destinations() -> Vec<IpAddr> {
    let texts = [EDGE, EDGE, EDGE, OTHER, "127.0.0.1", "255.255.255.255", EDGE6, EDGE6, "2001:db8::200", "ff02::1"];
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

/// A world that nobody thought of.
fn made_up(random: &mut Random, number: u64) -> Result<Place> {
    let sources: Vec<IpAddr> = (0..SOURCES).map(|_| inside(network(random), random)).collect();
    let ports: Vec<u16> = (0..12).map(|_| random.pick(&[0, 22, 53, 80, 443, 444, 8_080, 40_000, 65_535])).collect();
    // A daemon that is told to be missed is there all the time, or was never there: its heart beats by the true clock.
    let attended = random.pick(&[None, None, None, Some(true), Some(false)]);
    let beat_ns = now_ns();
    let now = if attended == Some(false) { beat_ns + DAY_NS } else { beat_ns };
    let fail_after_ns = if attended == Some(false) { FAIL_SOON_NS } else { DAY_NS };
    let own_only = random.once_in(2);
    let rules = rules(&sources, &ports, RULES[number as usize % RULES.len()], random);
    let mut world = World {
        own_only,
        verdicts: verdicts(&sources, now, random),
        allow: prefixes(&sources, random.pick(&[0, 0, 3, 9]), random),
        deny: prefixes(&sources, random.pick(&[0, 4, 20, 60]), random),
        rules,
        now,
        fail_open: attended.is_some(),
        daemon: DaemonState { beat_ns, fail_after_ns, ..DaemonState::default() },
        own: [EDGE, EDGE6, "127.0.0.1"].iter().filter_map(|ip| ip.parse().ok()).map(addr).collect(),
        settings: CheckSettings {
            seed: random.word(),
            icmp: random.pick(&[Limit::per_second(5, 3), Limit::per_second(1_000, 40), Limit::default()]),
            udp_below: random.pick(&[0, 1_024, 32_768, 65_536]),
            pad: 0,
        },
        ..World::default()
    };
    for _ in 0..random.between(1, 9) {
        let at = random.pick(&["0.0.0.0", EDGE, "::", EDGE6, OTHER]);
        let ip: IpAddr = at.parse()?;
        world.bindings.insert(addr(ip).service_key(random.pick(&[proto::TCP, proto::UDP]), random.pick(&ports)));
    }
    let checks = check_modes(&mut world, random);
    let scope = if own_only { "own" } else { "all" };
    let gate = Gate::load_with(
        &format!("search-{number}"),
        json!({
            "scope": scope, "max_verdicts": 4_096, "checks": checks, "own_addresses": [EDGE, EDGE6],
            "fail": if attended.is_some() { "open" } else { "closed" },
            "fail_after": format!("{}s", fail_after_ns / 1_000_000_000),
        }),
    )?;
    let rates = rates(random);
    let world = world.seal();
    let name = format!(
        "made up {number}: scope {scope}, {} rules, {} verdicts, {} denied and {} allowed networks, {} of both hosts, \
         {} checks, {} rates, daemon {}",
        world.rules.len(),
        world.verdicts.len(),
        world.deny.len(),
        world.allow.len(),
        world.parts.hosts.len(),
        world.checked.count_ones(),
        rates.len(),
        match attended {
            None => "not needed",
            Some(true) => "there",
            Some(false) => "away",
        },
    );
    let pool = Pool { sources, destinations: destinations(), ports, corpus: table_pool().corpus };
    let mut bench = Bench::of(gate, world)?;
    bench.world.rates = bench.gate.set_rates(&json!(rates))?;
    Ok(Place { name, bench, pool })
}

/// Rate limits, in half of the worlds, low enough to bite.
fn rates(random: &mut Random) -> Vec<Value> {
    let count = random.pick(&[0, 0, 0, 1, 3, 16]);
    (0..count)
        .map(|_| {
            let per = random.pick(&["source", "prefix", "service", "total"]);
            let of = random.pick(&["packets", "bytes", "syns", "udp_flows", "quic_initials"]);
            let least = if of == "bytes" { 100_000 } else { 2 };
            let limit = least * random.between(1, 60);
            let mode = random.pick(&["enforce", "enforce", "count", "off"]);
            let mut rate = json!({ "per": per, "of": of, "limit": limit, "mode": mode });
            if random.once_in(3) && !matches!(of, "udp_flows" | "quic_initials") {
                rate["listener"] = json!("web");
            }
            if matches!(per, "source" | "prefix") && random.once_in(3) {
                rate["ipv4_prefix"] = json!(random.between(8, 32));
                rate["ipv6_prefix"] = json!(random.between(16, 64));
            }
            rate
        })
        .collect()
}

/// A mode for each check, written into the world and returned for the config. One world in four has them all off.
fn check_modes(world: &mut World, random: &mut Random) -> Value {
    let off = random.once_in(4);
    let mut modes = Map::new();
    for check in Reason::ALL.into_iter().filter(|reason| reason.is_check()) {
        let mode = if off { Mode::Off } else { random.pick(&[Mode::Off, Mode::Count, Mode::Enforce]) };
        world.checked |= if mode == Mode::Off { 0 } else { check.bit() };
        world.enforced |= if mode == Mode::Enforce { check.bit() } else { 0 };
        // The config names what it is about, the counter what became of it.
        let name = if check == Reason::MalformedDropped { "malformed" } else { check.name() };
        modes.insert(name.to_owned(), json!(mode));
    }
    Value::Object(modes)
}

fn network(random: &mut Random) -> IpNet {
    random.pick(&NETWORKS).parse().unwrap_or_default()
}

/// An address of the network.
fn inside(network: IpNet, random: &mut Random) -> IpAddr {
    match network {
        IpNet::V4(net) => {
            let free = u32::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            Ipv4Addr::from_bits(net.network().to_bits() | (random.word() as u32 & free)).into()
        }
        IpNet::V6(net) => {
            let free = u128::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            Ipv6Addr::from_bits(net.network().to_bits() | (u128::from(random.word()) & free)).into()
        }
    }
}

/// Verdicts on hosts and prefixes, standing, expired, and about to expire.
fn verdicts(sources: &[IpAddr], now: u64, random: &mut Random) -> HashMap<HostKey, VerdictValue> {
    let mut verdicts = HashMap::new();
    for _ in 0..random.pick(&[0, 3, 12, 40]) {
        let source = addr(random.pick(sources));
        let prefix = random.once_in(if source.is_v4() { 8 } else { 2 });
        let key = match (source.is_v4(), prefix) {
            (_, false) => source.host_key(),
            (true, true) => source.v4_prefix_key(V4_PREFIX),
            (false, true) => source.prefix_key(v6_mask(64)),
        };
        let seconds = random.between(0, 2 * AROUND) * 1_000_000_000;
        let value = VerdictValue {
            expires_ns: (now + seconds).saturating_sub(AROUND * 1_000_000_000),
            created_ns: now,
            rule: random.between(0, 20) as u32,
            flags: random.pick(&[0, VERDICT_OWN_ONLY]),
            ..VerdictValue::default()
        };
        verdicts.insert(key, value);
    }
    verdicts
}

/// Prefixes of any length around the sources, each once.
fn prefixes(sources: &[IpAddr], count: usize, random: &mut Random) -> Vec<(IpNet, u32)> {
    let mut prefixes: Vec<(IpNet, u32)> = Vec::new();
    for _ in 0..count {
        let source = IpAddr::from(addr(random.pick(sources)));
        let whole = if source.is_ipv4() { 32 } else { 128 };
        // Hosts, IPv6 /64 and small networks stand in the table of hosts, others in the tries.
        let bits = match random.below(4) {
            0 => whole,
            1 => random.pick(&[whole - 2, whole / 2, whole - 1]),
            _ => random.between(1, whole),
        };
        let Ok(net) = IpNet::new(source, bits as u8) else { continue };
        let net = net.trunc();
        // Networks that hold the v4-mapped addresses are the compiler's to write, for both families.
        let both_families = net.addr().is_ipv6() && net.prefix_len() < 96;
        if !both_families && !prefixes.iter().any(|(other, _)| *other == net) {
            prefixes.push((net, random.between(1, 60) as u32));
        }
    }
    prefixes
}
