//! Blocks of requests (RFC 7541 section 6). A block is always read to its end, also where its message is of no use: those that follow
//! refer to what it says.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::{TABLE, TABLE_SIZE};
use crate::fields::field::{Field, counts};
use crate::fields::message::{Head, Header, take_trailer};
use crate::fields::text::prefixed;
use crate::fields::{Refused, huffman};

/// A text in Huffman's code becomes at most so many times as long: its shortest codes have five bits.
const GROWTH: usize = 2;
/// Fields that count for so many times more than is taken are no mistake: a byte may refer to a field as large as the table.
const BOMB: u64 = 4;
/// Fields of the static table; those of the other follow.
const FIXED: usize = 61;

/// What a connection's blocks have said so far.
#[derive(Debug)]
pub struct Decoder {
    /// The dynamic table, the newest first: fields, and what each counts for.
    entries: VecDeque<(Field, usize)>,
    size: usize,
    /// What the client lets it have, up to what it was offered.
    most: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE_SIZE }
    }
}

impl Decoder {
    /// Reads a request's header, whose fields together count for no more than `most` (RFC 9113 section 10.5.1).
    ///
    /// # Errors
    /// It cannot be read, is too long, or is malformed.
    pub fn header(&mut self, block: &[u8], most: u64) -> Result<Head, Refused> {
        let mut header = Header::default();
        self.read(block, most, |field| header.take(field))?;
        header.finish()
    }

    /// Reads trailers.
    ///
    /// # Errors
    /// As for a header.
    pub fn trailers(&mut self, block: &[u8], most: u64) -> Result<HeaderMap, Refused> {
        let mut headers = HeaderMap::new();
        self.read(block, most, |field| take_trailer(&mut headers, field))?;
        Ok(headers)
    }

    /// Reads a block that is of no use, whose fields should count for no more than `most`.
    ///
    /// # Errors
    /// It cannot be read, or is far too long.
    pub fn skip(&mut self, block: &[u8], most: u64) -> Result<(), Refused> {
        match self.read(block, most, |_| Ok(())) {
            Err(Refused::TooLong) => Ok(()),
            read => read,
        }
    }

    /// Hands each field on until one is refused.
    fn read(
        &mut self,
        block: &[u8],
        most: u64,
        mut take: impl FnMut(Field) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut reader = Reader { block, at: 0, text: BytesMut::new() };
        let mut name = Vec::new();
        let (mut counted, mut outcome) = (0, Ok(()));
        while reader.at < block.len() {
            let Some((field, counts)) = self.line(&mut reader, &mut name).ok_or(Refused::Unreadable)? else { continue };
            counted += counts as u64;
            if counted > most.saturating_mul(BOMB) {
                return Err(Refused::Bomb);
            }
            if outcome.is_ok() {
                outcome = if counted > most { Err(Refused::TooLong) } else { take(field) };
            }
        }
        outcome
    }

    /// The next line, and what it counts for, or that the table has another size. None where it cannot be read.
    #[expect(clippy::option_option, reason = "a line that cannot be read, and one that is no field")]
    fn line(&mut self, reader: &mut Reader<'_>, name: &mut Vec<u8>) -> Option<Option<(Field, usize)>> {
        let begins = reader.at == 0;
        let first = *reader.block.get(reader.at)?;
        let (bits, kept) = match first {
            // Indexed (section 6.1).
            0x80.. => {
                let (field, counts) = self.field(reader.number(7)?)?;
                return Some(Some((field.clone(), counts)));
            }
            0x40.. => (6, true),
            // The table has another size: before all fields, twice at most (section 4.2).
            0x20.. => {
                if !begins && !reader.resized() {
                    return None;
                }
                self.most = Some(reader.number(5)?).filter(|size| *size <= TABLE_SIZE)?;
                self.evict(0);
                return Some(None);
            }
            _ => (4, false),
        };
        // A literal, that is kept or not (sections 6.2.1 to 6.2.3).
        let index = reader.number(bits)?;
        if index == 0 {
            name.clear();
            reader.text(name)?;
        }
        let value = reader.value(kept)?;
        let field =
            if index == 0 { Field::said(name, value.clone()) } else { self.field(index)?.0.with(value.clone()) };
        let counts = counts(field.name().len(), value.len());
        if kept {
            self.evict(counts);
            if counts <= self.most {
                self.entries.push_front((field.clone(), counts));
                self.size += counts;
            }
        }
        Some(Some((field, counts)))
    }

    /// The field of an index.
    fn field(&self, index: usize) -> Option<(&Field, usize)> {
        let index = index.checked_sub(1)?;
        match index.checked_sub(FIXED) {
            None => Some((TABLE.get(index)?, TABLE.counts(index))),
            Some(index) => self.entries.get(index).map(|(field, counts)| (field, *counts)),
        }
    }

    /// Makes room for what counts for so much.
    fn evict(&mut self, counts: usize) {
        while self.size + counts > self.most
            && let Some((_, freed)) = self.entries.pop_back()
        {
            self.size -= freed;
        }
    }
}

struct Reader<'b> {
    block: &'b [u8],
    at: usize,
    /// Where values are decoded to that no table keeps.
    text: BytesMut,
}

impl Reader<'_> {
    /// Whether all that came so far are new sizes of the table.
    fn resized(&self) -> bool {
        let Some(so_far) = self.block.get(..self.at) else { return false };
        // The first one says how long it is.
        matches!(so_far.first(), Some(0x20..0x40)) && prefixed(so_far, 0, 5).is_some_and(|(_, end)| end == self.at)
    }

    fn number(&mut self, bits: u32) -> Option<usize> {
        let (number, at) = prefixed(self.block, self.at, bits)?;
        self.at = at;
        Some(number)
    }

    /// The bytes of the next text, and whether they are in Huffman's code.
    fn coded(&mut self) -> Option<(&[u8], bool)> {
        let coded = *self.block.get(self.at)? & 0x80 != 0;
        let length = self.number(7)?;
        let text = self.block.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some((text, coded))
    }

    /// Puts the next text behind what is there.
    fn text(&mut self, out: &mut Vec<u8>) -> Option<()> {
        match self.coded()? {
            (text, true) => huffman::decode(text, out),
            (text, false) => {
                out.extend_from_slice(text);
                Some(())
            }
        }
    }

    /// The next text. One that a table keeps has its own place, so that nothing else is kept with it.
    fn value(&mut self, kept: bool) -> Option<Bytes> {
        if kept {
            let mut text = Vec::new();
            self.text(&mut text)?;
            text.shrink_to_fit();
            return Some(text.into());
        }
        let mut text = std::mem::take(&mut self.text);
        if text.capacity() == 0 {
            // Once, for all that is behind.
            text.reserve((self.block.len() - self.at) * GROWTH);
        }
        match self.coded()? {
            (coded, true) => huffman::decode(coded, &mut text)?,
            (plain, false) => text.extend_from_slice(plain),
        }
        let value = text.split().freeze();
        self.text = text;
        Some(value)
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
