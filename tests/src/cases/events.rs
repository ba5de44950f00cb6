//! Watching the gate: events of dropped packets, captures that other programs read, rates, and an end of sampling when
//! nobody reads any more.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::edge::Edge;
use crate::process::{self, eventually};
use crate::street::{CROWD, EDGE_V4, SCANNER_V4, SCANNER_V6, WAN};
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "dropped_packets_are_shown", run: dropped_packets_are_shown },
    Case { name: "only_what_was_asked_for", run: only_what_was_asked_for },
    Case { name: "capture_is_read_by_tcpdump", run: capture_is_read_by_tcpdump },
    Case { name: "sampling_ends_with_the_reader", run: sampling_ends_with_the_reader },
];

/// How long a follower may take to see what it waits for.
const SEEN: Duration = Duration::from_secs(30);

/// An edge with one source banned by hand and one prefix denied by a rule.
fn edge() -> Result<Edge> {
    let mut edge = Edge::prepare()?;
    edge.policy(&json!({
        "schema": "tidegate.policy/v1", "id": "lists", "revision": 1, "owner": "tests",
        "lists": { "bad": { "type": "cidr", "items": [format!("{CROWD}.0.0/24"), "fd71:2::/64"] } },
        "rules": [{ "id": "bad", "when": "ip.src in $bad", "action": { "type": "drop" } }],
    }))?;
    edge.launch()?;
    edge.ctl(&["verdict", "add", SCANNER_V4, "--ttl", "10m"])?;
    Ok(edge)
}

/// A command that follows; ended when dropped.
struct Follower(Child);

impl Follower {
    fn start(edge: &Edge, words: &[&str]) -> Result<Self> {
        let mut command: Command = edge.street.edge.command(tools::tidegate()?)?;
        command.args(words).arg("--socket").arg(edge.dir().join("admin.sock")).current_dir(edge.dir());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(command.spawn()?))
    }

    /// Knocks until the follower has seen enough and ends; returns what it said.
    fn knocking(mut self, knock: impl Fn() -> Result<()>) -> Result<String> {
        eventually("the follower's end", SEEN, || {
            knock()?;
            self.0.try_wait()?.context("it still waits")
        })?;
        let mut said = String::new();
        let mut errors = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().context("stdout")?, &mut said)?;
        std::io::Read::read_to_string(&mut self.0.stderr.take().context("stderr")?, &mut errors)?;
        ensure!(self.0.wait()?.success(), "{said}{errors}");
        Ok(said)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Already ended is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends one UDP datagram from each of these addresses of the scanner to the edge's port.
fn knock(edge: &Edge, sources: &[&str], port: u16) -> Result<()> {
    edge.street.scanner.enter(|| -> Result<()> {
        for source in sources {
            let to = if source.contains(':') { crate::street::EDGE_V6 } else { EDGE_V4 };
            let socket = std::net::UdpSocket::bind((*source, 0)).with_context(|| format!("binding {source}"))?;
            socket.send_to(&[0x5a; 300], (to, port))?;
        }
        Ok(())
    })?
}

fn events(text: &str) -> Result<Vec<Value>> {
    let lines = text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")));
    Ok(lines.collect::<Result<Vec<Value>>>()?.into_iter().filter(|line| line.get("lost").is_none()).collect())
}

fn dropped_packets_are_shown() -> Result<()> {
    let edge = edge()?;
    let denied = format!("{CROWD}.0.9");
    let follower =
        Follower::start(&edge, &["events", "--follow", "--json", "--hex", "--sample", "1", "--count", "60"])?;
    let said = follower.knocking(|| knock(&edge, &[SCANNER_V4, &denied, SCANNER_V6], 443))?;
    let events = events(&said)?;
    ensure!(events.len() == 60, "{} events: {said}", events.len());
    for (source, reason, rule, service) in [
        (SCANNER_V4, "verdict", "operator", "https"),
        (denied.as_str(), "denied", "lists/bad", "https"),
        (SCANNER_V6, "denied", "lists/bad", "https6"),
    ] {
        let event = events.iter().find(|e| e["source"] == source).with_context(|| format!("no {source} in {said}"))?;
        ensure!(event["reason"] == reason && event["rule"] == rule && event["dropped"] == true, "{event}");
        ensure!(event["service"] == service && event["destination_port"] == 443, "{event}");
        ensure!(event["protocol"] == "udp" && event["interface"] == WAN && event["sample"] == 1, "{event}");
        let header = if source.contains(':') { 14 + 40 + 8 } else { 14 + 20 + 8 };
        ensure!(event["length"] == header + 300, "{event}");
        // The snapshot is cut, the length is the packet's.
        ensure!(event["packet"].as_str().is_some_and(|hex| hex.len() == 512 && hex.ends_with("5a5a")), "{event}");
        ensure!(event["revision"].as_u64().is_some_and(|revision| revision > 0), "{event}");
    }
    Ok(())
}

fn only_what_was_asked_for() -> Result<()> {
    let edge = edge()?;
    let denied = format!("{CROWD}.0.9");
    let other = format!("{CROWD}.0.200");
    let send = || knock(&edge, &[SCANNER_V4, &denied, &other], 443);
    let words = ["events", "--follow", "--json", "--sample", "1", "--count", "5"];
    let all = |more: &[&str]| -> Result<Vec<Value>> {
        events(&Follower::start(&edge, &[&words[..], more].concat())?.knocking(send)?)
    };
    for event in all(&["--rule", "operator"])? {
        ensure!(event["source"] == SCANNER_V4, "{event}");
    }
    for event in all(&["--source", &format!("{CROWD}.0.128/25"), "--reason", "denied"])? {
        ensure!(event["source"] == other.as_str(), "{event}");
    }
    // Packets that would have been dropped, but are for no listener.
    let said = Follower::start(&edge, &[&words[..], &["--reason", "not_own"]].concat())?
        .knocking(|| knock(&edge, &[SCANNER_V4], 4_433))?;
    for event in events(&said)? {
        ensure!(event["dropped"] == false && event["reason"] == "not_own" && event["service"].is_null(), "{event}");
    }
    // Two at a time: each gets his own, the coarser rate too.
    let fine = Follower::start(&edge, &[&words[..], &["--rule", "operator"]].concat())?;
    let coarse = Follower::start(&edge, &["events", "--follow", "--json", "--sample", "4", "--count", "3"])?;
    for event in events(&coarse.knocking(send)?)? {
        ensure!(event["sample"] == 4, "{event}");
    }
    ensure!(events(&fine.knocking(send)?)?.len() == 5, "the other follower");
    for (words, said) in [
        (&["events", "--reason", "pass"][..], "never sampled"),
        (&["events", "--reason", "nonsense"], "not a reason"),
        (&["events", "--source", "example.com"], "neither an address"),
        (&["events", "--sample", "0"], "cannot be sampled"),
    ] {
        let end = edge.run(words)?;
        ensure!(end.status.code() == Some(2) && end.stderr.contains(said), "{words:?}: {end:?}");
    }
    Ok(())
}

fn capture_is_read_by_tcpdump() -> Result<()> {
    let edge = edge()?;
    let denied = format!("{CROWD}.0.9");
    let file = edge.dir().join("drops.pcap");
    let name = file.to_string_lossy();
    let follower = Follower::start(&edge, &["capture", "--reason", "denied", "-w", &name, "--count", "20", "--json"])?;
    let said = follower.knocking(|| knock(&edge, &[SCANNER_V4, &denied], 443))?;
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["packets"] == 20, "{said}");
    let mut tcpdump = Command::new(tools::find("tcpdump")?);
    let read = process::run(tcpdump.args(["-nn", "-tt", "-v", "-r"]).arg(&file), SEEN)?;
    ensure!(read.status.success(), "{read:?}");
    let text = read.stdout;
    let packets = text.matches(&format!("{denied}.")).count();
    ensure!(packets == 20 && !text.contains(&format!("{SCANNER_V4}.")), "{text}");
    // It says where to, how long, and that the file holds the first bytes only.
    ensure!(text.contains(&format!("> {EDGE_V4}.443")) && text.contains("length 328"), "{text}");
    ensure!(!text.contains("malformed") && !text.contains("bad"), "{text}");
    // Cut shorter by request, and to a pipe.
    let follower = Follower::start(&edge, &["capture", "-w", &name, "--count", "3", "--snaplen", "34"])?;
    follower.knocking(|| knock(&edge, &[&denied], 443))?;
    let size = std::fs::metadata(&file)?.len();
    ensure!(size == 24 + 3 * (16 + 34), "a capture of 3 × 34 bytes has {size}");
    Ok(())
}

fn sampling_ends_with_the_reader() -> Result<()> {
    let edge = edge()?;
    let control = || edge.bpftool(&["map", "dump", "pinned", &edge.pins().join("EVENT_CONTROL").to_string_lossy()]);
    let every = |wanted: u64| {
        edge.until(&format!("a sample of {wanted}"), SEEN, || {
            let dump: Value = serde_json::from_str(&control()?)?;
            Ok(dump[0]["value"]["every"] == wanted)
        })
    };
    every(0)?;
    let slow = Follower::start(&edge, &["events", "--follow", "--json"])?;
    every(64)?;
    let fast = Follower::start(&edge, &["events", "--follow", "--json", "--sample", "1"])?;
    every(1)?;
    drop(fast);
    every(64)?;
    drop(slow);
    every(0)?;
    // Dropped packets go on being dropped and counted, and leave no event.
    let written = || -> Result<String> {
        edge.bpftool(&["map", "dump", "pinned", &edge.pins().join("EVENT_COUNTS").to_string_lossy()])
    };
    let before = written()?;
    let drops = edge.packets("verdict")?;
    knock(&edge, &[SCANNER_V4], 443)?;
    edge.until("the drop", SEEN, || Ok(edge.packets("verdict")? > drops))?;
    ensure!(written()? == before, "an event was written for nobody: {}", written()?);
    // As many readers as are served, and one more.
    let start = || Follower::start(&edge, &["events", "--follow", "--json", "--sample", "9"]);
    let mut readers = (0..8).map(|_| start()).collect::<Result<Vec<_>>>()?;
    let socket = edge.dir().join("admin.sock");
    eventually("a refusal", SEEN, || {
        for reader in &mut readers {
            // The one that looks for the refusal may have taken a place before him.
            if reader.0.try_wait()?.is_some() {
                *reader = start()?;
            }
        }
        let refused = edge.run(&["events", "--duration", "1ms", "--socket", &socket.to_string_lossy()])?;
        ensure!(refused.status.code() == Some(1) && refused.stderr.contains("8 readers"), "{refused:?}");
        Ok(())
    })?;
    drop(readers);
    every(0)
}
