//! The fields of a header that came before: for all messages with the same ones, and never changed.

use http::{HeaderName, HeaderValue};

use super::Fields;
use super::list::put_line;
use crate::special::Special;

/// Fields that are remembered together: a message tells by a bit for each whether it still has it.
pub(crate) const MOST_SHARED: usize = u32::BITS as usize;

/// Fields, and what they are.
pub(crate) struct Shared {
    pub(super) list: Vec<(HeaderName, HeaderValue)>,
    pub(super) special: Special,
    /// Their lines as HTTP/1 has them.
    lines: Vec<u8>,
    /// Where each of these ends.
    ends: Vec<usize>,
}

impl Shared {
    /// These; none where there are too many.
    pub(crate) fn of(fields: &Fields) -> Option<Self> {
        let mut shared = Self { list: Vec::new(), special: fields.special(), lines: Vec::new(), ends: Vec::new() };
        for (name, value) in fields {
            put_line(&mut shared.lines, name, value);
            shared.ends.push(shared.lines.len());
            shared.list.push((name.clone(), value.clone()));
        }
        (shared.list.len() <= MOST_SHARED).then_some(shared)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Writes the lines of those that are not left out, as many at once as stand beside each other.
    pub(super) fn put_lines(&self, out: &mut Vec<u8>, left_out: impl Fn(usize, &HeaderName) -> bool) {
        let mut put = |from, to| out.extend_from_slice(self.lines.get(from..to).unwrap_or_default());
        let (mut from, mut begin) = (0, 0);
        for (nth, ((name, _), end)) in self.list.iter().zip(&self.ends).enumerate() {
            if left_out(nth, name) {
                put(from, begin);
                from = *end;
            }
            begin = *end;
        }
        put(from, begin);
    }
}
