//! The rows of the checks as trials, their sequences, and slices of the differential search. The rows and what they mean are in
//! [`crate::check_rows`].

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use libtest_mimic::{Failed, Trial};
use proxy_common::abi::{CheckSettings, Limit, Reason};
use proxy_core::config::Mode;
use serde_json::json;

use crate::check_rows::{Row, icmp, rows};
use crate::differential;
use crate::gate::{Gate, all_checks};
use crate::halves::Bench;
use crate::packets::{Frame, ping, tcp_flags, udp};
use crate::tables::{World, addr};
use crate::verdict_table::{EDGE, EDGE6, OTHER, Scope, world};
use crate::ward::{self, BPFFS, Item};

/// How the checks are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// All counted, any packet.
    Counted,
    /// Enforced but for fragments and special sources, which many networks have; our own packets.
    Enforced,
    /// All enforced, any packet.
    Strict,
}

impl Setting {
    /// Each of them.
    pub const ALL: [Setting; 3] = [Setting::Counted, Setting::Enforced, Setting::Strict];

    fn scope(self) -> Scope {
        if self == Setting::Enforced { Scope::Own } else { Scope::All }
    }

    fn makes(self, check: Reason) -> bool {
        self != Setting::Enforced || !matches!(check, Reason::Fragment | Reason::SpecialSource)
    }

    /// What a row comes to: reason and counted checks.
    fn outcome(self, row: &Row) -> (Reason, u64) {
        let mut fails = row.fails.iter().copied().filter(|check| self.makes(*check));
        match self {
            Setting::Counted => (row.otherwise, fails.fold(0, |bits, check| bits | check.bit())),
            Setting::Enforced if row.otherwise == Reason::Malformed => (row.otherwise, 0),
            Setting::Enforced if !row.own => (fails.next().map_or(row.otherwise, |_| Reason::NotOwn), 0),
            _ => (fails.next().unwrap_or(row.otherwise), 0),
        }
    }
}

/// One trial a row and setting; ignored where the programs cannot be loaded.
pub fn trials(skip: bool, seed: u64) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut trial = |name: String, check: Box<dyn FnOnce() -> Result<()> + Send>| {
        let run = move || check().map_err(|error| Failed::from(format!("{error:#}")));
        trials.push(Trial::test(format!("checks::{name}"), run).with_ignored_flag(skip));
    };
    for setting in Setting::ALL {
        for row in rows() {
            trial(
                format!("{setting:?}: {}", row.name),
                Box::new(move || {
                    let (reason, counted) = setting.outcome(&row);
                    bench(setting)?.expect(&row.frame.build(), (reason, None, None, counted))
                }),
            );
        }
        trial(
            format!("{setting:?}: changed frames"),
            Box::new(move || differential::slice(&mut *bench(setting)?, seed)),
        );
    }
    trial("Enforced: later fragments follow their first".to_owned(), Box::new(fragments_follow));
    trial("Enforced: ICMP above its limit".to_owned(), Box::new(icmp_is_limited));
    trials
}

fn fragments_follow() -> Result<()> {
    let mut bench = bench(Setting::Enforced)?;
    let stray = Reason::FragmentStray;
    let v4 = |src, ident, at, more| udp(src, EDGE, 443).fragment(at, more).lie(18, &[0x42, ident]);
    let v6 = |src, at, more| udp(src, EDGE6, 443).fragment(at, more);
    let steps: [(&str, Frame, Reason); 9] = [
        ("a first fragment", v4("9.9.9.9", 1, 0, true), Reason::Pass),
        ("its later one", v4("9.9.9.9", 1, 9, false), Reason::Pass),
        ("another datagram's", v4("9.9.9.9", 2, 9, false), stray),
        ("another source's", v4("9.9.9.8", 1, 9, false), stray),
        ("a first one that is dropped", v4("127.0.0.1", 3, 0, true), Reason::Bogon),
        ("a banned source's first one", v4("203.0.113.66", 4, 0, true), Reason::Verdict),
        ("an IPv6 first fragment", v6("2606:4700::9", 0, true), Reason::Pass),
        ("its later one", v6("2606:4700::9", 9, false), Reason::Pass),
        ("to somebody else", udp("9.9.9.9", OTHER, 443).fragment(9, false), Reason::NotOwn),
    ];
    for (name, frame, reason) in steps {
        let rule = (reason == Reason::Verdict).then_some(5);
        bench.expect(&frame.build(), (reason, rule, None, 0)).context(name)?;
    }
    // The first one has no say when half a minute has gone by.
    bench.world.now += 40_000_000_000;
    bench.gate.hold_clock(bench.world.now)?;
    bench.expect(&v4("9.9.9.9", 1, 17, false).build(), (stray, None, None, 0)).context("too late")
}

fn icmp_is_limited() -> Result<()> {
    let mut bench = bench(Setting::Enforced)?;
    // Ten at once, then one in twenty milliseconds.
    bench.world.settings.icmp = Limit::per_second(50, 10);
    bench.world.buckets.borrow_mut().clear();
    bench.gate.reset(&bench.world)?;
    let ping = ping("9.9.9.9", EDGE).build();
    for _ in 0..10 {
        bench.expect(&ping, (Reason::Pass, None, None, 0)).context("within the burst")?;
    }
    bench.expect(&ping, (Reason::IcmpLimit, None, None, 0)).context("beyond the burst")?;
    for (name, frame) in [
        ("fragmentation needed", icmp("9.9.9.9", EDGE, 3, 4)),
        ("packet too big", icmp("2606:4700::9", EDGE6, 2, 0)),
        ("neighbour solicitation", icmp("fe80::9", EDGE6, 135, 0)),
        ("somebody else's ping", crate::packets::ping("9.9.9.9", OTHER)),
        ("TCP", tcp_flags("9.9.9.9", EDGE, 443, 0x10)),
    ] {
        bench.expect(&frame.build(), (Reason::Pass, None, None, 0)).context(name)?;
    }
    bench
        .expect(&icmp("9.9.9.9", EDGE, 3, 3).build(), (Reason::IcmpLimit, None, None, 0))
        .context("port unreachable")?;
    bench.world.now += 20_000_001;
    bench.gate.hold_clock(bench.world.now)?;
    bench.expect(&ping, (Reason::Pass, None, None, 0)).context("when a token came in")?;
    bench.expect(&ping, (Reason::IcmpLimit, None, None, 0)).context("and was taken")
}

/// The programs with the world in their maps and the checks set, loaded once; its state is as at the beginning.
fn bench(setting: Setting) -> Result<MutexGuard<'static, Bench>> {
    static LOADED: [OnceLock<Result<Mutex<Bench>, String>>; 3] = [const { OnceLock::new() }; 3];
    let loaded = LOADED[setting as usize].get_or_init(|| {
        let name = format!("{setting:?}").to_lowercase();
        // The bench is never dropped: what it pins goes when the run ends.
        ward::guard(Item::Pins(PathBuf::from(BPFFS).join(format!("tidegate-{name}-{}", std::process::id()))));
        let thread = std::thread::spawn(move || load(setting, &name).map(Mutex::new));
        let loaded = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the loader panicked")));
        loaded.map_err(|error| format!("{error:#}"))
    });
    let bench = loaded.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut bench = bench.lock().unwrap_or_else(PoisonError::into_inner);
    bench.world.settings = settings();
    bench.world.fragments.borrow_mut().clear();
    bench.world.buckets.borrow_mut().clear();
    bench.gate.reset(&bench.world)?;
    Ok(bench)
}

/// Ephemeral ports as on most machines; a limit on ICMP that no row and few mutated frames reach.
fn settings() -> CheckSettings {
    CheckSettings { seed: 0x5eed, icmp: Limit::per_second(500, 500), udp_below: 32_768, pad: 0 }
}

/// The programs with the world in their maps and the checks set.
pub fn load(setting: Setting, name: &str) -> Result<Bench> {
    let scope = setting.scope();
    let mut checks = all_checks(if setting == Setting::Counted { Mode::Count } else { Mode::Enforce });
    let mut world = World { settings: settings(), ..world(scope) };
    for check in Reason::ALL.into_iter().filter(|reason| reason.is_check()) {
        if !setting.makes(check) {
            checks[check.name()] = json!(Mode::Off);
            continue;
        }
        world.checked |= check.bit();
        world.enforced |= if setting == Setting::Counted { 0 } else { check.bit() };
    }
    // The gate's own listener is at 127.0.0.1.
    world.own = [EDGE, EDGE6, "127.0.0.1"].map(|ip| addr(ip.parse().expect("an address"))).into();
    let scope = if scope == Scope::Own { "own" } else { "all" };
    let own = [EDGE, EDGE6];
    let gate = Gate::load_with(
        name,
        json!({ "scope": scope, "max_verdicts": 4_096, "checks": checks, "own_addresses": own }),
    )?;
    Bench::of(gate, world)
}
