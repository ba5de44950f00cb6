//! Texts of a test's values: headers, bytes, names of fields.

use http::{HeaderName, HeaderValue};

use crate::diagnostic::hint;
use crate::policy::lang::{Field, KNOWN_FIELDS, TextField, unfed};

pub(super) fn header_value(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| "this cannot be the value of a header".to_owned())
}

/// Bytes of hex digits; blanks and colons between them do not count.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !matches!(c, ' ' | ':')).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| match pair {
        [high, low] => Some((high << 4 | low) as u8),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

/// The field that a key of `given` names.
pub(super) fn field_of(key: &str) -> Result<Field, String> {
    if let Some((table, name)) = key.strip_suffix("\"]").and_then(|rest| rest.split_once("[\"")) {
        match Field::by_name(table) {
            Some(table @ (Field::Headers | Field::ResponseHeaders)) => {
                let name =
                    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header's name"))?;
                let field =
                    if table == Field::Headers { TextField::Header(name) } else { TextField::ResponseHeader(name) };
                return Ok(Field::Text(field));
            }
            Some(Field::Args) => return Ok(Field::Text(TextField::Arg(name.as_bytes().into()))),
            Some(Field::Cookies) => return Ok(Field::Text(TextField::Cookie(name.as_bytes().into()))),
            _ => return Err(format!("unknown field `{key}`{}", hint(table, KNOWN_FIELDS))),
        }
    }
    match Field::by_name(key) {
        Some(Field::Headers | Field::Args | Field::Cookies | Field::ResponseHeaders) => {
            Err(format!("a name is missing: write `{key}[\\\"name\\\"]`"))
        }
        Some(field) => Ok(field),
        None => Err(match unfed(key) {
            Some(why) => format!("the field `{key}` cannot be used here: {why}"),
            None => format!("unknown field `{key}`{}", hint(key, KNOWN_FIELDS)),
        }),
    }
}
