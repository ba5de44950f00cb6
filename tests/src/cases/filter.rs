//! The filter before the verdicts: while it is renewed over and over, no verdict that stands may be hidden by it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};
use proxy_common::abi::proto;
use proxy_core::policy::{Push, PushScope, RuleSlot};

use crate::gate::Gate;
use crate::packets::tcp;
use crate::tables::{World, addr};
use crate::ward::{self, BPFFS, Item};

/// Verdicts that stay; as many again expire at once.
const VERDICTS: u32 = 3_000;
/// So few slots that many verdicts share a word of the filter.
const TABLE: u32 = 8_192;
const STAYS: Duration = Duration::from_secs(600);
const GOES: Duration = Duration::from_millis(1);
const NAME: &str = "filter";
const XDP_DROP: u32 = 1;

/// The one trial.
pub fn trial(skip: bool) -> Trial {
    let check = || {
        ward::guard(Item::Pins(PathBuf::from(BPFFS).join(format!("tidegate-{NAME}-{}", std::process::id()))));
        // Loading moves its thread into another network namespace: not this one.
        let ran = std::thread::spawn(|| no_verdict_is_hidden().map_err(|error| format!("{error:#}"))).join();
        ran.unwrap_or_else(|_| Err("the trial panicked".to_owned())).map_err(Failed::from)
    };
    Trial::test("verdicts::the filter hides none while it is renewed", check).with_ignored_flag(skip)
}

fn push(ttl: Duration) -> Push {
    Push { rule: RuleSlot(1), ttl, scope: PushScope::Source }
}

fn no_verdict_is_hidden() -> Result<()> {
    let gate = Gate::load(NAME, "own", TABLE)?;
    let any = addr(Ipv4Addr::UNSPECIFIED.into());
    gate.fill(&World { bindings: [any.service_key(proto::TCP, 443)].into(), ..World::default() })?;
    let done = AtomicBool::new(false);
    let swept = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                swept.fetch_add(gate.kernel.sweep(), Ordering::Relaxed);
            }
            Ok(())
        });
        let pushed = (0..VERDICTS).try_for_each(|n| {
            // Neighbours: their bits are set and cleared beside each other.
            gate.kernel.push_verdict(source(2 * n).into(), &push(GOES), true)?;
            gate.kernel.push_verdict(source(2 * n + 1).into(), &push(STAYS), true)?;
            drops(&gate, 2 * n + 1).context("at once")
        });
        done.store(true, Ordering::Relaxed);
        sweeper.join().map_err(|_| anyhow::anyhow!("the sweeper panicked"))??;
        pushed
    })?;
    for n in 0..VERDICTS {
        drops(&gate, 2 * n + 1).context("in the end")?;
    }
    std::thread::sleep(GOES);
    let last = gate.kernel.sweep();
    ensure!(swept.load(Ordering::Relaxed) + last == VERDICTS, "not every expired verdict was swept");
    ensure!(gate.kernel.verdicts()?.len() == VERDICTS as usize, "another number of verdicts stands");
    Ok(())
}

fn source(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x2000_0000 + n)
}

fn drops(gate: &Gate, n: u32) -> Result<()> {
    let frame = tcp(&source(n).to_string(), "192.0.2.1", 443).build();
    let (action, _) = gate.kernel.try_frame(&frame, 1)?;
    ensure!(action == XDP_DROP, "a packet of {} passed while its verdict stood", source(n));
    Ok(())
}
