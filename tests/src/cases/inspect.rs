//! Looking inside: bpftool on the pinned maps, metrics, logs, status.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Case;
use crate::clients::Version;
use crate::edge::{Edge, probe_policy, verdict_look_up};
use crate::street::{GOOD_V4, SCANNER_V4, WAN};

pub const CASES: &[Case] = &[
    Case { name: "bpftool_prints_named_fields", run: bpftool_prints_named_fields },
    Case { name: "metrics", run: metrics },
    Case { name: "access_log", run: access_log },
    Case { name: "status", run: status },
];

fn banned() -> Result<Edge> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("60s"))?;
    edge.launch()?;
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 403, "{answer:?}");
    Ok(edge)
}

fn bpftool_prints_named_fields() -> Result<()> {
    let edge = banned()?;
    let dump = |map: &str| edge.bpftool(&["map", "dump", "pinned", &edge.pins().join(map).to_string_lossy()]);
    let slot = edge.verdict(SCANNER_V4)?.context("no verdict stands")?["slot"].as_u64().context("it has no slot")?;
    let text = edge.bpftool(&verdict_look_up(edge.pins(), slot)?.iter().map(String::as_str).collect::<Vec<_>>())?;
    // `::ffff:` and the address.
    let [a, b, c, d] = SCANNER_V4.parse::<Ipv4Addr>()?.octets();
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    ensure!(digits.contains(&format!("255,255,{a},{b},{c},{d}]")), "slot {slot} is not the scanner's: {text}");
    for field in ["addr", "expires_ns", "created_ns", "first_drop_ns", "drops", "rule", "flags", "drop_bytes"] {
        ensure!(text.contains(&format!("\"{field}\":")), "VERDICTS has no named field {field}: {text}");
    }
    for (map, fields) in [
        ("GATE", &["layout", "flags", "revision", "v6_mask"][..]),
        ("BINDINGS", &["addr", "port", "proto", "service"]),
        ("SERVICES", &["workers", "generation"]),
        ("WORKERS", &["active", "accepting"]),
        ("COUNTERS", &["packets", "bytes"]),
        ("EVENT_CONTROL", &["until_ns", "reasons", "every"]),
        ("EVENT_COUNTS", &["written", "lost"]),
    ] {
        let text = dump(map)?;
        for field in fields {
            ensure!(text.contains(&format!("\"{field}\":")), "{map} has no named field {field}: {text}");
        }
    }
    // Every pin of a map has a name of at most 15 characters, which is all that the kernel keeps.
    let mut maps = 0;
    for entry in std::fs::read_dir(edge.pins())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            continue;
        }
        if name == "front" {
            let shown = edge.bpftool(&["prog", "show", "pinned", &entry.path().to_string_lossy()])?;
            ensure!(shown.contains("xdp  name front"), "another program is pinned as {name}: {shown}");
            continue;
        }
        maps += 1;
        ensure!(name.len() <= 15, "the pin {name} is longer than 15 characters");
        let shown = edge.bpftool(&["map", "show", "pinned", &entry.path().to_string_lossy()])?;
        ensure!(shown.contains(&format!("name {name}")), "the map pinned as {name} has another name: {shown}");
    }
    ensure!(maps >= 10, "only {maps} maps are pinned");
    Ok(())
}

fn metrics() -> Result<()> {
    let edge = banned()?;
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let text = edge.metrics()?;
    let value = |start: &str| -> Result<f64> {
        let sum = text.lines().filter(|line| line.starts_with(start)).filter_map(|line| line.rsplit(' ').next());
        let values: Vec<f64> = sum.map(str::parse).collect::<Result<_, _>>()?;
        ensure!(!values.is_empty(), "no {start} in {text}");
        Ok(values.iter().sum())
    };
    ensure!(value("tidegate_requests_total")? >= 2.0, "{text}");
    ensure!(value("tidegate_blocked_total")? >= 1.0, "{text}");
    ensure!(value("tidegate_verdicts_pushed_total")? >= 1.0, "{text}");
    ensure!(value("tidegate_connections_accepted_total")? >= 2.0, "{text}");
    let foreign: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("tidegate_")).collect();
    ensure!(foreign.is_empty(), "not named tidegate_: {foreign:?}");
    ensure!(text.trim_end().ends_with("# EOF"), "not an OpenMetrics text: {text}");
    Ok(())
}

fn access_log() -> Result<()> {
    let edge = banned()?;
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let file = edge.dir().join("access.log");
    let lines = || -> Result<Vec<Value>> {
        std::fs::read_to_string(&file)?.lines().map(|line| serde_json::from_str(line).context("a line")).collect()
    };
    edge.until("two lines in the access log", std::time::Duration::from_secs(5), || Ok(lines()?.len() >= 2))?;
    let text = std::fs::read_to_string(&file)?;
    for (part, what) in [(SCANNER_V4, "403"), (GOOD_V4, "200")] {
        let line =
            text.lines().find(|line| line.contains(part)).with_context(|| format!("no line of {part}: {text}"))?;
        ensure!(line.contains(what), "{line}");
    }
    ensure!(text.contains("probes/env"), "no line names the rule that blocked: {text}");
    Ok(())
}

fn status() -> Result<()> {
    let edge = banned()?;
    let status = edge.ctl(&["status", "--json"])?;
    let interface = &status["kernel"]["interfaces"][0];
    ensure!(interface["name"] == WAN && interface["mode"] == "driver", "{status}");
    ensure!(status["kernel"]["steer"] == true && status["verdicts"] == 1, "{status}");
    ensure!(status["listeners"].as_array().is_some_and(|list| list.len() == 4), "{status}");
    let text = edge.ctl(&["status"])?;
    let text = text.as_str().context("status is text")?;
    ensure!(text.contains(WAN) && text.contains("driver"), "{text}");
    let counters = edge.ctl(&["counters", "--json"])?.to_string();
    ensure!(counters.contains("verdict") && counters.contains("probes/env"), "{counters}");
    Ok(())
}
