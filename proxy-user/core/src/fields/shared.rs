//! The fields of a header that came before: for all messages with the same ones, and never changed.

use std::sync::OnceLock;

use bytes::BytesMut;
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
    /// As HTTP/1 has them.
    lines: Written,
    /// As QPACK has them, when they were first written so.
    block: OnceLock<Written>,
}

/// Fields one behind the other as they are sent.
struct Written {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Written {
    /// These, each as `put` writes it.
    fn of<B: Default + AsRef<[u8]> + Into<Vec<u8>>>(
        list: &[(HeaderName, HeaderValue)],
        put: impl Fn(&HeaderName, &HeaderValue, &mut B),
    ) -> Self {
        let mut bytes = B::default();
        let write = |(name, value): &(HeaderName, HeaderValue)| {
            put(name, value, &mut bytes);
            bytes.as_ref().len()
        };
        let ends = list.iter().map(write).collect();
        Self { bytes: bytes.into(), ends }
    }
}

impl Shared {
    /// These; none where there are too many.
    pub(crate) fn of(fields: &Fields) -> Option<Self> {
        if fields.len() > MOST_SHARED {
            return None;
        }
        let list: Vec<_> = fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let lines = Written::of(&list, |name, value, out| put_line(out, name, value));
        Some(Self { list, special: fields.special(), lines, block: OnceLock::new() })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Writes the lines of those that are not left out.
    pub(super) fn put_lines(&self, out: &mut Vec<u8>, left_out: impl Fn(usize, &HeaderName) -> bool) {
        self.put(&self.lines, left_out, |bytes| out.extend_from_slice(bytes));
    }

    /// Writes those that are not left out as QPACK has them, each of which `put` writes alike each time.
    pub(super) fn put_block(
        &self,
        out: &mut BytesMut,
        left_out: impl Fn(usize) -> bool,
        put: impl Fn(&HeaderName, &HeaderValue, &mut BytesMut),
    ) {
        let block = self.block.get_or_init(|| Written::of(&self.list, put));
        self.put(block, |nth, _| left_out(nth), |bytes| out.extend_from_slice(bytes));
    }

    /// Puts those that are not left out, as many at once as stand beside each other.
    fn put(&self, written: &Written, left_out: impl Fn(usize, &HeaderName) -> bool, mut put: impl FnMut(&[u8])) {
        let mut put = |from, to| put(written.bytes.get(from..to).unwrap_or_default());
        let (mut from, mut begin) = (0, 0);
        for (nth, ((name, _), end)) in self.list.iter().zip(&written.ends).enumerate() {
            if left_out(nth, name) {
                put(from, begin);
                from = *end;
            }
            begin = *end;
        }
        put(from, begin);
    }
}
