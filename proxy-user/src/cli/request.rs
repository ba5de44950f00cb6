//! `tidegate explain --request`: what the policies of a config would do with a request. It asks no daemon and counts nothing.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow, bail};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use ipnet::IpNet;
use proxy_core::config::{Listener, Protocol};
use proxy_core::fields::Fields;
use proxy_core::hello::ClientHello;
use proxy_core::policy::{
    BodyView, Comparison, ConnectionView, Outcome, Phase, PushScope, RequestExplanation, RequestView, ResponseView,
};
use proxy_core::route::Request;
use proxy_user::control::api::encode_segment;
use proxy_user::control::wire::ExplainedRequest;
use proxy_user::daemon::load;
use serde::Serialize;

use super::DEFAULT_CONFIG;
use super::output::{self, BAD, GOOD, WARN};
use super::remote::Ask;

/// The request, and by whose policies it is judged.
#[derive(Debug, clap::Args)]
// clap names a struct's group by the struct: `explain` has an `Args` of its own.
#[group(skip)]
pub(super) struct Args {
    // A URL in a doc comment would have to be a link.
    #[arg(
        long,
        short,
        value_name = "REQUEST",
        requires = "from",
        help = "The request: a method and a URL, such as 'GET https://shop.example/login?next=/'"
    )]
    pub(super) request: Option<String>,
    /// Who asks
    #[arg(long, value_name = "ADDRESS", requires = "request")]
    from: Option<IpAddr>,
    /// A header of the request; may be given more than once
    #[arg(long, short = 'H', value_name = "NAME: VALUE", requires = "request")]
    header: Vec<String>,
    /// HTTP version: 1.0, 1.1, 2 or 3
    #[arg(long, value_name = "VERSION", default_value = "2", requires = "request")]
    http: String,
    /// Listener that is asked; the first that speaks the URL's scheme unless given
    #[arg(long, value_name = "NAME", requires = "request")]
    listener: Option<String>,
    /// Declared size of the body in bytes
    #[arg(long, value_name = "N", default_value_t = 0, requires = "request")]
    body_size: u64,
    /// Body of the request, or its beginning
    #[arg(long, value_name = "TEXT", requires = "request")]
    body: Option<String>,
    /// Server name in the client's TLS hello; the URL's host unless given
    #[arg(long, value_name = "NAME", requires = "request")]
    sni: Option<String>,
    /// JA4 fingerprint of the client's TLS hello
    #[arg(long, value_name = "JA4", requires = "request")]
    ja4: Option<String>,
    /// A protocol that the client's TLS hello offers; may be given more than once
    #[arg(long, value_name = "PROTOCOL", requires = "request")]
    alpn: Vec<String>,
    /// Status of the response, for rules on responses
    #[arg(long, value_name = "STATUS", requires = "request")]
    response: Option<StatusCode>,
    /// A header of the response; may be given more than once
    #[arg(long, value_name = "NAME: VALUE", requires = "response")]
    response_header: Vec<String>,
    /// Config whose policies judge; for a request /etc/tidegate/tidegate.json unless given
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub(super) config: Option<PathBuf>,
}

/// Explains `request`.
pub(super) fn run(args: &Args, request: &str, json: bool) -> anyhow::Result<()> {
    let config = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let loaded = load::load(config, &[]).map_err(|faults| anyhow!("the config has faults:\n{faults}"))?;
    let (method, uri) = line(request)?;
    let scheme = uri.scheme_str().unwrap_or("https");
    let listener = listener(&loaded.config.listeners, args.listener.as_deref(), scheme)?;
    let source = args.from.context("--from is missing: who asks?")?.to_canonical();
    let version = version(&args.http)?;
    let headers = headers(&args.header)?;
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(listener.address.port());
    let hello = (scheme == "https").then(|| hello(args, &host));
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let view = RequestView {
        src: source,
        dst: SocketAddr::new(listener.address.ip(), port),
        listener: &listener.name,
        scheme,
        version,
        method: &method,
        host: &host,
        path: uri.path(),
        query: uri.query(),
        headers: &headers,
        body_size: Some(args.body.as_ref().map_or(args.body_size, |body| body.len() as u64)),
        wall_ms: wall.as_millis() as u64,
        connection: ConnectionView {
            hello: hello.as_ref(),
            places: loaded.policies.places(),
            ..ConnectionView::default()
        },
        body: BodyView { bytes: args.body.as_deref().map(str::as_bytes), truncated: false },
    };
    let answered = self::headers(&args.response_header)?;
    let response =
        args.response.map(|status| ResponseView { src: source, dst: view.dst.ip(), status, headers: &answered });
    let told = loaded.policies.explain(&view, response.as_ref());
    let asked = Request { host: &host, path: uri.path(), query: uri.query(), method: &method, headers: &headers };
    let found = loaded.snapshot.router.find(&asked);
    let upstream =
        found.and_then(|found| found.upstream(&asked, source)).and_then(|at| loaded.config.upstreams.keys().nth(at));
    let route = found.and_then(|found| Some((found.index, loaded.config.routes.get(found.index)?)));
    let route = route.map(|(index, route)| RouteLine {
        pointer: format!("/routes/{index}"),
        is_for: route.is_for(),
        leads_to: route.leads_to(),
        upstream: upstream.cloned(),
    });
    if json {
        return output::json(&Told { policies: &told, route });
    }
    let gate = &loaded.config.gate;
    let verdict = verdict(&told, source, (gate.ipv4_prefix, gate.ipv6_prefix));
    let out = &mut output::stdout();
    print(out, &ExplainedRequest::line(&view), &told, verdict)?;
    match route {
        None => writeln!(out, "route     none for this host and path: 404")?,
        Some(RouteLine { pointer, is_for, leads_to, upstream }) => {
            let share = upstream.filter(|name| *name != leads_to).map(|name| format!("; {source} gets {name}"));
            writeln!(out, "route     {pointer} {is_for} -> {leads_to}{}", share.unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Explains a request that the running daemon has kept.
pub(super) fn of_id(id: &str, ask: &Ask) -> anyhow::Result<()> {
    let found: ExplainedRequest = ask.socket.get(&format!("/v1/requests/{}", encode_segment(id)))?;
    if ask.form.json {
        return output::json(&found);
    }
    let out = &mut output::stdout();
    let told = &found.explanation;
    writeln!(out, "id        {} at {:.3}, by generation {}", found.id, found.time, found.generation)?;
    if found.reloaded {
        writeln!(out, "{WARN}the policies were loaded anew since then{WARN:#}: these are the ones in force")?;
    }
    let verdict = verdict(told, found.source, (found.ipv4_prefix, found.ipv6_prefix));
    Ok(print(out, &found.request, told, verdict)?)
}

/// All that is told of a request.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    policies: &'a RequestExplanation,
    /// None where no route is for it.
    route: Option<RouteLine>,
}

/// The route that a request takes, unless a policy answers it or gives it another path.
#[derive(Serialize)]
struct RouteLine {
    pointer: String,
    is_for: String,
    leads_to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
}

/// `GET https://host/path`; without a method it is GET.
fn line(request: &str) -> anyhow::Result<(Method, Uri)> {
    let (method, url) = request.trim().split_once(' ').unwrap_or(("GET", request.trim()));
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| anyhow!("`{method}` is not a method"))?;
    let uri: Uri = url.trim().parse().with_context(|| format!("`{url}` is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok((method, uri)),
        _ => bail!("`{url}` is not a whole URL; write --request 'GET https://host/path'"),
    }
}

/// What is given of the client's TLS hello; a client that asks for an address names no server.
fn hello(args: &Args, host: &str) -> ClientHello {
    let is_name = !host.is_empty() && !host.starts_with('[') && host.parse::<IpAddr>().is_err();
    ClientHello {
        sni: args.sni.as_deref().or(is_name.then_some(host)).map(|name| name.to_ascii_lowercase().into_bytes().into()),
        ja4: args.ja4.clone().unwrap_or_default(),
        alpn: args.alpn.iter().map(|protocol| protocol.as_bytes().into()).collect(),
        ..ClientHello::default()
    }
}

fn listener<'c>(all: &'c [Listener], name: Option<&str>, scheme: &str) -> anyhow::Result<&'c Listener> {
    let speaks = |listener: &&Listener| (listener.protocol == Protocol::Https) == (scheme == "https");
    let names = || all.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => all
            .iter()
            .find(|listener| listener.name == name)
            .ok_or_else(|| anyhow!("the config has no listener `{name}`; it has {}", names())),
        None => all
            .iter()
            .find(speaks)
            .ok_or_else(|| anyhow!("no listener of the config speaks {scheme}; it has {}", names())),
    }
}

fn version(text: &str) -> anyhow::Result<Version> {
    Ok(match text {
        "1.0" => Version::HTTP_10,
        "1.1" => Version::HTTP_11,
        "2" => Version::HTTP_2,
        "3" => Version::HTTP_3,
        other => bail!("`{other}` is none of the HTTP versions 1.0, 1.1, 2 and 3"),
    })
}

fn headers(lines: &[String]) -> anyhow::Result<Fields> {
    let mut headers = Fields::new();
    for line in lines {
        let (name, value) =
            line.split_once(':').with_context(|| format!("`{line}` is no header; write --header 'Name: value'"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).with_context(|| format!("in the header `{line}`"))?;
        headers.append(name, HeaderValue::from_str(value.trim()).with_context(|| format!("in the header `{line}`"))?);
    }
    Ok(headers)
}

/// The verdict that would be written on the source, if any: what it would cover, and for how many seconds.
fn verdict(told: &RequestExplanation, source: IpAddr, prefixes: (u8, u8)) -> Option<(String, u64)> {
    Some((banned(source, told.push_scope.unwrap_or_default(), prefixes), told.push_seconds?))
}

/// What a verdict on the source would cover. `prefixes` are `gate.ipv4_prefix` and `gate.ipv6_prefix`.
fn banned(source: IpAddr, scope: PushScope, prefixes: (u8, u8)) -> String {
    let bits = match (scope, source) {
        (PushScope::Host, _) | (PushScope::Source, IpAddr::V4(_)) => return format!("host {source}"),
        (PushScope::Prefix, IpAddr::V4(_)) => prefixes.0,
        (PushScope::Source | PushScope::Prefix, IpAddr::V6(_)) => prefixes.1,
    };
    IpNet::new(source, bits).map_or_else(|_| format!("host {source}"), |net| format!("prefix {}", net.trunc()))
}

fn print(
    out: &mut impl Write,
    request: &str,
    told: &RequestExplanation,
    verdict: Option<(String, u64)>,
) -> io::Result<()> {
    writeln!(out, "request   {request}")?;
    for rule in &told.rules {
        let style = match rule.outcome {
            Outcome::Match | Outcome::MatchWithinRate => WARN,
            _ => GOOD,
        };
        let phase = rule.phase.name();
        let mode = if rule.shadow { ", shadow" } else { "" };
        let outcome = rule.outcome.name();
        writeln!(out, "{} ({phase}, {}{mode}): {style}{outcome}{style:#}", rule.rule, rule.action)?;
        for comparison in &rule.comparisons {
            writeln!(out, "    {:<5} {}; {}", comparison.holds, comparison.text, saw(comparison))?;
        }
    }
    let style = if matches!(told.action, "block" | "drop") { BAD } else { GOOD };
    write!(out, "{style}{}{style:#}", told.action)?;
    if let Some(status) = told.status {
        write!(out, " {status}")?;
    }
    match &told.rule {
        Some(rule) => write!(out, " by {rule}")?,
        None => write!(out, ": no rule decides")?,
    }
    if told.phase == Some(Phase::ClientHello) {
        write!(out, ", before the TLS handshake")?;
    }
    if told.phase == Some(Phase::Response) {
        write!(out, ", in place of the response")?;
    }
    if let Some(location) = &told.location {
        write!(out, ", to {location}")?;
    }
    for change in &told.changes {
        write!(out, "; {change}")?;
    }
    if let Some((covered, seconds)) = verdict {
        write!(out, "; writes to VERDICTS: {covered}, for {seconds} s, on Tidegate's own listeners")?;
        if let Some(matches) = told.push_after {
            write!(out, ", at the match that makes them {matches}")?;
        }
    }
    if !told.logged.is_empty() {
        write!(out, "; counted by {}", told.logged.join(", "))?;
    }
    writeln!(out)
}

fn saw(comparison: &Comparison) -> String {
    let saw = if comparison.saw.is_empty() { "missing".to_owned() } else { comparison.saw.join(", ") };
    match &comparison.list {
        Some(list) => format!("saw {saw}, in {list}"),
        None => format!("saw {saw}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let (method, uri) = line("POST https://a.example:8443/x?y=1").unwrap();
        assert_eq!((method, uri.path(), uri.port_u16()), (Method::POST, "/x", Some(8443)));
        assert_eq!(line("http://a.example/").unwrap().0, Method::GET);
        for (text, said) in [("GET /x", "not a whole URL"), ("G@T http://a/", "not a method"), ("GET :::", "not a URL")]
        {
            let error = line(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(headers(&["no colon".to_owned()]).is_err());
        assert_eq!(headers(&["X-A:  b ".to_owned()]).unwrap()["x-a"], "b");
        let covered = |source: &str, scope| banned(source.parse().unwrap(), scope, (24, 64));
        assert_eq!(covered("2001:db8:1:2:3::4", PushScope::Source), "prefix 2001:db8:1:2::/64");
        assert_eq!(covered("2001:db8:1:2:3::4", PushScope::Host), "host 2001:db8:1:2:3::4");
        assert_eq!(covered("192.0.2.9", PushScope::Source), "host 192.0.2.9");
        assert_eq!(covered("192.0.2.9", PushScope::Prefix), "prefix 192.0.2.0/24");
    }
}
