//! `cargo xtask fuzz differential`: frames without end, composed and changed, through the host's decision and the loaded
//! program. The two run the same source, but not the same compiler's output, nor the same bounds checks, and the program
//! finds rules by its tables where the host asks each in turn: a difference in action, reason, rule, shadow rule or counted
//! checks is a defect, and so is one in what either remembers of fragments and buckets.
//!
//! The action is compared frame by frame, counters and memory batch by batch: reading them takes longer than the frames
//! do. Each batch begins with nothing remembered, so that it can be run again by itself: one that differs is run frame by
//! frame, to name the first that does ([`crate::differential::culprit`]).

pub mod culprit;
pub mod frames;
pub mod rules;
pub mod worlds;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use crate::halves::{Bench, Counts, expect_counts};
use crate::random::Random;
use frames::Pool;

/// Frames between two looks at the counters.
const BATCH: u64 = 4_096;
/// Frames of a [`slice`].
const SLICE: u64 = 20_000;
/// Made-up worlds of a test run.
const SLICE_WORLDS: u64 = 4;
/// Frames that a made-up world gets, before the next is made.
const IN_ONE_WORLD: u64 = 400_000;
/// Most worlds: loading one takes as long as 100,000 frames.
const MOST_WORLDS: u64 = 40;
/// One frame in so many comes some time after the one before.
const PAUSE: usize = 64;
/// Pauses, in milliseconds: within a bucket's refill, and beyond what is remembered of a fragment.
const PAUSES: [u64; 5] = [1, 20, 1_000, 29_999, 40_000];
/// Time between two words about how far it is.
const TELL: Duration = Duration::from_secs(1);

/// A frame and when it comes, in nanoseconds after the one before.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Nanoseconds after the one before.
    pub after_ns: u64,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// What a run did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What makes the same frames and worlds again.
    pub seed: u64,
    /// Frames that went through both halves.
    pub packets: u64,
    /// Worlds that they met.
    pub worlds: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Packets by what counted them: reasons, rules, shadow rules (`would`) and counted checks, rules together.
    pub reached: BTreeMap<String, u64>,
}

/// Runs `packets` frames, shared among the worlds; `tell` hears how many are done, and the name of each world. The error
/// names the first frame that differs.
pub fn search(seed: u64, packets: u64, tell: &(dyn Fn(u64, &str) + Sync)) -> Result<Report> {
    let worlds = (worlds::FIXED + packets.div_ceil(IN_ONE_WORLD)).min(MOST_WORLDS).min(packets);
    let mut report = Report { seed, worlds, ..Report::default() };
    let begun = Instant::now();
    for number in 0..worlds {
        let share = packets / worlds + u64::from(number < packets % worlds);
        let done = report.packets;
        let counts = one_world(seed, number, share, &|more, name| tell(done + more, name))?;
        report.packets += share;
        for (name, (packets, _)) in counts {
            *report.reached.entry(kind(&name)).or_default() += packets;
        }
    }
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// Loads a world and runs frames through it.
fn one_world(seed: u64, number: u64, packets: u64, tell: &(dyn Fn(u64, &str) + Sync)) -> Result<Counts> {
    // Loading moves its thread into another network namespace: not this one.
    std::thread::scope(|scope| {
        let world = scope.spawn(|| -> Result<Counts> {
            let mut place = worlds::load(seed, number).with_context(|| format!("loading world {number}"))?;
            tell(0, &place.name);
            let seed = Random::part(seed, number).word();
            run(&mut place.bench, &place.pool, seed, packets, &|done| tell(done, ""))
                .with_context(|| format!("world {number} ({})", place.name))
        });
        world.join().unwrap_or_else(|_| Err(anyhow!("world {number} panicked")))
    })
}

/// All rules together; the others as they are.
fn kind(name: &str) -> String {
    match name.split_once("test/") {
        Some(("", _)) => "rules".to_owned(),
        Some((before, _)) => format!("{before}rules"),
        None => name.to_owned(),
    }
}

/// The short slice that every test run makes of a loaded world of the tables; its clock is left as it was.
pub fn slice(bench: &mut Bench, seed: u64) -> Result<()> {
    let begin = bench.world.now;
    let counts = run(bench, &worlds::table_pool(), seed, SLICE, &|_| ());
    begin_again(bench, begin)?;
    counts.map(|_| ())
}

/// The short slice of a few made-up worlds.
pub fn made_up_slice(seed: u64) -> Result<()> {
    (worlds::FIXED..worlds::FIXED + SLICE_WORLDS)
        .try_for_each(|number| one_world(seed, number, SLICE, &|_, _| ()).map(|_| ()))
}

/// Runs `packets` frames made from `pool`; returns what both halves counted.
pub fn run(bench: &mut Bench, pool: &Pool, seed: u64, packets: u64, tell: &dyn Fn(u64)) -> Result<Counts> {
    let mut counts = Counts::new();
    let mut told = Instant::now();
    let begin = bench.world.now;
    for (number, first) in (0..).zip((0..packets).step_by(BATCH as usize)) {
        let batch = batch(pool, &mut Random::part(seed, number), BATCH.min(packets - first));
        match agree(bench, &batch, begin) {
            Ok(counted) => {
                for (name, (packets, bytes)) in counted {
                    let count = counts.entry(name).or_default();
                    *count = (count.0 + packets, count.1 + bytes);
                }
            }
            Err(error) => return Err(culprit::find(bench, &batch, begin, error)),
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            tell(first + batch.len() as u64);
        }
    }
    Ok(counts)
}

fn batch(pool: &Pool, random: &mut Random, frames: u64) -> Vec<Arrival> {
    let mut bytes: Vec<Vec<u8>> = Vec::with_capacity(frames as usize);
    for _ in 0..frames {
        let frame = pool.frame(&bytes, random);
        bytes.push(frame);
    }
    bytes
        .into_iter()
        .map(|bytes| {
            let after_ns = if random.once_in(PAUSE) { random.pick(&PAUSES) * 1_000_000 } else { 0 };
            Arrival { after_ns, bytes }
        })
        .collect()
}

/// Nothing is remembered, and the clock stands at `begin`.
pub(crate) fn begin_again(bench: &mut Bench, begin: u64) -> Result<()> {
    bench.world.now = begin;
    bench.world.fragments.borrow_mut().clear();
    bench.world.buckets.borrow_mut().clear();
    bench.gate.forget_rates(&bench.world)?;
    bench.gate.reset(&bench.world)
}

/// Lets the time of an arrival come.
pub(crate) fn arrive(bench: &mut Bench, arrival: &Arrival) -> Result<()> {
    if arrival.after_ns == 0 {
        return Ok(());
    }
    bench.world.now += arrival.after_ns;
    bench.gate.hold_clock(bench.world.now)
}

/// Runs a batch through both halves; returns what both counted.
fn agree(bench: &mut Bench, batch: &[Arrival], begin: u64) -> Result<Counts> {
    begin_again(bench, begin)?;
    let before = bench.counts()?;
    let mut expected = Counts::new();
    for arrival in batch {
        arrive(bench, arrival)?;
        let host = bench.host(&arrival.bytes);
        expect_counts(&mut expected, arrival.bytes.len() as u64, (host.reason, host.rule, host.would, host.counted));
        bench.program_answers(&arrival.bytes, host.reason)?;
    }
    bench.counted(&before, &expected)?;
    bench.gate.remembers(&bench.world)?;
    Ok(expected)
}
