//! What the demo shows without root: the user-space half on loopback.

use anyhow::Result;

use super::{Figures, Tale, story};
use crate::clients::Version;
use crate::edge::{SITE, probe_policy};
use crate::loopback::{ADDRESS, Loopback};

/// Says how to look around.
pub(super) fn invite(local: &Loopback, tale: Tale) {
    tale.heading("Held up for looking around; Ctrl-C removes everything.");
    let (ca, port) = (local.authority().pem(), local.https);
    tale.line(&format!("curl --cacert {} --connect-to ::{ADDRESS}: https://{SITE}:{port}/", ca.display()));
    tale.line(&format!("tidegate status --socket {}", local.dir().join("admin.sock").display()));
}

/// Tells the story; what did not hold is in `figures`.
pub(super) fn tell(tale: Tale, figures: &mut Figures, why: &str) -> Result<Loopback> {
    tale.heading("The user-space half on loopback");
    tale.line(&format!("no kernel half here: {why}"));
    figures.left_out = ["XDP gate", "steering by eBPF", "drops in XDP and readmission", "bpftool"]
        .map(|what| format!("{what}: {why}"))
        .to_vec();
    "none".clone_into(&mut figures.xdp_mode);
    let local = Loopback::start(|config, dir| {
        std::fs::write(dir.join("probes.json"), serde_json::to_vec_pretty(&probe_policy("5s"))?)?;
        config["policies"] = serde_json::json!(["probes.json"]);
        Ok(())
    })?;
    let url = format!("https://{SITE}:{}/", local.https);
    let good = local.client();
    tale.heading("Good clients over HTTP/1.1, HTTP/2 and HTTP/3");
    story::crowd(tale, &good, &url, figures)?;
    figures.connections_per_worker = local.workers()?;
    tale.line(&format!("connections accepted by each worker: {:?}", figures.connections_per_worker));
    tale.heading("A scanner asks for /.env");
    let answer = good.get(Version::H2, &format!("{url}.env"), &[])?;
    figures.scanner_status = answer.status;
    tale.line(&format!(
        "answered {} by policy probes, rule env; with the kernel half its packets would now be dropped",
        answer.status
    ));
    figures.expect(answer.status == 403, || format!("the probe was answered {}, not 403", answer.status));
    let failures = figures.good_failures;
    figures.expect(failures == 0, || format!("{failures} requests of good clients failed"));
    Ok(local)
}
