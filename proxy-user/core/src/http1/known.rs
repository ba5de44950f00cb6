//! What was read before, by the very bytes that it was read from: clients and origins say much of what they say in each message anew.
//!
//! One memory for a thread, so that connections hold none of it, and of a fixed number of places.

use bytes::Bytes;

use crate::mix::mixed;

/// Things by their text. Another text may take a thing's place.
pub(super) struct Memory<T, const PLACES: usize>(Vec<Place<T>>);

struct Place<T> {
    /// Digest of the text that was not known here last: what does not come twice in a row is not worth the memory.
    missed: u64,
    known: Option<(Bytes, T)>,
}

impl<T, const PLACES: usize> Memory<T, PLACES> {
    /// Without anything, and without room until something is to be remembered.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// What was remembered of this text.
    pub(super) fn find(&self, text: &[u8], digest: u64) -> Option<&T> {
        let (known, thing) = self.at(Self::place(digest))?;
        (known == text).then_some(thing)
    }

    /// What is remembered in a place, and of which text.
    pub(super) fn at(&self, place: usize) -> Option<(&[u8], &T)> {
        self.0.get(place)?.known.as_ref().map(|(text, thing)| (&text[..], thing))
    }

    /// Whether it is worth to be remembered: it was not known the last time, either.
    pub(super) fn missed(&mut self, digest: u64) -> bool {
        if self.0.is_empty() {
            self.0.resize_with(PLACES, || Place { missed: 0, known: None });
        }
        self.0.get_mut(Self::place(digest)).is_some_and(|place| std::mem::replace(&mut place.missed, digest) == digest)
    }

    /// Remembers it.
    pub(super) fn keep(&mut self, text: Bytes, digest: u64, thing: T) {
        if let Some(place) = self.0.get_mut(Self::place(digest)) {
            place.known = Some((text, thing));
        }
    }

    /// Whether this text is known.
    #[cfg(test)]
    pub(super) fn knows(&self, text: &[u8]) -> bool {
        self.find(text, digest(text)).is_some()
    }

    /// Where a text of this digest has its place.
    pub(super) fn place(digest: u64) -> usize {
        (digest >> 32) as usize % PLACES
    }
}

/// What a text is looked up by. Who knows how to make texts share a place makes them be parsed, as without all this.
pub(super) fn digest(text: &[u8]) -> u64 {
    mixed(text.len() as u64, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_remembered_by_all_of_its_text() {
        let mut memory = Memory::<u8, 4>::new();
        let text = Bytes::from_static(b"a text");
        assert_eq!(memory.find(&text, 7 << 32), None);
        assert_eq!([memory.missed(7 << 32), memory.missed(7 << 32)], [false, true]);
        memory.keep(text.clone(), 7 << 32, 1);
        assert_eq!(memory.find(&text, 7 << 32), Some(&1));
        // The same digest is not enough, and the place is shared with others.
        assert_eq!(memory.find(b"another", 7 << 32), None);
        assert_eq!([memory.missed(3 << 32), memory.missed(7 << 32), memory.missed(7 << 32)], [false, false, true]);
        memory.keep(Bytes::from_static(b"another"), 3 << 32, 2);
        assert_eq!((memory.find(&text, 7 << 32), memory.find(b"another", 3 << 32)), (None, Some(&2)));
    }

    #[test]
    fn each_byte_counts_in_a_digest() {
        let text = b"0123456789abcdefghi";
        for at in 0..text.len() {
            let mut other = *text;
            other[at] ^= 1;
            assert_ne!(digest(text), digest(&other), "{at}");
        }
        assert_ne!(digest(b"01234567"), digest(b"0123456701234567"));
    }
}
