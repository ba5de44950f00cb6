//! Faults of meaning in what is passed through, and in which upstreams may be where.

use super::{Config, Protocol, Scheme};
use crate::diagnostic::hint;
use crate::host::HostPattern;
use crate::json::join;
use crate::json::shape::Fault;

pub(super) fn faults(config: &Config, faults: &mut Vec<Fault>) {
    for (index, listener) in config.listeners.iter().enumerate() {
        let at = format!("/listeners/{index}");
        match listener.protocol {
            Protocol::Tcp if listener.forward.is_empty() => {
                faults.push(Fault::at(at.clone(), "a tcp listener needs `forward`, as [{\"upstream\": \"database\"}]"));
            }
            Protocol::Tcp if listener.http3 => {
                faults.push(Fault::at(format!("{at}/http3"), "HTTP/3 is served by https listeners"));
            }
            Protocol::Http if !listener.forward.is_empty() => {
                let message = "connections in clear name no server; this is for listeners that speak tcp or https";
                faults.push(Fault::at_key(format!("{at}/forward"), message));
            }
            _ => {}
        }
        for (place, forward) in listener.forward.iter().enumerate() {
            let at = format!("{at}/forward/{place}");
            if forward.hosts.is_empty() && listener.protocol == Protocol::Https {
                let message = "without hosts no connection would be left for this listener's own TLS; name some";
                faults.push(Fault::at(at.clone(), message));
            }
            for (host, text) in forward.hosts.iter().enumerate() {
                if let Err(message) = text.parse::<HostPattern>() {
                    faults.push(Fault::at(format!("{at}/hosts/{host}"), message));
                }
            }
            match config.upstreams.get(&forward.upstream) {
                None => {
                    let near = hint(&forward.upstream, config.upstreams.keys().map(String::as_str));
                    let message = format!("there is no upstream `{}`{near}", forward.upstream);
                    faults.push(Fault::at(format!("{at}/upstream"), message));
                }
                Some(upstream) if upstream.servers.iter().any(|server| server.scheme != Scheme::Tcp) => {
                    let message =
                        format!("the servers of `{}` speak HTTP; here they are tcp://host:port", forward.upstream);
                    faults.push(Fault::at(format!("{at}/upstream"), message));
                }
                Some(_) => {}
            }
        }
    }
    for (name, upstream) in &config.upstreams {
        let pointer = join("/upstreams", name);
        let any = |scheme| upstream.servers.iter().any(|server| server.scheme == scheme);
        if upstream.http2 && !any(Scheme::Https) {
            let message = "this is for https servers; in clear, HTTP/2 is written h2c://host:port";
            faults.push(Fault::at_key(format!("{pointer}/http2"), message));
        }
        if upstream.same_host {
            for (index, server) in upstream.servers.iter().enumerate() {
                let near = server.scheme == Scheme::Http && server.ip().is_some_and(|ip| ip.is_loopback());
                if !near {
                    let message = format!(
                        "`same_host` is for servers in clear text on a loopback address, as http://127.0.0.1:8080 or \
                         http://[::1]:8080, and {server} is none; leave `same_host` out, or write it so"
                    );
                    faults.push(Fault::at(format!("{pointer}/servers/{index}"), message));
                }
            }
        }
        if any(Scheme::Tcp) && upstream.health.is_some() {
            let message = "servers that are written tcp:// are not asked by HTTP; leave this out";
            faults.push(Fault::at_key(format!("{pointer}/health"), message));
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        for (key, name) in route.upstreams() {
            let servers = config.upstreams.get(name).into_iter().flat_map(|upstream| &upstream.servers);
            if servers.into_iter().any(|server| server.scheme == Scheme::Tcp) {
                let message = format!("the servers of `{name}` are written tcp://, and routes lead to HTTP");
                faults.push(Fault::at(format!("/routes/{index}/{key}"), message));
            }
        }
    }
}
