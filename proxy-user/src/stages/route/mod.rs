//! The route: found by host, path and conditions, and what it says is done to its requests. A path that origin and route
//! table could understand differently (dot segments) is refused here, after the policies have seen it.

mod actions;

use http::header::CONTENT_LENGTH;
use proxy_core::http1::decimal;
use proxy_core::route::Request;
use proxy_core::special::Special;

use super::exchange::Exchange;
use super::hooks::{self, Hooks, Site};
use super::{Flow, Stage, path};
use crate::http::fault::{Fault, Kind};

pub(super) struct Routes;

impl Stage for Routes {
    fn name(&self) -> &'static str {
        "route"
    }

    fn join(&self, site: &Site<'_>, hooks: &mut Hooks) -> Result<(), hooks::Fault> {
        hooks.entry(|exchange| match find(exchange) {
            Ok(()) => Flow::Continue,
            Err(fault) => Flow::Respond(exchange.fail(fault)),
        });
        site.route.map_or(Ok(()), |(index, route)| actions::join(site, index, route, hooks))
    }
}

fn find(exchange: &mut Exchange) -> Result<(), Fault> {
    let path = path(&exchange.request);
    if has_dot_segment(path) {
        return Err(Fault::bad_request("the path has dot segments"));
    }
    let request = Request {
        host: exchange.host.as_str(),
        path,
        query: exchange.request.uri.query(),
        method: &exchange.request.method,
        headers: &exchange.request.headers,
    };
    let entry = exchange.live.snapshot.router.find(&request);
    let entry = entry.ok_or(Fault::internal(Kind::NoRoute, "no route for this host and path"))?;
    let (route, upstream) = (entry.index, entry.upstream(&request, exchange.connection.client.ip()));
    exchange.route = Some(route);
    exchange.upstream = upstream;
    let declared = exchange.request.headers.get_special(Special::CONTENT_LENGTH, CONTENT_LENGTH);
    let declared = declared.and_then(|length| decimal(length.as_bytes()));
    if declared.is_some_and(|length| length > exchange.body_limit()) {
        return Err(Fault::downstream(Kind::BodyTooLarge, "the request body is longer than allowed"));
    }
    Ok(())
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
