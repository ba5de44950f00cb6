//! A loaded gate for tests and benches: the real programs with pins of their own, in a network namespace of their own,
//! fed through the daemon's own loader and run with `BPF_PROG_TEST_RUN`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use proxy_core::config::{self, Config};
use proxy_core::image::KernelImage;
use proxy_core::policy::compile_rules;
use proxy_user::kernel::Kernel;

use crate::tables::World;

/// The loaded gate; its pins go with it.
pub struct Gate {
    /// The daemon's kernel half.
    pub kernel: Kernel,
    config: Config,
}

impl Gate {
    /// Loads the programs. The calling thread moves into a fresh network namespace, so that `steer` steers nobody.
    pub fn load(name: &str, scope: &str, max_verdicts: u32) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own (needs root)")?;
        let pins = PathBuf::from(format!("/sys/fs/bpf/tidegate-{name}-{}", std::process::id()));
        let text = serde_json::json!({
            "listeners": [{ "name": "web", "address": "127.0.0.1:80", "protocol": "http" }],
            "routes": [{ "upstream": "app" }],
            "upstreams": { "app": { "servers": ["http://127.0.0.1:8080"] } },
            "gate": { "scope": scope, "pins": pins, "max_verdicts": max_verdicts },
        });
        let config = config::parse(&text.to_string()).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
        let kernel = Kernel::load(&config)?;
        Ok(Self { kernel, config })
    }

    /// Fills the maps with what `world` holds.
    pub fn fill(&self, world: &World) -> Result<()> {
        let image = KernelImage {
            allow: world.allow.clone(),
            deny: world.deny.clone(),
            rules: world.rules.clone(),
            tables: compile_rules(&world.rules).map_err(anyhow::Error::msg)?,
            names: (1..64).map(|slot| (slot, format!("test/r{slot}"))).collect(),
        };
        self.kernel.apply(&image)?;
        let verdicts: Vec<_> = world.verdicts.iter().map(|(key, value)| (*key, *value)).collect();
        self.kernel.load_verdicts(&verdicts)?;
        for (service, key) in (0..).zip(&world.bindings) {
            let ip = IpAddr::from(Ipv6Addr::from(key.addr)).to_canonical();
            self.kernel.bind_service(key.proto, service, SocketAddr::new(ip, key.port), 1)?;
        }
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Err(error) = Kernel::unload(&self.config) {
            eprintln!("removing the pins of a test gate: {error:#}");
        }
    }
}
