//! What functions from string to string do. Each is linear in its input, and no result is longer than
//! [`MAX_VALUE_BYTES`]: what goes beyond is cut off.

use super::facts::Buffer;
use super::json_path::{Found, look_up};
use super::value::Function;
use super::{MAX_URL_DECODES, MAX_VALUE_BYTES};
use crate::digest::Digest;

impl Function {
    /// Applies it in place; false where there is no result, so that the value is missing.
    pub fn apply(&self, value: &mut Buffer) -> bool {
        match self {
            Self::Lower => value.make_ascii_lowercase(),
            Self::Upper => value.make_ascii_uppercase(),
            Self::UrlDecode { recursive, unicode } => url_decode(value, *recursive, *unicode),
            Self::Substring(from, to) => {
                let (from, to) = (place(*from, value.len()), to.map_or(value.len(), |to| place(to, value.len())));
                value.truncate(to);
                value.drain(..from.min(value.len()));
            }
            Self::RemoveBytes(bytes) => value.retain(|byte| !bytes.contains(byte)),
            Self::RemoveArgs(names) => remove_args(value, names),
            Self::DecodeBase64 => match decode_base64(value) {
                Some(decoded) => *value = decoded,
                None => return false,
            },
            Self::EncodeBase64 => *value = encode_base64(value),
            Self::Sha256 => *value = Buffer::from_slice(Digest::of(value).to_string().as_bytes()),
            Self::JsonString(path) => match look_up(value, path) {
                Some(Found::Text(text)) => *value = Buffer::from_slice(text.as_bytes()),
                _ => return false,
            },
            Self::Replace(regex, by) => {
                if let Some(found) = regex.captures(value)
                    && let Some(whole) = found.get(0)
                {
                    let mut replaced = value.get(..whole.start()).unwrap_or_default().to_vec();
                    found.expand(by, &mut replaced);
                    replaced.extend_from_slice(value.get(whole.end()..).unwrap_or_default());
                    *value = Buffer::from_vec(replaced);
                }
            }
        }
        value.truncate(MAX_VALUE_BYTES);
        true
    }
}

/// Index of a byte; negative ones count from the end.
fn place(at: i64, length: usize) -> usize {
    let distance = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
    if at < 0 { length.saturating_sub(distance) } else { distance.min(length) }
}

/// Names are compared as sent; what stands between two `&` and has no `=` is a name.
fn remove_args(query: &mut Buffer, names: &[Box<[u8]>]) {
    let mut kept = Buffer::new();
    for (number, argument) in query.split(|byte| *byte == b'&').filter(|argument| !is_of(argument, names)).enumerate() {
        if number > 0 {
            kept.push(b'&');
        }
        kept.extend_from_slice(argument);
    }
    *query = kept;
}

fn is_of(argument: &[u8], names: &[Box<[u8]>]) -> bool {
    let name = argument.split(|byte| *byte == b'=').next().unwrap_or_default();
    names.iter().any(|known| **known == *name)
}

fn url_decode(value: &mut Buffer, recursive: bool, unicode: bool) {
    for _ in 0..if recursive { MAX_URL_DECODES } else { 1 } {
        let before = value.len();
        if !value.iter().any(|byte| matches!(byte, b'%' | b'+')) {
            return;
        }
        for byte in value.iter_mut().filter(|byte| **byte == b'+') {
            *byte = b' ';
        }
        if unicode {
            decode_unicode(value);
        }
        let decoded: Buffer = percent_encoding::percent_decode(value).collect();
        *value = decoded;
        // What a pass decoded is shorter now.
        if value.len() == before {
            return;
        }
    }
}

/// `%u0041` as UTF-8; halves of surrogate pairs become U+FFFD.
fn decode_unicode(value: &mut Buffer) {
    /// `%u` and four digits.
    const LENGTH: usize = 6;
    let mut decoded = Buffer::new();
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let digits = value
            .get(at + 2..at + LENGTH)
            .filter(|_| *byte == b'%' && value.get(at + 1).is_some_and(|u| u.eq_ignore_ascii_case(&b'u')));
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(number) = number.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            let c = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
            decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            at += LENGTH;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    *value = decoded;
}

/// The alphabet of RFC 4648 section 4.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With or without padding, and also the alphabet of section 5.
fn decode_base64(value: &[u8]) -> Option<Buffer> {
    let end = value.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let mut decoded = Buffer::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in value.get(..end)? {
        let digit = match byte {
            b'-' => 62,
            b'_' => 63,
            byte => BASE64.iter().position(|known| known == byte)? as u32,
        };
        bits = bits << 6 | digit;
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (held < 6 && value.len() - end < 3).then_some(decoded)
}

pub(crate) fn encode_base64(value: &[u8]) -> Buffer {
    let mut encoded = Buffer::new();
    for group in value.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = BASE64.get((bits >> (18 - 6 * place)) as usize & 63).copied().unwrap_or(b'=');
            encoded.push(if place > group.len() { b'=' } else { digit });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(function: &Function, value: &str) -> Option<String> {
        let mut buffer = Buffer::from_slice(value.as_bytes());
        function.apply(&mut buffer).then(|| String::from_utf8_lossy(&buffer).into_owned())
    }

    #[test]
    fn decoding_ends() {
        let decode = |recursive, unicode, value: &str| {
            applied(&Function::UrlDecode { recursive, unicode }, value).expect("a value")
        };
        assert_eq!(decode(false, false, "a%2541+%zz%4"), "a%41 %zz%4");
        assert_eq!(decode(true, false, "%252525252e%2b"), ". ");
        assert_eq!(decode(false, true, "%u0041%U00e9%ud800%u12"), "Aé\u{fffd}%u12");
    }

    #[test]
    fn parts_of_strings() {
        let part = |from, to| applied(&Function::Substring(from, to), "abcdef").expect("a value");
        assert_eq!([part(2, None), part(0, Some(2)), part(-2, None)], ["cdef", "ab", "ef"]);
        assert_eq!([part(2, Some(-1)), part(4, Some(2)), part(9, None)], ["cde", "", ""]);
        assert_eq!([part(i64::MIN, Some(i64::MAX)), part(0, Some(-9))], ["abcdef", ""]);
        assert_eq!(applied(&Function::RemoveBytes(b"-b".as_slice().into()), "a-b-c"), Some("ac".to_owned()));
    }

    #[test]
    fn arguments_of_a_query() {
        let names: Vec<Box<[u8]>> = [b"a".as_slice(), b"utm"].map(Into::into).into();
        let without = Function::RemoveArgs(names.into());
        for (query, expected) in
            [("a=1&b=2&utm=x&a", "b=2"), ("ab=1&c&b=a", "ab=1&c&b=a"), ("b=1&&a=2", "b=1&"), ("a=1", ""), ("", "")]
        {
            assert_eq!(applied(&without, query).as_deref(), Some(expected), "{query}");
        }
    }

    #[test]
    fn base64_there_and_back() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("fooba", "Zm9vYmE=")] {
            assert_eq!(applied(&Function::EncodeBase64, plain).as_deref(), Some(encoded));
            assert_eq!(applied(&Function::DecodeBase64, encoded).as_deref(), Some(plain));
        }
        assert_eq!(applied(&Function::DecodeBase64, "Zm8").as_deref(), Some("fo"));
        assert_eq!([applied(&Function::DecodeBase64, "Z"), applied(&Function::DecodeBase64, "Z!")], [None, None]);
    }

    #[test]
    fn hashes_are_those_of_the_standard() {
        // FIPS 180-4's example of one block.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(applied(&Function::Sha256, "abc").as_deref(), Some(expected));
    }

    #[test]
    fn the_first_match_is_replaced() {
        let regex = regex::bytes::Regex::new("a(.)").expect("a pattern");
        let replace = Function::Replace(Box::new(regex), b"<${1}>".as_slice().into());
        assert_eq!(applied(&replace, "xabac").as_deref(), Some("x<b>ac"));
        assert_eq!(applied(&replace, "xyz").as_deref(), Some("xyz"));
    }
}
