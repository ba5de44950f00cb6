//! Faults of meaning: what the schema cannot say of a config. Collects all of them; opens nothing.

use std::collections::HashMap;
use std::path::Path;

use proxy_common::abi::MAX_SERVICES;
use proxy_common::syn::MAX_HOLD_MS;

use super::balance::MAX_WEIGHT;
use super::gate::FAIL_AFTER;
use super::limits::{MAX_HEADER_BYTES, MAX_INSPECT, MAX_TIMEOUT, MIN_HEADER_BYTES, MIN_MEMORY};
use super::upstream::is_host_name;
use super::{
    Balance, Config, Protocol, Scheme, Span, SplitBy, Upstream, acme, forward_check, observe, rates, route_check,
    tls_check,
};
use crate::json::join;
use crate::json::shape::Fault;

/// Most bytes of an interface's name (`IFNAMSIZ` less the terminator).
const MAX_INTERFACE_NAME: usize = 15;

/// All faults of meaning.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    listeners(config, &mut faults);
    route_check::faults(config, &mut faults);
    observe::faults(config, &mut faults);
    forward_check::faults(config, &mut faults);
    upstreams(config, &mut faults);
    tls_check::faults(config, &mut faults);
    acme::faults(config, &mut faults);
    gate(config, &mut faults);
    syn_cookies(config, &mut faults);
    rates::faults(config, &mut faults);
    fail_after(config, &mut faults);
    bounds(config, &mut faults);
    paths(config, &mut faults);
    if config.require_signature && config.trusted_keys.is_empty() {
        let message =
            "there are no `trusted_keys`: no bundle could ever be taken; `tidegate policy keygen` makes a key";
        faults.push(Fault::at("/require_signature", message));
    }
    faults
}

fn listeners(config: &Config, faults: &mut Vec<Fault>) {
    let mut names = HashMap::new();
    let mut addresses = HashMap::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let at = |key: &str| format!("/listeners/{index}/{key}");
        if let Some(first) = names.insert(listener.name.as_str(), index) {
            let message = format!("the name `{}` is taken by /listeners/{first}; names are unique", listener.name);
            faults.push(Fault::at(at("name"), message));
        }
        if let Some(first) = addresses.insert(listener.address, index) {
            let message = format!("{} is taken by /listeners/{first}; each address is listed once", listener.address);
            faults.push(Fault::at(at("address"), message));
        }
        if listener.protocol == Protocol::Https && config.certificates.is_empty() && config.acme.is_none() {
            let message = "an https listener needs a certificate; add one to /certificates, \
                           as {\"cert\": \"chain.pem\", \"key\": \"key.pem\"}";
            faults.push(Fault::at(at("protocol"), message));
        }
        if listener.protocol == Protocol::Http && listener.http3 {
            let message = "HTTP/3 needs TLS: set `protocol` to \"https\", or leave `http3` out";
            faults.push(Fault::at(at("http3"), message));
        }
        if config.admin.metrics == Some(listener.address) {
            let message =
                format!("{} is the listener `{}`; metrics take their own port", listener.address, listener.name);
            faults.push(Fault::at("/admin/metrics", message));
        }
    }
    let services = config.listeners.len() + config.listeners.iter().filter(|l| l.http3).count();
    if services > MAX_SERVICES as usize {
        let message =
            format!("{services} sockets to steer (a listener with http3 counts twice), at most {MAX_SERVICES}");
        faults.push(Fault::at("/listeners", message));
    }
}

fn upstreams(config: &Config, faults: &mut Vec<Fault>) {
    for (name, upstream) in &config.upstreams {
        let pointer = join("/upstreams", name);
        if name.is_empty() {
            faults.push(Fault::at_key(pointer.clone(), "an upstream needs a name"));
        }
        let mut seen = HashMap::new();
        for (index, server) in upstream.servers.iter().enumerate() {
            if let Some(first) = seen.insert(server, index) {
                let message = format!("{server} stands at {pointer}/servers/{first} already");
                faults.push(Fault::at(format!("{pointer}/servers/{index}"), message));
            }
        }
        balancing(upstream, &pointer, faults);
        let tls = upstream.servers.iter().any(|s| s.scheme == Scheme::Https);
        if let Some(server_name) = upstream.server_name.as_deref().filter(|n| !is_host_name(n)) {
            let message = format!("`{server_name}` is not a host name");
            faults.push(Fault::at(format!("{pointer}/server_name"), message));
        }
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            let set = |key| if key == "cert" { &upstream.tls.cert } else { &upstream.tls.key };
            if set(one).is_some() && set(other).is_none() {
                let message = format!("`{one}` takes `{other}`, too: a certificate is shown with its key");
                faults.push(Fault::at_key(format!("{pointer}/tls/{one}"), message));
            }
        }
        let keys = [
            ("ca", upstream.ca.is_some()),
            ("server_name", upstream.server_name.is_some()),
            ("tls", !upstream.tls.is_default()),
        ];
        for (key, set) in keys {
            if set && !tls {
                let message = format!("`{key}` is for https servers; this upstream has none");
                faults.push(Fault::at_key(format!("{pointer}/{key}"), message));
            }
        }
    }
}

fn balancing(upstream: &Upstream, pointer: &str, faults: &mut Vec<Fault>) {
    let Upstream { balance, servers, retries, hedge, health, .. } = upstream;
    let at = |key: &str| format!("{pointer}/balance/{key}");
    if !balance.weights.is_empty() {
        if balance.weights.len() != servers.len() {
            let message = format!("{} weights for {} servers", balance.weights.len(), servers.len());
            faults.push(Fault::at(at("weights"), message));
        } else if balance.weights.iter().all(|weight| *weight == 0) {
            faults.push(Fault::at(at("weights"), "all weights are 0: no server would be preferred"));
        }
        for (index, weight) in balance.weights.iter().enumerate().filter(|(_, weight)| **weight > MAX_WEIGHT) {
            faults.push(Fault::at(
                at(&format!("weights/{index}")),
                format!("found {weight}, expected at most {MAX_WEIGHT}"),
            ));
        }
    }
    if balance.hash_by.is_some() && balance.prefer != Balance::Hash {
        faults.push(Fault::at_key(at("hash_by"), "this is for `\"prefer\": \"hash\"`"));
    }
    if balance.queue.is_some() && balance.max_requests.is_none() {
        faults.push(Fault::at_key(at("queue"), "nothing ever waits without `max_requests`"));
    }
    let one = |by: &SplitBy| [&by.header, &by.cookie, &by.query].into_iter().flatten().count() == 1;
    if balance.hash_by.as_ref().is_some_and(|by| !one(by)) {
        faults.push(Fault::at(at("hash_by"), "set one of `header`, `cookie` and `query`"));
    }
    for (index, status) in retries.on_status.iter().enumerate().filter(|(_, status)| !(500..600).contains(*status)) {
        let message = format!("found {status}, expected a status from 500 to 599");
        faults.push(Fault::at(format!("{pointer}/retries/on_status/{index}"), message));
    }
    if health
        .as_ref()
        .is_some_and(|probe| probe.path.parse::<http::uri::PathAndQuery>().is_err() || !probe.path.starts_with('/'))
    {
        faults.push(Fault::at(format!("{pointer}/health/path"), "this is not a path; write e.g. \"/health\""));
    }
    if hedge.as_ref().is_some_and(|hedge| hedge.after.is_some() == hedge.percentile.is_some()) {
        faults.push(Fault::at(format!("{pointer}/hedge"), "set one of `after` and `percentile`"));
    }
    let times = [
        ("hedge/after", hedge.as_ref().and_then(|hedge| hedge.after)),
        ("balance/slow_start", balance.slow_start),
        ("balance/queue/for", balance.queue.as_ref().map(|queue| queue.time)),
        ("balance/ejection/for", balance.ejection.as_ref().map(|ejection| ejection.time)),
        ("health/every", health.as_ref().map(|probe| probe.every)),
        ("health/timeout", health.as_ref().map(|probe| probe.timeout)),
    ];
    for (key, time) in times.into_iter().filter_map(|(key, time)| Some((key, time?))) {
        if time.0.is_zero() || time.0 > MAX_TIMEOUT {
            let message = format!("found {time}, expected 1ms to {}", Span(MAX_TIMEOUT));
            faults.push(Fault::at(format!("{pointer}/{key}"), message));
        }
    }
}

fn gate(config: &Config, faults: &mut Vec<Fault>) {
    let mut seen = HashMap::new();
    for (index, name) in config.gate.interfaces.iter().enumerate() {
        let pointer = format!("/gate/interfaces/{index}");
        if name.is_empty() || name.len() > MAX_INTERFACE_NAME || name.contains(['/', ' ']) {
            faults.push(Fault::at(pointer, format!("`{name}` is not the name of a network interface")));
        } else if let Some(first) = seen.insert(name, index) {
            faults.push(Fault::at(pointer, format!("`{name}` stands at /gate/interfaces/{first} already")));
        }
    }
}

fn syn_cookies(config: &Config, faults: &mut Vec<Fault>) {
    let syn = &config.gate.syn_cookies;
    if syn.release >= syn.threshold {
        let message = format!(
            "found {}, expected less than `threshold` ({}): between the two, cookies neither begin nor end",
            syn.release, syn.threshold
        );
        faults.push(Fault::at("/gate/syn_cookies/release", message));
    }
    let longest = std::time::Duration::from_millis(MAX_HOLD_MS.into());
    if syn.hold.0 > longest {
        let message = format!("{} is longer than {}, the longest hold taken", syn.hold, Span(longest));
        faults.push(Fault::at("/gate/syn_cookies/hold", message));
    }
}

fn fail_after(config: &Config, faults: &mut Vec<Fault>) {
    let after = config.gate.fail_after;
    if !FAIL_AFTER.contains(&after.0) {
        let (least, most) = (Span(*FAIL_AFTER.start()), Span(*FAIL_AFTER.end()));
        let message = format!("found {after}, expected {least} to {most}: the daemon's heart beats once a second");
        faults.push(Fault::at("/gate/fail_after", message));
    }
}

fn bounds(config: &Config, faults: &mut Vec<Fault>) {
    for (key, Span(time), zero_taken) in config.timeouts.entries() {
        let pointer = format!("/timeouts/{key}");
        if time.is_zero() && !zero_taken {
            faults.push(Fault::at(pointer, "a time of zero would end everything at once; write e.g. \"10s\""));
        } else if time > MAX_TIMEOUT {
            let message = format!("{} is longer than {}, the longest time taken", Span(time), Span(MAX_TIMEOUT));
            faults.push(Fault::at(pointer, message));
        }
    }
    if config.limits.body.0 == 0 {
        faults.push(Fault::at("/limits/body", "found 0, expected at least 1 byte"));
    }
    if config.limits.memory.is_some_and(|memory| memory.0 < MIN_MEMORY) {
        let message = format!("a worker needs at least {MIN_MEMORY} bytes");
        faults.push(Fault::at("/limits/memory", message));
    }
    let inspect = config.limits.inspect.0;
    if !(1..=MAX_INSPECT).contains(&inspect) {
        let message = format!("found {inspect} bytes, expected 1 to {MAX_INSPECT}");
        faults.push(Fault::at("/limits/inspect", message));
    }
    let header_bytes = config.limits.header_bytes.0;
    if !(MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(&header_bytes) {
        let message = format!("found {header_bytes} bytes, expected {MIN_HEADER_BYTES} to {MAX_HEADER_BYTES}");
        faults.push(Fault::at("/limits/header_bytes", message));
    }
}

fn paths(config: &Config, faults: &mut Vec<Fault>) {
    let mut named = |pointer: String, path: &Path, absolute: bool| {
        if path.as_os_str().is_empty() {
            faults.push(Fault::at(pointer, "the path is empty"));
        } else if absolute && !path.is_absolute() {
            faults.push(Fault::at(pointer, format!("`{}` is not an absolute path", path.display())));
        }
    };
    for (index, certificate) in config.certificates.iter().enumerate() {
        named(format!("/certificates/{index}/cert"), &certificate.cert, false);
        named(format!("/certificates/{index}/key"), &certificate.key, false);
        if let Some(ocsp) = &certificate.ocsp {
            named(format!("/certificates/{index}/ocsp"), ocsp, false);
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        if let Some(files) = &route.files {
            named(format!("/routes/{index}/files/root"), &files.root, false);
        }
        for (status, page) in &route.error_pages {
            if let Some(file) = &page.file {
                named(join(&format!("/routes/{index}/error_pages"), status) + "/file", file, false);
            }
        }
    }
    for (name, upstream) in &config.upstreams {
        let files = [("ca", &upstream.ca), ("tls/cert", &upstream.tls.cert), ("tls/key", &upstream.tls.key)];
        for (key, file) in files {
            if let Some(file) = file {
                named(format!("{}/{key}", join("/upstreams", name)), file, false);
            }
        }
    }
    for (index, policy) in config.policies.iter().enumerate() {
        named(format!("/policies/{index}"), Path::new(policy), false);
    }
    if let Some(file) = &config.access_log.file {
        named("/access_log/file".to_owned(), file, false);
    }
    named("/state_dir".to_owned(), &config.state_dir, false);
    named("/gate/pins".to_owned(), &config.gate.pins, true);
    named("/admin/socket".to_owned(), &config.admin.socket, false);
}
