//! Parsers of outside bytes, each fed with changed pieces of what it reads every day: none may panic, hang, or break what
//! it promises about its answer. `cargo xtask fuzz NAME` searches for as long as it is told to, every test run makes a
//! short slice, and what once broke one stands in [`REGRESSIONS`].

mod answers;
mod asked;
mod frames;
mod packets;
mod requests;
mod targets;
mod tls;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use proxy_core::explain::to_hex;

use crate::mutations::mutate;
use crate::random::Random;
pub use targets::TARGETS;

/// One parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// For the command line.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    /// What it reads every day.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Reads the bytes; an error names the promise that was broken.
    pub read: fn(&[u8]) -> Result<()>,
}

/// Bytes that once broke a parser, or that others of its kind broke at: target, name, bytes.
pub const REGRESSIONS: &[(&str, &str, &[u8])] = &[
    ("policy", "a list closed by a brace looped in the search for duplicate keys", br#"{"rules":[{"id":"a"}},"x":[}"#),
    ("policy", "no text", b""),
    ("policy", "brackets without end", &[b'['; 4_096]),
    ("expression", "parentheses without end", &[b'('; 4_096]),
    ("expression", "negations without end", &[b'!'; 4_096]),
    ("expression", "a character of several bytes at the end", "http.host eq \"ü".as_bytes()),
    ("config", "a number beyond all", br#"{"workers":1e999}"#),
    ("pcap", "a magic number alone", &[0xd4, 0xc3, 0xb2, 0xa1]),
    ("pcap", "a block length of nothing", &[10, 13, 13, 10, 0, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]),
    ("admin", "a percent sign at the end", b"DELETE\n/v1/verdicts/%\n\n"),
    ("syn-options", "an option of no length", &[2, 0]),
    (
        "http1",
        "a chunk size beyond all",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ),
];

/// Texts as inputs.
fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// Most changes of one input.
const CHANGES: usize = 6;
/// Longest input.
const LONGEST: usize = 16 << 10;
/// Longest piece that is taken from another input.
const PIECE: usize = 48;
/// Inputs of a target in a test run.
const SLICE: u64 = 2_000;
/// Seed of the slice: the same inputs in every run.
const SEED: u64 = 0x7469_6465;
/// One input may take so long, on a machine that does other things too.
const TOO_LONG: Duration = Duration::from_secs(30);
/// Most tries to make a bad input smaller.
const TRIES: usize = 2_000;

/// The slices as trials: they need neither root nor eBPF.
pub fn trials() -> Vec<Trial> {
    TARGETS
        .iter()
        .map(|target| {
            Trial::test(format!("parsers::{}", target.name), move || {
                regressions(target)
                    .and_then(|()| search(target, SEED, SLICE, &|_| ()))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

fn regressions(target: &Target) -> Result<()> {
    for (_, name, bytes) in REGRESSIONS.iter().filter(|(of, ..)| *of == target.name) {
        if let Some(why) = fault(target, bytes) {
            bail!("{name}: {why}");
        }
    }
    Ok(())
}

/// Feeds `cases` inputs; `tell` hears how many are done. The error tells the first that breaks it, made smaller.
pub fn search(target: &Target, seed: u64, cases: u64, tell: &dyn Fn(u64)) -> Result<()> {
    let corpus = (target.corpus)();
    ensure!(!corpus.is_empty() && corpus.iter().all(|bytes| !bytes.is_empty()), "{} has no corpus", target.name);
    for bytes in &corpus {
        if let Some(why) = fault(target, bytes) {
            bail!("{} breaks on its own corpus: {why}", target.name);
        }
    }
    let now = Arc::new(Mutex::new((Instant::now(), Vec::new())));
    let watch = Watch::over(target.name, &now);
    let mut random = Random::new(seed);
    for number in 0..cases {
        let input = input(&corpus, &mut random);
        *now.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), input.clone());
        if let Some(why) = fault(target, &input) {
            let small = shrink(target, input);
            bail!("seed {seed}, input {number} breaks {}: {why}\n{}", target.name, told(&small));
        }
        tell(number + 1);
    }
    drop(watch);
    Ok(())
}

fn input(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(CHANGES) {
        if input.is_empty() || random.once_in(3) {
            // A piece of another input, in place of some bytes or between them.
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            let piece = &other[from..(from + random.below(PIECE)).min(other.len())];
            let at = random.below(input.len() + 1);
            let end = if random.once_in(2) { at } else { (at + piece.len()).min(input.len()) };
            input.splice(at..end, piece.iter().copied());
        } else {
            mutate(&mut input, random);
        }
    }
    input.truncate(LONGEST);
    input
}

/// How the target breaks on these bytes, if it does.
fn fault(target: &Target, bytes: &[u8]) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| (target.read)(bytes))) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

/// Fewer bytes that still break it.
fn shrink(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut left = TRIES;
    let mut length = input.len() / 2;
    while length > 0 && left > 0 {
        let mut at = 0;
        while at < input.len() && left > 0 {
            let mut smaller = input.clone();
            smaller.drain(at..(at + length).min(smaller.len()));
            left -= 1;
            if fault(target, &smaller).is_some() {
                input = smaller;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    input
}

fn told(bytes: &[u8]) -> String {
    let mut text = format!("left of it, in hex: {}", to_hex(bytes));
    // Writing to a string does not fail.
    let _ = write!(text, "\nas text: {:?}", String::from_utf8_lossy(bytes));
    text
}

/// Ends the process, with the input at fault, when one input takes too long: nothing else ends a loop.
struct Watch(Arc<Mutex<bool>>);

impl Watch {
    fn over(name: &'static str, now: &Arc<Mutex<(Instant, Vec<u8>)>>) -> Self {
        let (over, now) = (Arc::new(Mutex::new(false)), Arc::clone(now));
        let ended = Arc::clone(&over);
        std::thread::spawn(move || {
            while !*ended.lock().unwrap_or_else(PoisonError::into_inner) {
                std::thread::sleep(Duration::from_millis(200));
                let current = now.lock().unwrap_or_else(PoisonError::into_inner);
                let stopped = *ended.lock().unwrap_or_else(PoisonError::into_inner);
                if !stopped && current.0.elapsed() > TOO_LONG {
                    eprintln!("{name} does not come to an end with this input\n{}", told(&current.1));
                    std::process::exit(1);
                }
            }
        });
        Self(over)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
