//! Paths of routes: a prefix, one path alone, or a pattern with captures. A match allocates nothing.
//!
//! Paths are compared after percent-encoded unreserved characters are decoded (RFC 3986 section 6.2.2.2), so that `/%61`
//! is `/a` for the route as it is for the origin.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

/// Most segments of a pattern, and so most captures.
pub const MAX_SEGMENTS: usize = 32;

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// This path alone.
    Exact(String),
    /// This path and what lies below it; without its closing slash, so empty for all paths.
    Prefix(String),
    /// Segment by segment.
    Pattern(Pattern),
}

/// Segments behind the slashes of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    segments: Vec<Segment>,
    /// Whether a closing `{name*}` takes what follows, which may be nothing.
    rest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    /// Not empty.
    Capture(String),
}

/// Where captures stand in a path, in the order of [`PathMatch::names`].
pub type Captures = SmallVec<[Range<usize>; 4]>;

impl PathMatch {
    /// Reads the form of the config.
    ///
    /// # Errors
    /// What is wrong with it, and the form that is taken.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (exact, path) = text.strip_prefix('=').map_or((false, text), |path| (true, path));
        if !path.starts_with('/') {
            return Err(format!("`{text}` does not start with `/`"));
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '*') || !c.is_ascii();
        let braces = path.contains(['{', '}']);
        if exact && braces {
            return Err(format!("`{text}`: a path alone has no captures; leave `=` out, patterns are for whole paths"));
        }
        if braces {
            return Pattern::parse(path).map(Self::Pattern).map_err(|what| format!("`{text}`: {what}"));
        }
        if let Some(c) = path.chars().find(|c| odd(*c)) {
            return Err(format!(
                "`{text}` has {c:?}; write a plain path without query, or a pattern such as `/users/{{id}}`"
            ));
        }
        let path = normalized(path).into_owned();
        Ok(if exact { Self::Exact(path) } else { Self::Prefix(path.trim_end_matches('/').to_owned()) })
    }

    /// Whether a path, normalized, is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            // The empty prefix covers also the `*` of `OPTIONS *`.
            Self::Prefix(prefix) => {
                prefix.is_empty()
                    || path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Pattern(pattern) => pattern.walk(path, |_| {}),
        }
    }

    /// Where the captures of a matching path are; of a prefix, what follows it. None where the path does not match.
    pub fn captures(&self, path: &str) -> Option<Captures> {
        let mut captures = Captures::new();
        match self {
            Self::Exact(_) => {}
            Self::Prefix(prefix) => captures.push(prefix.len()..path.len()),
            Self::Pattern(pattern) => {
                pattern.walk(path, |capture| captures.push(capture));
            }
        }
        self.matches(path).then_some(captures)
    }

    /// Names of the captures.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Exact(_) => Vec::new(),
            Self::Prefix(_) => vec!["rest"],
            Self::Pattern(pattern) => {
                let captures = pattern.segments.iter().filter_map(|segment| match segment {
                    Segment::Capture(name) => Some(name.as_str()),
                    Segment::Literal(_) => None,
                });
                captures.chain(pattern.rest.as_deref()).collect()
            }
        }
    }

    /// Exact ones first, then those with more text of their own, patterns before equally long prefixes: smaller is first.
    pub(super) fn rank(&self) -> (bool, std::cmp::Reverse<usize>, bool) {
        let length = match self {
            Self::Exact(_) => 0,
            Self::Prefix(prefix) => prefix.len(),
            Self::Pattern(pattern) => pattern.literal_len(),
        };
        (!matches!(self, Self::Exact(_)), std::cmp::Reverse(length), matches!(self, Self::Prefix(_)))
    }

    /// Whether every path of `other` is one of this, as far as their forms tell: where it says yes, that is so.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(path)) => self.matches(path),
            (Self::Prefix(prefix), _) if prefix.is_empty() => true,
            (Self::Prefix(_), Self::Prefix(below)) => self.matches(below),
            (Self::Prefix(_), Self::Pattern(pattern)) => self.matches(&pattern.literal_start()),
            (Self::Pattern(pattern), Self::Pattern(other)) => pattern.covers(other),
            (Self::Pattern(pattern), Self::Prefix(prefix)) => {
                pattern.rest.is_some() && pattern.walk(&format!("{prefix}/"), |_| {}) && pattern.walk(prefix, |_| {})
            }
            (Self::Exact(_), _) => false,
        }
    }
}

impl Pattern {
    fn parse(path: &str) -> Result<Self, String> {
        let mut pattern = Self { segments: Vec::new(), rest: None };
        let mut names: Vec<&str> = Vec::new();
        for segment in path.split('/').skip(1) {
            if pattern.rest.is_some() {
                return Err("a capture with `*` takes all that follows, so nothing can stand behind it".to_owned());
            }
            if pattern.segments.len() == MAX_SEGMENTS {
                return Err(format!("more than {MAX_SEGMENTS} segments"));
            }
            let Some(name) = segment.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')) else {
                if let Some(c) =
                    segment.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '{' | '}' | '?' | '#' | '*'))
                {
                    return Err(format!(
                        "the segment `{segment}` has {c:?}; a capture is a whole segment, as `{{id}}`"
                    ));
                }
                pattern.segments.push(Segment::Literal(normalized(segment).into_owned()));
                continue;
            };
            let (name, rest) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
            if !is_name(name) || RESERVED.contains(&name) {
                return Err(format!(
                    "`{name}` cannot name a capture: use letters, digits and `_`, and none of `host`, `path`, `query`"
                ));
            }
            if names.contains(&name) {
                return Err(format!("two captures are named `{name}`"));
            }
            names.push(name);
            if rest {
                pattern.rest = Some(name.to_owned());
            } else {
                pattern.segments.push(Segment::Capture(name.to_owned()));
            }
        }
        Ok(pattern)
    }

    /// Follows a path; tells where captures are, also when it then does not match.
    fn walk(&self, path: &str, mut capture: impl FnMut(Range<usize>)) -> bool {
        let mut at = 0;
        for segment in &self.segments {
            let Some(rest) = path.get(at..).and_then(|rest| rest.strip_prefix('/')) else { return false };
            let end = at + 1 + memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
            let found = path.get(at + 1..end).unwrap_or_default();
            match segment {
                Segment::Literal(literal) if literal != found => return false,
                Segment::Literal(_) => {}
                Segment::Capture(_) if found.is_empty() => return false,
                Segment::Capture(_) => capture(at + 1..end),
            }
            at = end;
        }
        if self.rest.is_none() {
            return at == path.len();
        }
        let more = path.get(at..).is_some_and(|rest| rest.starts_with('/'));
        if more {
            capture(at + 1..path.len());
        }
        more
    }

    fn literal_len(&self) -> usize {
        let length = |segment: &Segment| match segment {
            Segment::Literal(literal) => literal.len() + 1,
            Segment::Capture(_) => 1,
        };
        self.segments.iter().map(length).sum::<usize>() + usize::from(self.rest.is_some())
    }

    /// The part before the first capture, without closing slash.
    fn literal_start(&self) -> String {
        let literals = self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(literal) => Some(format!("/{literal}")),
            Segment::Capture(_) => None,
        });
        literals.collect()
    }

    fn covers(&self, other: &Self) -> bool {
        let fits = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::Capture(_), Segment::Literal(b)) => !b.is_empty(),
            (Segment::Capture(_), Segment::Capture(_)) => true,
            (Segment::Literal(_), Segment::Capture(_)) => false,
        };
        let (mine, theirs) = (self.segments.len(), other.segments.len());
        let length = match (&self.rest, &other.rest) {
            (None, None) => mine == theirs,
            (None, Some(_)) => false,
            (Some(_), None) => mine < theirs,
            (Some(_), Some(_)) => mine <= theirs,
        };
        length && self.segments.iter().zip(&other.segments).all(fits)
    }
}

/// Names that templates give a meaning of their own.
pub(super) const RESERVED: [&str; 3] = ["host", "path", "query"];

/// Whether this can name a capture.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A path with percent-encoded unreserved characters decoded; the same text where there are none.
pub fn normalized(path: &str) -> Cow<'_, str> {
    if memchr::memchr(b'%', path.as_bytes()).is_none() {
        return Cow::Borrowed(path);
    }
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let byte = after.get(..2).filter(|two| !two.starts_with('+')).and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                text.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                text.push('%');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "={path}"),
            Self::Prefix(prefix) if prefix.is_empty() => f.write_str("/"),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Pattern(pattern) => {
                for segment in &pattern.segments {
                    match segment {
                        Segment::Literal(literal) => write!(f, "/{literal}")?,
                        Segment::Capture(name) => write!(f, "/{{{name}}}")?,
                    }
                }
                pattern.rest.as_ref().map_or(Ok(()), |name| write!(f, "/{{{name}*}}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> PathMatch {
        PathMatch::parse(text).unwrap()
    }

    #[test]
    fn forms() {
        for (form, yes, no) in [
            ("/", &["/", "/a", "*", ""][..], &[][..]),
            ("/a/b/", &["/a/b", "/a/b/", "/a/b/c"], &["/a", "/a/bc", "/"]),
            ("=/a", &["/a"], &["/a/", "/a/b", "/"]),
            ("=/", &["/"], &["", "/a"]),
            ("/u/{id}", &["/u/1"], &["/u/", "/u", "/u/1/", "/u/1/2", "/v/1"]),
            ("/u/{id}/f/{r*}", &["/u/1/f/", "/u/1/f/x/y"], &["/u/1/f", "/u/1/g/x", "/u//f/x"]),
            ("/{all*}", &["/", "/x", "/x/y"], &["", "*"]),
            ("/%7Eme", &["/~me", "/~me/x"], &["/%7eme"]),
        ] {
            for (text, meant) in yes.iter().map(|yes| (yes, true)).chain(no.iter().map(|no| (no, false))) {
                assert_eq!(path(form).matches(text), meant, "{form} and {text}");
            }
            assert_eq!(PathMatch::parse(&path(form).to_string()).as_ref(), Ok(&path(form)));
        }
        for bad in [
            "", "a", "/a b", "/a?b", "/a*", "=/{id}", "/{id}x", "/{a}/{a}", "/{host}", "/{a*}/b", "/{}", "/{a b}", "/é",
        ] {
            assert!(PathMatch::parse(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn captures_are_where_they_are() {
        let of = |form: &str, text: &'static str| {
            path(form).captures(text).map(|found| found.into_iter().map(|at| &text[at]).collect::<Vec<_>>())
        };
        assert_eq!(of("/u/{id}/{rest*}", "/u/7/a/b"), Some(vec!["7", "a/b"]));
        assert_eq!(of("/u/{id}/{rest*}", "/u/7/"), Some(vec!["7", ""]));
        assert_eq!(of("/u/{id}", "/u/7/8"), None);
        assert_eq!(of("/api", "/api/x"), Some(vec!["/x"]));
        assert_eq!(of("/api", "/apix"), None);
        assert_eq!(path("/u/{id}/{rest*}").names(), ["id", "rest"]);
    }

    #[test]
    fn only_unreserved_characters_are_decoded() {
        for (sent, as_is) in
            [("/a", "/a"), ("/%61%2e%7E", "/a.~"), ("/%2f%25%zz%4", "/%2f%25%zz%4"), ("/%+1%é", "/%+1%é")]
        {
            assert_eq!(normalized(sent), as_is);
        }
    }

    proptest! {
        /// Where one form covers another, no path of the other is missing from it.
        #[test]
        fn covering_is_sound(
            forms in prop::collection::vec("=?(/(a|b|\\{x\\}|)){1,3}(/\\{y\\*\\})?", 2),
            text in "(/(a|b|c|)){0,4}",
        ) {
            if let (Ok(a), Ok(b)) = (PathMatch::parse(&forms[0]), PathMatch::parse(&forms[1]))
                && a.covers(&b) && b.matches(&text) {
                prop_assert!(a.matches(&text), "{a} covers {b}, but not {text}");
            }
        }

        #[test]
        fn never_panics(form in "\\PC*", text in "\\PC*") {
            if let Ok(path) = PathMatch::parse(&form) {
                let _ = path.captures(&text);
            }
            let _ = normalized(&text);
        }
    }
}
