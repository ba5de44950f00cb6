//! The words whose first candidate has a record, looked through one rule after the other. Beside [`super::classify`] and not
//! within it: the kernel side has half a kilobyte of stack for all functions that call each other, and keeps [`Work`] in a map.

use core::cell::RefCell;
use core::hint::black_box;

use super::probe::{self, Answer};
use super::{
    CHECKED, ClassTable, Found, MAX_PROBES, MAX_WORDS, NOTHING, PROBE_WORDS, RECORD_SHIFT, RowTable, SHADOW, answer,
    classify, lowest_bit, record, row_place, word,
};
use crate::fingerprint::{self, Syn, UNREAD};
use crate::parse::{Frame, Packet};

/// [`classify`] answers this where [`check_pending`] has the answer. No answer has the bit.
pub const PENDING: u64 = 1 << 63;
/// [`check_word`] answers this where a rule asks for the SYN, which has to be read first. No entry is like it.
pub const WANTS_SYN: u64 = u64::MAX;

/// What is left to do for one packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    /// Candidates of each word.
    words: [u64; MAX_WORDS],
    /// The words that are to be looked through, a bit each: no counter, whose every value the verifier would follow.
    live: u64,
    /// The best entry without a record.
    best: u64,
    /// The best shadow entry without a record.
    shadow: u64,
    /// The SYN, once somebody asked for it.
    pub syn: Syn,
}

impl Default for Work {
    fn default() -> Self {
        Self { words: [0; MAX_WORDS], live: 0, best: NOTHING, shadow: NOTHING, syn: Syn::default() }
    }
}

/// Takes what [`classify`] leaves to do.
pub trait Rest {
    /// The candidates of word number `w`.
    fn put(&self, w: u64, word: u64);
    /// These words were put, a bit each; the best entries without them.
    fn begin(&self, live: u64, best: u64, shadow: u64);
}

impl Rest for RefCell<Work> {
    fn put(&self, w: u64, word: u64) {
        self.borrow_mut().put(w, word);
    }

    fn begin(&self, live: u64, best: u64, shadow: u64) {
        self.borrow_mut().begin(live, best, shadow);
    }
}

impl Work {
    /// As [`Rest::put`].
    #[inline(always)]
    pub fn put(&mut self, w: u64, word: u64) {
        self.words[place(w)] = word;
    }

    /// As [`Rest::begin`].
    #[inline(always)]
    pub fn begin(&mut self, live: u64, best: u64, shadow: u64) {
        (self.live, self.best, self.shadow) = (live, best, shadow);
        self.syn.state = UNREAD;
    }
}

impl Work {
    /// Takes what [`check_word`] found into account; 1 where the SYN has to be read first.
    #[inline(always)]
    pub fn take(&mut self, entry: u64) -> u32 {
        if entry == WANTS_SYN {
            return 1;
        }
        if entry & SHADOW != 0 {
            self.shadow = if entry < self.shadow { entry } else { self.shadow };
        } else {
            self.best = if entry < self.best { entry } else { self.best };
        }
        0
    }

    /// The words that are left.
    #[inline(always)]
    pub const fn live(&self) -> u64 {
        self.live
    }

    /// As [`Found::of`] reads it, when all words were looked through.
    #[inline(always)]
    pub const fn answer(&self) -> u64 {
        answer(self.best, self.shadow)
    }
}

/// Place of a word. The mask is for the verifier; the compiler knows that no bit has a larger number, and would leave it out.
#[inline(always)]
fn place(w: u64) -> usize {
    (black_box(w) & (MAX_WORDS as u64 - 1)) as usize
}

/// Looks through all words. `word` is [`check_word`], which the kernel side calls as a function of its own: it says whether
/// the SYN has to be read first.
///
/// Of each loop here, and of those that it leads to, one way goes on and all others end: ways that meet again in a loop are
/// more than the verifier keeps.
#[inline(always)]
pub fn check_pending(live: u64, word: impl Fn(u64) -> u32) -> bool {
    let mut live = live;
    let mut visited = 0;
    while visited < MAX_WORDS {
        if live == 0 {
            break;
        }
        if word(lowest_bit(live)) != 0 {
            return false;
        }
        live &= live - 1;
        visited += 1;
    }
    true
}

/// Entry of the first rule in word number `w` that holds, or `NOTHING`; [`WANTS_SYN`] where the SYN has to be read first.
/// `rule` is [`check_rule`].
#[inline(always)]
pub fn check_word(rows: &RowTable, work: &Work, w: u64, rule: impl Fn(u64) -> u32) -> u64 {
    let mut left = work.words[place(w)];
    let mut visited = 0;
    while visited < 64 {
        if left == 0 {
            break;
        }
        let entry = word(rows, row_place::ENTRY as u64 + w * 64 + lowest_bit(left));
        let holds = rule(entry);
        if holds != NO {
            return if holds == WANTS { WANTS_SYN } else { entry };
        }
        left &= left - 1;
        visited += 1;
    }
    NOTHING
}

/// Whether the rule of an entry holds, an [`Answer`].
#[inline(always)]
pub fn check_rule<F: Frame + ?Sized>(frame: &F, packet: &Packet, rows: &RowTable, entry: u64, syn: &Syn) -> u32 {
    if entry & CHECKED == 0 {
        return YES;
    }
    let Some(first) = record::holds(frame, packet, rows, (entry >> RECORD_SHIFT) & 0xfff) else { return NO };
    if first == 0 {
        return YES;
    }
    let mut asked = 0;
    // Not unrolled: each copy would take stack of its own.
    while black_box(asked) < MAX_PROBES as u64 {
        let answer = probe::ask(frame, packet, rows, first + asked * PROBE_WORDS as u64, syn) as u32;
        if answer != YES_SO_FAR {
            return answer;
        }
        asked += 1;
    }
    NO
}

const NO: u32 = Answer::No as u32;
const YES: u32 = Answer::Yes as u32;
const YES_SO_FAR: u32 = Answer::YesSoFar as u32;
const WANTS: u32 = Answer::WantsSyn as u32;

/// All of it in one piece, as the host runs it.
pub fn find<F: Frame + ?Sized>(frame: &F, packet: &Packet, classes: &ClassTable, rows: &RowTable) -> Found {
    let rest = RefCell::new(Work::default());
    let found = classify(packet, classes, rows, &rest);
    if found != PENDING {
        return Found::of(found);
    }
    let mut work = rest.into_inner();
    loop {
        let mut next = work;
        let shared = RefCell::new(&mut next);
        let rule = |entry| check_rule(frame, packet, rows, entry, &work.syn);
        let done = check_pending(work.live, |w| shared.borrow_mut().take(check_word(rows, &work, w, rule)));
        if done {
            return Found::of(next.answer());
        }
        fingerprint::read(frame, packet, &mut work.syn);
    }
}
