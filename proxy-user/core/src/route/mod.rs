//! Which route takes a request, and which upstream. The order, first match wins:
//!
//! 1. Host: exact, then the longest wildcard, then routes for any host. A host whose routes do not fit passes the request
//!    on to the next of these.
//! 2. Path: one path alone, then the form with the most text of its own, patterns before prefixes of the same length.
//! 3. The most conditions (methods count as one, each header field and each parameter as one).
//! 4. The order of the config.
//!
//! A look-up allocates nothing, but for paths with percent-encoding and for conditions on the query.

mod condition;
pub mod hints;
mod mirror;
pub mod page;
mod path;
mod split;
mod template;

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::{self, Config};
use crate::host::HostPattern;
use condition::Conditions;

pub use condition::Request;
pub use mirror::Mirror;
pub use path::{PathMatch, normalized};
pub use split::{Key, Split, hash_bytes};
pub use template::Template;

/// What a route is for, without its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its path.
    pub path: PathMatch,
    conditions: Conditions,
}

/// A route, ready for look-ups.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Index in `routes`.
    pub index: usize,
    /// What it is for.
    pub rule: Rule,
    target: Target,
}

#[derive(Clone, Debug)]
enum Target {
    /// Place among the upstreams, by name.
    One(usize),
    Split(Split),
    /// Tidegate answers by itself.
    Own,
}

/// All routes of a config, ready for look-ups.
#[derive(Clone, Debug, Default)]
pub struct Router {
    entries: Vec<Entry>,
    exact: HashMap<String, List>,
    /// By suffix, which starts with a dot.
    suffix: HashMap<String, List>,
    any: List,
}

/// Places in `entries`, in the order in which they are tried.
type List = Vec<usize>;

impl Rule {
    /// Of a route.
    ///
    /// # Errors
    /// Its path or a condition cannot be read.
    pub fn new(route: &config::Route) -> Result<Self, String> {
        Ok(Self { path: PathMatch::parse(&route.path)?, conditions: Conditions::new(route)? })
    }

    fn rank(&self) -> impl Ord + use<> {
        (self.path.rank(), std::cmp::Reverse(self.conditions.count()))
    }
}

impl Entry {
    /// The upstream that a request of this client goes to; `None` where Tidegate answers by itself.
    pub fn upstream(&self, request: &Request<'_>, client: IpAddr) -> Option<usize> {
        match &self.target {
            Target::One(upstream) => Some(*upstream),
            Target::Split(split) => Some(split.choose(request, client)),
            Target::Own => None,
        }
    }
}

impl Router {
    /// Takes the routes of a valid config; what `config::parse` would refuse is left out.
    pub fn new(config: &Config) -> Self {
        let place = |name: &str| config.upstreams.keys().position(|known| known == name);
        let mut router = Self::default();
        for (index, route) in config.routes.iter().enumerate() {
            let target = match &route.upstream {
                Some(name) => place(name).map(Target::One),
                None if !route.split.is_empty() => Split::new(route, place).map(Target::Split),
                None => Some(Target::Own),
            };
            let (Some(target), Ok(rule)) = (target, Rule::new(route)) else { continue };
            let at = router.entries.len();
            router.entries.push(Entry { index, rule, target });
            if route.hosts.is_empty() {
                router.any.push(at);
            }
            for host in &route.hosts {
                match host.parse() {
                    Ok(HostPattern::Exact(name)) => router.exact.entry(name).or_default().push(at),
                    Ok(HostPattern::Suffix(end)) => router.suffix.entry(end).or_default().push(at),
                    Err(_) => {}
                }
            }
        }
        let entries = &router.entries;
        let lists = router.exact.values_mut().chain(router.suffix.values_mut()).chain([&mut router.any]);
        // The sort is stable: what is left equal stays in the order of the config.
        lists.for_each(|list| list.sort_by_key(|at| entries.get(*at).map(|entry| entry.rule.rank())));
        router
    }

    /// The route for a request.
    pub fn find(&self, request: &Request<'_>) -> Option<&Entry> {
        // A name with its root dot is the same name.
        let host = request.host.strip_suffix('.').unwrap_or(request.host);
        let path = normalized(request.path);
        if let Some(found) = self.exact.get(host).and_then(|list| self.first(list, &path, request)) {
            return Some(found);
        }
        if !self.suffix.is_empty() {
            // Suffixes from the longest: each starts at a dot, the first label is never empty.
            let dots = host.bytes().enumerate().skip(1).filter(|(_, b)| *b == b'.');
            for (at, _) in dots {
                let list = host.get(at..).and_then(|end| self.suffix.get(end));
                if let Some(found) = list.and_then(|list| self.first(list, &path, request)) {
                    return Some(found);
                }
            }
        }
        self.first(&self.any, &path, request)
    }

    fn first(&self, list: &List, path: &str, request: &Request<'_>) -> Option<&Entry> {
        let entries = list.iter().filter_map(|at| self.entries.get(*at));
        entries.into_iter().find(|entry| entry.rule.path.matches(path) && entry.rule.conditions.hold(request))
    }

    /// Routes that no request reaches, each with one that takes its requests, by their indexes in the config. Several
    /// routes that only together take all of another's requests are not found.
    pub fn shadowed(&self) -> Vec<(usize, usize)> {
        let mut taken: HashMap<usize, Option<usize>> = HashMap::new();
        let lists = self.exact.values().chain(self.suffix.values()).chain([&self.any]);
        for list in lists {
            for (order, at) in list.iter().enumerate() {
                let Some(entry) = self.entries.get(*at) else { continue };
                let earlier = list.iter().take(order).filter_map(|at| self.entries.get(*at));
                let by = earlier.into_iter().find(|earlier| {
                    earlier.rule.path.covers(&entry.rule.path)
                        && earlier.rule.conditions.follow_from(&entry.rule.conditions)
                });
                // One host at which it is reached is enough.
                let by = by.map(|by| by.index);
                taken.entry(entry.index).and_modify(|held| *held = held.and(by)).or_insert(by);
            }
        }
        let mut found: Vec<_> = taken.into_iter().filter_map(|(index, by)| Some((index, by?))).collect();
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests;
