//! Lists from files: reloaded while clients ask, and refused whole when anything is wrong with them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Case;
use crate::clients::Version;
use crate::edge::Edge;
use crate::street::{GOOD_V4, GOOD_V6, SCANNER_V4, SCANNER_V6};

pub const CASES: &[Case] = &[
    Case { name: "a_list_file_is_reloaded", run: a_list_file_is_reloaded },
    Case { name: "a_faulty_list_changes_nothing", run: a_faulty_list_changes_nothing },
];

const URL: &str = "http://edge.test/";
const TIME: Duration = Duration::from_secs(30);
/// Other hosts of the list: more than one batch, and more than the tries would hold.
const OTHERS: u32 = 200_000;

/// An edge whose policy drops what `policies/bad.txt` names and allows what `policies/good.txt` does.
fn edge() -> Result<Edge> {
    let mut edge = Edge::prepare()?;
    edge.policy(&json!({
        "schema": "tidegate.policy/v1", "id": "lists", "revision": 1,
        "lists": {
            "bad": { "type": "cidr", "file": "bad.txt" },
            "good": { "type": "cidr", "file": "good.txt" },
        },
        "rules": [
            { "id": "good", "when": "ip.src in $good", "action": { "type": "allow" } },
            { "id": "bad", "when": "ip.src in $bad", "action": { "type": "drop" } },
        ],
    }))?;
    std::fs::write(file(&edge, "good.txt"), "# nobody yet\n")?;
    Ok(edge)
}

fn file(edge: &Edge, name: &str) -> PathBuf {
    edge.dir().join("policies").join(name)
}

/// The list of many hosts and these.
fn bad(edge: &Edge, hosts: &[&str]) -> Result<()> {
    let mut text = String::from("# a feed\n");
    for n in 0..OTHERS {
        writeln!(text, "{}", std::net::Ipv4Addr::from_bits(0x4000_0000 + n * 3))?;
    }
    for host in hosts {
        writeln!(text, "{host} # by hand")?;
    }
    Ok(std::fs::write(file(edge, "bad.txt"), text)?)
}

/// Whether the scanner's packets are dropped, over IPv4.
fn is_dropped(edge: &Edge) -> Result<bool> {
    let before = edge.packets("denied")?;
    let answer = edge.scanner().get(Version::H1, URL, &["--max-time", "2"]);
    let dropped = edge.packets("denied")? > before;
    ensure!(dropped == answer.is_err(), "dropped: {dropped}, but the scanner's request: {answer:?}");
    Ok(dropped)
}

fn a_list_file_is_reloaded() -> Result<()> {
    let mut edge = edge()?;
    bad(&edge, &[SCANNER_V6])?;
    edge.launch()?;
    ensure!(!is_dropped(&edge)?, "a host is dropped that no list names");
    ensure!(edge.scanner_v6().get(Version::H1, URL, &["--max-time", "2"]).is_err(), "a listed IPv6 host is served");
    edge.good_v6().expect_origin(Version::H1, URL)?;
    bad(&edge, &[SCANNER_V4, SCANNER_V6])?;
    let done = edge.reload()?;
    ensure!(done["written"] == 1, "one host more: {done}");
    ensure!(is_dropped(&edge)?, "a listed host is served");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    // An allow list beats it, also as a host.
    std::fs::write(file(&edge, "good.txt"), format!("{SCANNER_V4}\n{GOOD_V4}\n{GOOD_V6}\n"))?;
    edge.reload()?;
    ensure!(!is_dropped(&edge)?, "an allowed host is dropped");
    std::fs::write(file(&edge, "good.txt"), "")?;
    bad(&edge, &[])?;
    edge.reload()?;
    ensure!(!is_dropped(&edge)?, "a host is dropped that the list names no more");
    // The lists stand when the daemon is gone, and the next one takes them over: then nothing is to be written.
    bad(&edge, &[SCANNER_V4])?;
    edge.reload()?;
    edge.crash()?;
    edge.launch()?;
    ensure!(is_dropped(&edge)?, "a listed host is served after a restart");
    let done = edge.reload()?;
    ensure!(done["written"] == 0 && done["removed"] == 0, "the same lists again: {done}");
    let config = edge.config_file().display().to_string();
    let told: serde_json::Value = serde_json::from_str(&edge.run(&["check", "--json", "--config", &config])?.ok()?)?;
    ensure!(told["gate"]["hosts"] == OTHERS + 1, "check tells {}", told["gate"]);
    edge.until("the good client is served", TIME, || Ok(edge.good().expect_origin(Version::H1, URL).is_ok()))
}

fn a_faulty_list_changes_nothing() -> Result<()> {
    let mut edge = edge()?;
    bad(&edge, &[SCANNER_V4])?;
    edge.launch()?;
    ensure!(is_dropped(&edge)?, "a listed host is served");
    let mut networks = String::new();
    for n in 0..70_000_u32 {
        writeln!(networks, "{}/24", std::net::Ipv4Addr::from_bits(0x1000_0000 + n * 512))?;
    }
    let mut hosts = String::new();
    for n in 0..1_048_577_u32 {
        writeln!(hosts, "{}", std::net::Ipv4Addr::from_bits(0x1000_0000 + n * 2))?;
    }
    let rows: [(&str, &str); 4] = [
        ("192.0.2.1\n192.0.2.300\n", "bad.txt:2:1: `192.0.2.300` is neither an address nor a network"),
        ("10.0.0.1/8\n", "write 10.0.0.0/8"),
        (&networks, "there are 70000 denied prefixes in all policies, at most 65536 fit"),
        (&hosts, "there are 1048577 allowed and denied hosts in all policies, at most 1048576 fit"),
    ];
    for (text, message) in rows {
        std::fs::write(file(&edge, "bad.txt"), text)?;
        let Err(error) = edge.reload() else { anyhow::bail!("a faulty list was taken up: {message}") };
        let told = format!("{error:#}");
        ensure!(told.contains(message), "the message lacks {message:?}: {told}");
        ensure!(is_dropped(&edge)?, "the old list went with a faulty one: {message}");
    }
    std::fs::remove_file(file(&edge, "bad.txt"))?;
    let Err(error) = edge.reload() else { anyhow::bail!("a missing list was taken up") };
    ensure!(format!("{error:#}").contains("/lists/bad/file"), "{error:#}");
    bad(&edge, &[])?;
    edge.reload()?;
    ensure!(!is_dropped(&edge)?, "the mended list was not taken up");
    Ok(())
}
