//! SYN cookies on the wire: handshakes through the cookie path in both families, bogus acknowledgments dropped, and the
//! way in and out of the mode under a bounded flood of spoofed SYNs.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::clients::Version;
use crate::edge::Edge;
use crate::netns::Netns;
use crate::process::{Daemon, run};
use crate::street::{EDGE_V4, EDGE_V6};
use crate::tools;
use crate::xdp::{self, Attached};

pub const CASES: &[Case] = &[
    Case { name: "always_completes_handshakes_and_drops_bogus_acks", run: always },
    Case { name: "options_are_kept_where_the_cookie_allows", run: options_are_kept },
    Case { name: "auto_follows_a_flood_and_returns", run: auto_follows_a_flood },
    Case { name: "a_reload_turns_cookies_on_and_off", run: a_reload_turns_cookies_on_and_off },
    Case { name: "unset_mode_is_off_over_veth", run: unset_mode_is_off_over_veth },
];

/// How long a change of mode or a counter may take to show.
pub const SHOWS_WITHIN: Duration = Duration::from_secs(40);
/// Acknowledgments that no handshake stands behind.
const BOGUS: u64 = 50;

/// An edge with `gate.syn_cookies`, and what makes its answers arrive: see [`xdp`].
pub fn edge_with(syn_cookies: &Value) -> Result<(Attached, Edge)> {
    let mut edge = Edge::prepare()?;
    let peer = xdp::attach(&edge.street.wire, "edge", "empty")?;
    edge.config["gate"]["syn_cookies"] = syn_cookies.clone();
    edge.launch()?;
    Ok((peer, edge))
}

/// A kernel parameter in a namespace.
fn sysctl(netns: &Netns, path: &str) -> Result<String> {
    let file = format!("/proc/sys/{path}");
    Ok(netns.enter(|| std::fs::read_to_string(file))??.trim().to_owned())
}

/// A counter of the namespace's TCP, `TcpExt` in `/proc/net/netstat`.
pub fn tcp_ext(netns: &Netns, name: &str) -> Result<u64> {
    let text = netns.enter(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))??;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let found = names.split(' ').zip(values.split(' ')).find(|(n, _)| *n == name);
    Ok(found.with_context(|| format!("the kernel counts no {name}"))?.1.parse()?)
}

/// hping3 in the scanner's namespace against the edge's HTTPS port; it ends by itself after `count` packets.
fn hping(edge: &Edge, flags: &[&str], count: u64, every: &str) -> Result<std::process::Command> {
    let mut hping = edge.street.scanner.command(tools::find("hping3")?)?;
    hping.args(["-q", "-n", "-p", "443", "-c", &count.to_string(), "-i", every]).args(flags).arg(EDGE_V4);
    Ok(hping)
}

fn always() -> Result<()> {
    let (_peer, edge) = edge_with(&json!({ "mode": "always" }))?;
    let received = tcp_ext(&edge.street.edge, "SyncookiesRecv")?;
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    edge.good_v6().expect_origin(Version::H1, "https://edge.test/")?;
    edge.scanner().expect_origin(Version::H1, "http://edge.test/")?;
    edge.scanner_v6().expect_origin(Version::H2, "https://edge.test/")?;
    ensure!(edge.packets("syn_cookie")? >= 4, "the SYNs of four connections were not all answered by XDP");
    ensure!(edge.packets("syn_cookie_bad")? == 0, "an honest acknowledgment was dropped");
    let taken = tcp_ext(&edge.street.edge, "SyncookiesRecv")? - received;
    ensure!(taken >= 4, "the kernel took {taken} cookies of four connections");

    let accepted = || -> Result<u64> { Ok(edge.workers()?.iter().map(|worker| worker.0).sum()) };
    let before = accepted()?;
    let finished = run(&mut hping(&edge, &["-A"], BOGUS, "u2000")?, Duration::from_secs(30))?;
    edge.until("the drop of bogus acknowledgments", SHOWS_WITHIN, || Ok(edge.packets("syn_cookie_bad")? >= BOGUS))
        .with_context(|| format!("hping3 said: {}", finished.stderr))?;
    ensure!(accepted()? == before, "an acknowledgment without a handshake opened a connection");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let state = edge.bpftool(&["map", "dump", "pinned", &edge.pins().join("SYN_STATE").to_string_lossy()])?;
    for field in ["policy", "threshold", "release", "hold_ms", "accepted", "window_ns", "marked_ns", "syns", "cookies"]
    {
        ensure!(state.contains(&format!("\"{field}\":")), "SYN_STATE has no named field {field}: {state}");
    }
    Ok(())
}

/// Options of the connection between a namespace's end and a port, as `ss` prints them.
fn negotiated(netns: &Netns, filter: &str) -> Result<Vec<String>> {
    let mut ss = netns.command(tools::find("ss")?)?;
    let text = run(ss.args(["-tineH", "state", "established", filter]), Duration::from_secs(20))?.ok()?;
    let words = text.split_whitespace();
    Ok(words.filter(|w| ["ts", "sack"].contains(w) || w.starts_with("wscale:")).map(str::to_owned).collect())
}

fn options_are_kept() -> Result<()> {
    let mut edge = Edge::prepare()?;
    let _peer = xdp::attach(&edge.street.wire, "edge", "empty")?;
    edge.config["gate"]["syn_cookies"] = json!({ "mode": "always" });
    edge.street.edge.sysctl("net/ipv4/tcp_timestamps", "2")?;
    edge.launch()?;
    for address in [EDGE_V4, EDGE_V6] {
        let target = (address.parse::<std::net::IpAddr>()?, 80).into();
        let held = edge.street.good.enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(20)))??;
        let client = negotiated(&edge.street.good, "dport = :80")?;
        let server = negotiated(&edge.street.edge, "sport = :80")?;
        ensure!(client.iter().filter(|word| ["ts", "sack"].contains(&word.as_str())).count() == 2, "{client:?}");
        let scales = |words: &[String]| -> Result<(String, String)> {
            let word = words.iter().find_map(|word| word.strip_prefix("wscale:")).context("no window scale")?;
            let (send, receive) = word.split_once(',').context("one scale")?;
            Ok((send.to_owned(), receive.to_owned()))
        };
        let ((send, receive), (edge_send, edge_receive)) = (scales(&client)?, scales(&server)?);
        ensure!((&send, &receive) == (&edge_receive, &edge_send), "the ends disagree: {client:?} and {server:?}");
        drop(held);
        edge.until("the end of the connection", SHOWS_WITHIN, || {
            Ok(negotiated(&edge.street.edge, "sport = :80")?.is_empty())
        })?;
    }
    ensure!(edge.packets("syn_cookie")? >= 2, "the connections did not come by cookies");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    Ok(())
}

fn a_reload_turns_cookies_on_and_off() -> Result<()> {
    let (_peer, mut edge) = edge_with(&json!({ "mode": "off" }))?;
    for mode in ["off", "always", "off"] {
        let before = edge.packets("syn_cookie")?;
        edge.config["gate"]["syn_cookies"]["mode"] = json!(mode);
        let reloaded = edge.reload()?;
        ensure!(reloaded["needs_restart"].as_array().is_some_and(Vec::is_empty), "{reloaded}");
        let on = mode == "always";
        ensure!(with_cookies(&edge)?.is_empty() != on, "after a reload to {mode}: {:?}", with_cookies(&edge)?);
        let kernels = if on { "2" } else { "1" };
        ensure!(
            sysctl(&edge.street.edge, "net/ipv4/tcp_syncookies")? == kernels,
            "not {kernels}, which {mode} asks for"
        );
        edge.good().expect_origin(Version::H2, "https://edge.test/")?;
        ensure!((edge.packets("syn_cookie")? > before) == on, "SYNs are answered by XDP in mode {mode}, or are not");
    }
    Ok(())
}

/// Listeners whose SYNs are answered with cookies now.
pub fn with_cookies(edge: &Edge) -> Result<Vec<String>> {
    let status = edge.ctl(&["status", "--json"])?;
    let list = status["kernel"]["syn_cookies"].as_array().with_context(|| format!("no syn_cookies in {status}"))?;
    Ok(list.iter().filter_map(|address| address.as_str().map(str::to_owned)).collect())
}

fn auto_follows_a_flood() -> Result<()> {
    let (_peer, edge) = edge_with(&json!({ "mode": "auto", "threshold": 40, "release": 20, "hold": "2s" }))?;
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    ensure!(with_cookies(&edge)?.is_empty(), "cookies are on without a flood");
    ensure!(edge.packets("syn_cookie")? == 0, "a SYN was answered by XDP without a flood");
    ensure!(sysctl(&edge.street.edge, "net/ipv4/tcp_syncookies")? == "1", "not the kernel's default");

    // At most 90 s of 500 SYNs a second; ended as soon as it has served.
    let log = edge.dir().join("hping3.log");
    let flood = Daemon::spawn(hping(&edge, &["-S", "--rand-source"], 45_000, "u2000")?, &log)?;
    let attacked = format!("{EDGE_V4}:443");
    edge.until("SYN cookies under the flood", SHOWS_WITHIN, || Ok(with_cookies(&edge)? == [attacked.clone()]))
        .with_context(|| flood.log_tail())?;
    edge.until("the kernel's readiness to give out cookies", SHOWS_WITHIN, || {
        Ok(sysctl(&edge.street.edge, "net/ipv4/tcp_syncookies")? == "2")
    })?;
    edge.until("answers from XDP", SHOWS_WITHIN, || Ok(edge.packets("syn_cookie")? >= 200))?;
    let before = tcp_ext(&edge.street.edge, "SyncookiesRecv")?;
    for _ in 0..5 {
        edge.good().expect_origin(Version::H2, "https://edge.test/")?;
        edge.good_v6().expect_origin(Version::H1, "https://edge.test/")?;
    }
    let taken = tcp_ext(&edge.street.edge, "SyncookiesRecv")? - before;
    ensure!(taken >= 5, "the kernel took {taken} cookies of good clients");
    drop(flood);

    edge.until("the end of SYN cookies", SHOWS_WITHIN, || Ok(with_cookies(&edge)?.is_empty()))?;
    edge.until("the kernel's own setting", SHOWS_WITHIN, || {
        Ok(sysctl(&edge.street.edge, "net/ipv4/tcp_syncookies")? == "1")
    })?;
    let after = edge.packets("syn_cookie")?;
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    ensure!(edge.packets("syn_cookie")? == after, "a SYN was still answered by XDP");
    Ok(())
}

fn unset_mode_is_off_over_veth() -> Result<()> {
    let mut edge = Edge::start()?;
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let log = edge.daemon()?.log();
    ensure!(log.contains("SYN cookies are off"), "the log does not say that cookies are off:\n{log}");
    Ok(())
}
