//! Which frame of a batch differs, and what is left of it when all is taken away that does not matter: fewer frames before
//! it, a shorter frame, zeros in place of what it held. Told with both answers and the steps of the decision.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, anyhow};
use proxy_core::explain::to_hex;

use super::{Arrival, begin_again};
use crate::halves::Bench;
use crate::mutations::SHORTEST;

/// Most runs that shrinking may take.
const TRIES: usize = 3_000;
/// Most frames before the last that are printed.
const PRINTED: usize = 16;

/// A frame and the nanoseconds after the batch's beginning when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Timed {
    at_ns: u64,
    bytes: Vec<u8>,
}

/// Says which frame of `batch` is the first to differ. `whole` is the difference that the batch as a whole made.
pub fn find(bench: &mut Bench, batch: &[Arrival], begin: u64, whole: anyhow::Error) -> anyhow::Error {
    let mut at_ns = 0;
    let timed: Vec<Timed> = batch
        .iter()
        .map(|arrival| {
            at_ns += arrival.after_ns;
            Timed { at_ns, bytes: arrival.bytes.clone() }
        })
        .collect();
    let mut story = || -> Result<String> {
        let Some(last) = first(bench, &timed, begin)? else {
            return Ok("the batch differs, though none of its frames does when each is looked at alone".to_owned());
        };
        let kept = shrink(timed[..=last].to_vec(), TRIES, &mut |story| differs(bench, story, begin).is_some());
        tell(bench, last, &kept, begin)
    };
    match story() {
        Ok(story) => whole.context(story),
        Err(error) => whole.context(format!("and the frame could not be found: {error:#}")),
    }
}

/// The first frame that differs when each is compared by itself.
fn first(bench: &mut Bench, story: &[Timed], begin: u64) -> Result<Option<usize>> {
    begin_again(bench, begin)?;
    for (number, frame) in story.iter().enumerate() {
        set_time(bench, begin + frame.at_ns)?;
        if bench.agree(&frame.bytes).and_then(|()| bench.gate.remembers(&bench.world)).is_err() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// How the last frame of the story differs, if it does.
fn differs(bench: &mut Bench, story: &[Timed], begin: u64) -> Option<anyhow::Error> {
    let mut run = || -> Result<()> {
        begin_again(bench, begin)?;
        let (last, before) = story.split_last().context("no frame")?;
        for frame in before {
            set_time(bench, begin + frame.at_ns)?;
            bench.host(&frame.bytes);
            bench.gate.kernel.try_frame(&frame.bytes, 1)?;
        }
        set_time(bench, begin + last.at_ns)?;
        bench.agree(&last.bytes)?;
        bench.gate.remembers(&bench.world)
    };
    run().err()
}

fn set_time(bench: &mut Bench, now: u64) -> Result<()> {
    if bench.world.now != now {
        bench.world.now = now;
        bench.gate.hold_clock(now)?;
    }
    Ok(())
}

/// What is left of a story when everything is taken away without which `bad` still holds.
fn shrink(mut story: Vec<Timed>, tries: usize, bad: &mut dyn FnMut(&[Timed]) -> bool) -> Vec<Timed> {
    let mut left = tries;
    let mut keep = |story: &mut Vec<Timed>, smaller: Vec<Timed>| {
        let better = left > 0 && smaller != *story && bad(&smaller);
        left = left.saturating_sub(1);
        if better {
            *story = smaller;
        }
        better
    };
    // Frames before the last: all, then halves, quarters, ….
    let mut length = story.len() - 1;
    while length > 0 {
        let mut at = 0;
        while at < story.len() - 1 {
            let mut smaller = story.clone();
            smaller.drain(at..(at + length).min(story.len() - 1));
            if !keep(&mut story, smaller) {
                at += length;
            }
        }
        length /= 2;
    }
    let last = story.len() - 1;
    // The last frame: shorter, then emptier.
    let mut cut = story[last].bytes.len() / 2;
    while cut > 0 {
        let mut smaller = story.clone();
        let length = smaller[last].bytes.len().saturating_sub(cut).max(SHORTEST);
        smaller[last].bytes.truncate(length);
        if !keep(&mut story, smaller) {
            cut /= 2;
        }
    }
    for at in 0..story[last].bytes.len() {
        let mut smaller = story.clone();
        smaller[last].bytes[at] = 0;
        keep(&mut story, smaller);
    }
    story
}

fn tell(bench: &mut Bench, number: usize, story: &[Timed], begin: u64) -> Result<String> {
    let error = differs(bench, story, begin).unwrap_or_else(|| anyhow!("it differs no more: the machine is at fault"));
    let (last, before) = story.split_last().context("no frame")?;
    let mut text = format!("frame {number} of the batch differs: {error:#}\n");
    // Writing to a string does not fail.
    let _ = writeln!(text, "left of it: {}", to_hex(&last.bytes));
    if !before.is_empty() {
        let _ = writeln!(text, "behind {} others, {} ns after the first:", before.len(), last.at_ns - before[0].at_ns);
        for frame in before.iter().take(PRINTED) {
            let _ = writeln!(text, "  at {} ns: {}", frame.at_ns, to_hex(&frame.bytes));
        }
    }
    // The decision leaves its traces: what it was asked with is there once more.
    begin_again(bench, begin)?;
    for frame in before {
        set_time(bench, begin + frame.at_ns)?;
        bench.host(&frame.bytes);
    }
    set_time(bench, begin + last.at_ns)?;
    let host = proxy_core::explain::explain(last.bytes.as_slice(), &bench.world, &crate::halves::rule_name);
    let _ =
        writeln!(text, "the host: {} ({}), rule {:?}, shadow {:?}", host.action, host.reason, host.rule, host.would);
    let _ = writeln!(text, "  {}", host.packet);
    for step in host.steps {
        let _ = writeln!(text, "  {:<13} {}: {}", step.table, step.asked, step.answer);
    }
    let live = bench.explain(&last.bytes)?;
    let _ = write!(
        text,
        "over the live maps: {} ({}), rule {:?}, shadow {:?}",
        live.action, live.reason, live.rule, live.would
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_taken_away() {
        let frame = |at_ns, byte| Timed { at_ns, bytes: vec![byte; 60] };
        let story: Vec<Timed> = (0..100).map(|n| frame(n, n as u8)).collect();
        // Bad: frame 42 came before, and byte 20 of the last is 99.
        let mut bad = |story: &[Timed]| {
            let (last, before) = story.split_last().unwrap();
            before.iter().any(|frame| frame.bytes[0] == 42) && last.bytes.get(20) == Some(&99)
        };
        let left = shrink(story, TRIES, &mut bad);
        let mut last = vec![0; 21];
        last[20] = 99;
        assert_eq!(left, [frame(42, 42), Timed { at_ns: 99, bytes: last }]);
    }
}
