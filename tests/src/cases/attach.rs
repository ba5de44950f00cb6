//! The gate on interfaces: attached, enforcing, and kept over a crash. These cases want `ip` and `tidegate` only: they also
//! run on the kernels that `cargo xtask test --kernels` boots.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::Case;
use crate::porch::{Knock, Porch};

pub const CASES: &[Case] = &[
    Case { name: "driver_mode_drops_and_outlives_the_daemon", run: || drops_and_outlives("driver") },
    Case { name: "generic_mode_drops_and_outlives_the_daemon", run: || drops_and_outlives("generic") },
    Case { name: "an_abandoned_gate_stands_open_or_closed_as_told", run: open_or_closed },
    Case { name: "tcp_syncookies_is_set_back_after_a_kill", run: syncookies_are_set_back },
];

/// Longer than the `fail_after` of the cases, which is the least that a config takes.
const ABANDONED: Duration = Duration::from_secs(5);

fn drops_and_outlives(mode: &str) -> Result<()> {
    let mut porch = Porch::build(1)?;
    porch.config["gate"]["mode"] = mode.into();
    porch.launch()?;
    let status = porch.ctl(&["status", "--json"])?;
    ensure!(status["kernel"]["interfaces"][0] == serde_json::json!({ "name": "wan0", "mode": mode }), "{status}");
    ensure!(porch.knock(0)? == Knock::Taken, "an open gate does not let by");
    porch.ban(0)?;
    ensure!(porch.knock(0)? == Knock::Silence, "a banned source is let by");
    let (packets, bytes) = porch.counted("verdict")?;
    // A SYN with the options of Linux: 14 of Ethernet, 20 of IPv4, 40 of TCP.
    ensure!(packets > 0 && bytes == packets * 74, "{packets} packets, {bytes} bytes");
    porch.crash()?;
    ensure!(porch.knock(0)? == Knock::Silence, "the gate went with the daemon");
    porch.launch()?;
    ensure!(porch.knock(0)? == Knock::Silence, "the restarted daemon lets a banned source by");
    ensure!(porch.counted("verdict")?.0 > packets, "the counters were lost");
    porch.ctl(&["verdict", "remove", &Porch::client(0)])?;
    ensure!(porch.knock(0)? == Knock::Taken, "a verdict that was removed still stands");
    porch.stop()
}

fn open_or_closed() -> Result<()> {
    let mut porch = Porch::build(1)?;
    porch.config["gate"]["fail"] = "open".into();
    porch.config["gate"]["fail_after"] = "3s".into();
    porch.launch()?;
    porch.ban(0)?;
    ensure!(porch.knock(0)? == Knock::Silence, "a banned source is let by while the daemon is there");
    ensure!(
        porch.ctl(&["status", "--json"])?["kernel"]["open_after_seconds"] == json!(3.0),
        "the status does not tell"
    );
    porch.crash()?;
    // Nobody listens any more: what passes is refused by the kernel.
    porch.until_knock(0, Knock::Refused).context("the abandoned gate")?;
    let doctor = porch.diagnosis("heartbeat")?;
    ensure!(doctor["level"] == "fail", "doctor does not tell: {doctor}");
    porch.launch()?;
    ensure!(porch.knock(0)? == Knock::Silence, "the restarted daemon does not enforce");
    ensure!(porch.counted("unattended")?.0 > 0, "what passed meanwhile was not counted");

    porch.config["gate"]["fail"] = "closed".into();
    let reloaded = porch.reload()?;
    ensure!(reloaded["needs_restart"] == json!([]), "{reloaded}");
    let passed = porch.counted("unattended")?.0;
    porch.crash()?;
    std::thread::sleep(ABANDONED);
    ensure!(porch.knock(0)? == Knock::Silence, "a closed gate opened");
    ensure!(porch.diagnosis("heartbeat")?["level"] == "warn", "doctor does not tell that the daemon is gone");
    porch.launch()?;
    ensure!(porch.counted("unattended")?.0 == passed, "packets passed a closed gate as unattended");
    ensure!(porch.diagnosis("heartbeat")?["level"] == "ok", "doctor does not see the daemon");
    porch.stop()
}

/// `net.ipv4.tcp_syncookies` of the edge.
fn syncookies(porch: &Porch) -> Result<String> {
    Ok(porch.edge.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies"))??.trim().to_owned())
}

fn syncookies_are_set_back() -> Result<()> {
    let mut porch = Porch::build(1)?;
    porch.edge.sysctl("net/ipv4/tcp_syncookies", "1")?;
    for by_unload in [false, true] {
        porch.config["gate"]["syn_cookies"] = json!({ "mode": "always" });
        porch.launch()?;
        ensure!(syncookies(&porch)? == "2", "not raised: {}", porch.log());
        porch.crash()?;
        ensure!(syncookies(&porch)? == "2", "who set it back?");
        if by_unload {
            porch.run(&["unload"])?;
        } else {
            porch.config["gate"]["syn_cookies"] = json!({ "mode": "off" });
            porch.launch()?;
            porch.stop()?;
        }
        ensure!(syncookies(&porch)? == "1", "left raised, unload {by_unload}");
    }
    // One that ends in order sets it back by itself.
    porch.launch()?;
    ensure!(syncookies(&porch)? == "2", "not raised: {}", porch.log());
    porch.stop()?;
    ensure!(syncookies(&porch)? == "1", "left raised by a daemon that ended");
    Ok(())
}
