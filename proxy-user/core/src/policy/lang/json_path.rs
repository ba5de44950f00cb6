//! Look-ups in JSON text: one pass that keeps nothing but the value looked for. Text that is no JSON to its end has no
//! values, and of a name that stands twice the last counts, as with most parsers.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::value::Key;

/// A value that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A string.
    Text(String),
    /// A whole number.
    Int(i64),
}

/// The string or whole number at `path`.
pub(super) fn look_up(json: &[u8], path: &[Key]) -> Option<Found> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = At(path).deserialize(&mut reader).ok()?;
    reader.end().ok().and(found)
}

/// What is left of the path.
struct At<'p>(&'p [Key]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Found>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl At<'_> {
    fn end(&self, found: Found) -> Option<Found> {
        self.0.is_empty().then_some(found)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Found>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.end(Found::Int(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).ok().and_then(|number| self.end(Found::Int(number))))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.end(Found::Text(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let (wanted, rest) = match self.0.split_first() {
            Some((Key::Index(index), rest)) => (Some(*index), rest),
            _ => (None, self.0),
        };
        let mut place = 0;
        loop {
            if wanted == Some(place) {
                match items.next_element_seed(At(rest))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            place += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            match self.0.split_first() {
                Some((Key::Name(wanted), rest)) if **wanted == *name.as_bytes() => {
                    found = members.next_value_seed(At(rest))?;
                }
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_path() {
        let json = br#" {"a": {"b": [1, {"c": "x\n"}, -7, 1.5]}, "n": 1, "n": 2, "t": true, "a\"": "q"} "#;
        let name = |name: &str| Key::Name(name.as_bytes().into());
        for (path, found) in [
            (vec![name("n")], Some(Found::Int(2))),
            (vec![name("a"), name("b"), Key::Index(0)], Some(Found::Int(1))),
            (vec![name("a"), name("b"), Key::Index(1), name("c")], Some(Found::Text("x\n".to_owned()))),
            (vec![name("a"), name("b"), Key::Index(2)], Some(Found::Int(-7))),
            (vec![name("a"), name("b"), Key::Index(3)], None),
            (vec![name("a"), name("b"), Key::Index(9)], None),
            (vec![name("a"), name("b")], None),
            (vec![name("n"), name("x")], None),
            (vec![name("t")], None),
            (vec![name("a\"")], Some(Found::Text("q".to_owned()))),
            (vec![], None),
        ] {
            assert_eq!(look_up(json, &path), found, "{path:?}");
        }
        assert_eq!(look_up(b"\"top\"", &[]), Some(Found::Text("top".to_owned())));
        for broken in [&b"{\"n\": 1"[..], b"{\"n\": 1} x", b"", b"\xff"] {
            assert_eq!(look_up(broken, &[name("n")]), None);
        }
    }
}
