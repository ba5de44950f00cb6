//! Blocks of answers. What a connection says for the second time is put into the dynamic table, so that it is one byte from then on and
//! what is said once takes nobody's room; secrets never are (RFC 7541 section 7.1).

use http::{HeaderName, HeaderValue, StatusCode};

use super::dynamic::Dynamic;
use super::{TABLE, TABLE_SIZE};
use crate::fields::field::counts;
use crate::fields::fixed::Found;
use crate::fields::text::{put_as_is, put_prefixed, put_text};
use crate::known::is_secret;
use crate::mix::of_field;

/// `:status` 200, which most answers begin with, as the static table has it.
const OK: u8 = 0x88;
/// What a field begins with that is never to be kept.
const NEVER: u8 = 0x10;
/// Index of the first entry of the dynamic table.
const DYNAMIC: usize = 62;
/// Fields of which it is known that they were said once.
const SEEN: usize = 32;
/// Longest value that is put into the table.
const LONGEST: usize = 512;

/// What a connection's answers have said so far.
#[derive(Debug, Default)]
pub struct Encoder {
    /// What was said twice.
    table: Dynamic<Entry>,
    /// The client has changed the table's size, which is to be taken note of: the smallest that it was.
    resized: Option<usize>,
    /// Parts of the hashes of fields that were said once, and where the next one goes.
    seen: Option<Box<[u32; SEEN]>>,
    next: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    /// The name, and behind it the value.
    text: Box<[u8]>,
    name: usize,
}

impl Encoder {
    /// The client's table may have so many bytes from now on.
    pub fn resize(&mut self, bytes: u32) {
        let most = (bytes as usize).min(TABLE_SIZE);
        if most == self.table.most() && self.resized.is_none() {
            return;
        }
        self.resized = Some(self.resized.unwrap_or(most).min(most));
        self.table.resize(most);
    }

    /// Writes a block: an answer's, or trailers where there is no status.
    pub fn encode<'h>(
        &mut self,
        status: Option<StatusCode>,
        headers: impl IntoIterator<Item = (&'h HeaderName, &'h HeaderValue)>,
        out: &mut Vec<u8>,
    ) {
        if let Some(smallest) = self.resized.take() {
            // Section 4.2: the smallest, and what it is now.
            put_prefixed(0x20, 5, smallest, out);
            if smallest < self.table.most() {
                put_prefixed(0x20, 5, self.table.most(), out);
            }
        }
        match status {
            Some(StatusCode::OK) => out.push(OK),
            Some(status) => self.field(b":status", status.as_str().as_bytes(), false, out),
            None => {}
        }
        for (name, value) in headers {
            self.field(name.as_str().as_bytes(), value.as_bytes(), value.is_sensitive() || is_secret(name), out);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8], secret: bool, out: &mut Vec<u8>) {
        if secret {
            // Never to be kept, by who passes it on either (section 6.2.3).
            literal(NEVER, 4, name, value, out);
            return;
        }
        // What was said before is more common than what the static table has besides status codes.
        let hash = of_field(name, value);
        if let Some(index) = self.table.find(|entry| entry.is(hash, name, value)) {
            return put_prefixed(0x80, 7, DYNAMIC + index, out);
        }
        if !self.is_said_again(hash) || value.len() > LONGEST {
            literal(0, 4, name, value, out);
            return;
        }
        if literal(0x40, 6, name, value, out) {
            let entry = Entry { hash, text: [name, value].concat().into(), name: name.len() };
            self.table.push(entry, counts(name.len(), value.len()));
        }
    }

    /// Whether it was said before, as far as is remembered; it is from now on.
    fn is_said_again(&mut self, hash: u64) -> bool {
        let part = (hash >> 32) as u32;
        let seen = self.seen.get_or_insert_with(|| Box::new([0; SEEN]));
        let found = seen.contains(&part);
        if !found && let Some(place) = seen.get_mut(self.next % SEEN) {
            *place = part;
            self.next += 1;
        }
        found
    }
}

impl Entry {
    fn is(&self, hash: u64, name: &[u8], value: &[u8]) -> bool {
        self.hash == hash && self.name == name.len() && self.text.split_at_checked(self.name) == Some((name, value))
    }
}

/// Writes a field that the dynamic table does not have; whether as a literal, which that table may take: what the static one has is
/// none.
fn literal(first: u8, bits: u32, name: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
    let known = match TABLE.find(name, value) {
        Found::Field(index) => {
            put_prefixed(0x80, 7, index + 1, out);
            return false;
        }
        Found::Name(index) => index + 1,
        Found::Nothing => 0,
    };
    put_prefixed(first, bits, known, out);
    if known == 0 {
        put_text(0, 7, name, out);
    }
    let put = if first == NEVER { put_as_is } else { put_text };
    put(0, 7, value, out);
    true
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::super::decode::Decoder;
    use super::*;

    fn fields(written: &[(String, String)]) -> HeaderMap {
        let field = |(name, value): &(String, String)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
        };
        written.iter().filter_map(field).collect()
    }

    fn pairs(written: &[(&str, &str)]) -> HeaderMap {
        let own: Vec<_> = written.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        fields(&own)
    }

    fn block(encoder: &mut Encoder, headers: &HeaderMap) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.encode(None, headers, &mut out);
        out
    }

    #[test]
    fn what_is_said_again_becomes_short() {
        let mut encoder = Encoder::default();
        let headers = pairs(&[("server", "tidegate"), ("x-own", "some value"), ("set-cookie", "secret=1")]);
        let lengths: Vec<_> = (0..4).map(|_| block(&mut encoder, &headers).len()).collect();
        let cookie = block(&mut encoder, &pairs(&[("set-cookie", "secret=1")])).len();
        assert!(lengths[0] > 25 && lengths[1] > 25, "{lengths:?}");
        assert_eq!((lengths[2], lengths[3]), (cookie + 2, cookie + 2));
        assert_eq!(encoder.table.len(), 2, "the cookie is not kept");
        // However many there are, and whatever else is said once.
        let many: Vec<_> = (0..20).map(|name| (format!("x-{name}"), "value".to_owned())).collect();
        for round in 0..3 {
            let mut fields = fields(&many);
            fields.insert("x-once", HeaderValue::from(round));
            block(&mut encoder, &fields);
        }
        assert_eq!(encoder.table.len(), 22);
        let mut out = Vec::new();
        encoder.encode(Some(StatusCode::OK), &HeaderMap::new(), &mut out);
        assert_eq!(out, [0x88]);
    }

    #[test]
    fn what_the_static_table_has_is_in_no_other() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let headers = pairs(&[("accept-encoding", "gzip, deflate"), ("x-own", "some value")]);
        for status in [404, 404, 404, 418, 418, 418, 304, 200] {
            let mut out = Vec::new();
            encoder.encode(StatusCode::from_u16(status).ok(), &HeaderMap::new(), &mut out);
            decoder.skip(&out, 100).unwrap();
            assert_eq!(decoder.trailers(&block(&mut encoder, &headers), 1_000).unwrap(), headers, "{status}");
        }
        assert_eq!(encoder.table.len(), 2, "418 and what is its own");
    }

    #[test]
    fn a_smaller_table_is_taken_note_of() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let headers = pairs(&[("server", "tidegate"), ("x-own", "some value")]);
        for size in [4_096, 4_096, 0, 9_000, 50, 50, 4_096] {
            encoder.resize(size);
            for _ in 0..3 {
                let block = block(&mut encoder, &headers);
                assert_eq!(decoder.trailers(&block, 1_000).unwrap(), headers, "{size}");
                assert!(encoder.table.size() <= size as usize);
            }
        }
        encoder.resize(0);
        encoder.resize(100);
        assert!(block(&mut encoder, &headers).starts_with(&[0x20, 0x3f, 69]));
        assert!(!block(&mut encoder, &headers).starts_with(&[0x20]));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(
            blocks in proptest::collection::vec(proptest::collection::vec(("[a-c]{1,2}|date|vary|accept-encoding|x-[a-z]{0,40}", "[ab]|[ -~]{0,300}|gzip, deflate"), 0..12), 0..20),
            sizes in proptest::collection::vec(0_u32..5_000, 20),
        ) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for (written, size) in blocks.iter().zip(sizes) {
                if size % 3 == 0 {
                    encoder.resize(size);
                }
                let headers = fields(written);
                proptest::prop_assert_eq!(decoder.trailers(&block(&mut encoder, &headers), 1 << 20), Ok(headers));
            }
        }
    }
}
