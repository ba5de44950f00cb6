//! Weighted shares: the same client gets the same share, as long as weights stay as they are, and when they change only
//! as many move as have to.

use std::net::IpAddr;

use http::HeaderName;
use http::header::COOKIE;
use proxy_common::siphash::siphash24;

use super::condition::{Request, is_named, parameters};
use crate::config;

/// How a route's requests are shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Where each share ends, and its upstream.
    shares: Vec<(u64, usize)>,
    by: Key,
}

/// What tells clients apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// Their address.
    #[default]
    Client,
    /// A header field.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query.
    Query(String),
}

impl Split {
    /// Of a route whose upstreams stand at these places; None where no share has a weight.
    pub(super) fn new(route: &config::Route, place: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        let mut end = 0;
        let shares = route.split.iter().filter(|share| share.weight > 0).map(|share| {
            end += u64::from(share.weight);
            Some((end, place(&share.upstream)?))
        });
        let shares = shares.collect::<Option<Vec<_>>>()?;
        let by = route.split_by.as_ref().map(Key::new).unwrap_or_default();
        (!shares.is_empty()).then_some(Self { shares, by })
    }

    /// The upstream for a request of this client.
    pub fn choose(&self, request: &Request<'_>, client: IpAddr) -> usize {
        let hash = self.by.hash(request, client);
        let total = self.shares.last().map_or(1, |(end, _)| *end);
        // The hash as a fraction of the whole: a share that grows takes from its neighbours only.
        let place = ((u128::from(hash) * u128::from(total)) >> 64) as u64;
        let found = self.shares.iter().find(|(end, _)| place < *end).or(self.shares.last());
        found.map_or(0, |(_, upstream)| *upstream)
    }
}

impl Key {
    /// As the config has it; the client's address where that names nothing that can be.
    pub fn new(by: &config::SplitBy) -> Self {
        match (&by.header, &by.cookie, &by.query) {
            (Some(name), ..) => HeaderName::from_bytes(name.as_bytes()).map_or(Self::Client, Self::Header),
            (None, Some(name), _) => Self::Cookie(name.clone()),
            (None, None, Some(name)) => Self::Query(name.clone()),
            (None, None, None) => Self::Client,
        }
    }

    /// The hash of what a request has of it; of the client's address where it has none.
    pub fn hash(&self, request: &Request<'_>, client: IpAddr) -> u64 {
        self.of(request).map_or_else(|| hash_client(client), hash_bytes)
    }

    /// The hash of an address alone.
    pub fn hash_address(client: IpAddr) -> u64 {
        hash_client(client)
    }

    fn of<'a>(&self, request: &Request<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Client => None,
            Self::Header(name) => request.headers.get(name).map(http::HeaderValue::as_bytes),
            Self::Query(name) => {
                parameters(request.query).find(|(key, _)| is_named(key, name)).map(|(_, value)| value.as_bytes())
            }
            Self::Cookie(name) => {
                let mut pairs =
                    request.headers.get_all(COOKIE).flat_map(|field| field.as_bytes().split(|b| *b == b';'));
                let named = |pair: &'a [u8]| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=");
                pairs.find_map(named)
            }
        }
    }
}

/// The same on every machine and in every version: fleets share clients out alike. Not a defence against clients that
/// choose their key.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(siphash24(0, 0, bytes.len() as u64), |state, chunk| {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        siphash24(state, 0, u64::from_le_bytes(word))
    })
}

fn hash_client(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => hash_bytes(&v4.octets()),
        IpAddr::V6(v6) => hash_bytes(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderValue, Method};
    use serde_json::json;

    use super::*;
    use crate::fields::Fields;

    fn split(weights: &[u32], by: &serde_json::Value) -> Split {
        let shares: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, weight)| json!({"upstream": i.to_string(), "weight": weight}))
            .collect();
        let route = serde_json::from_value(json!({"split": shares, "split_by": by})).unwrap();
        Split::new(&route, |name| name.parse().ok()).unwrap()
    }

    fn request(headers: &Fields) -> Request<'_> {
        Request { host: "", path: "/", query: Some("a=1&sid=x%20y"), method: &Method::GET, headers }
    }

    fn clients() -> impl Iterator<Item = IpAddr> {
        (0..10_000_u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)))
    }

    #[test]
    fn shares_are_as_large_as_their_weights_and_move_no_more_than_they_have_to() {
        let headers = Fields::new();
        let (before, after) = (split(&[95, 5], &json!(null)), split(&[90, 10], &json!(null)));
        let (mut canary, mut moved) = (0, 0);
        for client in clients() {
            let (old, new) = (before.choose(&request(&headers), client), after.choose(&request(&headers), client));
            canary += old;
            assert!(new >= old, "a client of the canary went back");
            moved += new - old;
        }
        assert!((400..600).contains(&canary), "{canary} of 10,000 at 5%");
        assert!((400..600).contains(&moved), "{moved} of 10,000 moved by 5%");
        let none = split(&[1, 0], &json!(null));
        assert!(clients().all(|client| none.choose(&request(&headers), client) == 0));
    }

    #[test]
    fn the_key_decides_and_the_client_where_it_is_missing() {
        let halves = [1, 1];
        let mut headers = Fields::new();
        headers.insert("x-user", HeaderValue::from_static("alice"));
        headers.insert(COOKIE, HeaderValue::from_static("a=b; sid=7; c=d"));
        for by in [json!({"header": "X-User"}), json!({"cookie": "sid"}), json!({"query": "sid"})] {
            let split = split(&halves, &by);
            let chosen: Vec<usize> = clients().map(|client| split.choose(&request(&headers), client)).collect();
            assert!(chosen.iter().all(|share| *share == chosen[0]), "{by}");
        }
        let missing = split(&halves, &json!({"cookie": "other"}));
        let ones = clients().filter(|client| missing.choose(&request(&headers), *client) == 1).count();
        assert!((4_700..5_300).contains(&ones), "{ones}");
    }

    #[test]
    fn the_hash_stays_what_it_is() {
        assert_eq!(hash_bytes(b"alice"), hash_bytes(b"alice"));
        assert_ne!(hash_bytes(b"alice"), hash_bytes(b"alice\0"));
        assert_eq!(hash_client("::ffff:192.0.2.1".parse().unwrap()), hash_client("192.0.2.1".parse().unwrap()));
    }
}
