//! Whose turn it is to write, of a connection's requests (RFC 9218 section 10). QUIC orders by urgency what it has been given to send. But
//! what it may be given is bounded, by the client's window and by what is on its way: where room comes, all answers that wait for it
//! are told at once, and whoever writes first takes it. So one that is not among the most urgent asks first, and is let write when
//! all that are awake have got as far as they could. Nobody waits for one that cannot write: its client may have closed its window.

use std::collections::{BTreeMap, VecDeque};

use crate::http2::priority::{LEVELS, Urgency};

/// Most requests of a connection that have not come, and of which it is remembered how urgent they are to be.
const AHEAD: usize = 64;

/// The open requests of a connection, by the numbers of their streams. `W` wakes the one that it belongs to.
#[derive(Debug)]
pub struct Turns<W> {
    open: BTreeMap<u64, Request<W>>,
    /// How many are open, by urgency.
    counts: [usize; LEVELS],
    /// How often any was written, by urgency.
    writes: [u64; LEVELS],
    /// How urgent requests are to be that have not come.
    ahead: VecDeque<(u64, Urgency)>,
    /// Counts those that asked.
    asked: u64,
}

#[derive(Debug)]
struct Request<W> {
    urgency: Urgency,
    /// Its client has said so in a frame of its own, which counts for more than a field (section 7).
    told: bool,
    turn: Turn<W>,
    /// How often more urgent ones were written when it was last asked whether it was passed over.
    before: u64,
}

#[derive(Debug)]
enum Turn<W> {
    No,
    /// With its place among the equally urgent.
    Asked(u64, W),
    Given,
}

impl<W> Default for Turns<W> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), counts: [0; LEVELS], writes: [0; LEVELS], ahead: VecDeque::new(), asked: 0 }
    }
}

impl<W> Turns<W> {
    /// A request has come.
    pub fn open(&mut self, stream: u64) {
        let told = self.ahead.iter().position(|(known, _)| *known == stream).and_then(|at| self.ahead.remove(at));
        let urgency = told.map(|(_, urgency)| urgency).unwrap_or_default();
        self.close(stream);
        self.count(urgency, 1);
        self.open.insert(stream, Request { urgency, told: told.is_some(), turn: Turn::No, before: 0 });
        self.passed_over(stream);
    }

    /// It is over.
    pub fn close(&mut self, stream: u64) {
        if let Some(request) = self.open.remove(&stream) {
            self.count(request.urgency, -1);
        }
    }

    /// It says in a field how urgent it is.
    pub fn says(&mut self, stream: u64, urgency: Urgency) {
        if self.open.get(&stream).is_some_and(|request| !request.told) {
            self.change(stream, urgency);
        }
    }

    /// It is by now so urgent, or will be where it has not come: those below `next` have.
    pub fn update(&mut self, stream: u64, urgency: Urgency, next: u64) {
        if let Some(request) = self.open.get_mut(&stream) {
            request.told = true;
            self.change(stream, urgency);
        } else if stream >= next {
            self.ahead.retain(|(known, _)| *known != stream);
            if self.ahead.len() >= AHEAD {
                self.ahead.pop_front();
            }
            self.ahead.push_back((stream, urgency));
        }
    }

    /// How urgent it is.
    pub fn urgency(&self, stream: u64) -> Urgency {
        self.open.get(&stream).map(|request| request.urgency).unwrap_or_default()
    }

    /// Whether it may write now, until it can write no more. If not, it has asked, and is to be woken when it may.
    pub fn take(&mut self, stream: u64, waker: impl FnOnce() -> W) -> bool {
        let Some(request) = self.open.get_mut(&stream) else { return true };
        let first = self.counts.iter().take(request.urgency.level()).all(|count| *count == 0);
        if first || matches!(request.turn, Turn::Given) {
            request.turn = Turn::No;
            return true;
        }
        let place = if let Turn::Asked(place, _) = request.turn { place } else { self.asked };
        self.asked += 1;
        request.turn = Turn::Asked(place, waker());
        false
    }

    /// Gives a turn to the most urgent of those that asked. To be called when nobody who may write is about to.
    pub fn give(&mut self) -> Option<W> {
        let asked = self.open.values_mut().filter_map(|request| match request.turn {
            Turn::Asked(place, _) => Some(((request.urgency, place), &mut request.turn)),
            Turn::No | Turn::Given => None,
        });
        let (_, turn) = asked.min_by_key(|(order, _)| *order)?;
        match std::mem::replace(turn, Turn::Given) {
            Turn::Asked(_, waker) => Some(waker),
            Turn::No | Turn::Given => None,
        }
    }

    /// Some of it was written.
    pub fn wrote(&mut self, stream: u64) {
        let level = self.urgency(stream).level();
        if let Some(writes) = self.writes.get_mut(level) {
            *writes = writes.wrapping_add(1);
        }
    }

    /// Whether more urgent ones were written since this was last asked: they may have had the room that it waits for.
    pub fn passed_over(&mut self, stream: u64) -> bool {
        let before = self.writes.iter().take(self.urgency(stream).level()).fold(0, |sum: u64, n| sum.wrapping_add(*n));
        let request = self.open.get_mut(&stream);
        request.is_some_and(|request| std::mem::replace(&mut request.before, before) != before)
    }

    fn change(&mut self, stream: u64, urgency: Urgency) {
        if let Some(request) = self.open.get_mut(&stream) {
            let before = std::mem::replace(&mut request.urgency, urgency);
            self.count(before, -1);
            self.count(urgency, 1);
        }
    }

    fn count(&mut self, urgency: Urgency, by: isize) {
        if let Some(count) = self.counts.get_mut(urgency.level()) {
            *count = count.saturating_add_signed(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &str) -> Urgency {
        Urgency::of(field.as_bytes())
    }

    /// Requests 0, 4, 8… with these fields.
    fn open(fields: &[&str]) -> Turns<u64> {
        let mut turns = Turns::default();
        for (stream, field) in (0..).step_by(4).zip(fields) {
            turns.open(stream);
            turns.says(stream, of(field));
        }
        turns
    }

    /// Who is given turns, in order, when all of these asked.
    fn given(turns: &mut Turns<u64>, streams: &[u64]) -> Vec<u64> {
        let mut first: Vec<u64> = streams.iter().copied().filter(|stream| turns.take(*stream, || *stream)).collect();
        while let Some(stream) = turns.give() {
            assert!(turns.take(stream, || stream), "{stream} was given its turn");
            first.push(stream);
        }
        first
    }

    #[test]
    fn the_most_urgent_go_first_and_equals_in_the_order_in_which_they_asked() {
        let mut turns = open(&["u=7", "", "u=1", "u=5", "u=1"]);
        assert_eq!(given(&mut turns, &[0, 4, 8, 12]), [8, 4, 12, 0]);
        assert_eq!(given(&mut turns, &[4, 0, 12]), [4, 12, 0], "those that are blocked hold nobody up");
        assert_eq!(given(&mut turns, &[16, 8]), [16, 8]);
        assert_eq!(turns.give(), None);
        let mut turns = open(&["", "", "u=0"]);
        assert_eq!(given(&mut turns, &[4, 0]), [4, 0]);
        turns.close(8);
        assert!(turns.take(4, || 4) && turns.take(0, || 0), "nobody is more urgent");
    }

    #[test]
    fn a_frame_counts_for_more_than_a_field_before_and_after_it() {
        let mut turns = open(&["u=2", ""]);
        turns.update(4, of("u=0"), 8);
        turns.says(4, of("u=7"));
        turns.update(8, of("u=1"), 8);
        turns.update(12, of("u=6"), 8);
        turns.update(12, of("u=5"), 8);
        for stream in [8, 12] {
            turns.open(stream);
            turns.says(stream, of("u=0"));
        }
        assert_eq!([0, 4, 8, 12].map(|stream| turns.urgency(stream).level()), [2, 0, 1, 5]);
        assert_eq!(given(&mut turns, &[12, 0, 8, 4]), [4, 8, 0, 12]);
    }

    #[test]
    fn one_that_waits_may_become_more_urgent() {
        let mut turns = open(&["u=1", "u=6", "u=5"]);
        assert!(!turns.take(4, || 4) && !turns.take(8, || 8));
        turns.update(4, of("u=2"), 12);
        assert_eq!((turns.give(), turns.give()), (Some(4), Some(8)));
    }

    #[test]
    fn one_that_is_passed_over_is_told_so() {
        let mut turns = open(&["u=1", "u=6"]);
        turns.wrote(4);
        assert!(!turns.passed_over(4), "none that is more urgent was written");
        turns.wrote(0);
        assert!(turns.passed_over(4) && !turns.passed_over(4) && !turns.passed_over(0));
        turns.open(8);
        assert!(!turns.passed_over(8), "that was before it");
    }

    #[test]
    fn what_is_over_leaves_nothing_behind_and_what_is_to_come_is_bounded() {
        let mut turns = open(&["u=0", ""]);
        assert!(!turns.take(4, || 4));
        turns.close(4);
        assert_eq!(turns.give(), None);
        turns.update(4, of("u=1"), 8);
        assert!(turns.ahead.is_empty(), "it has been");
        for stream in (8..).step_by(4).take(AHEAD + 9) {
            turns.update(stream, of("u=1"), 8);
        }
        assert_eq!(turns.ahead.len(), AHEAD);
        turns.close(0);
        assert_eq!((turns.open.len(), turns.counts), (0, [0; LEVELS]));
        assert!(turns.take(400, || 400), "nobody knows it");
    }
}
