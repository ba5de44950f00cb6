//! `cargo xtask bench flood`: good clients' HTTPS goodput through an edge that is under a mixed flood, beside two others.
//!
//! ```text
//!   good ──── wan ┐        ┌ lan ──── origin
//!                 ├─ edge ─┤
//!   attacker ─ atk ┘        attacker ── sink (drops everything by an XDP program)
//! ```
//!
//! *Control*: Tidegate serves while the same generator floods the sink, so that the generator's own CPU is in all three.
//! *Tidegate*: the flood goes to the edge; listed sources are denied by policy, SYNs of others are answered with cookies.
//! *nginx*: the same edge with nginx, and an nftables list that drops the same sources in `prerouting`. The three take turns;
//! medians of the rounds are printed.

#![allow(clippy::cast_precision_loss, reason = "counts of a few seconds, far below 2^53")]

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use proxy_common::abi::Reason;
use serde::Serialize;
use serde_json::{Value, json};

use crate::certs::{Authority, Leaf};
use crate::clients::{Client, Load, Version, client_in};
use crate::flood::{Flood, LISTED, LISTED_BITS};
use crate::netns::{End, Netns, wire};
use crate::origin::{Origin, PORTS};
use crate::process::{self, Daemon, eventually};
use crate::scratch::Scratch;
use crate::tools;
use crate::ward::{self, BPFFS, Item};
use crate::xdp::{self, Attached};

const EDGE: Ipv4Addr = Ipv4Addr::new(10, 81, 0, 1);
const ORIGIN: &str = "10.81.9.2";
const SITE: &str = "edge.test";
/// Bytes of the file that good clients ask for.
const FILE: usize = 16 * 1024;
/// Seconds of load in one measurement.
const SECONDS: u64 = 5;
/// Connections of the good clients.
const CLIENTS: u32 = 16;
/// Rounds; medians are printed.
const ROUNDS: usize = 3;
/// Seconds without a byte after which h2load gives a connection up: longer than the load, so that it ends those that hang when
/// the load is over, and no other.
const HUNG: u64 = 10;
/// How often a measurement is taken whose load generator does not end; the last time it is an error.
const TAKES: u32 = 3;
/// The generator ends by itself after this, whatever happens.
const LONGEST_FLOOD: Duration = Duration::from_secs(30);
/// How long servers may take to start.
const START_TIME: Duration = Duration::from_secs(20);
/// The target: goodput under the flood against the control's.
const TARGET: f64 = 0.9;

/// Flood packets a second unless another rate is asked for.
pub const RATE: u32 = 200_000;
/// Rates that are taken.
pub const RATES: std::ops::RangeInclusive<i64> = 1_000..=5_000_000;

/// One of the three.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was measured.
    pub case: &'static str,
    /// Requests a second of the good clients, median.
    pub requests_per_second: f64,
    /// Bytes of bodies a second, median.
    pub goodput_bytes_per_second: f64,
    /// Flood packets a second that were sent, median.
    pub flood_per_second: f64,
    /// Flood packets a second that were dropped, by whoever drops in this case, median.
    pub dropped_per_second: f64,
    /// SYNs a second that XDP answered with cookies, median.
    pub cookies_per_second: f64,
    /// Requests of the good clients that failed, in all rounds.
    pub failed: u64,
    /// Measurements that were taken once more, because h2load did not end.
    pub repeated: u32,
}

/// All three, and what they amount to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Control, Tidegate, and nginx where nftables is installed.
    pub lines: Vec<Line>,
    /// Tidegate's goodput under the flood against the control's.
    pub ratio: f64,
    /// nginx's against the control's.
    pub nginx_ratio: Option<f64>,
    /// Whether the target held.
    pub ok: bool,
}

/// The namespaces. Fields are dropped in this order.
struct Town {
    _attached: [Attached; 2],
    origin: Origin,
    leaf: Leaf,
    authority: Authority,
    good: Netns,
    attacker: Netns,
    edge: Netns,
    _sink: Netns,
    _origin_netns: Netns,
    scratch: Scratch,
}

/// What serves at the edge.
struct Server {
    daemon: Daemon,
    /// Tidegate's.
    _pins: Option<Pins>,
    /// nginx's: with an XDP program the interface polls, as it does under Tidegate.
    _polling: Option<Attached>,
}

impl Server {
    /// Ends it and waits: killed, nginx would leave its workers behind, and they the port.
    fn stop(mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGTERM)?;
        self.daemon.wait(START_TIME).map(drop)
    }
}

/// Removes its directory in bpffs when dropped.
struct Pins(std::path::PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = ward::release(Item::Pins(self.0.clone())) {
            eprintln!("{error:#}");
        }
    }
}

impl Town {
    fn build() -> Result<Self> {
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

    fn client(&self) -> Client<'_> {
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

    fn tidegate(&self) -> Result<Server> {
        let dir = self.scratch.path();
        let pins = Path::new(BPFFS).join(self.scratch.name());
        ward::guard(Item::Pins(pins.clone()));
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
                "interfaces": ["wan", "atk"], "mode": "driver", "scope": "all", "pins": pins,
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
        let pins = Pins(pins);
        self.served(&daemon)?;
        Ok(Server { daemon, _pins: Some(pins), _polling: None })
    }

    fn nginx(&self) -> Result<Server> {
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

    fn nft(&self, script: &str) -> Result<String> {
        let mut command = self.edge.command(tools::find("nft")?)?;
        process::run(command.args(["-j", script]), START_TIME)?.ok().context("nft")
    }

    fn socket(&self) -> std::path::PathBuf {
        self.scratch.path().join("admin.sock")
    }

    /// Packets that Tidegate dropped, and SYNs that it answered, so far.
    fn tidegate_counts(&self) -> Result<(u64, u64)> {
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
    fn nft_count(&self) -> Result<u64> {
        let list: Value = serde_json::from_str(&self.nft("list table ip flood")?)?;
        let parts = list["nftables"].as_array().context("nft's list")?;
        let expressions = parts.iter().filter_map(|part| part["rule"]["expr"].as_array()).flatten();
        expressions.into_iter().find_map(|expr| expr["counter"]["packets"].as_u64()).context("nft counts nothing")
    }

    /// One measurement: load and flood side by side. It is taken once more where h2load did not end by itself and so told of
    /// nothing, which the sample says.
    fn measure(&self, flood: &mut Flood, rate: u32, counts: &dyn Fn() -> Result<(u64, u64)>) -> Result<Sample> {
        for repeated in 0..TAKES {
            if let Some(sample) = self.take(flood, rate, counts)? {
                return Ok(Sample { repeated, ..sample });
            }
        }
        bail!("h2load did not end, {TAKES} times in a row")
    }

    /// As [`Town::measure`], once; `None` where h2load did not end.
    fn take(&self, flood: &mut Flood, rate: u32, counts: &dyn Fn() -> Result<(u64, u64)>) -> Result<Option<Sample>> {
        let stop = AtomicBool::new(false);
        let url = format!("https://{SITE}/page");
        let time = format!("--duration={SECONDS}");
        let clients = format!("-c{CLIENTS}");
        let hung = format!("--connection-inactivity-timeout={HUNG}s");
        let mut h2load = self.client().h2load(&url, &["-m4", "-t1", &clients, &time, &hung])?;
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| flood.run(&self.attacker, rate, LONGEST_FLOOD, &stop));
            let before = counts();
            let report = process::run_unless_hung(&mut h2load, Duration::from_secs(SECONDS + HUNG + 5));
            let after = counts();
            stop.store(true, Ordering::Relaxed);
            let (sent, seconds) = attack.join().map_err(|_| anyhow::anyhow!("the generator panicked"))??;
            let (Some(report), before, after) = (report?, before?, after?) else { return Ok(None) };
            let load = Load::parse(&report.ok().context("h2load")?)?;
            // From the first look to the second is a little longer than the load: rates are told over the flood's time.
            let rate = |count: u64| count as f64 / seconds;
            Ok(Some(Sample {
                requests: load.succeeded as f64 / SECONDS as f64,
                flood: rate(sent),
                dropped: rate(after.0.saturating_sub(before.0)),
                cookies: rate(after.1.saturating_sub(before.1)),
                failed: load.failed,
                repeated: 0,
            }))
        })
    }
}

/// One measurement, per second.
#[derive(Clone, Copy, Debug)]
struct Sample {
    requests: f64,
    flood: f64,
    dropped: f64,
    cookies: f64,
    failed: u64,
    repeated: u32,
}

/// An interface's hardware address as text.
fn hardware_address(netns: &Netns, name: &str) -> Result<String> {
    let mut ip = netns.command(tools::find("ip")?)?;
    let text = process::run(ip.args(["-j", "link", "show", "dev", name]), START_TIME)?.ok()?;
    let links: Value = serde_json::from_str(&text)?;
    Ok(links[0]["address"].as_str().context("no hardware address")?.to_owned())
}

/// The index of an interface in its namespace.
fn index(netns: &Netns, name: &str) -> Result<u32> {
    Ok(netns.enter(|| nix::net::if_::if_nametoindex(name))??)
}

/// Measures and reports; `say` is told of progress.
pub fn run(rate: u32, mut say: impl FnMut(&str)) -> Result<Report> {
    let town = Town::build()?;
    let address = hardware_address(&town.edge, "atk")?;
    let bytes: Vec<u8> = address.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let edge: [u8; 6] = bytes.try_into().map_err(|_| anyhow::anyhow!("{address} is no hardware address"))?;
    let mut at_edge = Flood::new(index(&town.attacker, "eth0")?, (edge, EDGE))?;
    let mut at_sink = Flood::new(index(&town.attacker, "void")?, (edge, EDGE))?;
    let with_nginx = tools::find("nft").is_ok();
    if !with_nginx {
        say("nftables is not installed (`apt-get install nftables`): nginx behind it is left out");
    }
    let mut samples: [(&'static str, Vec<Sample>); 3] =
        [("control: flood to the sink", vec![]), ("Tidegate under the flood", vec![]), ("nginx + nftables", vec![])];
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}"));
        let server = town.tidegate()?;
        let counts = || town.tidegate_counts();
        samples[0].1.push(town.measure(&mut at_sink, rate, &counts)?);
        samples[1].1.push(town.measure(&mut at_edge, rate, &counts)?);
        server.stop()?;
        if with_nginx {
            let server = town.nginx()?;
            samples[2].1.push(town.measure(&mut at_edge, rate, &|| Ok((town.nft_count()?, 0)))?);
            server.stop()?;
            town.nft("delete table ip flood")?;
        }
    }
    let lines: Vec<Line> =
        samples.iter().filter(|(_, samples)| !samples.is_empty()).map(|(case, samples)| line(case, samples)).collect();
    let [control, tidegate, rest @ ..] = lines.as_slice() else { bail!("nothing was measured") };
    let against = |line: &Line| line.goodput_bytes_per_second / control.goodput_bytes_per_second;
    let ratio = against(tidegate);
    let nginx_ratio = rest.first().map(against);
    // The sink drops all of it; it counts nothing itself.
    let mut lines = lines.clone();
    if let Some(control) = lines.first_mut() {
        control.dropped_per_second = control.flood_per_second;
    }
    Ok(Report { lines, ratio, nginx_ratio, ok: ratio >= TARGET })
}

fn line(case: &'static str, samples: &[Sample]) -> Line {
    let median = |value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let requests = median(|sample| sample.requests);
    Line {
        case,
        requests_per_second: requests,
        goodput_bytes_per_second: requests * FILE as f64,
        flood_per_second: median(|sample| sample.flood),
        dropped_per_second: median(|sample| sample.dropped),
        cookies_per_second: median(|sample| sample.cookies),
        failed: samples.iter().map(|sample| sample.failed).sum(),
        repeated: samples.iter().map(|sample| sample.repeated).sum(),
    }
}

/// The report as a table for people.
pub fn table(report: &Report) -> String {
    let mut text = String::from(
        "case                          requests/s      MB/s    flood/s  dropped/s  cookies/s  failed  repeated\n",
    );
    for line in &report.lines {
        let megabytes = line.goodput_bytes_per_second / 1e6;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<28} {:>11.0} {megabytes:>9.1} {:>10.0} {:>10.0} {:>10.0} {:>7} {:>9}",
            line.case,
            line.requests_per_second,
            line.flood_per_second,
            line.dropped_per_second,
            line.cookies_per_second,
            line.failed,
            line.repeated
        );
    }
    let _ = write!(text, "Tidegate under the flood / control: {:.2} (target {TARGET})", report.ratio);
    if let Some(nginx) = report.nginx_ratio {
        let _ = write!(text, "; nginx + nftables / control: {nginx:.2}");
    }
    text
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
