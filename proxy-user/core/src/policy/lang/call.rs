//! Parsing of function calls, by the types and numbers of their arguments.

use regex::bytes::RegexBuilder;

use super::expr::{Expr, TextTest};
use super::field::{Field, TextField};
use super::lexer::{Span, Token};
use super::operand::{Operand, OperandKind, entry, unknown_field};
use super::parser::Parser;
use super::value::{Function, IntTerm, Key, Path, Source, Text};
use super::wildcard::Wildcard;
use super::{LangError, MAX_REFERENCES, MAX_REGEX_BYTES, MAX_SPLITS};
use crate::diagnostic::hint;
use crate::ranges::RangeSet;

/// Functions that yield a value.
pub(super) const FUNCTIONS: [&str; 21] = [
    "bit_slice",
    "cidr",
    "cidr6",
    "concat",
    "decode_base64",
    "encode_base64",
    "join",
    "len",
    "lookup_json_integer",
    "lookup_json_string",
    "lower",
    "regex_replace",
    "remove_bytes",
    "remove_query_args",
    "sha256_hex",
    "split",
    "substring",
    "to_string",
    "upper",
    "url_decode",
    "wildcard_replace",
];
/// Functions that are a condition by themselves.
pub(super) const CONDITIONS: [&str; 6] = ["all", "any", "ends_with", "has_key", "has_value", "starts_with"];

impl Parser<'_> {
    /// The call of a function that yields a value; its name has been read.
    pub(super) fn call(&mut self, name: &str, span: Span) -> Result<Operand, LangError> {
        if CONDITIONS.contains(&name) {
            let message = format!("`{name}` is a condition by itself; it is neither compared nor given to a function");
            return Err(LangError::new(span, message));
        }
        if !FUNCTIONS.contains(&name) {
            return Err(LangError::new(span, unknown_function(name)));
        }
        self.count()?;
        self.next();
        let mut operand = match name {
            "bit_slice" => self.bit_slice(span)?,
            "concat" => self.concat()?,
            "cidr" | "cidr6" => self.network(name)?,
            "to_string" => self.written()?,
            "len" | "lookup_json_integer" => self.number(name)?,
            "join" | "split" => self.parts(name)?,
            _ => self.changed(name)?,
        };
        self.expect_sign(")", &format!("to close `{name}(`"))?;
        if name == "split" {
            let (index, each) = self.index()?;
            if let OperandKind::Text(Text { source: Source::Split { index: place, .. }, .. }) = &mut operand.kind {
                *place = index;
            }
            (operand.each, operand.open) = (each, index.is_none() && !each);
        } else if operand.each && self.peek() == &Token::Sign("[") && self.peek_second() == &Token::Sign("*") {
            // `any(lower(x[*])[*] …)` is how Cloudflare's language writes it.
            self.next();
            self.next();
            self.expect_sign("]", "behind `*`")?;
        }
        operand.span = (span.0, self.end());
        Ok(operand)
    }

    /// An argument that is a string, and how it came.
    fn text_argument(&mut self, name: &str) -> Result<(Text, Operand), LangError> {
        let mut operand = self.deeper(Self::operand)?;
        let found = operand.type_name();
        match std::mem::replace(&mut operand.kind, OperandKind::Proto) {
            OperandKind::Text(text) => Ok((text, operand)),
            _ => Err(LangError::new(operand.span, format!("`{name}` takes a string, but this is {found}"))),
        }
    }

    /// `, "…"`
    fn literal_argument(&mut self, name: &str) -> Result<(Vec<u8>, Span), LangError> {
        self.expect_sign(",", "and a string")?;
        match self.next() {
            (Token::Text(bytes), span) => Ok((bytes, span)),
            (other, span) => {
                let message = format!("`{name}` takes a string here, but this is {}", other.describe());
                Err(LangError::new(span, message))
            }
        }
    }

    /// `, 5`
    fn number_argument(&mut self, name: &str, least: i128, most: i128) -> Result<i64, LangError> {
        self.expect_sign(",", "and a number")?;
        match self.next() {
            (Token::Int(number), _) if (least..=most).contains(&number) => Ok(number as i64),
            (Token::Int(_), span) => {
                Err(LangError::new(span, format!("`{name}` takes a number from {least} to {most} here")))
            }
            (other, span) => {
                let message = format!("`{name}` takes a number here, but this is {}", other.describe());
                Err(LangError::new(span, message))
            }
        }
    }

    fn more_arguments(&self) -> bool {
        self.peek() == &Token::Sign(",")
    }

    /// Functions from one string to another.
    fn changed(&mut self, name: &str) -> Result<Operand, LangError> {
        let (mut text, operand) = self.text_argument(name)?;
        let function = match name {
            "lower" => Function::Lower,
            "upper" => Function::Upper,
            "url_decode" => {
                let flags = if self.more_arguments() { Some(self.literal_argument(name)?) } else { None };
                let (flags, span) = flags.unwrap_or_default();
                if flags.iter().any(|flag| !b"ru".contains(flag)) {
                    let message = "`url_decode` knows the options \"r\" (recursive) and \"u\" (`%uXXXX`)";
                    return Err(LangError::new(span, message));
                }
                Function::UrlDecode { recursive: flags.contains(&b'r'), unicode: flags.contains(&b'u') }
            }
            "substring" => {
                let whole = (i64::MIN.into(), i64::MAX.into());
                let from = self.number_argument(name, whole.0, whole.1)?;
                let to = self.more_arguments().then(|| self.number_argument(name, whole.0, whole.1)).transpose()?;
                Function::Substring(from, to)
            }
            "remove_bytes" => Function::RemoveBytes(self.literal_argument(name)?.0.into()),
            "remove_query_args" => {
                let mut names = vec![self.literal_argument(name)?.0.into()];
                while self.more_arguments() {
                    names.push(self.literal_argument(name)?.0.into());
                }
                Function::RemoveArgs(names.into())
            }
            "decode_base64" => Function::DecodeBase64,
            "encode_base64" => Function::EncodeBase64,
            "sha256_hex" => Function::Sha256,
            "lookup_json_string" => Function::JsonString(self.path(name)?),
            _ => self.replacement(name)?,
        };
        text.functions.push(function);
        Ok(Operand { kind: OperandKind::Text(text), ..operand })
    }

    /// `regex_replace(value, r"pattern", "${1}")` and `wildcard_replace(value, "*pattern", "${1}", "s")`.
    fn replacement(&mut self, name: &str) -> Result<Function, LangError> {
        let (pattern, span) = self.literal_argument(name)?;
        let (by, by_span) = self.literal_argument(name)?;
        if memchr::memchr_iter(b'$', &by).count() > MAX_REFERENCES {
            return Err(LangError::new(by_span, format!("more than {MAX_REFERENCES} `$` in a replacement")));
        }
        let wrong = |message: String| LangError::new(span, message);
        let regex = if name == "regex_replace" {
            regex(&pattern).map_err(wrong)?
        } else {
            let strict = match self.more_arguments().then(|| self.literal_argument(name)).transpose()? {
                None => false,
                Some((flag, _)) if flag == b"s" => true,
                Some((_, span)) => {
                    return Err(LangError::new(span, "`wildcard_replace` knows the option \"s\" (case counts)"));
                }
            };
            let pattern = Wildcard::new(&pattern, !strict).map_err(wrong)?;
            regex(pattern.to_regex().as_bytes()).map_err(wrong)?
        };
        Ok(Function::Replace(Box::new(regex), by.into()))
    }

    /// Names and indexes of a JSON look-up.
    fn path(&mut self, name: &str) -> Result<Path, LangError> {
        let mut path = Path::new();
        while path.is_empty() || self.more_arguments() {
            self.expect_sign(",", "and a name or an index")?;
            path.push(match self.next() {
                (Token::Text(key), _) => Key::Name(key.into()),
                (Token::Int(index), _) if index >= 0 => Key::Index(usize::try_from(index).unwrap_or(usize::MAX)),
                (other, span) => {
                    let message = format!("`{name}` takes names and indexes, but this is {}", other.describe());
                    return Err(LangError::new(span, message));
                }
            });
        }
        Ok(path)
    }

    /// Functions from a string to a number.
    fn number(&mut self, name: &str) -> Result<Operand, LangError> {
        let (text, operand) = self.text_argument(name)?;
        let term = match (name, operand.open) {
            ("len", false) => IntTerm::Len(text),
            ("len", true) => IntTerm::Count(text),
            _ => IntTerm::Json(text, self.path(name)?),
        };
        let open = operand.open && name != "len";
        Ok(Operand { kind: OperandKind::Int(term), open, ..operand })
    }

    fn concat(&mut self) -> Result<Operand, LangError> {
        let mut parts = Vec::new();
        let (mut each, mut open) = (false, false);
        loop {
            if let Token::Text(bytes) = self.peek().clone() {
                self.next();
                parts.push(Text::new(Source::Literal(bytes.into())));
            } else {
                let (text, part) = self.text_argument("concat")?;
                if (part.each || part.open) && (each || open) {
                    let message = "only one part of `concat` may have several values; name one by `[0]`";
                    return Err(LangError::new(part.span, message));
                }
                each |= part.each;
                open |= part.open;
                parts.push(text);
            }
            if !self.take_sign(",") {
                let kind = OperandKind::Text(Text::new(Source::Concat(parts)));
                return Ok(Operand { kind, span: self.span(), each, open });
            }
        }
    }

    /// `cidr(address, 24, 64)` and `cidr6(address, 64)`, which leaves IPv4 as it is.
    fn network(&mut self, name: &str) -> Result<Operand, LangError> {
        let operand = self.deeper(Self::operand)?;
        let OperandKind::Ip(field, None) = operand.kind else {
            let message = format!("`{name}` takes an address, but this is {}", operand.type_name());
            return Err(LangError::new(operand.span, message));
        };
        let bits = |number| u8::try_from(number).unwrap_or(u8::MAX);
        let v4 = if name == "cidr" { bits(self.number_argument(name, 1, 32)?) } else { 32 };
        let v6 = bits(self.number_argument(name, 1, 128)?);
        Ok(Operand { kind: OperandKind::Ip(field, Some((v4, v6))), ..operand })
    }

    fn written(&mut self) -> Result<Operand, LangError> {
        let operand = self.deeper(Self::operand)?;
        let source = match operand.kind {
            OperandKind::Int(IntTerm::Field(field)) => Source::Number(field),
            OperandKind::Ip(field, None) => Source::Address(field),
            _ => {
                let message =
                    format!("`to_string` takes a field that is a number or an address, not {}", operand.type_name());
                return Err(LangError::new(operand.span, message));
            }
        };
        Ok(Operand { kind: OperandKind::Text(Text::new(source)), ..operand })
    }

    /// `join(values, "between")` and `split(value, "at", most)`.
    fn parts(&mut self, name: &str) -> Result<Operand, LangError> {
        let (text, operand) = self.text_argument(name)?;
        let (between, span) = self.literal_argument(name)?;
        let source = if name == "join" {
            if !operand.open {
                return Err(LangError::new(operand.span, "`join` takes a field with several values, without index"));
            }
            Source::Join(Box::new(text), between.into())
        } else {
            if operand.open || operand.each {
                return Err(LangError::new(operand.span, "`split` takes one value; name it by `[0]`"));
            }
            if between.is_empty() {
                return Err(LangError::new(span, "`split` needs something to split at"));
            }
            let most = usize::try_from(self.number_argument(name, 1, MAX_SPLITS as i128)?).unwrap_or(MAX_SPLITS);
            Source::Split { of: Box::new(text), at: between.into(), most, index: None }
        };
        Ok(Operand { kind: OperandKind::Text(Text::new(source)), open: false, ..operand })
    }

    // ---- conditions ----

    /// `starts_with(value, "text")`, `ends_with(…)`, `has_key(map, "name")` or `has_value(values, "text")`.
    pub(super) fn condition_call(&mut self, name: &str, within: Option<&str>) -> Result<Expr, LangError> {
        let (_, span) = self.next();
        self.expect_sign("(", &format!("after `{name}`"))?;
        if name == "has_key" {
            return self.has_key(span);
        }
        let (text, operand) = self.text_argument(name)?;
        if name == "has_value" && (!operand.open || within.is_some()) {
            return Err(LangError::new(operand.span, "`has_value` takes a field with several values, without index"));
        }
        operand.check_each(within)?;
        let bytes = self.literal_argument(name)?.0.into_boxed_slice();
        self.expect_sign(")", &format!("to close `{name}(`"))?;
        let check = match name {
            "starts_with" => TextTest::StartsWith(bytes),
            "ends_with" => TextTest::EndsWith(bytes),
            _ => TextTest::Equal(bytes),
        };
        Ok(Expr::Text(text, check))
    }

    fn has_key(&mut self, span: Span) -> Result<Expr, LangError> {
        let (token, place) = self.next();
        let table = match &token {
            Token::Name(name) => Some(Field::by_name(name).ok_or_else(|| unknown_field(name, place))?),
            _ => None,
        };
        let tables = |f: &Field| matches!(f, Field::Headers | Field::Args | Field::Cookies | Field::ResponseHeaders);
        let Some(table) = table.filter(tables) else {
            let message = "`has_key` takes `http.request.headers`, `http.request.uri.args` or `http.request.cookies`";
            return Err(LangError::new((span.0, place.1), message));
        };
        let (key, key_span) = self.literal_argument("has_key")?;
        let field: TextField = entry(&table, key).map_err(|message| LangError::new(key_span, message))?;
        self.expect_sign(")", "to close `has_key(`")?;
        let some = RangeSet::new(vec![(1, u64::MAX.into())]);
        Ok(Expr::Int(IntTerm::Count(Text::field(field)), some))
    }
}

/// The message for a function that is not known.
pub(super) fn unknown_function(name: &str) -> String {
    let known: Vec<&str> = FUNCTIONS.into_iter().chain(CONDITIONS).collect();
    format!("unknown function `{name}`{}", hint(name, known))
}

/// A regular expression, bounded in what it takes.
pub(super) fn regex(pattern: &[u8]) -> Result<regex::bytes::Regex, String> {
    let pattern = std::str::from_utf8(pattern).map_err(|_| "a regular expression is UTF-8".to_owned())?;
    RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build().map_err(
        |e| match e {
            regex::Error::CompiledTooBig(limit) => {
                format!("this regular expression takes more than {limit} bytes compiled")
            }
            other => {
                let full = other.to_string();
                let last = full.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                format!("not a regular expression: {}", last.trim_start_matches("error: "))
            }
        },
    )
}
