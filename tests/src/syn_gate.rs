//! A loaded gate that answers SYNs with cookies on frames of `BPF_PROG_TEST_RUN`: real listeners on the loopback of a network
//! namespace of its own, marked and asked by `front_syn` as on any interface. No packet leaves.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map};
use aya::programs::{TestRun as _, TestRunOptions};
use proxy_common::abi::{GateConfig, SynMeter, SynSettings, SynState, proto, syn_policy};
use proxy_core::config::Mode;
use proxy_user::kernel::now_ns;
use serde_json::{Value, json};

use crate::gate::{Gate, all_checks};
use crate::process::run;
use crate::tables::{World, addr};
use crate::verdict_table::{EDGE, EDGE6};

/// The port that is listened on.
pub const PORT: u16 = 443;
/// How long one `ip` may take.
const IP_TIME: Duration = Duration::from_secs(20);
/// Longest answer: Ethernet, two tags, IPv6, forty bytes of TCP, and some room.
const LONGEST: usize = 256;

/// The gate and its listeners.
pub struct SynGate {
    /// The loaded programs.
    pub gate: Gate,
    _listeners: Vec<TcpListener>,
}

impl SynGate {
    /// Loads it; the calling thread moves into a network namespace of its own, and must be the one that runs frames.
    pub fn load(name: &str) -> Result<Self> {
        Self::load_with(name, json!({ "scope": "own", "max_verdicts": 4_096, "checks": all_checks(Mode::Off) }))
    }

    /// As [`Self::load`], with parts of the config's `gate` object.
    pub fn load_with(name: &str, gate: Value) -> Result<Self> {
        let gate = Gate::load_with(name, gate)?;
        for words in [
            "link set lo up".to_owned(),
            format!("address add {EDGE}/32 dev lo"),
            format!("address add {EDGE6}/128 dev lo nodad"),
        ] {
            run(Command::new("ip").args(words.split(' ')), IP_TIME)?.ok().with_context(|| format!("ip {words}"))?;
        }
        // As the daemon has it while cookies are on.
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").context("tcp_syncookies")?;
        let addresses = [EDGE, EDGE6].map(str::parse::<IpAddr>);
        let mut world = World { own_only: true, now: now_ns(), ..World::default() };
        let mut listeners = Vec::new();
        for ip in addresses {
            let ip = ip?;
            listeners.push(TcpListener::bind(SocketAddr::new(ip, PORT)).with_context(|| format!("listening on {ip}"))?);
            world.bindings.insert(addr(ip).service_key(proto::TCP, PORT));
        }
        gate.fill(&world)?;
        let mut states: Array<_, SynState> = Array::try_from(Map::Array(gate.data("SYN_STATE")?))?;
        for service in 0..listeners.len() as u32 {
            let settings = SynSettings { policy: syn_policy::ALWAYS, mtu: 1_500, ..SynSettings::default() };
            let meter = SynMeter { cookies: 1, ..SynMeter::default() };
            states.set(service, SynState { settings, meter, ..SynState::default() }, 0)?;
        }
        let mut settings: Array<_, GateConfig> = Array::try_from(Map::Array(gate.data("GATE")?))?;
        let config = settings.get(&0, 0)?;
        settings.set(0, GateConfig { cookies: 1, ..config }, 0)?;
        Ok(Self { gate, _listeners: listeners })
    }

    /// Runs a frame: the action, and what became of the frame.
    pub fn frame(&self, bytes: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; LONGEST.max(bytes.len())];
        let options = TestRunOptions { data_in: Some(bytes), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.gate.kernel.front()?.test_run(options).context("running `front` on a frame")?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}
