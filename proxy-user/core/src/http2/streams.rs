//! The streams of one connection by their numbers (RFC 9113 section 5.1): which are open, which are over, which have never been.

use std::collections::VecDeque;

use super::{Broken, Code};

/// Streams that we ended before their client did: what it had sent before it knew is passed over.
const CUT_OFF: usize = 256;

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// An open stream.
    Open(T),
    /// One that we ended, whose client may not know yet.
    CutOff,
    /// One that is over.
    Over,
    /// One that may never have been and will not be, as a later one was (section 5.1.1).
    Passed,
    /// None yet.
    Idle,
}

/// The streams, and something of each that is open.
#[derive(Debug)]
pub struct Streams<T> {
    /// In the order of their numbers.
    open: Vec<(u32, T)>,
    cut_off: VecDeque<u32>,
    last: u32,
    /// Numbers were left out below the last one.
    gaps: bool,
}

impl<T> Default for Streams<T> {
    fn default() -> Self {
        Self { open: Vec::new(), cut_off: VecDeque::new(), last: 0, gaps: false }
    }
}

impl<T> Streams<T> {
    /// The highest number that a client has used.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The open ones.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.open.iter().map(|(_, stream)| stream)
    }

    fn place(&self, number: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&number, |(number, _)| *number)
    }

    /// What a number stands for.
    pub fn find(&self, number: u32) -> Found<&T> {
        if let Some((_, stream)) = self.place(number).ok().and_then(|place| self.open.get(place)) {
            Found::Open(stream)
        } else if number > self.last || number.is_multiple_of(2) {
            // A server opens none, so that even ones stay as they are.
            Found::Idle
        } else if self.cut_off.contains(&number) {
            Found::CutOff
        } else if self.gaps && number < self.last {
            Found::Passed
        } else {
            Found::Over
        }
    }

    /// The client uses a number for the first time (section 5.1.1).
    ///
    /// # Errors
    /// It is none of a client's.
    pub fn begin(&mut self, number: u32) -> Result<(), Broken> {
        if number.is_multiple_of(2) || number <= self.last {
            return Err(Broken::rule(Code::ProtocolError, "a stream whose number may not be"));
        }
        self.gaps |= number > self.last + 2;
        self.last = number;
        Ok(())
    }

    /// The stream that was begun last is open.
    pub fn open(&mut self, stream: T) {
        self.open.push((self.last, stream));
    }

    /// It is over; `cut_off` where we have ended it and the client has not.
    pub fn close(&mut self, number: u32, cut_off: bool) -> Option<T> {
        if cut_off {
            if self.cut_off.len() >= CUT_OFF {
                self.cut_off.pop_front();
            }
            self.cut_off.push_back(number);
        }
        let (_, stream) = self.place(number).ok().map(|place| self.open.remove(place))?;
        if self.open.is_empty() {
            // An idle connection holds no room for them.
            self.open = Vec::new();
        }
        Some(stream)
    }

    /// All that are open, which are over.
    pub fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.open).into_iter().map(|(_, stream)| stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up() {
        let mut streams = Streams::default();
        assert_eq!(streams.find(1), Found::Idle);
        for number in [1, 5, 7] {
            streams.begin(number).unwrap();
            streams.open(number);
        }
        assert!(streams.begin(7).is_err() && streams.begin(3).is_err() && streams.begin(8).is_err());
        let found = |streams: &Streams<u32>| [1, 2, 3, 5, 7, 8, 9].map(|number| word(streams.find(number)));
        assert_eq!(found(&streams), ["open", "idle", "passed", "open", "open", "idle", "idle"]);
        assert_eq!(
            (streams.close(5, true), streams.close(1, false), streams.close(3, false)),
            (Some(5), Some(1), None)
        );
        assert_eq!(found(&streams), ["passed", "idle", "passed", "cut off", "open", "idle", "idle"]);
        assert_eq!((streams.len(), streams.last(), streams.iter().count()), (1, 7, 1));
        streams.close(7, false);
        assert_eq!(streams.find(7), Found::Over);
        streams.begin(9).unwrap();
        streams.open(9);
        assert_eq!(streams.take().collect::<Vec<_>>(), [9]);
        assert!(streams.is_empty());
    }

    #[test]
    fn those_cut_off_are_forgotten_in_time() {
        let mut streams = Streams::<()>::default();
        for number in (1..1_000).step_by(2) {
            streams.begin(number).unwrap();
            streams.close(number, true);
        }
        assert_eq!((streams.find(999), streams.find(1), streams.cut_off.len()), (Found::CutOff, Found::Over, CUT_OFF));
    }

    fn word(found: Found<&u32>) -> &'static str {
        match found {
            Found::Open(_) => "open",
            Found::CutOff => "cut off",
            Found::Over => "over",
            Found::Passed => "passed",
            Found::Idle => "idle",
        }
    }
}
