//! Static tables: fields by their index, and the index of a field.

use std::sync::OnceLock;

use bytes::Bytes;

use super::field::Field;

/// Bytes of the longest name there is.
const LONGEST: usize = 32;

/// What is found of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// All of it.
    Field(usize),
    /// A field of that name.
    Name(usize),
    /// Not even that.
    Nothing,
}

/// A table of so many fields, counted from 0.
#[derive(Debug)]
pub struct Fixed<const N: usize> {
    texts: &'static [(&'static str, &'static str); N],
    /// Indices in the order of their names' lengths.
    sorted: [u8; N],
    /// Where in it those of a length begin; they end where those of the next do.
    begin: [u8; LONGEST + 2],
    /// As messages have them.
    made: OnceLock<Vec<Field>>,
}

impl<const N: usize> Fixed<N> {
    /// Of these names and values.
    pub const fn new(texts: &'static [(&'static str, &'static str); N]) -> Self {
        let (mut sorted, mut begin) = ([0; N], [0; LONGEST + 2]);
        let (mut place, mut length) = (0, 0);
        while length <= LONGEST {
            begin[length] = place as u8;
            let mut index = 0;
            while index < N {
                if texts[index].0.len() == length {
                    sorted[place] = index as u8;
                    place += 1;
                }
                index += 1;
            }
            length += 1;
        }
        begin[LONGEST + 1] = place as u8;
        Self { texts, sorted, begin, made: OnceLock::new() }
    }

    /// Looks a field up.
    pub fn find(&self, name: &[u8], value: &[u8]) -> Found {
        let bounds = (self.begin.get(name.len()), self.begin.get(name.len() + 1));
        let (Some(begin), Some(end)) = bounds else { return Found::Nothing };
        let mut found = Found::Nothing;
        for index in self.sorted.get(usize::from(*begin)..usize::from(*end)).unwrap_or_default() {
            let index = usize::from(*index);
            let Some((known, with)) = self.texts.get(index) else { continue };
            // Most that are as long begin with another byte.
            if known.as_bytes().first() == name.first() && known.as_bytes() == name {
                if with.as_bytes() == value {
                    return Found::Field(index);
                }
                if found == Found::Nothing {
                    found = Found::Name(index);
                }
            }
        }
        found
    }

    /// The field of an index, if there is one.
    pub fn get(&self, index: usize) -> Option<&Field> {
        let make = |(name, value): &(&'static str, &'static str)| {
            Field::said(name.as_bytes(), Bytes::from_static(value.as_bytes()))
        };
        self.made.get_or_init(|| self.texts.iter().map(make).collect()).get(index)
    }

    /// What it counts for (RFC 7541 section 4.1).
    pub fn counts(&self, index: usize) -> usize {
        self.texts.get(index).map_or(0, |(name, value)| super::field::counts(name.len(), value.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        static TEXTS: [(&str, &str); 5] =
            [(":path", "/"), ("age", "0"), ("date", ""), ("vary", "origin"), ("vary", "accept")];
        static TABLE: Fixed<5> = Fixed::new(&TEXTS);
        for (index, (name, value)) in TEXTS.into_iter().enumerate() {
            assert_eq!(TABLE.find(name.as_bytes(), value.as_bytes()), Found::Field(index), "{name}: {value}");
            let Found::Name(first) = TABLE.find(name.as_bytes(), b"\0") else { panic!("{name}") };
            assert!(TEXTS[first].0 == name && first <= index);
            assert_eq!(TABLE.get(index).unwrap().name(), name.as_bytes());
            assert_eq!(TABLE.counts(index), name.len() + value.len() + 32);
        }
        assert_eq!(TABLE.find(b"x-other", b""), Found::Nothing);
        assert_eq!(TABLE.find(&[b'x'; 400], b""), Found::Nothing);
        assert_eq!(TABLE.find(b"", b""), Found::Nothing);
        assert!(TABLE.get(5).is_none());
    }
}
