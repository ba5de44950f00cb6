//! Host and path to an upstream. A path that origin and route table could understand differently (dot segments)
//! is refused here, after the policies have seen it.

use super::exchange::Exchange;
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage, path};
use crate::http::fault::{Fault, Kind};

pub(super) struct FindUpstream;

impl Stage for FindUpstream {
    fn name(&self) -> &'static str {
        "route"
    }

    fn join(&self, _: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        hooks.entry(find);
        Ok(())
    }
}

fn find(exchange: &mut Exchange) -> Flow {
    let path = path(&exchange.request);
    if has_dot_segment(path) {
        return Flow::Respond(exchange.fail(Fault::bad_request("the path has dot segments")));
    }
    let found = exchange.live.snapshot.router.find(exchange.host.as_str(), path);
    match found.map(|target| (target.route, target.upstream_index)) {
        Some((route, upstream)) => {
            exchange.route = Some(route);
            exchange.upstream = Some(upstream);
            Flow::Continue
        }
        None => Flow::Respond(exchange.fail(Fault::internal(Kind::NoRoute, "no route for this host and path"))),
    }
}

/// Whether a segment is `.` or `..`, percent-encoded or not (RFC 3986 section 5.2.4).
fn has_dot_segment(path: &str) -> bool {
    path.split(['/', '\\']).any(|segment| {
        let mut rest = segment.as_bytes();
        let mut dots = 0;
        loop {
            rest = match rest {
                [] => return dots == 1 || dots == 2,
                [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
                _ => return false,
            };
            dots += 1;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::has_dot_segment;

    #[test]
    fn dot_segments() {
        for path in ["/..", "/a/../b", "/a/.", "/%2e%2E/x", "/.%2e", "/a\\..\\b"] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in ["/", "/.env", "/a..b", "/...", "/.well-known/x", "/a//b", "*"] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }
}
