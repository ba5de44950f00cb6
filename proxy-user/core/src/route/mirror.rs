//! Which requests of a route are copied to another upstream, and which copies are left out. The same clients are taken each
//! time; which ones has nothing to do with how `split` shares them out.

use std::net::IpAddr;

use super::condition::Request;
use super::split::{Key, hash_bytes};
use crate::config;

/// A route's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    percent: u32,
    by: Key,
    in_flight: u32,
    body: u64,
}

impl Mirror {
    /// As the config has it.
    pub fn new(mirror: &config::Mirror) -> Self {
        Self {
            percent: mirror.percent,
            by: mirror.by.as_ref().map(Key::new).unwrap_or_default(),
            in_flight: mirror.in_flight,
            body: mirror.body.0,
        }
    }

    /// Whether this client's request is one of those that are copied.
    pub fn takes(&self, request: &Request<'_>, client: IpAddr) -> bool {
        // Hashed once more: else a share of a few percent would be the first share of a split.
        let hash = hash_bytes(&self.by.hash(request, client).to_le_bytes());
        (u128::from(hash) * 100) >> 64 < u128::from(self.percent)
    }

    /// Whether one more may be under way beside so many.
    pub fn has_room(&self, in_flight: u32) -> bool {
        in_flight < self.in_flight
    }

    /// Whether a body of so many bytes is copied.
    pub fn holds(&self, body: u64) -> bool {
        body <= self.body
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::fields::Fields;

    fn mirror(value: serde_json::Value) -> Mirror {
        Mirror::new(&serde_json::from_value(value).expect("a mirror"))
    }

    fn taken(mirror: &Mirror, clients: u32) -> Vec<u32> {
        let headers = Fields::new();
        let request = Request { host: "a", path: "/", query: None, method: &Method::GET, headers: &headers };
        (0..clients).filter(|client| mirror.takes(&request, Ipv4Addr::from_bits(*client).into())).collect()
    }

    #[test]
    fn the_same_clients_are_taken_and_more_of_them_when_the_share_grows() {
        let [tenth, fifth, all] = [10, 20, 100].map(|percent| mirror(json!({"upstream": "b", "percent": percent})));
        let (few, more) = (taken(&tenth, 10_000), taken(&fifth, 10_000));
        assert_eq!(few, taken(&tenth, 10_000));
        assert!(
            (900..1_100).contains(&few.len()) && (1_850..2_150).contains(&more.len()),
            "{} {}",
            few.len(),
            more.len()
        );
        assert!(few.iter().all(|client| more.contains(client)));
        assert_eq!(taken(&all, 1_000).len(), 1_000);
    }

    #[test]
    fn a_mirror_does_not_take_one_share_of_a_split() {
        let tenth = mirror(json!({"upstream": "b", "percent": 10}));
        let first_share = |client: &&u32| {
            let hash = Key::hash_address(Ipv4Addr::from_bits(**client).into());
            (u128::from(hash) * 100) >> 64 < 10
        };
        let few = taken(&tenth, 10_000);
        let both = few.iter().filter(first_share).count();
        assert!(both < few.len() / 4, "{both} of {}", few.len());
    }

    #[test]
    fn bounds_are_the_last_that_fits() {
        let mirror = mirror(json!({"upstream": "b", "in_flight": 2, "body": "1KiB"}));
        assert_eq!([0, 1, 2, 3].map(|count| mirror.has_room(count)), [true, true, false, false]);
        assert_eq!([0, 1_024, 1_025].map(|bytes| mirror.holds(bytes)), [true, true, false]);
    }
}
