//! Model: routes. Which requests a route is for, and what becomes of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Mirror, Size, Span};

/// Most characters of a route's name.
pub const MAX_NAME: u32 = 64;
/// Most hosts of one route.
pub const MAX_HOSTS: u32 = 1_024;
/// Most conditions of each kind, and most changes of header fields.
pub const MAX_CONDITIONS: u32 = 64;
/// Most upstreams among which one route splits its requests.
pub const MAX_SHARES: u32 = 64;
/// Upper bound of a share's weight.
pub const MAX_WEIGHT: u32 = 1_000_000;
/// Most index files of a route.
pub const MAX_INDEXES: u32 = 16;
/// Most bytes of an answer that stands in the config.
pub const MAX_BODY: u32 = 64 << 10;

/// Which requests go where. Exactly one of `upstream`, `split`, `redirect`, `respond` and `files` says what becomes of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What metrics and logs call it; its first host and its path unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_NAME))]
    pub name: Option<String>,
    /// Hosts: exact, `*.example.com`, or none for any.
    #[serde(default)]
    #[schemars(length(max = MAX_HOSTS))]
    pub hosts: Vec<String>,
    /// Path: `/api`, a prefix on segment borders; `=/login`, this path alone; or a pattern such as `/users/{id}/{rest*}`,
    /// in which `{name}` takes one segment and `{name*}` at the end all that follows. `/` unless set.
    #[serde(default = "slash")]
    pub path: String,
    /// Methods; any unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_CONDITIONS))]
    pub methods: Vec<String>,
    /// Header fields; all of them must fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_CONDITIONS))]
    pub headers: Vec<Condition>,
    /// Parameters of the query, percent-decoded; all of them must fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_CONDITIONS))]
    pub query: Vec<Condition>,
    /// Name in `upstreams`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Several upstreams, by weight. A client stays with its share while weights stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_SHARES))]
    pub split: Vec<Share>,
    /// What `split` tells clients by: the client's address unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_by: Option<SplitBy>,
    /// Answer with a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Answer with a fixed text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Answer with files below a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// Path that the origin gets: `/v2/{id}`, `/new{rest}`. `{rest}` is what follows a prefix, other names are captures of
    /// the path, `{path}` is all of it. The query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    /// Times of this route, instead of those in `timeouts`.
    #[serde(default, skip_serializing_if = "RouteTimeouts::is_default")]
    pub timeouts: RouteTimeouts,
    /// Bounds of this route, instead of those in `limits`.
    #[serde(default, skip_serializing_if = "RouteLimits::is_default")]
    pub limits: RouteLimits,
    /// Changes of the request's header fields on their way to the origin.
    #[serde(default, skip_serializing_if = "HeaderChanges::is_default")]
    pub request_headers: HeaderChanges,
    /// Changes of the response's header fields on their way to the client.
    #[serde(default, skip_serializing_if = "HeaderChanges::is_default")]
    pub response_headers: HeaderChanges,
    /// Pages instead of Tidegate's own error texts, by status (`503`) or class (`5xx`); with `intercept` instead of an
    /// origin's answers, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub error_pages: BTreeMap<String, Page>,
    /// Send copies of some requests to another upstream, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Pass 103 Early Hints of origins on (`Link`, `Content-Security-Policy`) to clients of HTTP/1.1 and HTTP/3.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early_hints: bool,
    /// Settings of stages that a binary of one's own adds, by their names; for this route, instead of those of the config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, Value>,
}

/// One field or parameter. Without `value`, `prefix` and `absent` it only has to be there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Its name; that of a header field in any case of letters.
    pub name: String,
    /// One of its values is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// One of its values begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// It must not be there.
    #[serde(default)]
    pub absent: bool,
}

/// A part of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Name in `upstreams`.
    pub upstream: String,
    /// How much of the sum of all weights.
    #[schemars(range(max = MAX_WEIGHT))]
    pub weight: u32,
}

/// One of these; a request that lacks it is told by the client's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitBy {
    /// A header field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// A parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// `https://{host}{path}`, `/new/{id}`; names as in `rewrite`, and `{host}`. The query goes along unless this has one.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "found")]
    pub status: u16,
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// Status, 200 to 599.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Its text.
    #[serde(default)]
    #[schemars(length(max = MAX_BODY))]
    pub body: String,
    /// `Content-Type`.
    #[serde(default = "plain")]
    pub content_type: String,
}

/// Files as they are. A request's path below the route's prefix, or what a pattern captures as `{rest*}`, names the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The directory; nothing outside of it is served, wherever links lead.
    pub root: PathBuf,
    /// Files that stand for a directory; the first that is there.
    #[serde(default = "index")]
    #[schemars(length(max = MAX_INDEXES))]
    pub index: Vec<String>,
    /// Send `NAME.br`, `NAME.zst` or `NAME.gz` to clients that take them, where they lie beside `NAME`.
    #[serde(default)]
    pub precompressed: bool,
    /// Serve also what begins with a dot; `.well-known` always is.
    #[serde(default)]
    pub hidden: bool,
}

/// A page for an error. `body` or `file`, one of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_BODY))]
    pub body: Option<String>,
    /// File with its text, read when the config is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// `Content-Type`.
    #[serde(default = "html")]
    pub content_type: String,
    /// Show it also in place of what an origin answers with such a status.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub intercept: bool,
}

/// Times of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// Connecting to an origin, TLS included.
    pub connect: Option<Span>,
    /// From the request sent to the origin's response header.
    pub response: Option<Span>,
    /// Between two pieces of a request body.
    pub body: Option<Span>,
    /// Between two pieces of a response body.
    pub read: Option<Span>,
    /// Upgraded connection (WebSocket) on which nothing comes from either side.
    pub tunnel: Option<Span>,
}

/// Bounds of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteLimits {
    /// Bytes of a request body; 413 beyond.
    pub body: Option<Size>,
}

/// Changes of header fields, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Fields that go.
    #[schemars(length(max = MAX_CONDITIONS))]
    pub remove: Vec<String>,
    /// Fields that get this value instead of those that they have.
    #[schemars(extend("maxProperties" = MAX_CONDITIONS))]
    pub set: BTreeMap<String, String>,
    /// Fields that get this value beside those that they have.
    #[schemars(extend("maxProperties" = MAX_CONDITIONS))]
    pub add: BTreeMap<String, String>,
}

impl Route {
    /// Whether any of its requests goes to an origin.
    pub fn has_origin(&self) -> bool {
        self.upstream.is_some() || !self.split.is_empty()
    }

    /// Every upstream that it may lead to, copies of requests included, with the key that names it.
    pub fn upstreams(&self) -> impl Iterator<Item = (String, &str)> {
        let one = self.upstream.iter().map(|name| ("upstream".to_owned(), name.as_str()));
        let shares = self.split.iter().enumerate();
        let shares = shares.map(|(index, share)| (format!("split/{index}/upstream"), share.upstream.as_str()));
        let mirror = self.mirror.iter().map(|mirror| ("mirror/upstream".to_owned(), mirror.upstream.as_str()));
        one.chain(shares).chain(mirror)
    }

    /// What becomes of its requests, in a few words.
    pub fn leads_to(&self) -> String {
        let shares = self.split.iter().map(|share| format!("{} {}", share.upstream, share.weight));
        match (&self.upstream, &self.redirect, &self.respond) {
            (Some(upstream), ..) => upstream.clone(),
            (None, Some(redirect), _) => format!("{} to {}", redirect.status, redirect.to),
            (None, None, Some(respond)) => format!("answer {}", respond.status),
            (None, None, None) => match &self.files {
                Some(files) => format!("files below {}", files.root.display()),
                None => shares.collect::<Vec<_>>().join(", "),
            },
        }
    }

    /// What metrics and logs call it. Routes of one name are counted together.
    pub fn label(&self) -> String {
        let unnamed = || format!("{}{}", self.hosts.first().map_or("*", String::as_str), self.path);
        self.name.clone().unwrap_or_else(unnamed)
    }

    /// Which requests it is for, in a few words: hosts, path, and whether there is more to it.
    pub fn is_for(&self) -> String {
        let hosts = if self.hosts.is_empty() { "any host".to_owned() } else { self.hosts.join(", ") };
        let more = [(&self.headers, "headers"), (&self.query, "query")];
        let more = more.iter().filter(|(list, _)| !list.is_empty()).map(|(_, name)| format!(" +{name}"));
        let methods = if self.methods.is_empty() { String::new() } else { format!("{} ", self.methods.join(",")) };
        format!("{methods}{hosts} {}{}", self.path, more.collect::<String>())
    }
}

impl RouteTimeouts {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl RouteLimits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl HeaderChanges {
    /// Whether nothing changes.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn slash() -> String {
    "/".to_owned()
}

fn found() -> u16 {
    302
}

fn ok() -> u16 {
    200
}

fn plain() -> String {
    "text/plain; charset=utf-8".to_owned()
}

fn index() -> Vec<String> {
    vec!["index.html".to_owned()]
}

fn html() -> String {
    "text/html; charset=utf-8".to_owned()
}
