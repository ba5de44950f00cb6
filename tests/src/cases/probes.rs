//! Packet rules on what the bytes say, with real clients: the fingerprint of Linux's own SYNs, payloads, and the interface.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Case;
use crate::clients::Version;
use crate::edge::Edge;
use crate::netns::Netns;
use crate::packets::{LINUX_OPTIONS, syn_with};
use crate::process::run;
use crate::street::{EDGE_V4, GOOD_V4, ORIGIN_V4, SCANNER_V4, WAN};
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "a_fingerprint_drops_curl_and_not_hping3", run: a_fingerprint_drops_curl },
    Case { name: "payloads_and_interfaces", run: payloads_and_interfaces },
];

/// How long a counter may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(40);
/// Datagrams of each kind.
const DATAGRAMS: u64 = 20;
/// `curl`'s status for a connection that did not come about in time.
const CURL_TIMED_OUT: i32 = 28;

/// Packets that a rule was counted for.
fn hits(edge: &Edge, rule: &str) -> Result<u64> {
    Ok(edge.ctl(&["counters", "--json"])?["rules"][rule]["packets"].as_u64().unwrap_or(0))
}

fn policy(edge: &mut Edge, rules: &Value) -> Result<()> {
    edge.policy(&json!({ "schema": "tidegate.policy/v1", "id": "bytes", "rules": rules }))
}

fn a_fingerprint_drops_curl() -> Result<()> {
    let mut edge = Edge::prepare()?;
    let when = format!("ip.src eq {SCANNER_V4} and tcp.syn.fingerprint eq \"*:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0\"");
    policy(&mut edge, &json!([{ "id": "linux", "when": when, "action": { "type": "drop" } }]))?;
    edge.launch()?;
    let url = "https://edge.test/";

    // hping3's SYN has no options: the edge answers it.
    let mut hping = edge.street.scanner.command(tools::find("hping3")?)?;
    hping.args(["-n", "-S", "-p", "443", "-c", "3", "-i", "u100000", EDGE_V4]);
    let answered = run(&mut hping, Duration::from_secs(30))?;
    ensure!(answered.stdout.contains("flags=SA"), "the edge did not answer: {}{}", answered.stdout, answered.stderr);
    ensure!(hits(&edge, "bytes/linux")? == 0, "a SYN without options counts as Linux's");

    let mut curl = edge.scanner().curl(Version::H1, url)?;
    let refused = run(curl.args(["--connect-timeout", "3", url]), Duration::from_secs(30))?;
    ensure!(refused.status.code() == Some(CURL_TIMED_OUT), "{}: {}", refused.status, refused.stderr);
    edge.until("the drop of Linux's SYNs", SHOWS_WITHIN, || Ok(hits(&edge, "bytes/linux")? >= 1))?;
    // The rule names one source.
    edge.good().expect_origin(Version::H1, url)?;

    let frame = syn_with(SCANNER_V4, EDGE_V4, 443, &LINUX_OPTIONS).lie(20, &[0x40]).build();
    let told = edge.ctl(&["explain", "--packet", &proxy_core::explain::to_hex(&frame), "--json"])?;
    ensure!(told[0]["rule"] == "bytes/linux" && told[0]["action"] == "drop", "{told}");
    let steps = told[0]["steps"].as_array().context("no steps")?;
    let seen = |asked: &str| steps.iter().find(|step| step["asked"] == asked).map(|step| step["answer"].clone());
    ensure!(
        seen("fingerprint of the SYN") == Some(json!("4:64+0:0:1460:64240,7:mss,sok,ts,nop,ws:df,id+:0")),
        "{told}"
    );
    Ok(())
}

/// Sends datagrams to the edge's QUIC port.
fn send(netns: &Netns, payload: &[u8]) -> Result<()> {
    netns.enter(|| -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..DATAGRAMS {
            socket.send_to(payload, (EDGE_V4, 443))?;
        }
        Ok(())
    })?
}

fn payloads_and_interfaces() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.config["gate"]["interfaces"] = json!([WAN, "lan"]);
    let drop = |id: &str, when: &str| json!({ "id": id, "when": when, "action": { "type": "drop" } });
    policy(
        &mut edge,
        &json!([
            drop("masked", "udp.dstport eq 443 and udp.payload[4:4] & \"\\xff\\x00\\xff\\xff\" eq \"j\\x00nk\""),
            drop("lan", "tidegate.interface eq \"lan\" and udp.dstport eq 443 and bit_slice(udp, 64, 80) eq 0x6869"),
            drop("wan", "tidegate.interface eq \"wan\" and udp.dstport eq 443 and bit_slice(udp, 64, 80) eq 0x6869"),
        ]),
    )?;
    edge.launch()?;
    edge.street.origin.ip(&format!("route add {EDGE_V4} via 10.71.9.1"))?;
    let rows: [(&Netns, &[u8], &[u64; 3]); 6] = [
        (&edge.street.scanner, b"....junk", &[1, 0, 0]),
        (&edge.street.scanner, b"....jonk....", &[1, 0, 0]),
        (&edge.street.scanner, b"....jun", &[0, 0, 0]),
        (&edge.street.scanner, b".....unk", &[0, 0, 0]),
        (&edge.street.good, b"hi", &[0, 0, 1]),
        (&edge.street.origin, b"hi", &[0, 1, 0]),
    ];
    let rules = ["bytes/masked", "bytes/lan", "bytes/wan"];
    let mut wanted = [0; 3];
    for (netns, payload, moves) in rows {
        for (sum, by) in wanted.iter_mut().zip(moves) {
            *sum += by * DATAGRAMS;
        }
        send(netns, payload)?;
        edge.until(&format!("the count of {payload:?}"), SHOWS_WITHIN, || {
            let found = rules.iter().map(|rule| hits(&edge, rule)).collect::<Result<Vec<_>>>()?;
            Ok(found == wanted)
        })
        .with_context(|| format!("from {GOOD_V4}, {SCANNER_V4} or {ORIGIN_V4}"))?;
    }
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;

    // A rule on an interface that the gate is not on never fits: it is refused, and the rest stays.
    policy(&mut edge, &json!([drop("none", "tidegate.interface eq \"eth9\" and udp.dstport eq 443")]))?;
    let said = edge.reload().map_or_else(|error| format!("{error:#}"), |answer| answer.to_string());
    ensure!(said.contains("`gate.interfaces` has no `eth9`"), "{said}");
    let before = hits(&edge, "bytes/wan")?;
    send(&edge.street.good, b"hi")?;
    edge.until("the rules before", SHOWS_WITHIN, || Ok(hits(&edge, "bytes/wan")? == before + DATAGRAMS))
}
