//! Blocks of requests (RFC 7541 section 6). A block is always read to its end, also where its message is of no use: those that follow
//! refer to what it says.

use http::HeaderMap;

use super::dynamic::Dynamic;
use super::{TABLE, TABLE_SIZE};
use crate::fields::Refused;
use crate::fields::field::{Field, counts};
use crate::fields::message::{Head, Header, take_trailer};
use crate::fields::text::{Reader, prefixed, put_plain};

/// Fields that count for so many times more than is taken are no mistake: a byte may refer to a field as large as the table.
const BOMB: u64 = 4;
/// Fields of the static table; those of the other follow.
const FIXED: usize = 61;

/// What a connection's blocks have said so far.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Dynamic<Field>,
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
        let mut reader = Reader::new(block);
        let mut name = Vec::new();
        let (mut counted, mut outcome) = (0, Ok(()));
        while reader.first().is_some() {
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
        let (bits, kept) = match reader.first()? {
            // Indexed (section 6.1).
            0x80.. => {
                let (field, counts) = self.field(reader.number(7)?)?;
                return Some(Some((field.clone(), counts)));
            }
            0x40.. => (6, true),
            // The table has another size: before all fields, twice at most (section 4.2).
            0x20.. => {
                if !may_resize(reader.so_far()) {
                    return None;
                }
                self.table.resize(Some(reader.number(5)?).filter(|size| *size <= TABLE_SIZE)?);
                return Some(None);
            }
            _ => (4, false),
        };
        // A literal, that is kept or not (sections 6.2.1 to 6.2.3).
        let index = reader.number(bits)?;
        if index == 0 {
            name.clear();
            let (text, coded) = reader.text(7)?;
            put_plain(text, coded, name)?;
        }
        let (text, coded) = reader.text(7)?;
        let value = if kept {
            // In its own place: nothing else is to be kept with it.
            let mut value = Vec::new();
            put_plain(text, coded, &mut value)?;
            value.shrink_to_fit();
            value.into()
        } else {
            reader.keep(text, coded)?
        };
        let field =
            if index == 0 { Field::said(name, value.clone()) } else { self.field(index)?.0.with(value.clone()) };
        let counts = counts(field.name().len(), value.len());
        if kept {
            self.table.push(field.clone(), counts);
        }
        Some(Some((field, counts)))
    }

    /// The field of an index.
    fn field(&self, index: usize) -> Option<(&Field, usize)> {
        let index = index.checked_sub(1)?;
        match index.checked_sub(FIXED) {
            None => Some((TABLE.get(index)?, TABLE.counts(index))),
            Some(index) => self.table.get(index),
        }
    }
}

/// Whether the table's size may change behind what was read of a block: nothing, or one such change, which says how long it is.
fn may_resize(so_far: &[u8]) -> bool {
    match so_far.first() {
        None => true,
        Some(first) => {
            matches!(first, 0x20..0x40) && prefixed(so_far, 0, 5).is_some_and(|(_, end)| end == so_far.len())
        }
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
