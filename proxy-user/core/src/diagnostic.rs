//! What is wrong in a file that a person wrote, and where: one type for configs and policies. It reads no files.

use std::fmt;

/// One fault of a JSON file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was found, what was expected, and the nearest known name. More lines may follow the first.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    /// `12:5: /listeners/0/protocol: message`; put the file's name and a colon in front.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

/// A [`Diagnostic`] and the file it is about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FileDiagnostic {
    /// The name under which the text was given.
    pub file: String,
    /// What is wrong.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
}

impl fmt::Display for FileDiagnostic {
    /// `tidegate.json:12:5: /listeners/0/protocol: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.diagnostic)
    }
}

/// Known names less alike than this (Jaro-Winkler, 0 to 1) are not offered, unless one typing slip leads to them.
const NEAR_ENOUGH: f64 = 0.72;

/// The known name that a mistyped one most likely stands for.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = found.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        // A letter too much, too few, wrong, or swapped with its neighbour.
        let slip = strsim::osa_distance(&lower, &name) == 1 && name.chars().count() > 1;
        strsim::jaro_winkler(&lower, &name).max(if slip { NEAR_ENOUGH } else { 0.0 })
    };
    known
        .into_iter()
        .map(|name| (likeness(name), name))
        .filter(|(score, _)| *score >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// `; did you mean `x`?`, or the known names where they are few, or nothing.
pub fn hint<'a>(found: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    /// More names than this are not listed.
    const LISTED: usize = 12;
    if let Some(name) = nearest(found, known.clone()) {
        return format!("; did you mean `{name}`?");
    }
    let names: Vec<String> = known.into_iter().take(LISTED + 1).map(|name| format!("`{name}`")).collect();
    if names.is_empty() || names.len() > LISTED { String::new() } else { format!("; known: {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        assert_eq!(nearest("protcol", ["address", "protocol", "name"]), Some("protocol"));
        assert_eq!(nearest("tpc", ["tcp", "udp"]), Some("tcp"));
        assert_eq!(nearest("zzz", ["address", "protocol"]), None);
        assert_eq!(hint("Httpp", ["http", "https"]), "; did you mean `http`?");
        assert_eq!(hint("qqq", ["http", "https"]), "; known: `http`, `https`");
    }
}
