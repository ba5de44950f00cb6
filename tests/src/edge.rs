//! The edge under test: the real daemon with a config of its own, and its command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::certs::{Authority, Leaf};
use crate::clients::{Client, client_in};
use crate::netns::Netns;
use crate::origin::{Origin, PORTS};
use crate::process::{self, Daemon, Finished, eventually};
use crate::scratch::Scratch;
use crate::street::{EDGE_V4, EDGE_V6, ORIGIN_V4, Street, WAN};
use crate::tools;
use crate::ward::{BPFFS, Pins};

/// What to ask bpftool for a slot of `VERDICTS`.
pub fn verdict_look_up(pins: &Path, slot: u64) -> Result<Vec<String>> {
    let pin = pins.join("VERDICTS").to_string_lossy().into_owned();
    let key = u32::try_from(slot)?.to_ne_bytes().map(|byte| byte.to_string());
    Ok(["map", "lookup", "pinned", &pin, "key"].map(str::to_owned).into_iter().chain(key).collect())
}

/// The site that nginx serves.
pub const SITE: &str = "edge.test";
/// The same through the HTTPS origin.
pub const TLS_SITE: &str = "tls.edge.test";
/// Workers of the edge: more than this machine may have CPUs, so that spreading shows anywhere.
pub const WORKERS: u64 = 4;
/// Port of the metrics listener, on the edge's loopback.
pub const METRICS_PORT: u16 = 9100;
/// How long the daemon may take to serve or to end.
const START_TIME: Duration = Duration::from_secs(20);
/// How long one command may take.
const COMMAND_TIME: Duration = Duration::from_secs(20);

/// Street, origin and daemon. Fields are dropped in this order.
#[derive(Debug)]
pub struct Edge {
    daemon: Option<Daemon>,
    /// Runs in the origin's namespace.
    pub origin: Origin,
    /// The namespaces.
    pub street: Street,
    /// Signs what clients trust.
    pub authority: Authority,
    /// The edge's first certificate.
    pub leaf: Leaf,
    /// The config, written at each (re)start and by [`Self::reload`].
    pub config: Value,
    /// Words before the daemon's command line, e.g. `setpriv` and its options.
    pub wrapper: Vec<String>,
    pins: Pins,
    scratch: Scratch,
}

impl Edge {
    /// The usual edge, serving.
    pub fn start() -> Result<Self> {
        Self::start_with(|_| ())
    }

    /// An edge whose config was changed before the start, serving.
    pub fn start_with(change: impl FnOnce(&mut Value)) -> Result<Self> {
        let mut edge = Self::prepare()?;
        change(&mut edge.config);
        edge.launch()?;
        Ok(edge)
    }

    /// Everything but the daemon.
    pub fn prepare() -> Result<Self> {
        let scratch = Scratch::new()?;
        let street = Street::build()?;
        let authority = Authority::new(scratch.path())?;
        let origin = Origin::start(Some(&street.origin), ORIGIN_V4, PORTS, &authority, scratch.path())?;
        let leaf = authority.leaf("edge", &[SITE, TLS_SITE], 1)?;
        let pins = Pins::guard(Path::new(BPFFS).join(scratch.name()));
        std::fs::create_dir(scratch.path().join("policies"))?;
        let config = config(scratch.path(), pins.path(), &leaf, &origin.upstreams());
        Ok(Self { daemon: None, origin, street, authority, leaf, config, wrapper: Vec::new(), pins, scratch })
    }

    /// The directory of its config.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The directory of its pins.
    pub fn pins(&self) -> &Path {
        self.pins.path()
    }

    /// Its config file.
    pub fn config_file(&self) -> PathBuf {
        self.dir().join("tidegate.json")
    }

    /// Writes a policy file; a start or [`Self::reload`] loads it.
    pub fn policy(&mut self, policy: &Value) -> Result<()> {
        let id = policy.get("id").and_then(Value::as_str).context("the policy has no id")?;
        let file = self.dir().join("policies").join(format!("{id}.json"));
        std::fs::write(file, serde_json::to_vec_pretty(policy)?)?;
        self.config["policies"] = json!(["policies/*.json"]);
        Ok(())
    }

    /// Writes the config as it stands.
    pub fn write_config(&self) -> Result<()> {
        Ok(std::fs::write(self.config_file(), serde_json::to_vec_pretty(&self.config)?)?)
    }

    /// Starts the daemon and waits until it serves.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the daemon runs already");
        self.write_config()?;
        let mut words = self.wrapper.iter();
        let mut command = match words.next() {
            Some(program) => self.street.edge.command(program)?,
            None => self.street.edge.command(tools::tidegate()?)?,
        };
        if !self.wrapper.is_empty() {
            command.args(words).arg(tools::tidegate()?);
        }
        command.arg("run").arg("--config").arg(self.config_file()).env_remove("NOTIFY_SOCKET").current_dir(self.dir());
        let mut daemon = Daemon::spawn(command, &self.dir().join("tidegate.log"))?;
        eventually("the daemon's start", START_TIME, || {
            if let Some(status) = daemon.ended()? {
                // No use in waiting on; but `eventually` cannot know.
                return Ok(Err(anyhow::anyhow!("tidegate ended at once ({status}):\n{}", daemon.log_tail())));
            }
            self.ctl(&["status", "--json"]).map(|_| Ok(()))
        })
        .with_context(|| format!("the daemon's log ends with:\n{}", daemon.log_tail()))??;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The running daemon.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().context("the daemon does not run")
    }

    /// Ends the daemon by SIGKILL, as a crash would.
    pub fn crash(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        daemon.signal(Signal::SIGKILL)?;
        daemon.wait(START_TIME).map(drop)
    }

    /// Ends the daemon by SIGTERM and waits; it must say that it ended well.
    pub fn stop(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        daemon.signal(Signal::SIGTERM)?;
        let status = daemon.wait(START_TIME)?;
        ensure!(status.success(), "after SIGTERM tidegate ended with {status}:\n{}", daemon.log_tail());
        Ok(())
    }

    /// Runs `tidegate` in the edge's namespace.
    pub fn run(&self, words: &[&str]) -> Result<Finished> {
        let mut command = self.street.edge.command(tools::tidegate()?)?;
        process::run(command.args(words).current_dir(self.dir()), COMMAND_TIME)
    }

    /// Runs a command that asks the daemon; returns its output as JSON where it is JSON.
    pub fn ctl(&self, words: &[&str]) -> Result<Value> {
        let socket = self.dir().join("admin.sock");
        let mut all = words.to_vec();
        let socket = socket.to_string_lossy();
        all.extend(["--socket", &socket]);
        let output = self.run(&all)?.ok().with_context(|| format!("tidegate {}", words.join(" ")))?;
        Ok(serde_json::from_str(&output).unwrap_or(Value::String(output)))
    }

    /// Writes the config and has the daemon take it up.
    pub fn reload(&self) -> Result<Value> {
        self.write_config()?;
        self.ctl(&["reload", "--json"])
    }

    /// The standing verdict of a source, if there is one.
    pub fn verdict(&self, source: &str) -> Result<Option<Value>> {
        let list = self.ctl(&["verdict", "list", "--json"])?;
        let verdicts = list["verdicts"].as_array().with_context(|| format!("no list of verdicts in {list}"))?;
        Ok(verdicts.iter().find(|verdict| verdict["source"] == source).cloned())
    }

    /// A counter of the gate, by reason.
    pub fn packets(&self, reason: &str) -> Result<u64> {
        let text = self.metrics()?;
        let mark = format!("reason=\"{reason}\"");
        let line = text.lines().find(|line| line.contains("packets") && line.contains(&mark));
        let value = line.and_then(|line| line.rsplit(' ').next()).with_context(|| format!("no {reason} in {text}"))?;
        Ok(value.parse()?)
    }

    /// What the metrics listener says.
    pub fn metrics(&self) -> Result<String> {
        let mut curl = self.street.edge.command(tools::find("curl")?)?;
        curl.args(["-q", "-sS", "--fail", "--noproxy", "*"]).arg(format!("http://127.0.0.1:{METRICS_PORT}/metrics"));
        process::run(&mut curl, COMMAND_TIME)?.ok().context("the metrics listener")
    }

    /// Connections accepted and open, by worker.
    pub fn workers(&self) -> Result<Vec<(u64, u64)>> {
        let list = self.ctl(&["worker", "list", "--json"])?;
        let workers = list["workers"].as_array().with_context(|| format!("no workers in {list}"))?;
        let number =
            |worker: &Value, field: &str| worker[field].as_u64().with_context(|| format!("{field} in {worker}"));
        workers.iter().map(|worker| Ok((number(worker, "accepted")?, number(worker, "active")?))).collect()
    }

    /// The well-behaved client over IPv4.
    pub fn good(&self) -> Client<'_> {
        self.client(&self.street.good, EDGE_V4)
    }

    /// The well-behaved client over IPv6.
    pub fn good_v6(&self) -> Client<'_> {
        self.client(&self.street.good, EDGE_V6)
    }

    /// The scanner over IPv4.
    pub fn scanner(&self) -> Client<'_> {
        self.client(&self.street.scanner, EDGE_V4)
    }

    /// The scanner over IPv6.
    pub fn scanner_v6(&self) -> Client<'_> {
        self.client(&self.street.scanner, EDGE_V6)
    }

    fn client<'a>(&self, netns: &'a Netns, edge: &str) -> Client<'a> {
        client_in(netns, edge, &self.authority.pem())
    }

    /// Runs `bpftool` in the edge's namespace.
    pub fn bpftool(&self, words: &[&str]) -> Result<String> {
        let mut command = self.street.edge.command(tools::find("bpftool")?)?;
        process::run(command.args(words), COMMAND_TIME)?.ok().with_context(|| format!("bpftool {}", words.join(" ")))
    }

    /// Waits until a condition on the edge holds.
    pub fn until(&self, what: &str, at_most: Duration, holds: impl Fn() -> Result<bool>) -> Result<()> {
        eventually(what, at_most, || if holds()? { Ok(()) } else { bail!("not yet") })
    }
}

fn config(dir: &Path, pins: &Path, leaf: &Leaf, upstreams: &Value) -> Value {
    let v6 = |port: u16| format!("[{EDGE_V6}]:{port}");
    let v4 = |port: u16| format!("{EDGE_V4}:{port}");
    json!({
        "workers": WORKERS,
        "require_ebpf": true,
        "listeners": [
            { "name": "http", "address": v4(80), "protocol": "http" },
            { "name": "https", "address": v4(443), "protocol": "https", "http3": true },
            { "name": "http6", "address": v6(80), "protocol": "http" },
            { "name": "https6", "address": v6(443), "protocol": "https", "http3": true },
        ],
        "certificates": [{ "cert": leaf.cert, "key": leaf.key }],
        "routes": [
            { "hosts": [SITE], "path": "/app", "upstream": "app" },
            { "hosts": [SITE], "upstream": "nginx" },
            { "hosts": [TLS_SITE], "upstream": "nginx-tls" },
        ],
        "upstreams": upstreams,
        "gate": { "interfaces": [WAN], "mode": "driver", "pins": pins },
        "admin": { "socket": dir.join("admin.sock"), "metrics": format!("127.0.0.1:{METRICS_PORT}") },
        "access_log": { "file": dir.join("access.log") },
        "state_dir": dir.join("state"),
    })
}

/// A policy that answers probes with 403 and bans who sends them, for `ttl`.
pub fn probe_policy(ttl: &str) -> Value {
    json!({
        "schema": "tidegate.policy/v1", "id": "probes", "revision": 1, "owner": "tests",
        "rules": [{
            "id": "env",
            "when": "http.request.uri.path eq \"/.env\"",
            "action": { "type": "block", "status": 403 },
            "push": { "ttl": ttl },
        }],
    })
}
