//! The namespaces of the flood's bench, and what serves at the edge in each case.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use proxy_common::abi::Reason;
use serde_json::{Value, json};

use super::FILE;
use crate::certs::{Authority, Leaf};
use crate::clients::{Client, Version, client_in};
use crate::flood::{LISTED, LISTED_BITS};
use crate::netns::{End, Netns, wire};
use crate::origin::{Origin, PORTS};
use crate::process::{self, Daemon, eventually};
use crate::scratch::Scratch;
use crate::tools;
use crate::ward::{BPFFS, Pins};
use crate::xdp::{self, Attached};

/// The edge's address towards good clients.
pub(super) const EDGE: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 1);
const ORIGIN: &str = "10.81.9.2";
/// Name of the site.
pub(super) const SITE: &str = "edge.test";
/// How long servers may take to start.
const START_TIME: Duration = Duration::from_secs(20);

/// The namespaces. Fields are dropped in this order.
pub(super) struct Town {
    _attached: [Attached; 2],
    origin: Origin,
    leaf: Leaf,
    authority: Authority,
    pub(super) good: Netns,
    pub(super) attacker: Netns,
    pub(super) edge: Netns,
    _sink: Netns,
    _origin_netns: Netns,
    scratch: Scratch,
}

/// What serves at the edge.
pub(super) struct Server {
    daemon: Daemon,
    /// Tidegate's.
    _pins: Option<Pins>,
    /// nginx's: with an XDP program the interface polls, as it does under Tidegate.
    _polling: Option<Attached>,
}

impl Server {
    /// Ends it in order and waits, so that the next has the port.
    pub(super) fn stop(mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGTERM)?;
        self.daemon.wait(START_TIME).map(drop)
    }
}

impl Town {
    /// Builds them, and starts the origin.
    pub(super) fn build() -> Result<Self> {
        let scratch = Scratch::new()?;
        let [good, attacker, edge, sink, origin_netns] =
            ["good", "attacker", "edge", "sink", "origin"].map(Netns::create);
        let (good, attacker, edge, sink, origin_netns) = (good?, attacker?, edge?, sink?, origin_netns?);
        let end = |netns, name, addresses| End { netns, name, addresses };
        wire(end(&edge, "wan", &["10.81.0.1/24"]), end(&good, "eth0", &["10.81.0.2/24"]))?;
        wire(end(&edge, "atk", &["10.82.0.1/24"]), end(&attacker, "eth0", &["10.82.0.2/24"]))?;
        wire(end(&edge, "lan", &["10.81.9.1/24"]), end(&origin_netns, "eth0", &["10.81.9.2/24"]))?;
        wire(end(&attacker, "void", &[]), end(&sink, "eth0", &[]))?;
        // What is sent back to spoofed sources goes the way it came, and is dropped there.
        edge.ip("route add default via 10.82.0.2")?;
        let attached = [xdp::attach(&sink, "eth0", "swallow")?, xdp::attach(&attacker, "eth0", "swallow")?];
        let back = hardware_address(&attacker, "eth0")?;
        edge.ip(&format!("neigh add 10.82.0.2 lladdr {back} dev atk"))?;
        let authority = Authority::new(scratch.path())?;
        let origin = Origin::start(Some(&origin_netns), ORIGIN, PORTS, &authority, scratch.path())?;
        std::fs::write(scratch.path().join("origin/files/page"), vec![b'x'; FILE])?;
        let leaf = authority.leaf("edge", &[SITE], 1)?;
        Ok(Self {
            _attached: attached,
            origin,
            leaf,
            authority,
            good,
            attacker,
            edge,
            _sink: sink,
            _origin_netns: origin_netns,
            scratch,
        })
    }

    /// A good client.
    pub(super) fn client(&self) -> Client<'_> {
        client_in(&self.good, &EDGE.to_string(), &self.authority.pem())
    }

    /// Waits until the edge serves.
    fn served(&self, daemon: &Daemon) -> Result<()> {
        eventually("the edge's start", START_TIME, || {
            let answer = self.client().get(Version::H2, &format!("https://{SITE}/page"), &[])?;
            ensure!(answer.status == 200 && answer.body.len() == FILE, "status {}", answer.status);
            Ok(())
        })
        .with_context(|| daemon.log_tail())
    }

    /// Starts Tidegate.
    pub(super) fn tidegate(&self) -> Result<Server> {
        let dir = self.scratch.path();
        let pins = Pins::guard(Path::new(BPFFS).join(self.scratch.name()));
        let policy = json!({
            "schema": "tidegate.policy/v1", "id": "flood", "revision": 1, "owner": "bench",
            "lists": { "bad": { "type": "cidr", "items": [format!("{LISTED}/{LISTED_BITS}")] } },
            "rules": [{ "id": "bad", "when": "ip.src in $bad", "action": { "type": "drop" } }],
        });
        std::fs::write(dir.join("flood.json"), policy.to_string())?;
        let config = json!({
            "require_ebpf": true,
            "listeners": [{ "name": "https", "address": format!("{EDGE}:443"), "protocol": "https", "http3": true }],
            "certificates": [{ "cert": self.leaf.cert, "key": self.leaf.key }],
            "routes": [{ "hosts": [SITE], "upstream": "nginx" }],
            "upstreams": { "nginx": self.origin.upstreams()["nginx"] },
            "policies": ["flood.json"],
            "gate": {
                "interfaces": ["wan", "atk"], "mode": "driver", "scope": "all", "pins": pins.path(),
                "syn_cookies": { "mode": "auto" },
            },
            "admin": { "socket": self.socket() },
            "state_dir": "state",
            "access_log": { "enabled": false },
        });
        let file = dir.join("tidegate.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = self.edge.command(tools::tidegate()?)?;
        command.arg("run").arg("--config").arg(&file).env_remove("NOTIFY_SOCKET").current_dir(dir);
        let daemon = Daemon::spawn(command, &dir.join("tidegate.log"))?;
        self.served(&daemon)?;
        Ok(Server { daemon, _pins: Some(pins), _polling: None })
    }

    /// Starts nginx behind nftables.
    pub(super) fn nginx(&self) -> Result<Server> {
        let dir = self.scratch.path().join("edge-nginx");
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("nginx.conf"), nginx_config(&self.leaf))?;
        let mut command = self.edge.command(tools::find("nginx")?)?;
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(&dir);
        let daemon = Daemon::spawn(command, &dir.join("nginx.log"))?;
        self.nft(&format!(
            "table ip flood {{
               set bad {{ type ipv4_addr; flags interval; elements = {{ {LISTED}/{LISTED_BITS} }}; }}
               chain pre {{ type filter hook prerouting priority -300; ip saddr @bad counter drop; }}
             }}"
        ))?;
        let polling = xdp::attach(&self.edge, "atk", "empty")?;
        self.served(&daemon)?;
        Ok(Server { daemon, _pins: None, _polling: Some(polling) })
    }

    /// Runs nft at the edge.
    pub(super) fn nft(&self, script: &str) -> Result<String> {
        let mut command = self.edge.command(tools::find("nft")?)?;
        process::run(command.args(["-j", script]), START_TIME)?.ok().context("nft")
    }

    fn socket(&self) -> PathBuf {
        self.scratch.path().join("admin.sock")
    }

    /// Packets that Tidegate dropped, and SYNs that it answered, so far.
    pub(super) fn tidegate_counts(&self) -> Result<(u64, u64)> {
        // The daemon answers when it gets to it, which on a flooded machine may take a second try.
        let counters: Value = eventually("an answer of the daemon", START_TIME, || {
            let mut command: Command = self.edge.command(tools::tidegate()?)?;
            command.args(["counters", "--json", "--socket"]).arg(self.socket());
            Ok(serde_json::from_str(&process::run(&mut command, START_TIME)?.ok()?)?)
        })?;
        let packets = |reason: Reason| counters["reasons"][reason.name()]["packets"].as_u64().unwrap_or(0);
        let dropped = Reason::ALL.into_iter().filter(|reason| reason.drops()).map(packets).sum();
        Ok((dropped, packets(Reason::SynCookie)))
    }

    /// Packets that the nftables list dropped so far.
    pub(super) fn nft_count(&self) -> Result<u64> {
        let list: Value = serde_json::from_str(&self.nft("list table ip flood")?)?;
        let parts = list["nftables"].as_array().context("nft's list")?;
        let expressions = parts.iter().filter_map(|part| part["rule"]["expr"].as_array()).flatten();
        expressions.into_iter().find_map(|expr| expr["counter"]["packets"].as_u64()).context("nft counts nothing")
    }
}

/// An interface's hardware address as text.
pub(super) fn hardware_address(netns: &Netns, name: &str) -> Result<String> {
    let mut ip = netns.command(tools::find("ip")?)?;
    let text = process::run(ip.args(["-j", "link", "show", "dev", name]), START_TIME)?.ok()?;
    let links: Value = serde_json::from_str(&text)?;
    Ok(links[0]["address"].as_str().context("no hardware address")?.to_owned())
}

/// The index of an interface in its namespace.
pub(super) fn index(netns: &Netns, name: &str) -> Result<u32> {
    Ok(netns.enter(|| nix::net::if_::if_nametoindex(name))??)
}

fn nginx_config(leaf: &Leaf) -> String {
    format!(
        "daemon off;
worker_processes auto;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream origin {{ server {ORIGIN}:{}; keepalive 64; }}
  server {{
    listen {EDGE}:443 ssl http2;
    server_name {SITE};
    ssl_certificate {};
    ssl_certificate_key {};
    location / {{ proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host {SITE}; proxy_pass http://origin; }}
  }}
}}
",
        PORTS.http,
        leaf.cert.display(),
        leaf.key.display()
    )
}
