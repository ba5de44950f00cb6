//! Texts with names in braces: the path that an origin gets, or where a client is sent.

use super::path::{PathMatch, RESERVED, is_name, normalized};

/// A text with places to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// Whether it has a query of its own.
    has_query: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Host,
    Path,
    Query,
    /// By its place among the names of the path.
    Capture(usize),
}

impl Template {
    /// Reads `text`, whose names are captures of `path`, or `host`, `path` and `query`.
    ///
    /// # Errors
    /// A name that is none of them, a lone brace, or a character that no URL has.
    pub fn parse(text: &str, path: &PathMatch) -> Result<Self, String> {
        if let Some(c) =
            text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '|'))
        {
            return Err(format!("`{text}` has {c:?}, which must be percent-encoded in a URL"));
        }
        let names = path.names();
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| format!("`{text}` has a `{{` without its `}}`"))?;
            push_text(&mut parts, before, text)?;
            parts.push(match name {
                "host" => Part::Host,
                "path" => Part::Path,
                "query" => Part::Query,
                name => {
                    let place = names.iter().position(|known| *known == name);
                    Part::Capture(place.ok_or_else(|| unknown(text, name, &names))?)
                }
            });
            rest = after;
        }
        push_text(&mut parts, rest, text)?;
        let has_query = text.contains('?') || parts.contains(&Part::Query);
        Ok(Self { parts, has_query })
    }

    /// Fills it. `path` is the request's as sent; `form` the one that the template was read with.
    pub fn fill(&self, form: &PathMatch, host: &str, path: &str, query: Option<&str>) -> String {
        let path = normalized(path);
        let captures = form.captures(&path).unwrap_or_default();
        self.parts.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Host => text.push_str(host),
                Part::Path => text.push_str(&path),
                Part::Query => text.push_str(query.unwrap_or_default()),
                Part::Capture(index) => {
                    let found = captures.get(*index).and_then(|at| path.get(at.clone()));
                    text.push_str(found.unwrap_or_default());
                }
            }
            text
        })
    }

    /// Fills it as a path: one slash in front, whatever the captures were.
    pub fn path(&self, form: &PathMatch, host: &str, path: &str, query: Option<&str>) -> String {
        let filled = self.fill(form, host, path, query);
        // Two slashes in front would be a host to whoever reads it as a reference (RFC 3986 section 4.2).
        format!("/{}", filled.trim_start_matches(['/', '\\']))
    }

    /// Fills it as the target of a redirect: the request's query goes along unless the template has one.
    pub fn location(&self, form: &PathMatch, host: &str, path: &str, query: Option<&str>) -> String {
        let whole = matches!(self.parts.first(), Some(Part::Text(text)) if !text.starts_with('/'));
        let target = if whole { self.fill(form, host, path, query) } else { self.path(form, host, path, query) };
        match query {
            Some(query) if !self.has_query && !query.is_empty() => format!("{target}?{query}"),
            _ => target,
        }
    }
}

fn unknown(text: &str, name: &str, names: &[&str]) -> String {
    let known: Vec<_> = names.iter().chain(&RESERVED).map(|name| format!("`{{{name}}}`")).collect();
    let shown = if is_name(name) { name } else { "?" };
    format!("`{text}`: there is no `{{{shown}}}` here; known: {}", known.join(", "))
}

fn push_text(parts: &mut Vec<Part>, part: &str, text: &str) -> Result<(), String> {
    if part.contains('}') {
        return Err(format!("`{text}` has a `}}` without its `{{`"));
    }
    if !part.is_empty() {
        parts.push(Part::Text(part.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(form: &str, to: &str, path: &str, query: Option<&str>) -> String {
        let form = PathMatch::parse(form).unwrap();
        Template::parse(to, &form).unwrap().location(&form, "a.test", path, query)
    }

    #[test]
    fn targets() {
        assert_eq!(located("/", "https://{host}{path}", "/x", Some("a=1")), "https://a.test/x?a=1");
        assert_eq!(located("/old", "/new{rest}", "/old/1", None), "/new/1");
        assert_eq!(located("/u/{id}", "/users?id={id}", "/u/7", Some("a=1")), "/users?id=7");
        assert_eq!(located("/u/{id}", "/users?id={id}&{query}", "/u/7", Some("a=1")), "/users?id=7&a=1");
        // A client cannot make a path into another host.
        assert_eq!(located("/", "{rest}", "//evil.test/", None), "/evil.test/");
        assert_eq!(located("/go/{to*}", "/{to}", "/go//evil.test", None), "/evil.test");
    }

    #[test]
    fn faults_name_what_is_known() {
        let form = PathMatch::parse("/u/{id}").unwrap();
        let fault = |text: &str| Template::parse(text, &form).unwrap_err();
        assert_eq!(fault("/{ID}"), "`/{ID}`: there is no `{ID}` here; known: `{id}`, `{host}`, `{path}`, `{query}`");
        assert_eq!(fault("/{id"), "`/{id` has a `{` without its `}`");
        assert_eq!(fault("/id}"), "`/id}` has a `}` without its `{`");
        assert!(fault("/a b").contains("percent-encoded"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*", path in "\\PC*") {
            let form = PathMatch::parse("/u/{id}/{r*}").unwrap();
            if let Ok(template) = Template::parse(&text, &form) {
                let _ = template.location(&form, "h", &path, Some("q"));
            }
        }

        /// A target without a host never gets one from the path.
        #[test]
        fn no_other_host(path in "/[a-z/\\\\.:%0-9]{0,12}") {
            let to = located("/", "{path}", &path, None);
            proptest::prop_assert!(to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\"), "{to}");
        }
    }
}
