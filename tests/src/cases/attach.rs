//! The gate on interfaces: attached, enforcing, and kept over a crash. These cases want `ip` and `tidegate` only: they also
//! run on the kernels that `cargo xtask test --kernels` boots.

use anyhow::{Result, ensure};

use super::Case;
use crate::porch::{Knock, Porch};

pub const CASES: &[Case] = &[
    Case { name: "driver_mode_drops_and_outlives_the_daemon", run: || drops_and_outlives("driver") },
    Case { name: "generic_mode_drops_and_outlives_the_daemon", run: || drops_and_outlives("generic") },
];

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
