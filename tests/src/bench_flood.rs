//! `cargo xtask bench flood`: good clients' HTTPS goodput through an edge that is under a mixed flood, beside two others.
//!
//! ```text
//!   good ──── wan ┐        ┌ lan ──── origin
//!                 ├─ edge ─┤
//!   attacker ─ atk ┘        attacker ── sink (drops everything by an XDP program)
//! ```
//!
//! *Control*: Tidegate serves while the same generator floods the sink, so that the generator's own CPU is in all three.
//! *Tidegate*: the flood goes to the edge; listed sources are denied by policy, SYNs of others are answered with cookies.
//! *nginx*: the same edge with nginx, and an nftables list that drops the same sources in `prerouting`. The three take turns;
//! medians of the rounds are printed.

#![allow(clippy::cast_precision_loss, reason = "counts of a few seconds, far below 2^53")]

mod town;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::clients::Load;
use crate::flood::Flood;
use crate::{process, tools};
use town::{EDGE, SITE, Town, hardware_address, index};

/// Bytes of the file that good clients ask for.
const FILE: usize = 16 * 1024;
/// Seconds of load in one measurement.
const SECONDS: u64 = 5;
/// Connections of the good clients.
const CLIENTS: u32 = 16;
/// Rounds; medians are printed.
const ROUNDS: usize = 3;
/// Seconds without a byte after which h2load gives a connection up: longer than the load, so that it ends those that hang when
/// the load is over, and no other.
const HUNG: u64 = 10;
/// How often a measurement is taken whose load generator does not end; the last time it is an error.
const TAKES: u32 = 3;
/// The generator ends by itself after this, whatever happens.
const LONGEST_FLOOD: Duration = Duration::from_secs(30);
/// The target: goodput under the flood against the control's.
const TARGET: f64 = 0.9;

/// Flood packets a second unless another rate is asked for.
pub const RATE: u32 = 200_000;
/// Rates that are taken.
pub const RATES: std::ops::RangeInclusive<i64> = 1_000..=5_000_000;

/// One of the three.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was measured.
    pub case: &'static str,
    /// Requests a second of the good clients, median.
    pub requests_per_second: f64,
    /// Bytes of bodies a second, median.
    pub goodput_bytes_per_second: f64,
    /// Flood packets a second that were sent, median.
    pub flood_per_second: f64,
    /// Flood packets a second that were dropped, by whoever drops in this case, median.
    pub dropped_per_second: f64,
    /// SYNs a second that XDP answered with cookies, median.
    pub cookies_per_second: f64,
    /// Requests of the good clients that failed, in all rounds.
    pub failed: u64,
    /// Measurements that were taken once more, because h2load did not end.
    pub repeated: u32,
}

/// All three, and what they amount to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Control, Tidegate, and nginx where nftables is installed.
    pub lines: Vec<Line>,
    /// Tidegate's goodput under the flood against the control's.
    pub ratio: f64,
    /// nginx's against the control's.
    pub nginx_ratio: Option<f64>,
    /// Whether the target held.
    pub ok: bool,
}

impl Town {
    /// One measurement: load and flood side by side. It is taken once more where h2load did not end by itself and so told of
    /// nothing, which the sample says.
    fn measure(&self, flood: &mut Flood, rate: u32, counts: &dyn Fn() -> Result<(u64, u64)>) -> Result<Sample> {
        for repeated in 0..TAKES {
            if let Some(sample) = self.take(flood, rate, counts)? {
                return Ok(Sample { repeated, ..sample });
            }
        }
        bail!("h2load did not end, {TAKES} times in a row")
    }

    /// As [`Town::measure`], once; `None` where h2load did not end.
    fn take(&self, flood: &mut Flood, rate: u32, counts: &dyn Fn() -> Result<(u64, u64)>) -> Result<Option<Sample>> {
        let stop = AtomicBool::new(false);
        let url = format!("https://{SITE}/page");
        let time = format!("--duration={SECONDS}");
        let clients = format!("-c{CLIENTS}");
        let hung = format!("--connection-inactivity-timeout={HUNG}s");
        let mut h2load = self.client().h2load(&url, &["-m4", "-t1", &clients, &time, &hung])?;
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| flood.run(&self.attacker, rate, LONGEST_FLOOD, &stop));
            let before = counts();
            let report = process::run_unless_hung(&mut h2load, Duration::from_secs(SECONDS + HUNG + 5));
            let after = counts();
            stop.store(true, Ordering::Relaxed);
            let (sent, seconds) = attack.join().map_err(|_| anyhow::anyhow!("the generator panicked"))??;
            let (Some(report), before, after) = (report?, before?, after?) else { return Ok(None) };
            let load = Load::parse(&report.ok().context("h2load")?)?;
            // From the first look to the second is a little longer than the load: rates are told over the flood's time.
            let rate = |count: u64| count as f64 / seconds;
            Ok(Some(Sample {
                requests: load.succeeded as f64 / SECONDS as f64,
                flood: rate(sent),
                dropped: rate(after.0.saturating_sub(before.0)),
                cookies: rate(after.1.saturating_sub(before.1)),
                failed: load.failed,
                repeated: 0,
            }))
        })
    }
}

/// One measurement, per second.
#[derive(Clone, Copy, Debug)]
struct Sample {
    requests: f64,
    flood: f64,
    dropped: f64,
    cookies: f64,
    failed: u64,
    repeated: u32,
}

/// Measures and reports; `say` is told of progress.
pub fn run(rate: u32, mut say: impl FnMut(&str)) -> Result<Report> {
    let town = Town::build()?;
    let address = hardware_address(&town.edge, "atk")?;
    let bytes: Vec<u8> = address.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let edge: [u8; 6] = bytes.try_into().map_err(|_| anyhow::anyhow!("{address} is no hardware address"))?;
    let mut at_edge = Flood::new(index(&town.attacker, "eth0")?, (edge, EDGE))?;
    let mut at_sink = Flood::new(index(&town.attacker, "void")?, (edge, EDGE))?;
    let with_nginx = tools::find("nft").is_ok();
    if !with_nginx {
        say("nftables is not installed (`apt-get install nftables`): nginx behind it is left out");
    }
    let mut samples: [(&'static str, Vec<Sample>); 3] =
        [("control: flood to the sink", vec![]), ("Tidegate under the flood", vec![]), ("nginx + nftables", vec![])];
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}"));
        let server = town.tidegate()?;
        let counts = || town.tidegate_counts();
        samples[0].1.push(town.measure(&mut at_sink, rate, &counts)?);
        samples[1].1.push(town.measure(&mut at_edge, rate, &counts)?);
        server.stop()?;
        if with_nginx {
            let server = town.nginx()?;
            samples[2].1.push(town.measure(&mut at_edge, rate, &|| Ok((town.nft_count()?, 0)))?);
            server.stop()?;
            town.nft("delete table ip flood")?;
        }
    }
    let lines: Vec<Line> =
        samples.iter().filter(|(_, samples)| !samples.is_empty()).map(|(case, samples)| line(case, samples)).collect();
    let [control, tidegate, rest @ ..] = lines.as_slice() else { bail!("nothing was measured") };
    let against = |line: &Line| line.goodput_bytes_per_second / control.goodput_bytes_per_second;
    let ratio = against(tidegate);
    let nginx_ratio = rest.first().map(against);
    // The sink drops all of it; it counts nothing itself.
    let mut lines = lines.clone();
    if let Some(control) = lines.first_mut() {
        control.dropped_per_second = control.flood_per_second;
    }
    Ok(Report { lines, ratio, nginx_ratio, ok: ratio >= TARGET })
}

fn line(case: &'static str, samples: &[Sample]) -> Line {
    let median = |value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let requests = median(|sample| sample.requests);
    Line {
        case,
        requests_per_second: requests,
        goodput_bytes_per_second: requests * FILE as f64,
        flood_per_second: median(|sample| sample.flood),
        dropped_per_second: median(|sample| sample.dropped),
        cookies_per_second: median(|sample| sample.cookies),
        failed: samples.iter().map(|sample| sample.failed).sum(),
        repeated: samples.iter().map(|sample| sample.repeated).sum(),
    }
}

/// The report as a table for people.
pub fn table(report: &Report) -> String {
    let mut text = String::from(
        "case                          requests/s      MB/s    flood/s  dropped/s  cookies/s  failed  repeated\n",
    );
    for line in &report.lines {
        let megabytes = line.goodput_bytes_per_second / 1e6;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<28} {:>11.0} {megabytes:>9.1} {:>10.0} {:>10.0} {:>10.0} {:>7} {:>9}",
            line.case,
            line.requests_per_second,
            line.flood_per_second,
            line.dropped_per_second,
            line.cookies_per_second,
            line.failed,
            line.repeated
        );
    }
    let _ = write!(text, "Tidegate under the flood / control: {:.2} (target {TARGET})", report.ratio);
    if let Some(nginx) = report.nginx_ratio {
        let _ = write!(text, "; nginx + nftables / control: {nginx:.2}");
    }
    text
}
