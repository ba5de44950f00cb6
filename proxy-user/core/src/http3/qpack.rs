//! Blocks of fields as QPACK writes them (RFC 9204 section 4.5), by the static table alone.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use super::Code;
use super::remembered::{self, Rest};
use super::table::TABLE;
use crate::fields::Refused;
use crate::fields::field::{Field, counts};
use crate::fields::fixed::Found;
use crate::fields::message::{Head, Header, take_trailer};
use crate::fields::text::{Reader, prefixed, put_as_is, put_plain, put_prefixed, put_text};

/// What a client is told of a block or a message that cannot be used.
pub fn code(refused: Refused) -> Code {
    match refused {
        Refused::Unreadable => Code::DecompressionFailed,
        Refused::TooLong | Refused::Bomb => Code::ExcessiveLoad,
        Refused::Malformed(_) => Code::MessageError,
    }
}

/// Reads a request's header, whose fields together count for no more than `most` (RFC 9114 section 4.2.2).
///
/// # Errors
/// It cannot be read, is too long, or is malformed.
pub fn header(block: &Bytes, most: u64) -> Result<Head, Refused> {
    let mut header = Header::default();
    let mut reader = Lines::begin(block, most)?;
    while reader.is_pseudo_next()
        && let Some(field) = reader.next()?
    {
        header.take(field)?;
    }
    let rest = Rest::of(reader.rest());
    if let Some((fields, counts)) = rest.as_ref().and_then(Rest::known) {
        reader.count(counts)?;
        header.take_rest(fields);
        return header.finish();
    }
    while let Some(field) = reader.next()? {
        header.take(field)?;
    }
    if let Some(rest) = rest {
        rest.keep(header.headers());
    }
    header.finish()
}

/// Reads trailers.
///
/// # Errors
/// As for a header.
pub fn trailers(block: &Bytes, most: u64) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    let mut reader = Lines::begin(block, most)?;
    while let Some(field) = reader.next()? {
        take_trailer(&mut headers, field)?;
    }
    Ok(headers)
}

/// The fields of a block one after the other, which together count for no more than is allowed.
pub(super) struct Lines<'b> {
    block: &'b Bytes,
    reader: Reader<'b>,
    left: u64,
    name: BytesMut,
}

impl<'b> Lines<'b> {
    /// Behind what stands before the lines of a block, which is to say that it needs nothing of a dynamic table (section 4.5.1).
    fn begin(block: &'b Bytes, most: u64) -> Result<Self, Refused> {
        let mut this = Self::of(block, most);
        this.prefix().ok_or(Refused::Unreadable)?;
        Ok(this)
    }

    /// At the first line of these, before which nothing stands.
    pub(super) fn of(block: &'b Bytes, most: u64) -> Self {
        Self { block, reader: Reader::new(block), left: most, name: BytesMut::new() }
    }

    fn prefix(&mut self) -> Option<()> {
        let inserted = self.reader.number(8)?;
        let negative = self.reader.first()? & 0x80 != 0;
        self.reader.number(7)?;
        (inserted == 0 && !negative).then_some(())
    }

    /// The first byte of the next line; none at the end.
    pub(super) fn first(&self) -> Option<u8> {
        self.reader.first()
    }

    /// What was not read yet.
    fn rest(&self) -> &'b [u8] {
        self.reader.rest()
    }

    /// The next field; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Field>, Refused> {
        if self.first().is_none() {
            return Ok(None);
        }
        let (field, counts) = self.line().ok_or(Refused::Unreadable)?;
        self.count(counts as u64)?;
        Ok(Some(field))
    }

    /// What fields may still count for.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Takes note of what fields count for.
    fn count(&mut self, counts: u64) -> Result<(), Refused> {
        self.left = self.left.checked_sub(counts).ok_or(Refused::TooLong)?;
        Ok(())
    }

    /// Whether the next line has the name of a pseudo-header field of the static table.
    fn is_pseudo_next(&self) -> bool {
        let bits = match self.first() {
            Some(0xc0..) => 6,
            Some(0x50..0x60 | 0x70..0x80) => 4,
            _ => return false,
        };
        let index = prefixed(self.rest(), 0, bits).map(|(index, _)| index);
        index.and_then(|index| TABLE.get(index)).is_some_and(|field| field.name().starts_with(b":"))
    }

    /// The next line, and what it counts for. None where it cannot be read.
    fn line(&mut self) -> Option<(Field, usize)> {
        let start = self.rest();
        let known = match self.first()? {
            // Indexed, of the static table.
            0xc0.. => {
                let index = self.reader.number(6)?;
                return Some((TABLE.get(index)?.clone(), TABLE.counts(index)));
            }
            // A literal with a name of the static table.
            0x50..0x60 | 0x70..0x80 => Some(TABLE.get(self.reader.number(4)?)?),
            // A literal with a name of its own.
            0x20..0x40 => None,
            // Of the dynamic table.
            _ => return None,
        };
        let name = if known.is_none() { self.reader.text(3)? } else { (&[][..], false) };
        let value = self.reader.text(7)?;
        let wire = start.get(..start.len() - self.rest().len())?;
        if !name.1 && !value.1 {
            let value = self.block.slice_ref(value.0);
            return Some(field(known, name.0, value));
        }
        remembered::line(wire, |room| {
            self.name.clear();
            put_plain(name.0, name.1, &mut self.name)?;
            let value = match room {
                Some(room) => {
                    put_plain(value.0, value.1, room)?;
                    room.split().freeze()
                }
                None if value.1 => self.reader.keep(value.0, true)?,
                None => self.block.slice_ref(value.0),
            };
            Some(field(known, &self.name, value))
        })
    }
}

/// A field with a name that is known or said, and what it counts for.
fn field(known: Option<&Field>, name: &[u8], value: Bytes) -> (Field, usize) {
    let length = value.len();
    match known {
        Some(known) => (known.with(value), counts(known.name().len(), length)),
        None => (Field::said(name, value), counts(name.len(), length)),
    }
}

/// Writes what a block begins with: it needs nothing of a dynamic table.
pub fn put_begin(out: &mut BytesMut) {
    out.extend_from_slice(&[0, 0]);
}

/// Writes a field, its name in lower case.
pub fn put(name: &[u8], value: &[u8], out: &mut BytesMut) {
    match TABLE.find(name, value) {
        Found::Field(index) => return put_prefixed(0xc0, 6, index, out),
        Found::Name(index) => put_prefixed(0x50, 4, index, out),
        Found::Nothing => put_text(0x20, 3, name, out),
    }
    put_text(0, 7, value, out);
}

/// Writes an answer's `:status`. Those of the static table are met without a search among all of its kind.
pub fn put_status(status: StatusCode, out: &mut BytesMut) {
    let index = match status.as_u16() {
        103 => 24,
        200 => 25,
        304 => 26,
        404 => 27,
        503 => 28,
        100 => 63,
        204 => 64,
        206 => 65,
        302 => 66,
        400 => 67,
        403 => 68,
        421 => 69,
        425 => 70,
        500 => 71,
        _ => return put(b":status", status.as_str().as_bytes(), out),
    };
    put_prefixed(0xc0, 6, index, out);
}

/// The same for a field whose value nobody may keep (section 7.1.3).
pub fn put_secret(name: &[u8], value: &[u8], out: &mut BytesMut) {
    match TABLE.find(name, value) {
        Found::Field(index) | Found::Name(index) => put_prefixed(0x70, 4, index, out),
        Found::Nothing => put_as_is(0x30, 3, name, out),
    }
    put_as_is(0, 7, value, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(block: &[u8], most: u64) -> Result<Vec<(String, String)>, Refused> {
        let mut found = Vec::new();
        let block = Bytes::copy_from_slice(block);
        let mut lines = Lines::begin(&block, most)?;
        while let Some(field) = lines.next()? {
            let value = match &field {
                Field::Plain(_, value) => value.as_bytes(),
                Field::Method(method) => method.as_str().as_bytes(),
                Field::Scheme(scheme) => scheme.as_str().as_bytes(),
                Field::Authority(authority) => authority.as_str().as_bytes(),
                Field::Path(path) => path.as_str().as_bytes(),
                Field::Protocol(protocol) => protocol,
                Field::Wrong(..) => b"",
            };
            found.push((String::from_utf8_lossy(field.name()).into(), String::from_utf8_lossy(value).into()));
        }
        Ok(found)
    }

    fn hex(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn blocks_of_others_are_read() {
        // RFC 9204 appendix B.1.
        let block = hex("0000510b2f696e6465782e68746d6c");
        assert_eq!(fields(&block, 100).unwrap(), [(":path".into(), "/index.html".into())]);
        // As the `pylsqpack` package writes it.
        let block = hex("0000cf2f00b95d8749c87a3f87f058d072752a7fd751022f78508794d6212ba4a84f");
        let read = fields(&block, 1_000).unwrap();
        let names: Vec<_> = read.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let expected = [":method CONNECT", ":protocol websocket", ":scheme https", ":path /x", ":authority first.test"];
        assert_eq!(names, expected);
        for end in 2..block.len() {
            if let Ok(some) = fields(&block[..end], 1_000) {
                assert!(some.len() < 5);
            }
        }
    }

    #[test]
    fn what_a_block_may_not_be() {
        for wrong in [
            &[][..],
            &[0],
            // Something of a dynamic table is needed; a base before its beginning.
            &[2, 0, 0x80],
            &[0, 0x80],
            // Indexed, by name and post-base; no such entry; a name that ends behind the block.
            &[0, 0, 0x80],
            &[0, 0, 0x40, 0],
            &[0, 0, 0x10],
            &[0, 0, 0x00, 0],
            &[0, 0, 0xff, 36],
            &[0, 0, 0x5f, 84, 0],
            &[0, 0, 0x22, b'x'],
            &[0, 0, 0x27, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0, 0, 0x51, 0x81, 0xfe],
        ] {
            assert_eq!(fields(wrong, 1_000), Err(Refused::Unreadable), "{wrong:?}");
        }
        // GET counts for 7 + 3 + 32.
        assert!(fields(&[0, 0, 0xd1], 42).is_ok());
        assert_eq!(fields(&[0, 0, 0xd1], 41), Err(Refused::TooLong));
    }

    #[test]
    fn a_status_is_that_of_the_table() {
        for status in (100..=999).map(|status| StatusCode::from_u16(status).unwrap()) {
            let [mut own, mut field] = [BytesMut::new(), BytesMut::new()];
            put_status(status, &mut own);
            put(b":status", status.as_str().as_bytes(), &mut field);
            assert_eq!(own, field, "{status}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(
            written in proptest::collection::vec(("[a-z][a-z0-9-]{0,40}|date|vary", "[ -~]{0,300}|200|origin"), 0..12),
            secret in proptest::bool::ANY,
        ) {
            let mut out = BytesMut::new();
            put_begin(&mut out);
            for (name, value) in &written {
                let put = if secret { put_secret } else { put };
                put(name.as_bytes(), value.as_bytes(), &mut out);
            }
            proptest::prop_assert_eq!(fields(&out, u64::MAX), Ok(written));
        }

        /// Whatever is remembered of it, a header is what its fields are one by one.
        #[test]
        fn what_came_before_is_read_alike(
            written in proptest::collection::vec(("x-[ab]|cookie|accept|:path|date", "[a-c/]{1,3}|~~~"), 0..5),
            secret in proptest::bool::ANY,
            most in 100_u64..600,
        ) {
            let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "first.test"), (":path", "/x")];
            let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut out = BytesMut::new();
            put_begin(&mut out);
            for (name, value) in pseudo.iter().chain(&written) {
                let put = if secret { put_secret } else { put };
                put(name.as_bytes(), value.as_bytes(), &mut out);
            }
            let block = out.freeze();
            let sum: usize = pseudo.iter().chain(&written).map(|(name, value)| counts(name.len(), value.len())).sum();
            for _ in 0..4 {
                match header(&block, most) {
                    Ok(head) => {
                        let fields = head.headers.iter();
                        let fields: Vec<_> = fields.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
                        let expected: Vec<_> = written.iter().map(|(name, value)| (&**name, &**value)).collect();
                        proptest::prop_assert_eq!((fields, head.uri.path()), (expected, "/x"));
                        proptest::prop_assert!(sum as u64 <= most);
                    }
                    Err(Refused::TooLong) => proptest::prop_assert!(sum as u64 > most),
                    Err(refused) => {
                        proptest::prop_assert!(matches!(refused, Refused::Malformed(_)));
                        proptest::prop_assert!(written.iter().any(|(name, _)| name == ":path"));
                    }
                }
            }
        }

        #[test]
        fn any_bytes_will_do(block in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let block = [&[0, 0], &block[..]].concat().into();
            let _ = (header(&block, 5_000), trailers(&block, 5_000));
        }
    }
}
