//! A daemon on interfaces of its own with nothing behind it: for cases about attaching and running the gate. Wants only
//! `ip` and `tidegate`, so that it works in the guests of `cargo xtask test --kernels` too.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use proxy_user::kernel::front_pin;
use serde_json::{Value, json};

use crate::netns::{End, Netns, wire};
use crate::process::{self, Daemon, eventually, patient};
use crate::scratch::Scratch;
use crate::tools;
use crate::ward::{BPFFS, Pins};

/// How long the daemon may take to serve or to end, and one command to answer: software-emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection that the gate drops is waited for.
const KNOCK: Duration = Duration::from_millis(1_500);
/// Port of the listener.
pub const PORT: u16 = 80;

/// Two namespaces, wired, and the daemon in the first. Fields are dropped in this order.
#[derive(Debug)]
pub struct Porch {
    daemon: Option<Daemon>,
    /// Where the daemon runs.
    pub edge: Netns,
    /// Where its clients are.
    pub far: Netns,
    /// The config, written at each start and by [`Self::reload`].
    pub config: Value,
    pins: Pins,
    scratch: Scratch,
}

/// How a connection to the listener went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Knock {
    /// It was taken.
    Taken,
    /// Nobody listens.
    Refused,
    /// There was no answer.
    Silence,
}

impl Porch {
    /// Namespaces with `wires` veth pairs, `wan0` … in the edge's and `far0` … in the other, without a daemon. The edge is
    /// 10.81.N.1 and the client 10.81.N.2 on pair N.
    pub fn build(wires: u8) -> Result<Self> {
        let scratch = Scratch::new()?;
        let (edge, far) = (Netns::create("porch")?, Netns::create("far")?);
        for n in 0..wires {
            let (near_end, far_end) = (format!("10.81.{n}.1/24"), format!("10.81.{n}.2/24"));
            wire(
                End { netns: &edge, name: &format!("wan{n}"), addresses: &[&near_end] },
                End { netns: &far, name: &format!("far{n}"), addresses: &[&far_end] },
            )?;
        }
        let pins = Pins::guard(Path::new(BPFFS).join(scratch.name()));
        let config = json!({
            "workers": 1,
            "require_ebpf": true,
            "listeners": [{ "name": "web", "address": format!("0.0.0.0:{PORT}"), "protocol": "http" }],
            "routes": [{ "upstream": "none" }],
            "upstreams": { "none": { "servers": ["http://127.0.0.1:9"] } },
            "gate": { "interfaces": ["wan0"], "mode": "driver", "pins": pins.path() },
            "admin": { "socket": scratch.path().join("admin.sock") },
            "state_dir": "state",
            "access_log": { "enabled": false },
        });
        Ok(Self { daemon: None, edge, far, config, pins, scratch })
    }

    /// The edge's address on a pair.
    pub fn near(n: u8) -> IpAddr {
        IpAddr::from([10, 81, n, 1])
    }

    /// The client's address on a pair.
    pub fn client(n: u8) -> String {
        format!("10.81.{n}.2")
    }

    /// The directory of its pins.
    pub fn pins(&self) -> &Path {
        self.pins.path()
    }

    fn config_file(&self) -> Result<PathBuf> {
        let file = self.scratch.path().join("tidegate.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&self.config)?)?;
        Ok(file)
    }

    /// Starts the daemon and waits until it serves.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the daemon runs already");
        let mut command = self.edge.command(tools::tidegate()?)?;
        command.arg("run").arg("--config").arg(self.config_file()?).env_remove("NOTIFY_SOCKET");
        let mut daemon = Daemon::spawn(command, &self.scratch.path().join("tidegate.log"))?;
        eventually("the daemon's start", patient(PATIENCE), || {
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

    /// What the daemon wrote so far, and those before it.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// Ends the daemon by SIGKILL, as a crash would.
    pub fn crash(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL).map(drop)
    }

    /// Ends the daemon by SIGTERM.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.end(Signal::SIGTERM)?;
        ensure!(status.success(), "after SIGTERM tidegate ended with {status}");
        Ok(())
    }

    fn end(&mut self, signal: Signal) -> Result<std::process::ExitStatus> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        daemon.signal(signal)?;
        daemon.wait(patient(PATIENCE))
    }

    /// Runs `tidegate` in the edge's namespace with the config's path behind the words; returns its output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = self.edge.command(tools::tidegate()?)?;
        command.args(words).arg("--config").arg(self.config_file()?);
        process::run(&mut command, patient(PATIENCE))?.ok().with_context(|| format!("tidegate {}", words.join(" ")))
    }

    /// What `tidegate doctor` finds on one point.
    pub fn diagnosis(&self, check: &str) -> Result<Value> {
        let mut command = self.edge.command(tools::tidegate()?)?;
        command.args(["doctor", "--json", "--config"]).arg(self.config_file()?);
        // Its status says what it thinks of the host as a whole.
        let report: Value = serde_json::from_str(&process::run(&mut command, patient(PATIENCE))?.stdout)?;
        let findings = report["findings"].as_array().with_context(|| format!("{report}"))?;
        findings
            .iter()
            .find(|finding| finding["check"] == check)
            .cloned()
            .with_context(|| format!("no {check} in {report}"))
    }

    /// Runs a command that asks the daemon; returns its output as JSON where it is JSON.
    pub fn ctl(&self, words: &[&str]) -> Result<Value> {
        let mut command = self.edge.command(tools::tidegate()?)?;
        command.args(words).arg("--socket").arg(self.scratch.path().join("admin.sock"));
        let output = process::run(&mut command, patient(PATIENCE))?.ok();
        let output = output.with_context(|| format!("tidegate {}", words.join(" ")))?;
        Ok(serde_json::from_str(&output).unwrap_or(Value::String(output)))
    }

    /// Writes the config and has the daemon take it up.
    pub fn reload(&self) -> Result<Value> {
        self.config_file()?;
        self.ctl(&["reload", "--json"])
    }

    /// Packets and bytes that the gate counted for a reason.
    pub fn counted(&self, reason: &str) -> Result<(u64, u64)> {
        let counters = self.ctl(&["counters", "--json"])?;
        let count = &counters["reasons"][reason];
        let number = |field: &str| count[field].as_u64().with_context(|| format!("no {reason} in {counters}"));
        Ok((number("packets")?, number("bytes")?))
    }

    /// Number of the pinned link of an interface: another one for each attaching.
    pub fn link(&self, interface: &str) -> Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        let pin = front_pin(self.pins(), interface);
        Ok(std::fs::metadata(&pin).with_context(|| format!("{}", pin.display()))?.ino())
    }

    /// Bans a pair's client.
    pub fn ban(&self, n: u8) -> Result<()> {
        self.ctl(&["verdict", "add", &Self::client(n), "--ttl", "10m"]).map(drop)
    }

    /// Connects to the listener over a pair.
    pub fn knock(&self, n: u8) -> Result<Knock> {
        let target = SocketAddr::new(Self::near(n), PORT);
        let outcome = self.far.enter(|| TcpStream::connect_timeout(&target, KNOCK))?;
        match outcome {
            Ok(_) => Ok(Knock::Taken),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(Knock::Refused),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Ok(Knock::Silence),
            Err(error) => Err(error).context("connecting"),
        }
    }

    /// Waits until connections over a pair go as wanted.
    pub fn until_knock(&self, n: u8, wanted: Knock) -> Result<()> {
        eventually(&format!("{wanted:?} on pair {n}"), patient(PATIENCE), || match self.knock(n)? {
            found if found == wanted => Ok(()),
            found => bail!("{found:?}"),
        })
    }
}
