//! Requests of the past under two sets of policies: what would be decided otherwise. Reads lines of the access log, or of a
//! recording with headers beside them; counts rates by the recorded times.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fields::Fields;
use crate::policy::{Action, BodyView, ConnectionView, Decision, PolicySet, RequestView, ResponseView};

/// Requests of each change that are named.
pub const MAX_SAMPLES: usize = 5;
/// Most different changes that are told apart; further ones are counted together.
pub const MAX_SHIFTS: usize = 1_000;
/// Most header fields of a recorded request.
const MOST_HEADERS: usize = 10_000;
/// Most faults of lines that are told.
const MAX_FAULTS: usize = 20;

/// A recorded request: the access log's fields, of which most may be missing, and headers where the recording has them.
#[derive(Clone, Debug, Deserialize)]
struct Recorded {
    time: Timestamp,
    #[serde(default)]
    id: String,
    client: Client,
    #[serde(default)]
    listener: String,
    #[serde(default)]
    scheme: Option<String>,
    #[serde(default)]
    version: String,
    method: String,
    #[serde(default)]
    host: String,
    path: String,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    bytes_in: u64,
    #[serde(default)]
    headers: Option<BTreeMap<String, Values>>,
}

/// An address, with or without its port.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    Socket(SocketAddr),
    Address(IpAddr),
}

/// One value of a header, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

/// What a set decides of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Verdict {
    /// `pass`, `allow`, `block` and so on.
    pub action: String,
    /// `policy/rule` that decides.
    pub rule: Option<String>,
    /// Rules that match and let the request go on: those that count, change, or are in shadow mode.
    pub matched: Vec<String>,
}

/// Requests that the two sets decide differently, in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shift {
    /// What the old set decides.
    pub old: Verdict,
    /// What the new set decides.
    pub new: Verdict,
    /// How many requests.
    pub requests: u64,
    /// The first of them: id, method, host and path, source.
    pub samples: Vec<String>,
}

/// What two sets make of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Requests that were read.
    pub requests: u64,
    /// Requests that both sets decide alike.
    pub same: u64,
    /// The others, the most frequent change first.
    pub shifts: Vec<Shift>,
    /// Requests of changes beyond those that are told apart.
    pub others: u64,
    /// Requests without recorded headers: rules that look at headers saw none.
    pub without_headers: u64,
    /// Lines that are no requests.
    pub unread: u64,
    /// Why, of the first.
    pub faults: Vec<String>,
}

/// Lets both sets judge the requests of a recording, one a line, oldest first.
pub fn replay<'a>(lines: impl IntoIterator<Item = &'a str>, old: &PolicySet, new: &PolicySet) -> Replay {
    let mut found = Replay::default();
    let mut shifts: BTreeMap<(Verdict, Verdict), (u64, Vec<String>)> = BTreeMap::new();
    for (number, line) in (1_usize..).zip(lines) {
        if line.trim().is_empty() {
            continue;
        }
        let request = match Request::read(line) {
            Ok(request) => request,
            Err(why) => {
                found.unread += 1;
                if found.faults.len() < MAX_FAULTS {
                    found.faults.push(format!("line {number}: {why}"));
                }
                continue;
            }
        };
        found.requests += 1;
        found.without_headers += u64::from(request.recorded.headers.is_none());
        let verdicts = (request.judged_by(old), request.judged_by(new));
        if verdicts.0 == verdicts.1 {
            found.same += 1;
            continue;
        }
        if shifts.len() >= MAX_SHIFTS && !shifts.contains_key(&verdicts) {
            found.others += 1;
            continue;
        }
        let (requests, samples) = shifts.entry(verdicts).or_default();
        *requests += 1;
        if samples.len() < MAX_SAMPLES {
            samples.push(request.named());
        }
    }
    let shift = |((old, new), (requests, samples))| Shift { old, new, requests, samples };
    found.shifts = shifts.into_iter().map(shift).collect();
    found.shifts.sort_by_key(|shift| std::cmp::Reverse(shift.requests));
    found
}

/// A recorded request, parsed.
struct Request {
    recorded: Recorded,
    src: IpAddr,
    method: Method,
    headers: Fields,
    status: StatusCode,
}

impl Request {
    fn read(line: &str) -> Result<Self, String> {
        let recorded: Recorded = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let method = Method::from_bytes(recorded.method.as_bytes()).map_err(|_| "the method is none".to_owned())?;
        let mut headers = Fields::new();
        for (name, values) in recorded.headers.iter().flatten() {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) => values.as_slice(),
            };
            for value in values {
                let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
                let (name, value) = header.ok_or_else(|| format!("the header `{name:.60}` cannot be one"))?;
                if headers.len() >= MOST_HEADERS {
                    return Err("too many headers".to_owned());
                }
                headers.append(name, value);
            }
        }
        let src = match recorded.client {
            Client::Socket(socket) => socket.ip(),
            Client::Address(address) => address,
        };
        let status = recorded.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
        Ok(Self { src: src.to_canonical(), method, headers, status, recorded })
    }

    fn named(&self) -> String {
        let Recorded { id, method, host, path, .. } = &self.recorded;
        let mut named = format!("{id} {method} {host}{path} from {}", self.src).trim_start().to_owned();
        if let Some((end, _)) = named.char_indices().nth(200) {
            named.truncate(end);
        }
        named
    }

    fn judged_by(&self, set: &PolicySet) -> Verdict {
        let recorded = &self.recorded;
        let dst = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 443);
        let view = RequestView {
            src: self.src,
            dst,
            listener: &recorded.listener,
            scheme: recorded.scheme.as_deref().unwrap_or("https"),
            version: match recorded.version.as_str() {
                "h2" => Version::HTTP_2,
                "h3" => Version::HTTP_3,
                _ => Version::HTTP_11,
            },
            method: &self.method,
            host: &recorded.host,
            path: &recorded.path,
            query: recorded.query.as_deref(),
            headers: &self.headers,
            body_size: Some(recorded.bytes_in),
            wall_ms: u64::try_from(recorded.time.as_millisecond()).unwrap_or(0),
            // The recording has no handshakes.
            connection: ConnectionView::default(),
            body: BodyView::default(),
        };
        let now_ns = u64::try_from(recorded.time.as_nanosecond()).unwrap_or(0);
        let mut decision = set.evaluate(&view, now_ns);
        // Nor has it headers of responses.
        let none = Fields::new();
        let answered = ResponseView { src: self.src, dst: dst.ip(), status: self.status, headers: &none };
        if decision.action == Action::Pass {
            set.evaluate_response(&view, &answered, now_ns, &mut decision);
        }
        set.count(&decision.pending, &answered, now_ns);
        verdict(set, &decision)
    }
}

fn verdict(set: &PolicySet, decision: &Decision) -> Verdict {
    let name = |slot| set.rule_name(slot).unwrap_or_default().to_owned();
    let (action, rule) = decision.action.decided().map_or(("pass", None), |(action, rule)| (action, Some(rule)));
    let matched = decision.logged.iter().map(|slot| name(*slot)).collect();
    Verdict { action: action.to_owned(), rule: rule.map(name), matched }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Options, compile};
    use serde_json::json;

    fn set(rules: &serde_json::Value) -> PolicySet {
        let policy = json!({ "schema": "tidegate.policy/v1", "id": "p", "rules": rules });
        compile(&[("p", policy.to_string())], &Options::new(Timestamp::UNIX_EPOCH)).expect("sound")
    }

    fn line(second: i64, path: &str, agent: Option<&str>) -> String {
        let mut line = json!({ "time": Timestamp::from_second(second).expect("a time"), "id": "7", "method": "GET",
            "client": "203.0.113.9:999", "host": "a.example", "path": path, "version": "h2", "status": 404, "worker": 1 });
        if let Some(agent) = agent {
            line["headers"] = json!({ "User-Agent": agent });
        }
        line.to_string()
    }

    #[test]
    fn what_would_change_is_counted_by_its_kind() {
        let old =
            set(&json!([{ "id": "x", "when": "http.request.uri.path eq \"/x\"", "action": { "type": "block" } }]));
        let new = set(&json!([
            { "id": "x", "when": "http.request.uri.path eq \"/x\"", "action": { "type": "log" } },
            { "id": "bot", "when": "http.user_agent contains \"bot\"", "action": { "type": "block" } },
        ]));
        let text =
            [line(1, "/x", None), line(2, "/y", None), line(3, "/y", Some("a bot")), line(4, "/x", None), "{".into()];
        let found = replay(text.iter().map(String::as_str), &old, &new);
        assert_eq!((found.requests, found.same, found.unread, found.without_headers), (4, 1, 1, 3));
        let shifts: Vec<_> = found.shifts.iter().map(|s| (&*s.old.action, &*s.new.action, s.requests)).collect();
        assert_eq!(shifts, [("block", "pass", 2), ("pass", "block", 1)]);
        assert_eq!(found.shifts[0].new.matched, ["p/x"]);
        assert_eq!(found.shifts[0].samples[0], "7 GET a.example/x from 203.0.113.9");
        assert!(found.faults[0].starts_with("line 5: "), "{:?}", found.faults);
    }

    #[test]
    fn rates_go_by_the_recorded_times() {
        let count = |gap: i64| {
            let old = set(&json!([{ "id": "x", "when": "http.host eq \"none\"", "action": { "type": "block" } }]));
            let new = set(&json!([{ "id": "r", "when": "true", "action": { "type": "block" },
                "rate": { "limit": 3, "period": "60s", "count_when": "http.response.code eq 404" } }]));
            let text: Vec<String> = (0..8).map(|n| line(1_000_000 + n * gap, "/", None)).collect();
            replay(text.iter().map(String::as_str), &old, &new).shifts.iter().map(|shift| shift.requests).sum::<u64>()
        };
        assert_eq!((count(1), count(600)), (5, 0));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in "\\PC{0,120}") {
            let none = PolicySet::default();
            let found = replay([line.as_str()], &none, &none);
            proptest::prop_assert_eq!(found.requests, 0);
        }
    }
}
