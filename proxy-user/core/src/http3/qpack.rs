//! Blocks of fields as QPACK writes them (RFC 9204 section 4.5), by the static table alone.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::Code;
use super::table::TABLE;
use crate::fields::Refused;
use crate::fields::field::{Field, counts};
use crate::fields::fixed::Found;
use crate::fields::message::{Head, Header, take_trailer};
use crate::fields::text::{Reader, put_as_is, put_plain, put_prefixed, put_text};

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
    read(block, most, |field| header.take(field))?;
    header.finish()
}

/// Reads trailers.
///
/// # Errors
/// As for a header.
pub fn trailers(block: &Bytes, most: u64) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    read(block, most, |field| take_trailer(&mut headers, field))?;
    Ok(headers)
}

/// Hands each field of a block on, which together count for no more than `most`.
///
/// # Errors
/// The block cannot be used, or `take` refuses a field.
fn read(block: &Bytes, most: u64, mut take: impl FnMut(Field) -> Result<(), Refused>) -> Result<(), Refused> {
    let mut reader = Reader::new(block);
    begin(&mut reader).ok_or(Refused::Unreadable)?;
    let mut name = BytesMut::new();
    let mut left = most;
    while reader.first().is_some() {
        let (field, counts) = line(block, &mut reader, &mut name).ok_or(Refused::Unreadable)?;
        left = left.checked_sub(counts as u64).ok_or(Refused::TooLong)?;
        take(field)?;
    }
    Ok(())
}

/// Reads what stands before the lines of a block, which says that it needs nothing of a dynamic table (section 4.5.1).
fn begin(reader: &mut Reader<'_>) -> Option<()> {
    let inserted = reader.number(8)?;
    let negative = reader.first()? & 0x80 != 0;
    reader.number(7)?;
    (inserted == 0 && !negative).then_some(())
}

/// The next line, and what it counts for; its name may be put into `name`. None where it cannot be read.
fn line(block: &Bytes, reader: &mut Reader<'_>, name: &mut BytesMut) -> Option<(Field, usize)> {
    match reader.first()? {
        // Indexed, of the static table.
        0xc0.. => {
            let index = reader.number(6)?;
            Some((TABLE.get(index)?.clone(), TABLE.counts(index)))
        }
        // A literal with a name of the static table.
        0x50..0x60 | 0x70..0x80 => {
            let known = TABLE.get(reader.number(4)?)?;
            let value = value(block, reader)?;
            let counts = counts(known.name().len(), value.len());
            Some((known.with(value), counts))
        }
        // A literal with a name of its own.
        0x20..0x40 => {
            let (text, coded) = reader.text(3)?;
            name.clear();
            put_plain(text, coded, name)?;
            let value = value(block, reader)?;
            let counts = counts(name.len(), value.len());
            Some((Field::said(name, value), counts))
        }
        // Of the dynamic table.
        _ => None,
    }
}

/// The next value: a view of the block where it is not in Huffman's code.
fn value(block: &Bytes, reader: &mut Reader<'_>) -> Option<Bytes> {
    match reader.text(7)? {
        (text, true) => reader.keep(text, true),
        (text, false) => Some(block.slice_ref(text)),
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
        read(&Bytes::copy_from_slice(block), most, |field| {
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
            Ok(())
        })?;
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

        #[test]
        fn any_bytes_will_do(block in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let block = [&[0, 0], &block[..]].concat().into();
            let _ = (header(&block, 5_000), trailers(&block, 5_000));
        }
    }
}
