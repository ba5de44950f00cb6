//! What a line tells of an event beside its packet: names of rules, interfaces and listeners, and the time of day.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use proxy_common::abi::proto;
use proxy_common::event::Event;
use proxy_core::config::Config;

use super::record::{Headers, Line};
use crate::kernel::{Kernel, now_ns};

/// A line as readers get it.
pub(super) fn line(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// The listener that a packet was for.
pub(super) fn service(config: &Config, headers: &Headers) -> Option<String> {
    let (to, (_, port), protocol) = (headers.destination?, headers.ports?, headers.protocol?);
    let listener = config.listeners.iter().find(|listener| {
        let address = listener.address;
        address.port() == port
            && (protocol == proto::TCP || (protocol == proto::UDP && listener.http3))
            && (address.ip().to_canonical() == to
                || (address.ip().is_unspecified() && address.is_ipv4() == to.is_ipv4()))
    })?;
    Some(listener.name.clone())
}

/// Names of rules and interfaces, as they were when they were last looked up.
#[derive(Debug, Default)]
pub(super) struct Names {
    rules: HashMap<u32, String>,
    revision: Option<u32>,
    interfaces: HashMap<u32, String>,
}

impl Names {
    /// Of the rule that an event names.
    pub(super) fn rule(&mut self, kernel: &Kernel, event: &Event) -> String {
        if self.revision != Some(event.revision) {
            self.rules = kernel.slot_names().unwrap_or_default();
            self.revision = Some(event.revision);
        }
        self.rules.get(&event.rule).cloned().unwrap_or_else(|| format!("slot {}", event.rule))
    }

    /// Interfaces may have got others.
    pub(super) fn forget_interfaces(&mut self) {
        self.interfaces.clear();
    }

    /// Of an interface.
    pub(super) fn interface(&mut self, index: u32) -> String {
        let name = || {
            let name = nix::net::if_::if_indextoname(index).ok().and_then(|name| name.into_string().ok());
            name.unwrap_or_else(|| format!("index {index}"))
        };
        self.interfaces.entry(index).or_insert_with(name).clone()
    }
}

/// The two clocks at one moment: the kernel's events carry the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    monotonic_ns: u64,
    wall: jiff::Timestamp,
}

impl Clock {
    /// As they are now.
    pub(super) fn now() -> Self {
        Self { monotonic_ns: now_ns(), wall: jiff::Timestamp::now() }
    }

    /// A monotonic time as RFC 3339, in UTC.
    pub(super) fn wall(&self, time_ns: u64) -> String {
        let ago = Duration::from_nanos(self.monotonic_ns.saturating_sub(time_ns));
        let time = self.wall.checked_sub(ago).unwrap_or(self.wall);
        format!("{time:.6}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_belongs_to_the_listener_that_it_is_for() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "listeners": [
                { "name": "any", "address": "0.0.0.0:80", "protocol": "http" },
                { "name": "web", "address": "192.0.2.1:443", "protocol": "https", "http3": true },
                { "name": "six", "address": "[::]:443", "protocol": "https" },
            ],
            "routes": [], "upstreams": {},
        }))
        .unwrap();
        let to = |destination: &str, protocol, port| {
            let destination = Some(destination.parse().unwrap());
            service(&config, &Headers { source: None, destination, protocol: Some(protocol), ports: Some((1, port)) })
        };
        assert_eq!(to("198.51.100.1", proto::TCP, 80).as_deref(), Some("any"));
        assert_eq!(to("192.0.2.1", proto::UDP, 443).as_deref(), Some("web"));
        assert_eq!(to("192.0.2.2", proto::TCP, 443), None);
        assert_eq!(to("2001:db8::1", proto::TCP, 443).as_deref(), Some("six"));
        assert_eq!(to("2001:db8::1", proto::UDP, 443), None, "it serves no HTTP/3");
        assert_eq!(to("2001:db8::1", proto::TCP, 80), None);
    }

    #[test]
    fn times_are_the_walls() {
        let clock = Clock { monotonic_ns: 5_000_000_000, wall: "2026-01-02T03:04:05Z".parse().unwrap() };
        assert_eq!(clock.wall(3_500_000_000), "2026-01-02T03:04:03.500000Z");
        assert_eq!(clock.wall(9_000_000_000), "2026-01-02T03:04:05.000000Z", "never in the future");
    }
}
