//! What was read or written before, by the very bytes that it was made of: clients and origins say much of what they say in each
//! message anew.
//!
//! One memory for a thread, so that connections hold none of it, and of a fixed number of places.

use bytes::Bytes;
use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, WWW_AUTHENTICATE};

use crate::mix::mixed;

/// Whether a field's value is nobody else's, and is not remembered for others: what they say is compared with what is.
pub(crate) fn is_secret(name: &HeaderName) -> bool {
    matches!(*name, AUTHORIZATION | COOKIE | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | SET_COOKIE | WWW_AUTHENTICATE)
}

/// Things by their text, in so many sets of [`WAYS`] places each. Other texts of a set may take a thing's place.
pub(crate) struct Memory<T, const SETS: usize>(Vec<Set<T>>);

/// Places of a set: what comes in each message would never be known if it shared its only place with something that does, too.
const WAYS: usize = 2;

struct Set<T> {
    /// Digests of the texts that were not known here last: what does not come again soon is not worth the memory.
    missed: [u64; WAYS],
    known: [Option<(Bytes, T)>; WAYS],
    /// Which place is given away next.
    next: usize,
}

impl<T, const SETS: usize> Memory<T, SETS> {
    /// Without anything, and without room until something is to be remembered.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// What is remembered by this digest and `is` it, and its place.
    pub(crate) fn find(&self, digest: u64, is: impl Fn(&[u8], &T) -> bool) -> Option<(usize, &T)> {
        let set = Self::set(digest);
        let known = self.0.get(set)?.known.iter().enumerate();
        let mut known = known.filter_map(|(way, known)| known.as_ref().map(|(text, thing)| (way, text, thing)));
        known.find(|(_, text, thing)| is(text, thing)).map(|(way, _, thing)| (set * WAYS + way, thing))
    }

    /// What is remembered in a place, and of which text.
    pub(crate) fn at(&self, place: usize) -> Option<(&[u8], &T)> {
        let (text, thing) = self.0.get(place / WAYS)?.known.get(place % WAYS)?.as_ref()?;
        Some((text, thing))
    }

    /// Whether it is worth to be remembered: it was missed here a short while ago, too.
    pub(crate) fn missed(&mut self, digest: u64) -> bool {
        if self.0.is_empty() {
            self.0.resize_with(SETS, || Set { missed: [0; WAYS], known: [const { None }; WAYS], next: 0 });
        }
        let Some(set) = self.0.get_mut(Self::set(digest)) else { return false };
        if set.missed.contains(&digest) {
            return true;
        }
        set.missed.rotate_right(1);
        set.missed[0] = digest;
        false
    }

    /// Remembers it.
    pub(crate) fn keep(&mut self, text: Bytes, digest: u64, thing: T) {
        let Some(set) = self.0.get_mut(Self::set(digest)) else { return };
        let way = set.known.iter().position(Option::is_none).unwrap_or(set.next % WAYS);
        set.next = way + 1;
        if let Some(place) = set.known.get_mut(way) {
            *place = Some((text, thing));
        }
    }

    /// Texts that are known.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|set| &set.known).flatten().map(|(text, _)| &text[..])
    }

    fn set(digest: u64) -> usize {
        (digest >> 32) as usize % SETS
    }
}

/// What a text is looked up by. Who knows how to make texts share a place makes them be parsed, as without all this.
pub(crate) fn digest(text: &[u8]) -> u64 {
    mixed(text.len() as u64, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest of the first of four sets.
    const fn of_first(digest: u64) -> u64 {
        digest << 34
    }

    #[test]
    fn what_comes_twice_is_remembered_by_all_of_its_text() {
        let mut memory = Memory::<u8, 4>::new();
        let find = |memory: &Memory<u8, 4>, text: &[u8], digest| {
            memory.find(digest, |known, _| known == text).map(|(place, thing)| {
                assert_eq!(memory.at(place), Some((text, thing)));
                *thing
            })
        };
        let (one, two, three) = (of_first(1), of_first(2), of_first(3));
        assert_eq!(find(&memory, b"one", one), None);
        assert_eq!([memory.missed(one), memory.missed(one)], [false, true]);
        memory.keep(Bytes::from_static(b"one"), one, 1);
        assert_eq!(find(&memory, b"one", one), Some(1));
        // The same digest is not enough.
        assert_eq!(find(&memory, b"two", one), None);
        // Two that come in turn find room beside each other; the third takes the place of the first.
        assert_eq!([two, three, two, three].map(|digest| memory.missed(digest)), [false, false, true, true]);
        memory.keep(Bytes::from_static(b"two"), two, 2);
        assert_eq!([find(&memory, b"one", one), find(&memory, b"two", two)], [Some(1), Some(2)]);
        memory.keep(Bytes::from_static(b"three"), three, 3);
        let found = [find(&memory, b"one", one), find(&memory, b"two", two), find(&memory, b"three", three)];
        assert_eq!(found, [None, Some(2), Some(3)]);
        memory.keep(Bytes::from_static(b"one"), one, 1);
        assert_eq!([find(&memory, b"two", two), find(&memory, b"three", three)], [None, Some(3)]);
        // Three that come in turn are never missed twice in a short while.
        assert_eq!([7, 8, 9, 7, 8, 9].map(|digest| memory.missed(of_first(digest))), [false; 6]);
    }

    #[test]
    fn what_is_nobody_elses() {
        for name in
            ["authorization", "cookie", "proxy-authenticate", "proxy-authorization", "set-cookie", "www-authenticate"]
        {
            assert!(is_secret(&HeaderName::from_static(name)), "{name}");
        }
        assert!(!is_secret(&http::header::DATE));
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
