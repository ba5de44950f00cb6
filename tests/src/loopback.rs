//! A daemon and its origins on loopback: what needs neither root nor a network namespace runs here.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::certs::Authority;
use crate::clients::Client;
use crate::edge::SITE;
use crate::origin::{Origin, Ports};
use crate::process::{Daemon, eventually, run};
use crate::scratch::Scratch;
use crate::tools;

/// Where everything listens.
pub const ADDRESS: &str = "127.0.0.1";
const START_TIME: Duration = Duration::from_secs(20);

/// The daemon and the origins. Fields are dropped in this order.
#[derive(Debug)]
pub struct Loopback {
    daemon: Daemon,
    _origin: Origin,
    authority: Authority,
    scratch: Scratch,
    /// Port of the listener in clear text.
    pub http: u16,
    /// Port of the listener with TLS and QUIC.
    pub https: u16,
    config: Value,
}

impl Loopback {
    /// Starts them. `change` may alter the config, and write files into the directory that it is given, first.
    pub fn start(change: impl FnOnce(&mut Value, &Path) -> Result<()>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let dir = scratch.path();
        let authority = Authority::new(dir)?;
        let [http, https, origin_http, origin_https, app] = free_ports()?;
        let ports = Ports { http: origin_http, https: origin_https, app };
        let origin = Origin::start(None, ADDRESS, ports, &authority, dir)?;
        let leaf = authority.leaf("edge", &[SITE], 1)?;
        let mut config = json!({
            "workers": 2,
            "listeners": [
                { "name": "http", "address": format!("{ADDRESS}:{http}"), "protocol": "http" },
                { "name": "https", "address": format!("{ADDRESS}:{https}"), "protocol": "https", "http3": true },
            ],
            "certificates": [{ "cert": leaf.cert, "key": leaf.key }],
            "routes": [{ "hosts": [SITE], "upstream": "nginx" }],
            "upstreams": origin.upstreams(),
            "gate": { "enabled": false },
            "admin": { "socket": dir.join("admin.sock") },
            "state_dir": "state",
            "access_log": { "file": dir.join("access.log") },
        });
        change(&mut config, dir)?;
        let file = dir.join("tidegate.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
        let mut command = Command::new(tools::tidegate()?);
        command.arg("run").arg("--config").arg(&file).env_remove("NOTIFY_SOCKET").current_dir(dir);
        let daemon = Daemon::spawn(command, &dir.join("tidegate.log"))?;
        let this = Self { daemon, _origin: origin, authority, scratch, http, https, config };
        eventually("the daemon's start", START_TIME, || this.workers()).with_context(|| this.daemon.log_tail())?;
        Ok(this)
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Directory of its files.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The authority that signed its certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Its answer to a command, as JSON.
    pub fn ctl(&self, words: &[&str]) -> Result<Value> {
        let mut command = Command::new(tools::tidegate()?);
        command.args(words).arg("--json").arg("--socket").arg(self.dir().join("admin.sock"));
        Ok(serde_json::from_str(&run(&mut command, START_TIME)?.ok()?)?)
    }

    /// Writes its config anew, changed, and has it taken up.
    pub fn reload(&mut self, change: impl FnOnce(&mut Value)) -> Result<()> {
        change(&mut self.config);
        std::fs::write(self.dir().join("tidegate.json"), serde_json::to_vec_pretty(&self.config)?)?;
        self.ctl(&["reload"]).map(drop)
    }

    /// Connections that each worker accepted.
    pub fn workers(&self) -> Result<Vec<u64>> {
        let list = self.ctl(&["worker", "list"])?;
        let workers = list["workers"].as_array().context("no workers")?;
        workers.iter().map(|worker| worker["accepted"].as_u64().context("accepted")).collect()
    }

    /// Port of the only server of an upstream.
    pub fn origin_port(&self, upstream: &str) -> Result<u16> {
        let server = self.config["upstreams"][upstream]["servers"][0].as_str().context("no such server")?;
        Ok(server.rsplit(':').next().unwrap_or_default().parse()?)
    }

    /// A client of it.
    pub fn client(&self) -> Client<'static> {
        Client { netns: None, edge: ADDRESS.to_owned(), ca: self.authority.pem() }
    }
}

/// Ports that nothing listens on, for TCP and UDP.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
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
