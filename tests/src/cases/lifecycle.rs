//! How the daemon ends, crashes, starts beside others, and what the gate does meanwhile.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use super::Case;
use crate::clients::Version;
use crate::edge::{Edge, probe_policy};
use crate::process::run;
use crate::street::{SCANNER_V4, WAN};
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "a_crash_keeps_the_gate", run: a_crash_keeps_the_gate },
    Case { name: "sigterm_loses_nothing", run: sigterm_loses_nothing },
    Case { name: "another_xdp_program_is_not_replaced", run: another_xdp_program_is_not_replaced },
    Case { name: "unload_removes_all", run: unload_removes_all },
    Case { name: "capabilities_of_the_unit_suffice", run: capabilities_of_the_unit_suffice },
    Case { name: "without_the_kernel_half", run: without_the_kernel_half },
    Case { name: "require_ebpf_without_capabilities", run: require_ebpf_without_capabilities },
];

/// curl's exit statuses.
const REFUSED: i32 = 7;
const TIMED_OUT: i32 = 28;
const TIME: Duration = Duration::from_secs(30);

/// How a plain request ends: curl's exit status.
fn knock(edge: &Edge, scanner: bool) -> Result<i32> {
    let client = if scanner { edge.scanner() } else { edge.good() };
    let mut curl = client.curl(Version::H1, "http://edge.test/")?;
    curl.args(["--connect-timeout", "1.5", "-o", "/dev/null", "http://edge.test/"]);
    run(&mut curl, TIME)?.status.code().context("curl was killed")
}

fn a_crash_keeps_the_gate() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("60s"))?;
    edge.launch()?;
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 403, "{answer:?}");
    edge.crash()?;
    ensure!(knock(&edge, true)? == TIMED_OUT, "the gate went with the daemon");
    ensure!(knock(&edge, false)? == REFUSED, "a port without a server should refuse a good client at once");
    edge.launch()?;
    ensure!(edge.verdict(SCANNER_V4)?.is_some(), "the verdict was lost");
    ensure!(knock(&edge, true)? == TIMED_OUT, "the restarted daemon lets the scanner in");
    for version in [Version::H1, Version::H2] {
        edge.good().expect_origin(version, "https://edge.test/")?;
    }
    let answers = edge.good().h3("https://edge.test/", &["--connections", "8"])?;
    ensure!(answers.iter().all(|answer| answer.status == Some(200)), "{answers:?}");
    Ok(())
}

fn sigterm_loses_nothing() -> Result<()> {
    let mut edge = Edge::start()?;
    let url = "https://edge.test/app/slow?ms=2000";
    let mut open = Vec::new();
    for version in [Version::H1, Version::H2] {
        for _ in 0..10 {
            let mut curl = edge.good().curl(version, url)?;
            curl.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            open.push(curl.spawn()?);
        }
    }
    let mut h3 = edge.good().h3_command(url, &["--connections", "5", "--count", "2", "--parallel", "2"])?;
    let h3 = h3.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    // All are at the origin when the signal comes.
    edge.until("all requests under way", TIME, || {
        Ok(edge.workers()?.iter().map(|(_, active)| active).sum::<u64>() >= 25)
    })?;
    std::thread::sleep(Duration::from_millis(700));
    edge.daemon()?.signal(Signal::SIGTERM)?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(knock(&edge, false)? == REFUSED, "a draining daemon still takes connections");
    for curl in open {
        let output = curl.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && output.stdout == b"slow\n", "a request was lost in the drain: {errors}");
    }
    let report: serde_json::Value = serde_json::from_slice(&h3.wait_with_output()?.stdout)?;
    let answers = report["answers"].as_array().context("h3.py")?;
    ensure!(answers.len() == 10, "{report}");
    for answer in answers {
        ensure!(answer["status"] == 200 && answer["error"].is_null(), "lost in the drain over HTTP/3: {answer}");
    }
    let status = edge.daemon()?.wait(TIME)?;
    ensure!(status.success(), "after the drain it ended with {status}");
    Ok(())
}

fn another_xdp_program_is_not_replaced() -> Result<()> {
    let mut first = Edge::start()?;
    first.crash()?;
    // Another gate, that knows nothing of the first one's pins.
    let pins = first.config["gate"]["pins"].clone();
    let other = first.pins().with_file_name(format!("{}-b", first.pins().file_name().unwrap_or_default().display()));
    crate::ward::guard(crate::ward::Item::Pins(other.clone()));
    first.config["gate"]["pins"] = json!(other);
    let Err(error) = first.launch() else { anyhow::bail!("a program of somebody else was replaced") };
    let text = format!("{error:#}");
    for part in ["front", WAN, "id "] {
        ensure!(text.contains(part), "the message lacks `{part}`: {text}");
    }
    let shown = first.bpftool(&["net", "show", "dev", WAN])?;
    ensure!(shown.contains("driver id"), "the program is gone: {shown}");
    crate::ward::release(crate::ward::Item::Pins(other))?;
    first.config["gate"]["pins"] = pins;
    first.launch()?;
    first.good().expect_origin(Version::H1, "http://edge.test/").map(drop)
}

fn unload_removes_all() -> Result<()> {
    let mut edge = Edge::start()?;
    let config = edge.config_file();
    let config = config.to_string_lossy();
    let refused = edge.run(&["unload", "--config", &config])?;
    ensure!(!refused.status.success(), "unload took the gate from a running daemon: {}", refused.stdout);
    edge.stop()?;
    ensure!(edge.pins().join("VERDICTS").exists(), "the pins went with the daemon");
    edge.run(&["unload", "--config", &config])?.ok()?;
    ensure!(!edge.pins().exists(), "{} is still there", edge.pins().display());
    // The kernel detaches a link a moment after its last pin went.
    edge.until("detached", TIME, || Ok(!edge.bpftool(&["net", "show", "dev", WAN])?.contains(WAN)))
}

/// The capabilities that the unit file grants.
fn unit_capabilities() -> Result<String> {
    let unit = std::fs::read_to_string(tools::in_workspace("xtask/files/tidegate.service"))?;
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).context("no capabilities")?;
    Ok(line.to_owned())
}

/// Has the daemon start with these capabilities only, e.g. `CAP_BPF CAP_NET_ADMIN`.
fn with_capabilities(edge: &mut Edge, capabilities: &str) {
    let names = capabilities.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_ascii_lowercase());
    let set = names.fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
    edge.wrapper = ["setpriv", "--inh-caps=-all", "--bounding-set", &set].map(str::to_owned).to_vec();
}

fn capabilities_of_the_unit_suffice() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.policy(&probe_policy("60s"))?;
    with_capabilities(&mut edge, &unit_capabilities()?);
    edge.config["upstreams"]["near"] = json!({ "servers": ["http://127.0.0.1:9"], "same_host": true });
    edge.launch()?;
    let near = &edge.ctl(&["status", "--json"])?["same_host"];
    ensure!(near["missing"].is_null() && near["cgroup"].is_string(), "{near}");
    edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    let answers = edge.good().h3("https://edge.test/", &["--connections", "4"])?;
    ensure!(answers.iter().all(|answer| answer.status == Some(200)), "{answers:?}");
    let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
    ensure!(answer.status == 403 && knock(&edge, true)? == TIMED_OUT, "the verdict loop does not work: {answer:?}");
    edge.reload()?;
    edge.ctl(&["verdict", "remove", SCANNER_V4])?;
    edge.ctl(&["worker", "stop", "0"])?;
    edge.ctl(&["worker", "start", "0"])?;
    // And over a restart, with the pins of the first run.
    edge.stop()?;
    edge.launch()?;
    edge.good().expect_origin(Version::H1, "http://edge.test/").map(drop)
}

fn without_the_kernel_half() -> Result<()> {
    let mut edge = Edge::prepare()?;
    edge.config["require_ebpf"] = false.into();
    edge.policy(&probe_policy("60s"))?;
    with_capabilities(&mut edge, "CAP_NET_BIND_SERVICE");
    edge.launch()?;
    let status = edge.ctl(&["status", "--json"])?;
    ensure!(status["kernel"].is_null(), "{status}");
    let why = status["kernel_missing"].as_str().unwrap_or_default();
    ensure!(why.contains("CAP_BPF"), "the status does not say what is missing: {status}");
    // Steered by SO_REUSEPORT; filtered in the workers only.
    let before = edge.workers()?;
    for _ in 0..30 {
        edge.good().expect_origin(Version::H2, "https://edge.test/")?;
    }
    let answers = edge.good().h3("https://edge.test/", &["--connections", "20"])?;
    ensure!(answers.iter().all(|answer| answer.status == Some(200)), "{answers:?}");
    let spread: Vec<u64> = edge.workers()?.iter().zip(&before).map(|(now, then)| now.0 - then.0).collect();
    ensure!(spread.iter().sum::<u64>() == 50 && spread.iter().all(|&n| n > 0), "{spread:?}");
    for _ in 0..2 {
        let answer = edge.scanner().get(Version::H1, "http://edge.test/.env", &[])?;
        ensure!(answer.status == 403, "{answer:?}");
    }
    Ok(())
}

fn require_ebpf_without_capabilities() -> Result<()> {
    let mut edge = Edge::prepare()?;
    with_capabilities(&mut edge, "CAP_NET_BIND_SERVICE");
    let Err(error) = edge.launch() else { anyhow::bail!("it started without the kernel half") };
    let text = format!("{error:#}");
    ensure!(text.contains("CAP_BPF") && text.contains("require_ebpf"), "the message does not help: {text}");
    Ok(())
}
