//! Tokens of an expression, with their places.

use std::net::IpAddr;

use ipnet::IpNet;

use super::LangError;
use crate::ranges::parse_network;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name with dots: field, function, or operator in words.
    Name(String),
    /// `"…"` or `r"…"`, decoded.
    Text(Vec<u8>),
    /// Digits, `-` and digits, or `0x` and hex digits; no larger than 64 bits.
    Int(i128),
    /// An address.
    Ip(IpAddr),
    /// A network with prefix length.
    Net(IpNet),
    /// `offset:length`
    Slice(u64, u64),
    /// `$name`
    List(String),
    /// Punctuation or an operator in signs.
    Sign(&'static str),
    /// Behind the last one.
    End,
}

impl Token {
    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Text(bytes) => format!("the string \"{}\"", String::from_utf8_lossy(bytes)),
            Self::Int(number) => format!("the number `{number}`"),
            Self::Ip(address) => format!("the address `{address}`"),
            Self::Net(network) => format!("the network `{network}`"),
            Self::Slice(offset, length) => format!("`{offset}:{length}`"),
            Self::List(name) => format!("the list `${name}`"),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// First byte, and the byte behind the last.
pub(super) type Span = (usize, usize);

/// Longest first, so that `==` is not read as two.
const SIGNS: [&str; 22] = [
    "==", "!=", "<=", ">=", "&&", "||", "^^", "..", "<", ">", "!", "~", "(", ")", "{", "}", "[", "]", ",", "*", "&",
    "=",
];

/// All tokens, the last of which is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, LangError> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else {
            found.push((Token::End, (text.len(), text.len())));
            return Ok(found);
        };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = token(rest, first).map_err(|(length, message)| {
            let end = at + length.clamp(1, rest.len());
            LangError::new((at, end), message)
        })?;
        found.push((token, (at, at + length)));
        at += length;
    }
}

type Lexed = Result<(Token, usize), (usize, String)>;

fn token(rest: &str, first: char) -> Lexed {
    if first == '"' {
        return quoted(rest);
    }
    if first == 'r' && rest.get(1..).is_some_and(|r| r.trim_start_matches('#').starts_with('"')) {
        return raw(rest);
    }
    if first == '$' {
        let name = name_at(rest.get(1..).unwrap_or_default());
        return if name.is_empty() {
            Err((1, "a list's name is missing behind `$`".to_owned()))
        } else {
            Ok((Token::List(name.to_owned()), 1 + name.len()))
        };
    }
    let negative = first == '-' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if negative || first.is_ascii_digit() || first == ':' || (first.is_ascii_hexdigit() && is_v6(rest)) {
        return number_or_address(rest);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let name = name_at(rest);
        return Ok((Token::Name(name.to_owned()), name.len()));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(&"=") => Err((1, "`=` is not an operator; write `==` or `eq`".to_owned())),
        Some(sign) => Ok((Token::Sign(sign), sign.len())),
        None if first == '\'' => Err((1, "strings stand in double quotes".to_owned())),
        None => Err((first.len_utf8(), format!("`{first}` means nothing here"))),
    }
}

/// Letters, digits, `_`, `-` inside, and single dots between.
fn name_at(rest: &str) -> &str {
    let mut end = 0;
    let bytes = rest.as_bytes();
    while let Some(byte) = bytes.get(end) {
        let next = bytes.get(end + 1);
        let inner = *byte == b'.' && next.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if !(byte.is_ascii_alphanumeric() || *byte == b'_' || (end > 0 && (inner || *byte == b'-'))) {
            break;
        }
        end += 1;
    }
    rest.get(..end).unwrap_or_default()
}

/// A name cannot be followed by a colon, so hex digits and a colon begin an IPv6 address.
fn is_v6(rest: &str) -> bool {
    rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).starts_with(':')
}

fn number_or_address(rest: &str) -> Lexed {
    let bytes = rest.as_bytes();
    let mut end = usize::from(rest.starts_with('-'));
    while let Some(byte) = bytes.get(end) {
        let range = *byte == b'.' && bytes.get(end + 1) == Some(&b'.');
        if range || !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'/')) {
            break;
        }
        end += 1;
    }
    let text = rest.get(..end).unwrap_or_default();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |hex| (hex, 16));
    if !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)) {
        let number = i128::from_str_radix(digits, radix).ok().filter(|number| *number <= u64::MAX.into());
        let number = number.ok_or_else(|| (end, format!("`{text}` is too large a number")))?;
        return Ok((Token::Int(if text.starts_with('-') { -number } else { number }), end));
    }
    if let Some((offset, length)) = text.split_once(':')
        && let (Ok(offset), Ok(length)) = (offset.parse(), length.parse())
    {
        return Ok((Token::Slice(offset, length), end));
    }
    if text.contains('/') {
        return parse_network(text).map(|network| (Token::Net(network), end)).map_err(|message| (end, message));
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok((Token::Ip(address), end)),
        Err(_) => Err((end, format!("`{text}` is neither a number nor an address"))),
    }
}

fn quoted(rest: &str) -> Lexed {
    let mut bytes = Vec::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(bytes), at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some(c @ ('"' | '\\')) => bytes.push(c as u8),
                Some('x') => {
                    let hex = rest.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    bytes.push(hex.ok_or((at + 2, "`\\x` needs two hex digits".to_owned()))?);
                    chars.nth(1);
                }
                other => {
                    let message = "a string knows the escapes `\\\"`, `\\\\` and `\\xHH`; \
                                   for patterns write r\"…\", which knows none";
                    return Err((at + 1 + other.map_or(0, char::len_utf8), message.to_owned()));
                }
            },
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err((1, "the string has no closing `\"`".to_owned()))
}

/// `r"…"`, or with as many `#` behind as before.
fn raw(rest: &str) -> Lexed {
    let hashes = rest.bytes().skip(1).take_while(|b| *b == b'#').count();
    let start = hashes + 2;
    let close = format!("\"{}", "#".repeat(hashes));
    let body = rest.get(start..).unwrap_or_default();
    match body.find(&close) {
        Some(length) => {
            Ok((Token::Text(body.as_bytes().get(..length).unwrap_or_default().to_vec()), start + length + close.len()))
        }
        None => Err((start, format!("the string has no closing `{close}`"))),
    }
}
