use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fields::Fields;

fn config(routes: &[Value]) -> Config {
    let upstreams: serde_json::Map<String, Value> =
        (0..routes.len()).map(|i| (format!("u{i:02}"), json!({ "servers": ["http://127.0.0.1:8080"] }))).collect();
    let routes: Vec<Value> = routes
        .iter()
        .enumerate()
        .map(|(i, route)| {
            let mut route = route.clone();
            route["upstream"] = json!(format!("u{i:02}"));
            route
        })
        .collect();
    serde_json::from_value(json!({ "listeners": [], "routes": routes, "upstreams": upstreams })).expect("a config")
}

fn plain(routes: &[(&[&str], &str)]) -> Config {
    config(&routes.iter().map(|(hosts, path)| json!({"hosts": hosts, "path": path})).collect::<Vec<_>>())
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Index of the route, and its upstream's place.
fn found(router: &Router, host: &str, path: &str) -> Option<(usize, Option<usize>)> {
    let request = Request { host, path, query: None, method: &Method::GET, headers: &Fields::new() };
    router.find(&request).map(|entry| (entry.index, entry.upstream(&request, CLIENT)))
}

#[test]
fn order_of_hosts_and_paths() {
    let router = Router::new(&plain(&[
        (&[], "/"),
        (&["shop.example.com"], "/"),
        (&["*.example.com"], "/"),
        (&["*.eu.example.com"], "/"),
        (&["shop.example.com"], "/api/"),
        (&["only.example.com"], "/a/b"),
    ]));
    let found = |host, path| {
        found(&router, host, path).map(|(route, upstream)| {
            assert_eq!(upstream, Some(route));
            route
        })
    };
    assert_eq!(found("shop.example.com", "/"), Some(1));
    assert_eq!(found("shop.example.com", "/api"), Some(4));
    assert_eq!(found("shop.example.com", "/api/x"), Some(4));
    assert_eq!(found("shop.example.com", "/apix"), Some(1));
    assert_eq!(found("shop.example.com.", "/"), Some(1));
    assert_eq!(found("a.b.example.com", "/"), Some(2));
    assert_eq!(found("a.eu.example.com", "/"), Some(3));
    assert_eq!(found("example.com", "/"), Some(0));
    assert_eq!(found(".example.com", "/"), Some(0), "an empty label is no name");
    assert_eq!(found("", "*"), Some(0));
    // The exact host has no route for the path: the wildcard's is taken.
    assert_eq!(found("only.example.com", "/a/bc"), Some(2));
    assert_eq!(found("only.example.com", "/a/b/c"), Some(5));
}

#[test]
fn order_of_paths() {
    let router = Router::new(&plain(&[
        (&[], "/users"),
        (&[], "/users/{id}"),
        (&[], "=/users/me"),
        (&[], "/users/{id}/{rest*}"),
        (&[], "/users/admin"),
        (&[], "/{any*}"),
    ]));
    for (path, route) in [
        ("/users", 0),
        ("/users/", 0),
        ("/users/7", 1),
        ("/users/me", 2),
        ("/users/%6de", 2),
        ("/users/me/", 3),
        ("/users/7/x", 3),
        ("/users/admin", 4),
        ("/users/admin/x", 4),
        ("/usersx", 5),
    ] {
        assert_eq!(found(&router, "h", path).map(|(route, _)| route), Some(route), "{path}");
    }
}

#[test]
fn conditions_decide_among_equal_paths() {
    let router = Router::new(&config(&[
        json!({}),
        json!({"methods": ["POST", "PUT"]}),
        json!({"headers": [{"name": "X-Beta"}]}),
        json!({"headers": [{"name": "x-beta", "value": "2"}], "query": [{"name": "a b", "prefix": "ü"}]}),
        json!({"headers": [{"name": "x-gone", "absent": true}], "methods": ["DELETE"]}),
    ]));
    let route = |method: Method, headers: &[(&'static str, &'static str)], query: Option<&str>| {
        let headers: Fields = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let request = Request { host: "", path: "/", query, method: &method, headers: &headers };
        router.find(&request).map(|entry| entry.index)
    };
    assert_eq!(route(Method::GET, &[], None), Some(0));
    assert_eq!(route(Method::PUT, &[], None), Some(1));
    assert_eq!(route(Method::GET, &[("x-beta", "1")], None), Some(2));
    assert_eq!(route(Method::PUT, &[("x-beta", "1")], None), Some(1), "as many conditions: the first in the config");
    assert_eq!(route(Method::GET, &[("x-beta", "2")], Some("x&a%20b=%C3%BCber")), Some(3));
    assert_eq!(route(Method::GET, &[("x-beta", "2")], Some("a%20b=uber")), Some(2));
    assert_eq!(route(Method::DELETE, &[], None), Some(4));
    assert_eq!(route(Method::DELETE, &[("x-gone", "")], None), Some(0));
}

#[test]
fn shadowed_routes_are_found() {
    let shadowed = |routes: &[Value]| Router::new(&config(routes)).shadowed();
    assert_eq!(shadowed(&[json!({}), json!({"path": "/a"}), json!({"hosts": ["b"]}), json!({"methods": ["GET"]})]), []);
    let header = |value: Value| json!({"headers": [value]});
    assert_eq!(shadowed(&[header(json!({"name": "a"})), header(json!({"name": "A", "value": "1"}))]), [(1, 0)]);
    assert_eq!(shadowed(&[header(json!({"name": "a", "value": "1"})), header(json!({"name": "a"}))]), []);
    let methods = |list: Value, hosts: Value| json!({"methods": list, "hosts": hosts});
    assert_eq!(
        shadowed(&[methods(json!(["GET", "PUT"]), json!(["a", "b"])), methods(json!(["PUT"]), json!(["b"]))]),
        [(1, 0)]
    );
    assert_eq!(
        shadowed(&[methods(json!(["GET", "PUT"]), json!(["a"])), methods(json!(["PUT"]), json!(["a", "b"]))]),
        []
    );
    assert_eq!(shadowed(&[json!({"path": "/u/{id}"}), json!({"path": "/u/{name}"})]), [(1, 0)]);
    assert_eq!(shadowed(&[json!({"path": "/{a}/b"}), json!({"path": "/b/{a}"})]), []);
}

/// The rule as the module's text words it, without any structure.
fn naive(config: &Config, host: &str, path: &str) -> Option<usize> {
    let rank = |pattern: &str| match pattern.strip_prefix('*') {
        None => (pattern == host).then_some(usize::MAX),
        Some(end) => (host.ends_with(end) && host.len() > end.len()).then_some(end.len()),
    };
    let mut best: Option<((usize, bool, usize), usize)> = None;
    for (index, route) in config.routes.iter().enumerate() {
        let exact = route.path.strip_prefix('=');
        let prefix = route.path.trim_end_matches('/');
        let fits = match exact {
            Some(exact) => path == exact,
            None => prefix.is_empty() || path == prefix || path.starts_with(&format!("{prefix}/")),
        };
        if !fits {
            continue;
        }
        let host_rank = if route.hosts.is_empty() { Some(0) } else { route.hosts.iter().filter_map(|h| rank(h)).max() };
        if let Some(host_rank) = host_rank {
            let key = (host_rank, exact.is_some(), prefix.len());
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
            prop::sample::select(vec!["/", "/x", "/x/", "/x/y", "/xy", "/x/y/z", "=/x", "=/x/"]),
        ), 0..8),
        host in prop::sample::select(vec!["", "a.b", "b", "c.a.b", "d.a.b", "q.c", "c", "e.d.a.b"]),
        path in prop::sample::select(vec!["/", "/x", "/x/", "/x/y", "/xy", "/x/yz", "/x/y/z/1", "*", "/q"]),
    ) {
        let routes: Vec<(&[&str], &str)> = routes.iter().map(|(h, p)| (h.as_slice(), *p)).collect();
        let config = plain(&routes);
        prop_assert_eq!(found(&Router::new(&config), host, path).map(|(route, _)| route), naive(&config, host, path));
    }
}
