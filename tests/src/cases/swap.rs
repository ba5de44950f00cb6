//! The policy swap: two revisions that both drop a packet, one by a denied prefix and one by a packet rule, take turns while
//! packets run. Whoever sees half of each would let the packet pass.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use proxy_common::abi::rule_action;
use proxy_core::image::KernelImage;
use proxy_core::policy::{Cube, PacketRule, compile_rules};
use proxy_core::ranges::RangeSet;

use crate::gate::Gate;
use crate::packets::tcp;
use crate::ward::{self, BPFFS, Item};

/// Swaps of one run.
const SWAPS: u32 = 60;
/// Packets of one test run of the program.
const PACKETS: u32 = 2_000;
const NAME: &str = "swap";

/// The one trial.
pub fn trial(skip: bool) -> Trial {
    let check = || {
        ward::guard(Item::Pins(PathBuf::from(BPFFS).join(format!("tidegate-{NAME}-{}", std::process::id()))));
        // Loading moves its thread into another network namespace: not this one.
        let ran = std::thread::spawn(|| no_packet_sees_half().map_err(|error| format!("{error:#}"))).join();
        ran.unwrap_or_else(|_| Err("the trial panicked".to_owned())).map_err(Failed::from)
    };
    Trial::test("verdicts::a policy swap is seen whole", check).with_ignored_flag(skip)
}

fn no_packet_sees_half() -> Result<()> {
    let gate = Gate::load(NAME, "all", 4_096)?;
    let names = vec![(1, "test/prefix".to_owned()), (2, "test/rule".to_owned())];
    let by_prefix =
        KernelImage { deny: vec![("10.0.0.0/8".parse()?, 1)], names: names.clone(), ..KernelImage::default() };
    let cube = Cube { dport: RangeSet::new(vec![(443, 443)]), ..Cube::all() };
    let rules = vec![PacketRule { cube, action: rule_action::DROP, slot: 2, shadow: false }];
    let tables = compile_rules(&rules).map_err(anyhow::Error::msg)?;
    let by_rule = KernelImage { rules, tables, names, ..KernelImage::default() };
    gate.kernel.apply(&by_prefix)?;
    let frame = tcp("10.1.2.3", "192.0.2.1", 443).build();
    let done = AtomicBool::new(false);
    let runs = std::thread::scope(|scope| {
        let packets = scope.spawn(|| -> Result<u64> {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                gate.kernel.try_frame(&frame, PACKETS)?;
                runs += u64::from(PACKETS);
            }
            Ok(runs)
        });
        let swapped = (0..SWAPS).try_for_each(|n| {
            let applied = gate.kernel.apply(if n % 2 == 0 { &by_rule } else { &by_prefix })?;
            ensure!(applied.written == 1, "swap {n} wrote {applied:?}");
            gate.kernel.try_frame(&frame, 1)?;
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let runs = packets.join().map_err(|_| anyhow::anyhow!("the packets' thread panicked"))?;
        swapped.and(runs).map(|runs| runs + u64::from(SWAPS))
    })?;
    let counted: Vec<(&str, u64)> =
        gate.kernel.counters()?.into_iter().map(|(name, c)| (name, c.packets)).filter(|(_, n)| *n > 0).collect();
    let of = |name: &str| counted.iter().find(|(known, _)| *known == name).map_or(0, |(_, n)| *n);
    ensure!(of("denied") > 0 && of("rule") > 0, "one revision alone was met: {counted:?}");
    ensure!(of("denied") + of("rule") == runs, "{runs} packets ran, and of them {counted:?}");
    // What stands is what is adopted: applying it again writes nothing.
    let again = gate.kernel.apply(&by_prefix)?;
    ensure!((again.written, again.removed) == (0, 0), "applied again: {again:?}");
    Ok(())
}
