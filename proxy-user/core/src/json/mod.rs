//! JSON that people write: parsed within bounds, with a line for every fault. Knows no config and no policy.

pub(crate) mod positions;
pub(crate) mod shape;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use shape::Fault;

/// Most bytes of one config or policy file.
pub const MAX_JSON_BYTES: usize = 16 << 20;
/// Most faults that are reported of one file.
pub const MAX_DIAGNOSTICS: usize = 50;

/// A syntactically right document, with its text to find positions in.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    text: &'a str,
    /// What the text says.
    pub value: Value,
}

/// What could be read of a document: the typed form where that was possible, and all faults found so far.
pub(crate) type Read<T> = (Option<T>, Vec<Fault>);

impl<'a> Document<'a> {
    /// Parses; a syntax error or a key written twice is an error.
    pub fn parse(text: &'a str) -> Result<Self, Vec<Diagnostic>> {
        let at = |line, column, message| vec![Diagnostic { pointer: String::new(), line, column, message }];
        if text.len() > MAX_JSON_BYTES {
            return Err(at(1, 1, format!("the file has {} bytes; at most {MAX_JSON_BYTES} are read", text.len())));
        }
        let value = serde_json::from_str(text).map_err(|e| {
            let (line, column) = (e.line().max(1), e.column().max(1));
            let full = e.to_string();
            let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
            at(line, column, format!("not JSON: {what}"))
        })?;
        let document = Self { text, value };
        let twice: Vec<Diagnostic> = positions::duplicate_keys(text)
            .into_iter()
            .take(MAX_DIAGNOSTICS)
            .map(|(pointer, offset)| {
                let message = "this key stands here a second time; keep one of them".to_owned();
                document.diagnostic(pointer, offset, message)
            })
            .collect();
        if twice.is_empty() { Ok(document) } else { Err(twice) }
    }

    /// Checks against a JSON Schema and reads into `T`. Faulty keys that may be absent are left out for the second,
    /// so that the caller can look for faults of meaning in the rest.
    pub fn read<T: DeserializeOwned>(&self, schema: &Value) -> Read<T> {
        let mut faults = shape::check(schema, &self.value);
        let mut value = self.value.clone();
        for fault in &faults {
            if fault.removable {
                shape::remove(&mut value, &fault.pointer);
            }
        }
        match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(typed) => (Some(typed), faults),
            Err(e) => {
                // What the schema cannot say; with other faults at hand this one follows from them.
                if faults.is_empty() {
                    faults.push(Fault::at(serde_pointer(e.path()), e.inner().to_string()));
                }
                (None, faults)
            }
        }
    }

    /// Gives each fault its line, in the order of the text, bounded.
    pub fn locate(&self, faults: Vec<Fault>) -> Vec<Diagnostic> {
        let left_out = faults.len().saturating_sub(MAX_DIAGNOSTICS);
        let mut found: Vec<Diagnostic> = faults.into_iter().take(MAX_DIAGNOSTICS).map(|f| self.place(f)).collect();
        found.sort_by(|a, b| (a.line, a.column, &a.pointer).cmp(&(b.line, b.column, &b.pointer)));
        found.dedup();
        if left_out > 0 {
            let message = format!("and {left_out} more faults, not listed");
            found.push(Diagnostic { pointer: String::new(), line: 1, column: 1, message });
        }
        found
    }

    fn place(&self, fault: Fault) -> Diagnostic {
        let place = positions::find(self.text, &fault.pointer).unwrap_or_default();
        let offset = match fault.inside {
            Some(inside) => positions::inside_string(self.text, place.value, inside),
            None if fault.at_key => place.key.unwrap_or(place.value),
            None => place.value,
        };
        self.diagnostic(fault.pointer, offset, fault.message)
    }

    fn diagnostic(&self, pointer: String, offset: usize, message: String) -> Diagnostic {
        let (line, column) = positions::line_column(self.text, offset);
        Diagnostic { pointer, line, column, message }
    }
}

/// Appends a segment to a JSON pointer, escaped (RFC 6901 section 3).
pub(crate) fn join(pointer: &str, segment: &str) -> String {
    format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

/// The JSON pointer of a place that serde has come to.
pub(crate) fn serde_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => join(&pointer, &index.to_string()),
        Segment::Map { key } => join(&pointer, key),
        Segment::Enum { variant } => join(&pointer, variant),
        Segment::Unknown => pointer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_have_a_line() {
        let faults = Document::parse("{\n  \"a\": 1,\n}").unwrap_err();
        assert_eq!((faults[0].line, faults[0].column), (3, 1));
        assert!(faults[0].message.starts_with("not JSON: trailing comma"), "{}", faults[0].message);
        assert_eq!(Document::parse("").unwrap_err()[0].line, 1);
    }

    #[test]
    fn keys_written_twice() {
        let faults = Document::parse("{\"a\": {\"b/c\": 1,\n \"b\\u002fc\": 2}}").unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!((faults[0].pointer.as_str(), faults[0].line, faults[0].column), ("/a/b~1c", 2, 2));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = Document::parse(&text);
        }

        #[test]
        fn never_panics_on_json_like(text in "[\\[\\]{}:,\"a\\\\0-9 \n.e-]*") {
            let _ = Document::parse(&text);
        }
    }
}
