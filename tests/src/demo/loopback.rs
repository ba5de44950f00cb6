//! What the demo shows without root: the user-space half on loopback.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Figures, Tale, story};
use crate::certs::Authority;
use crate::clients::{Client, Version};
use crate::edge::{SITE, probe_policy};
use crate::origin::{Origin, Ports};
use crate::process::{Daemon, eventually, run};
use crate::scratch::Scratch;
use crate::tools;

const ADDRESS: &str = "127.0.0.1";
const START_TIME: Duration = Duration::from_secs(20);

/// Daemon and origin on loopback. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Local {
    daemon: Daemon,
    _origin: Origin,
    authority: Authority,
    scratch: Scratch,
    https: u16,
}

impl Local {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let dir = scratch.path();
        let authority = Authority::new(dir)?;
        let [http, https, origin_http, origin_https, app] = free_ports()?;
        let ports = Ports { http: origin_http, https: origin_https, app };
        let origin = Origin::start(None, ADDRESS, ports, &authority, dir)?;
        let leaf = authority.leaf("edge", &[SITE], 1)?;
        std::fs::write(dir.join("probes.json"), serde_json::to_vec_pretty(&probe_policy("5s"))?)?;
        let config = json!({
            "workers": 2,
            "listeners": [
                { "name": "http", "address": format!("{ADDRESS}:{http}"), "protocol": "http" },
                { "name": "https", "address": format!("{ADDRESS}:{https}"), "protocol": "https", "http3": true },
            ],
            "certificates": [{ "cert": leaf.cert, "key": leaf.key }],
            "routes": [{ "hosts": [SITE], "upstream": "nginx" }],
            "upstreams": origin.upstreams(),
            "policies": ["probes.json"],
            "gate": { "enabled": false },
            "admin": { "socket": dir.join("admin.sock") },
            "state_dir": "state",
            "access_log": { "file": dir.join("access.log") },
        });
        let file = dir.join("tidegate.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        let mut command = Command::new(tools::tidegate()?);
        command.arg("run").arg("--config").arg(&file).env_remove("NOTIFY_SOCKET").current_dir(dir);
        let daemon = Daemon::spawn(command, &dir.join("tidegate.log"))?;
        let local = Self { daemon, _origin: origin, authority, scratch, https };
        eventually("the daemon's start", START_TIME, || local.workers()).with_context(|| local.daemon.log_tail())?;
        Ok(local)
    }

    fn workers(&self) -> Result<Vec<u64>> {
        let mut command = Command::new(tools::tidegate()?);
        command.args(["worker", "list", "--json", "--socket"]).arg(self.scratch.path().join("admin.sock"));
        let list: Value = serde_json::from_str(&run(&mut command, START_TIME)?.ok()?)?;
        let workers = list["workers"].as_array().context("no workers")?;
        workers.iter().map(|worker| worker["accepted"].as_u64().context("accepted")).collect()
    }

    fn client(&self) -> Client<'static> {
        Client { netns: None, edge: ADDRESS.to_owned(), ca: self.authority.pem() }
    }

    /// Says how to look around.
    pub(super) fn invite(&self, tale: Tale) {
        tale.heading("Held up for looking around; Ctrl-C removes everything.");
        let (ca, port) = (self.authority.pem(), self.https);
        tale.line(&format!("curl --cacert {} --connect-to ::{ADDRESS}: https://{SITE}:{port}/", ca.display()));
        tale.line(&format!("tidegate status --socket {}", self.scratch.path().join("admin.sock").display()));
    }
}

/// Tells the story; what did not hold is in `figures`.
pub(super) fn tell(tale: Tale, figures: &mut Figures, why: &str) -> Result<Local> {
    tale.heading("The user-space half on loopback");
    tale.line(&format!("no kernel half here: {why}"));
    figures.left_out = ["XDP gate", "steering by eBPF", "drops in XDP and readmission", "bpftool"]
        .map(|what| format!("{what}: {why}"))
        .to_vec();
    "none".clone_into(&mut figures.xdp_mode);
    let local = Local::start()?;
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

/// Ports that nothing listens on, for TCP and UDP.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        loop {
            let tcp = TcpListener::bind((ADDRESS, 0))?;
            *port = tcp.local_addr()?.port();
            if let Ok(udp) = UdpSocket::bind((ADDRESS, *port)) {
                // Held until all are found, so that none comes twice.
                held.push((tcp, udp));
                break;
            }
        }
    }
    Ok(ports)
}
