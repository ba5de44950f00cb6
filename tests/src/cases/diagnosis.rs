//! What an operator asks when something is odd: why is this packet dropped, and what hinders on this host.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{Xdp, XdpMode};
use serde_json::{Value, json};

use super::Case;
use crate::edge::Edge;
use crate::netns::{End, Netns, wire};
use crate::packets::{Frame, tcp, udp};
use crate::process::{self, Finished};
use crate::street::{CROWD, EDGE_V4, EDGE_V6, GOOD_V4, SCANNER_V4, SCANNER_V6, WAN};
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "explain_says_what_the_kernel_does", run: explain_says_what_the_kernel_does },
    Case { name: "explain_reads_captures", run: explain_reads_captures },
    Case { name: "doctor_finds_a_foreign_program", run: doctor_finds_a_foreign_program },
    Case { name: "top_prints_figures", run: top_prints_figures },
];

/// How long a counter may take to move.
const MOVED: Duration = Duration::from_secs(20);

fn edge() -> Result<Edge> {
    let mut edge = Edge::prepare()?;
    edge.policy(&json!({
        "schema": "tidegate.policy/v1", "id": "lists", "revision": 1, "owner": "tests",
        "lists": {
            "bad": { "type": "cidr", "items": [format!("{CROWD}.0.0/17"), "fd71:2::/64"] },
            "partners": { "type": "cidr", "items": [format!("{CROWD}.9.0/24")] },
        },
        "rules": [
            { "id": "in", "when": "ip.src in $partners", "action": { "type": "allow" } },
            { "id": "bad", "when": "ip.src in $bad", "action": { "type": "drop" } },
        ],
    }))?;
    edge.launch()?;
    edge.ctl(&["verdict", "add", SCANNER_V4, "--ttl", "10m"])?;
    Ok(edge)
}

fn hex(frame: &Frame) -> String {
    proxy_core::explain::to_hex(&frame.build())
}

fn explain_says_what_the_kernel_does() -> Result<()> {
    let edge = edge()?;
    let (denied, partner, other) = (format!("{CROWD}.1.2"), format!("{CROWD}.9.2"), format!("{CROWD}.200.2"));
    let rows = [
        (SCANNER_V4, 443, "verdict", "drop", Some("operator"), Some(("VERDICTS", "00000000000000000000ffff0a470202"))),
        (SCANNER_V4, 4_433, "not_own", "pass", None, None),
        (
            denied.as_str(),
            443,
            "denied",
            "drop",
            Some("lists/bad"),
            Some(("DENY_", "8000000000000000000000000000ffff0a480102")),
        ),
        (
            partner.as_str(),
            443,
            "allowed",
            "pass",
            Some("lists/in"),
            Some(("ALLOW_", "8000000000000000000000000000ffff0a480902")),
        ),
        (SCANNER_V6, 443, "denied", "drop", Some("lists/bad"), None),
        (other.as_str(), 443, "pass", "pass", None, None),
    ];
    for (source, port, reason, action, rule, key) in rows {
        let to = if source.contains(':') { EDGE_V6 } else { EDGE_V4 };
        let told = edge.ctl(&["explain", "--packet", &hex(&udp(source, to, port)), "--json"])?;
        let told = &told[0];
        ensure!(told["reason"] == reason && told["action"] == action, "{source}: {told}");
        ensure!(told["rule"].as_str() == rule, "{source}: {told}");
        let shown = told["key"].as_str().unwrap_or_default();
        if let Some((map, key)) = key {
            ensure!(shown.starts_with(map) && shown.ends_with(&format!(" {key}")), "{source}: {told}");
        }
        let steps = told["steps"].as_array().context("steps")?;
        ensure!(steps.first().is_some_and(|step| step["table"] == "GATE"), "{told}");
        // The kernel, asked by a packet of that kind, counts the same reason.
        let before = edge.packets(reason)?;
        edge.street.scanner.enter(|| -> Result<()> {
            let socket = std::net::UdpSocket::bind((source, 0))?;
            socket.send_to(&[1, 2, 3, 4], (to, port))?;
            Ok(())
        })??;
        edge.until(&format!("a packet counted as {reason}"), MOVED, || Ok(edge.packets(reason)? > before))?;
    }
    // For people.
    let text = edge.ctl(&["explain", "--packet", &hex(&tcp(SCANNER_V4, EDGE_V4, 443))])?;
    let text = text.as_str().context("text")?.to_owned();
    for part in ["TCP 10.71.2.2:40000 -> 10.71.0.1:443", "flags SYN", "VERDICTS", "host 10.71.2.2", "rule operator"] {
        ensure!(text.contains(part), "{part} is not in {text}");
    }
    // The verdict goes, and with it what is said.
    edge.ctl(&["verdict", "remove", SCANNER_V4])?;
    let told = edge.ctl(&["explain", "--packet", &hex(&tcp(SCANNER_V4, EDGE_V4, 443)), "--json"])?;
    ensure!(told[0]["reason"] == "pass", "{told}");
    let nonsense = edge.ctl(&["explain", "--packet", "no-such-file"]);
    ensure!(nonsense.is_err_and(|error| format!("{error:#}").contains("neither a file nor hex")), "nonsense was taken");
    Ok(())
}

/// tcpdump writes what the scanner sends; explain says of each packet what became of it.
fn explain_reads_captures() -> Result<()> {
    let edge = edge()?;
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0];
    let long = udp(&format!("{CROWD}.1.2"), EDGE_V4, 443).payload(1_000).build();
    let short = tcp(GOOD_V4, EDGE_V4, 443).build();
    // The first is cut, as captures are.
    for (bytes, length) in [(&long[..64], long.len()), (&short[..], short.len())] {
        file.extend([0; 8]);
        file.extend((bytes.len() as u32).to_le_bytes());
        file.extend((length as u32).to_le_bytes());
        file.extend(bytes);
    }
    let path = edge.dir().join("two.pcap");
    std::fs::write(&path, file)?;
    let told = edge.ctl(&["explain", "--packet", &path.to_string_lossy(), "--json"])?;
    ensure!(told[0]["reason"] == "denied" && told[0]["length"] == long.len(), "{told}");
    ensure!(told[1]["reason"] == "pass" && told[1]["length"] == short.len(), "{told}");
    Ok(())
}

fn doctor(netns: &Netns, words: &[&str]) -> Result<(Finished, Value)> {
    let mut command: Command = netns.command(tools::tidegate()?)?;
    let end = process::run(command.arg("doctor").arg("--json").args(words), MOVED)?;
    let told = serde_json::from_str(&end.stdout).with_context(|| format!("{end:?}"))?;
    Ok((end, told))
}

fn finding<'a>(told: &'a Value, check: &str) -> Result<&'a Value> {
    let list = told["findings"].as_array().context("findings")?;
    list.iter().find(|finding| finding["check"] == check).with_context(|| format!("no {check} in {told}"))
}

fn doctor_finds_a_foreign_program() -> Result<()> {
    let (here, there) = (Netns::create("doctor")?, Netns::create("peer")?);
    wire(
        End { netns: &here, name: "left", addresses: &["10.73.0.1/24"] },
        End { netns: &there, name: "right", addresses: &["10.73.0.2/24"] },
    )?;
    let (end, told) = doctor(&here, &["--interface", "left"])?;
    ensure!(end.status.success() && told["ok"] == true, "{told}");
    ensure!(finding(&told, "left: xdp")?["level"] == "ok", "{told}");
    ensure!(finding(&told, "left: link")?["found"] == "up, veth", "{told}");
    for feature in ["XDP programs", "sk_lookup programs", "ring buffers", "btf", "capabilities"] {
        ensure!(finding(&told, feature)?["level"] == "ok", "{told}");
    }
    // Somebody else's program.
    let mut ebpf = aya::Ebpf::load_file(tools::object()?)?;
    let program: &mut Xdp = ebpf.program_mut("empty").context("the bench object lacks `empty`")?.try_into()?;
    program.load()?;
    let link = here.enter(|| program.attach("left", XdpMode::Skb))??;
    let (end, told) = doctor(&here, &["--interface", "left"])?;
    let xdp = finding(&told, "left: xdp")?;
    ensure!(end.status.code() == Some(1) && told["ok"] == false && xdp["level"] == "fail", "{told}");
    ensure!(xdp["found"].as_str().is_some_and(|found| found.contains("`empty`") && found.contains("generic")), "{xdp}");
    ensure!(xdp["mend"].as_str().is_some_and(|mend| mend.contains("dev left")), "{xdp}");
    here.enter(|| program.detach(link))??;
    let (end, told) = doctor(&here, &["--interface", "left", "--interface", "nowhere"])?;
    ensure!(end.status.code() == Some(1) && finding(&told, "nowhere: link")?["level"] == "fail", "{told}");
    ensure!(finding(&told, "left: xdp")?["level"] == "ok", "{told}");
    // A gate of our own is none.
    let edge = Edge::start()?;
    let (end, told) = doctor(&edge.street.edge, &["--config", &edge.config_file().to_string_lossy()])?;
    let xdp = finding(&told, &format!("{WAN}: xdp"))?;
    ensure!(end.status.success() && xdp["level"] == "ok", "{told}");
    ensure!(xdp["found"].as_str().is_some_and(|found| found.contains("the gate") && found.contains("driver")), "{xdp}");
    Ok(())
}

fn top_prints_figures() -> Result<()> {
    let edge = edge()?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        // A few hundred packets a second, as long as somebody looks.
        let sender = scope.spawn(|| {
            edge.street.scanner.enter(|| -> Result<()> {
                let socket = std::net::UdpSocket::bind((SCANNER_V4, 0))?;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    socket.send_to(&[0; 100], (EDGE_V4, 443))?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            })?
        });
        let figures = process::eventually("figures with the scanner in them", MOVED, || {
            let figures = edge.ctl(&["top", "--json", "--once", "--sample", "1"])?;
            ensure!(figures["sources"][0]["name"] == SCANNER_V4, "{figures}");
            Ok(figures)
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let figures = figures?;
        let named = |list: &str, name: &str| {
            figures[list].as_array().and_then(|list| list.iter().find(|rate| rate["name"] == name)).cloned()
        };
        for (list, name) in [("reasons", "verdict"), ("rules", "operator"), ("services", "https")] {
            let rate = named(list, name).with_context(|| format!("no {name} in {list} of {figures}"))?;
            ensure!(rate["packets"].as_f64().is_some_and(|rate| rate > 0.0), "{figures}");
        }
        ensure!(figures["dropped"].as_f64().is_some_and(|rate| rate > 0.0), "{figures}");
        Ok(())
    })?;
    let socket = edge.dir().join("admin.sock");
    let end = edge.run(&["top", "--socket", &socket.to_string_lossy()])?;
    ensure!(end.status.code() == Some(1) && end.stderr.contains("--json --once"), "{end:?}");
    Ok(())
}
