//! Which upstream takes a request: exact host, then the longest wildcard, then routes for any host; among the routes of
//! the first of these that has one, the longest path prefix on segment borders. A look-up allocates nothing.

use std::collections::HashMap;

use crate::config::Config;
use crate::host::HostPattern;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    /// Index of the route in `routes`.
    pub route: usize,
    /// Name of the upstream.
    pub upstream: String,
    /// Place of the upstream in the order of `config.upstreams` (by name).
    pub upstream_index: usize,
}

/// A prefix without its closing slash, and where it leads.
type Prefixes = Vec<(String, RouteTarget)>;

/// All routes of a config, ready for look-ups.
#[derive(Clone, Debug, Default)]
pub struct Router {
    exact: HashMap<String, Prefixes>,
    /// By suffix, which starts with a dot.
    suffix: HashMap<String, Prefixes>,
    any: Prefixes,
}

/// A path prefix without the slash at its end, which means the same.
pub(crate) fn normal(path: &str) -> &str {
    path.trim_end_matches('/')
}

impl Router {
    /// Takes the routes of a valid config; what `config::parse` would refuse is left out.
    pub fn new(config: &Config) -> Self {
        let mut router = Self::default();
        for (index, route) in config.routes.iter().enumerate() {
            let Some(upstream_index) = config.upstreams.keys().position(|name| *name == route.upstream) else {
                continue;
            };
            let target = RouteTarget { route: index, upstream: route.upstream.clone(), upstream_index };
            let entry = (normal(&route.path).to_owned(), target);
            if route.hosts.is_empty() {
                router.any.push(entry.clone());
            }
            for host in &route.hosts {
                match host.parse() {
                    Ok(HostPattern::Exact(name)) => router.exact.entry(name).or_default().push(entry.clone()),
                    Ok(HostPattern::Suffix(end)) => router.suffix.entry(end).or_default().push(entry.clone()),
                    Err(_) => {}
                }
            }
        }
        let lists = router.exact.values_mut().chain(router.suffix.values_mut()).chain([&mut router.any]);
        // Longest first; the sort is stable, so of two equal prefixes the first written is found.
        lists.for_each(|list| list.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len())));
        router
    }

    /// The route for a host (lower case, without port; empty when the client sent none) and a path without query.
    pub fn find(&self, host: &str, path: &str) -> Option<&RouteTarget> {
        // A name with its root dot is the same name.
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Some(found) = self.exact.get(host).and_then(|list| longest(list, path)) {
            return Some(found);
        }
        if !self.suffix.is_empty() {
            // Suffixes from the longest: each starts at a dot, the first label is never empty.
            let dots = host.bytes().enumerate().skip(1).filter(|(_, b)| *b == b'.');
            for (at, _) in dots {
                let list = host.get(at..).and_then(|end| self.suffix.get(end));
                if let Some(found) = list.and_then(|list| longest(list, path)) {
                    return Some(found);
                }
            }
        }
        longest(&self.any, path)
    }
}

fn longest<'a>(list: &'a Prefixes, path: &str) -> Option<&'a RouteTarget> {
    let covers = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // The prefix `/` is stored as the empty one and covers also the `*` of `OPTIONS *`.
    list.iter().find(|(prefix, _)| prefix.is_empty() || covers(prefix)).map(|(_, target)| target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(routes: &[(&[&str], &str)]) -> Config {
        let upstreams: serde_json::Map<String, serde_json::Value> = (0..routes.len())
            .map(|i| (format!("u{i:02}"), serde_json::json!({ "servers": ["http://127.0.0.1:8080"] })))
            .collect();
        let routes: Vec<_> = routes
            .iter()
            .enumerate()
            .map(|(i, (hosts, path))| serde_json::json!({ "hosts": hosts, "path": path, "upstream": format!("u{i:02}") }))
            .collect();
        serde_json::from_value(serde_json::json!({ "listeners": [], "routes": routes, "upstreams": upstreams }))
            .expect("a config")
    }

    #[test]
    fn order_of_hosts_and_paths() {
        let router = Router::new(&config(&[
            (&[], "/"),
            (&["shop.example.com"], "/"),
            (&["*.example.com"], "/"),
            (&["*.eu.example.com"], "/"),
            (&["shop.example.com"], "/api/"),
            (&["only.example.com"], "/a/b"),
        ]));
        let found = |host, path| router.find(host, path).map(|t| (t.route, t.upstream_index));
        assert_eq!(found("shop.example.com", "/"), Some((1, 1)));
        assert_eq!(found("shop.example.com", "/api"), Some((4, 4)));
        assert_eq!(found("shop.example.com", "/api/x"), Some((4, 4)));
        assert_eq!(found("shop.example.com", "/apix"), Some((1, 1)));
        assert_eq!(found("shop.example.com.", "/"), Some((1, 1)));
        assert_eq!(found("a.b.example.com", "/"), Some((2, 2)));
        assert_eq!(found("a.eu.example.com", "/"), Some((3, 3)));
        assert_eq!(found("example.com", "/"), Some((0, 0)));
        assert_eq!(found(".example.com", "/"), Some((0, 0)), "an empty label is no name");
        assert_eq!(found("", "*"), Some((0, 0)));
        // The exact host has no route for the path: the wildcard's is taken.
        assert_eq!(found("only.example.com", "/a/bc"), Some((2, 2)));
        assert_eq!(found("only.example.com", "/a/b/c"), Some((5, 5)));
    }

    /// The rule as the guide words it, without any structure.
    fn naive(config: &Config, host: &str, path: &str) -> Option<usize> {
        let rank = |pattern: &str| match pattern.strip_prefix('*') {
            None => (pattern == host).then_some(usize::MAX),
            Some(end) => (host.ends_with(end) && host.len() > end.len()).then_some(end.len()),
        };
        let mut best: Option<((usize, usize), usize)> = None;
        for (index, route) in config.routes.iter().enumerate() {
            let prefix = route.path.trim_end_matches('/');
            if !(prefix.is_empty() || path == prefix || path.starts_with(&format!("{prefix}/"))) {
                continue;
            }
            let host_rank =
                if route.hosts.is_empty() { Some(0) } else { route.hosts.iter().filter_map(|h| rank(h)).max() };
            if let Some(host_rank) = host_rank {
                let key = (host_rank, prefix.len());
                if best.is_none_or(|(b, _)| key > b) {
                    best = Some((key, index));
                }
            }
        }
        best.map(|(_, index)| index)
    }

    proptest! {
        #[test]
        fn as_the_naive_version(
            routes in prop::collection::vec((
                prop::collection::vec(prop::sample::select(vec!["a.b", "b", "*.b", "*.a.b", "c.a.b", "*.c"]), 0..3),
                prop::sample::select(vec!["/", "/x", "/x/", "/x/y", "/xy", "/x/y/z"]),
            ), 0..8),
            host in prop::sample::select(vec!["", "a.b", "b", "c.a.b", "d.a.b", "q.c", "c", "e.d.a.b"]),
            path in prop::sample::select(vec!["/", "/x", "/x/", "/x/y", "/xy", "/x/yz", "/x/y/z/1", "*", "/q"]),
        ) {
            let routes: Vec<(&[&str], &str)> = routes.iter().map(|(h, p)| (h.as_slice(), *p)).collect();
            let config = config(&routes);
            let found = Router::new(&config).find(host, path).map(|t| t.route);
            prop_assert_eq!(found, naive(&config, host, path));
        }
    }
}
