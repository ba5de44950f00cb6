//! The header fields of a message in the order in which they came. There are few of them, so that looking at each name is less work
//! than a hash of the one that is asked for, and a list is less to make, to move and to copy than a table.
//!
//! Those of a header that came before are not even copied: they stay where they are remembered, and each message has its own word
//! on which of them are gone.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::shared::Shared;
use crate::special::Special;

/// Fields that a proxy adds to a header: there is room for them, so that the list does not have to grow for each message.
pub(crate) const ADDED: usize = 6;

/// Fields by their names, several with the same one among them.
///
/// To look one up takes a comparison for each field. How many there may be is for whoever reads them from outside to bound.
#[derive(Clone, Default)]
pub struct Fields {
    /// Those of a header that is remembered, in front of the others.
    shared: Option<Arc<Shared>>,
    /// Which of these are gone, a bit each.
    gone: u32,
    special: Special,
    list: Vec<(HeaderName, HeaderValue)>,
}

/// A field's name as it may be given.
pub trait IntoName {
    /// The name.
    fn into_name(self) -> HeaderName;
}

impl IntoName for HeaderName {
    fn into_name(self) -> HeaderName {
        self
    }
}

impl IntoName for &HeaderName {
    fn into_name(self) -> HeaderName {
        self.clone()
    }
}

impl IntoName for &'static str {
    /// # Panics
    /// It is none, or is not in lower case.
    fn into_name(self) -> HeaderName {
        HeaderName::from_static(self)
    }
}

/// A field's name as it may be asked for.
pub trait Name {
    /// Whether it is this one.
    fn is(&self, name: &HeaderName) -> bool;
}

impl Name for HeaderName {
    fn is(&self, name: &HeaderName) -> bool {
        self == name
    }
}

impl Name for str {
    fn is(&self, name: &HeaderName) -> bool {
        name.as_str().eq_ignore_ascii_case(self)
    }
}

impl Name for String {
    fn is(&self, name: &HeaderName) -> bool {
        self.as_str().is(name)
    }
}

impl<N: Name + ?Sized> Name for &N {
    fn is(&self, name: &HeaderName) -> bool {
        (*self).is(name)
    }
}

impl Fields {
    /// None, and no room.
    pub const fn new() -> Self {
        Self { shared: None, gone: 0, special: Special::empty(), list: Vec::new() }
    }

    /// Room for so many.
    pub fn with_capacity(fields: usize) -> Self {
        Self { list: Vec::with_capacity(fields), ..Self::new() }
    }

    /// Those that are remembered, with room for what a proxy adds.
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { special: shared.special, list: Vec::with_capacity(ADDED), shared: Some(shared), gone: 0 }
    }

    /// How many there are, those of the same name one by one.
    pub fn len(&self) -> usize {
        self.shared().len() - self.gone.count_ones() as usize + self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which special ones there are. One that was taken away or changed may still be among them.
    pub fn special(&self) -> Special {
        self.special
    }

    /// The first value of this name.
    pub fn get(&self, name: impl Name) -> Option<&HeaderValue> {
        self.iter().find_map(|(own, value)| name.is(own).then_some(value))
    }

    /// The same of a field that is special in this way: it is not looked for where nothing says that there is one.
    pub fn get_special(&self, special: Special, name: impl Name) -> Option<&HeaderValue> {
        if self.special.has(special) { self.get(name) } else { None }
    }

    /// All values of this name, in their order.
    pub fn get_all(&self, name: impl Name) -> impl DoubleEndedIterator<Item = &HeaderValue> {
        self.iter().filter_map(move |(own, value)| name.is(own).then_some(value))
    }

    /// Whether there is one of this name.
    pub fn contains_key(&self, name: impl Name) -> bool {
        self.get(name).is_some()
    }

    /// Puts a field in the place of all of its name, behind the others.
    pub fn insert(&mut self, name: impl IntoName, value: HeaderValue) {
        let name = name.into_name();
        let special = Special::one(&name, &value);
        if self.may_have(special) {
            self.retain(|own, _| *own != name);
        }
        self.append_known(name, value, special);
    }

    /// Puts a field behind the others, of which some may have its name.
    pub fn append(&mut self, name: impl IntoName, value: HeaderValue) {
        let name = name.into_name();
        let special = Special::one(&name, &value);
        self.append_known(name, value, special);
    }

    /// The same where it is known what it is.
    pub(crate) fn append_known(&mut self, name: HeaderName, value: HeaderValue, special: Special) {
        self.special |= special;
        self.list.push((name, value));
    }

    /// Puts a field behind the others where none has its name.
    pub fn insert_missing(&mut self, name: impl IntoName, value: impl FnOnce() -> HeaderValue) {
        let name = name.into_name();
        if !self.may_have(Special::of(&name)) || !self.contains_key(&name) {
            self.append(name, value());
        }
    }

    /// Whether there may be a field that is special in this way or not at all: of what is special there is none where nothing says so.
    fn may_have(&self, special: Special) -> bool {
        special.is_empty() || self.special.has(special)
    }

    /// Takes all fields of this name away; the first one's value.
    pub fn remove(&mut self, name: impl Name) -> Option<HeaderValue> {
        let first = self.get(&name).cloned()?;
        self.retain(|own, _| !name.is(own));
        Some(first)
    }

    /// Keeps those of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
        let mut gone = self.gone;
        for (nth, (name, value)) in self.shared().iter().enumerate() {
            if gone >> nth & 1 == 0 && !keep(name, value) {
                gone |= 1 << nth;
            }
        }
        self.gone = gone;
        self.list.retain(|(name, value)| keep(name, value));
    }

    /// All of them, in their order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { shared: self.shared(), gone: self.gone, own: self.list.iter() }
    }

    /// The name of each.
    pub fn keys(&self) -> impl Iterator<Item = &HeaderName> {
        self.iter().map(|(name, _)| name)
    }

    /// The value of each.
    pub fn values(&self) -> impl Iterator<Item = &HeaderValue> {
        self.iter().map(|(_, value)| value)
    }

    /// Writes the line of each field behind what `out` holds, as HTTP/1 has them, but for those that are `left_out`.
    pub fn put_lines(&self, out: &mut Vec<u8>, left_out: impl Fn(&HeaderName) -> bool) {
        if let Some(shared) = &self.shared {
            shared.put_lines(out, |nth, name| self.gone >> nth & 1 != 0 || left_out(name));
        }
        for (name, value) in self.list.iter().filter(|(name, _)| !left_out(name)) {
            put_line(out, name, value);
        }
    }

    /// Writes each field behind what `out` holds as `put` does, which writes the same field alike each time: what is remembered of
    /// QPACK without a dynamic table.
    pub(crate) fn put_block(&self, out: &mut BytesMut, put: impl Fn(&HeaderName, &HeaderValue, &mut BytesMut)) {
        if let Some(shared) = &self.shared {
            shared.put_block(out, |nth| self.gone >> nth & 1 != 0, &put);
        }
        for (name, value) in &self.list {
            put(name, value, out);
        }
    }

    fn shared(&self) -> &[(HeaderName, HeaderValue)] {
        self.shared.as_ref().map_or(&[], |shared| &shared.list)
    }
}

/// Writes a field's line behind what `out` holds, as HTTP/1 has it.
pub fn put_line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The fields of a message, one after the other.
#[derive(Clone, Debug)]
pub struct Iter<'f> {
    /// Those that are remembered and were not passed yet.
    shared: &'f [(HeaderName, HeaderValue)],
    /// Which of these are gone; the lowest bit is the first one's.
    gone: u32,
    own: std::slice::Iter<'f, (HeaderName, HeaderValue)>,
}

impl<'f> Iterator for Iter<'f> {
    type Item = (&'f HeaderName, &'f HeaderValue);

    fn next(&mut self) -> Option<Self::Item> {
        while let [(name, value), rest @ ..] = self.shared {
            let is_gone = self.gone & 1 != 0;
            (self.shared, self.gone) = (rest, self.gone >> 1);
            if !is_gone {
                return Some((name, value));
            }
        }
        self.own.next().map(|(name, value)| (name, value))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if let Some((name, value)) = self.own.next_back() {
            return Some((name, value));
        }
        while let [rest @ .., (name, value)] = self.shared {
            self.shared = rest;
            if self.gone >> rest.len() & 1 == 0 {
                return Some((name, value));
            }
        }
        None
    }
}

impl<'f> IntoIterator for &'f Fields {
    type Item = (&'f HeaderName, &'f HeaderValue);
    type IntoIter = Iter<'f>;

    fn into_iter(self) -> Iter<'f> {
        self.iter()
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl Extend<(HeaderName, HeaderValue)> for Fields {
    fn extend<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(&mut self, fields: I) {
        for (name, value) in fields {
            self.append(name, value);
        }
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let mut all = Self::new();
        all.extend(fields);
        all
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len() + ADDED);
        let mut of_last = None;
        // Of those of one name only the first has it with it.
        for (name, value) in map {
            of_last = name.or(of_last);
            if let Some(name) = &of_last {
                fields.append(name, value);
            }
        }
        fields
    }
}

impl From<&Fields> for HeaderMap {
    fn from(fields: &Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields {
            map.append(name, value.clone());
        }
        map
    }
}

/// The same fields in the same order.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for Fields {}

impl<N: Name> std::ops::Index<N> for Fields {
    type Output = HeaderValue;

    /// The first value of this name.
    ///
    /// # Panics
    /// There is none.
    fn index(&self, name: N) -> &HeaderValue {
        match self.get(name) {
            Some(value) => value,
            None => panic!("there is no such field"),
        }
    }
}

#[cfg(test)]
mod tests;
