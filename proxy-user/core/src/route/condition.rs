//! Conditions of a route beside host and path: methods, header fields, parameters of the query.

use http::{HeaderName, Method};
use percent_encoding::percent_decode_str;

use crate::config;
use crate::fields::Fields;

/// What a route looks at of a request; host lower case and without port, path as sent and without query.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Empty when the client sent none.
    pub host: &'a str,
    /// As sent.
    pub path: &'a str,
    /// As sent.
    pub query: Option<&'a str>,
    /// As sent.
    pub method: &'a Method,
    /// As sent.
    pub headers: &'a Fields,
}

/// All of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Conditions {
    methods: Vec<Method>,
    headers: Vec<(HeaderName, Want)>,
    query: Vec<(String, Want)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Want {
    Present,
    Absent,
    Value(String),
    Prefix(String),
}

impl Conditions {
    /// Those of a route; the error is one that the config's check words better.
    pub fn new(route: &config::Route) -> Result<Self, String> {
        let methods =
            route.methods.iter().map(|method| Method::from_bytes(method.as_bytes()).map_err(|e| e.to_string()));
        let header = |condition: &config::Condition| {
            let name = HeaderName::from_bytes(condition.name.as_bytes()).map_err(|e| e.to_string())?;
            Ok::<_, String>((name, Want::new(condition)))
        };
        Ok(Self {
            methods: methods.collect::<Result<_, _>>()?,
            headers: route.headers.iter().map(header).collect::<Result<_, _>>()?,
            query: route.query.iter().map(|condition| (condition.name.clone(), Want::new(condition))).collect(),
        })
    }

    pub fn hold(&self, request: &Request<'_>) -> bool {
        (self.methods.is_empty() || self.methods.contains(request.method))
            && self.headers.iter().all(|(name, want)| {
                let values = request.headers.get_all(name);
                want.is_met(values.map(http::HeaderValue::as_bytes))
            })
            && self.query.iter().all(|(name, want)| {
                let found: Vec<_> = parameters(request.query).filter(|(key, _)| is_named(key, name)).collect();
                let values: Vec<Vec<u8>> = found.iter().map(|(_, value)| percent_decode_str(value).collect()).collect();
                want.is_met(values.iter().map(Vec::as_slice))
            })
    }

    /// How many there are: whether methods are named, header fields, parameters.
    pub fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }

    /// Whether they hold wherever those of `other` do, as far as their forms tell.
    pub fn follow_from(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || !other.methods.is_empty() && other.methods.iter().all(|method| self.methods.contains(method));
        let headers = self
            .headers
            .iter()
            .all(|(name, want)| other.headers.iter().any(|(theirs, given)| theirs == name && want.follows_from(given)));
        let query = self
            .query
            .iter()
            .all(|(name, want)| other.query.iter().any(|(theirs, given)| theirs == name && want.follows_from(given)));
        methods && headers && query
    }
}

impl Want {
    fn new(condition: &config::Condition) -> Self {
        match condition {
            config::Condition { absent: true, .. } => Self::Absent,
            config::Condition { value: Some(value), .. } => Self::Value(value.clone()),
            config::Condition { prefix: Some(prefix), .. } => Self::Prefix(prefix.clone()),
            _ => Self::Present,
        }
    }

    fn is_met<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> bool {
        match self {
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
            Self::Value(wanted) => values.any(|value| value == wanted.as_bytes()),
            Self::Prefix(prefix) => values.any(|value| value.starts_with(prefix.as_bytes())),
        }
    }

    fn follows_from(&self, given: &Self) -> bool {
        match (self, given) {
            (Self::Absent, Self::Absent) => true,
            (Self::Present, given) => *given != Self::Absent,
            (Self::Value(a), Self::Value(b)) => a == b,
            (Self::Prefix(a), Self::Value(b) | Self::Prefix(b)) => b.starts_with(a.as_str()),
            _ => false,
        }
    }
}

/// Names and values of a query, still percent-encoded.
pub(super) fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

pub(super) fn is_named(encoded: &str, name: &str) -> bool {
    encoded == name || percent_decode_str(encoded).eq(name.bytes())
}
