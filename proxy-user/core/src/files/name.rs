//! From a request's path to the name of a file below a root.

use percent_encoding::percent_decode_str;

/// Where a request leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Relative to the root, without slashes at its ends; empty for the root.
    pub file: String,
    /// Whether the path ended with a slash, so that a directory is meant.
    pub directory: bool,
}

/// The file that a path means, percent-encoding undone; `None` for what cannot be a file here: a segment that is `.` or
/// `..` or has a slash or a zero byte in it, one that is not UTF-8, and with `hidden` off one that begins with a dot,
/// other than `.well-known` (RFC 8615).
pub fn local(path: &str, hidden: bool) -> Option<Name> {
    let mut file = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        let bad = segment == "." || segment == ".." || segment.contains(['/', '\0']);
        if bad || !hidden && segment.starts_with('.') && segment != ".well-known" {
            return None;
        }
        if !file.is_empty() {
            file.push('/');
        }
        file.push_str(&segment);
    }
    Some(Name { directory: file.is_empty() || path.ends_with('/'), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (path, file, directory) in [
            ("", "", true),
            ("/", "", true),
            ("/a/b.txt", "a/b.txt", false),
            ("//a///b/", "a/b", true),
            ("/a%20b/%C3%BC", "a b/ü", false),
            ("/.well-known/x", ".well-known/x", false),
            ("/a..b/...", "a..b/...", false),
        ] {
            let found = local(path, path.contains("...")).unwrap();
            assert_eq!((found.file.as_str(), found.directory), (file, directory), "{path}");
        }
        for path in ["/..", "/a/../b", "/%2e%2E/a", "/..%2fetc", "/a%2fb", "/a%00", "/%ff", "/.env", "/a/.git/config"] {
            assert_eq!(local(path, false), None, "{path}");
        }
        assert_eq!(local("/.env", true).unwrap().file, ".env");
    }

    proptest::proptest! {
        #[test]
        fn never_leads_up(path in "[/.%a2eEfF0\\\\]{0,20}", hidden: bool) {
            if let Some(name) = local(&path, hidden) {
                let up = name.file.split('/').any(|segment| segment == ".." || segment == ".");
                proptest::prop_assert!(!up && !name.file.starts_with('/') && !name.file.contains('\0'));
            }
        }
    }
}
