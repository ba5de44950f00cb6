//! The `Priority` field of a request (RFC 9218 sections 4 and 5): how urgent its answer is to the client. Whether it can be shown as it
//! comes in (`i`) is not looked at.

use http::HeaderName;

use crate::fields::Fields;
use crate::special::Special;

/// The field.
const PRIORITY: HeaderName = HeaderName::from_static("priority");
/// Urgencies there are.
pub const LEVELS: usize = 8;
/// What a request has that says nothing (section 4.1).
const DEFAULT: u8 = 3;

/// How urgent an answer is: 0 before all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency(u8);

impl Default for Urgency {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl Urgency {
    /// As a field says; the default where that is not readable, which is to be ignored (section 4). Of a member that comes twice the
    /// last one counts (RFC 9651 section 3.2).
    pub fn of(field: &[u8]) -> Self {
        let mut found = Self::default();
        for member in field.split(|byte| *byte == b',') {
            let value = member.split(|byte| *byte == b';').next().unwrap_or_default();
            if let [b'u', b'=', level @ b'0'..=b'7'] = value.trim_ascii() {
                found = Self(level - b'0');
            }
        }
        found
    }

    /// As a request's header says; None where it says nothing.
    pub fn asked(headers: &Fields) -> Option<Self> {
        headers.get_special(Special::PRIORITY, PRIORITY).map(|field| Self::of(field.as_bytes()))
    }

    /// Below [`LEVELS`].
    pub fn level(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readable_urgency_counts() {
        for (field, level) in [
            ("u=0", 0),
            ("u=5, i", 5),
            ("i,u=7", 7),
            (" u=1;x=2 ", 1),
            ("u=1, u=6", 6),
            ("", 3),
            ("i", 3),
            ("u=8", 3),
            ("u=-1", 3),
            ("u=10", 3),
            ("U=1", 3),
            ("xu=1", 3),
            ("u = 1", 3),
        ] {
            assert_eq!(Urgency::of(field.as_bytes()).level(), level, "{field:?}");
        }
    }
}
