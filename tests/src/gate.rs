//! A loaded gate for tests and benches: the real programs with pins of their own, in a network namespace of their own,
//! fed through the daemon's own loader and run with `BPF_PROG_TEST_RUN`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use proxy_common::abi::{CLOCK_HELD, CheckSettings, Clock, FRAGMENT_SLOTS, RateSettings, bucket_index};
use proxy_common::addr::Addr;
use proxy_core::config::{self, Checks, Config, Mode, RateImage};
use proxy_core::image::KernelImage;
use proxy_core::policy::compile_rules;
use proxy_user::kernel::Kernel;
use serde_json::{Map as Object, Value, json};

use crate::halves::rule_name;
use crate::tables::World;
use crate::ward::{self, Item};

/// Rule slots that have a name in every world.
const NAMED: u32 = 63;

/// The loaded gate; its pins go with it, or with the run when it is never dropped or the run is killed.
pub struct Gate {
    /// The daemon's kernel half.
    pub kernel: Kernel,
    config: Config,
}

impl Gate {
    /// Loads the programs. The calling thread moves into a fresh network namespace, so that `steer` steers nobody.
    /// All checks are off.
    pub fn load(name: &str, scope: &str, max_verdicts: u32) -> Result<Self> {
        Self::load_with(name, json!({ "scope": scope, "max_verdicts": max_verdicts, "checks": all_checks(Mode::Off) }))
    }

    /// As [`Gate::load`], with parts of the config's `gate` object.
    pub fn load_with(name: &str, gate: Value) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own (needs root)")?;
        Self::load_here(name, gate)
    }

    /// As [`Gate::load_with`], in the network namespace that the thread is in; to be called in one that tests made.
    pub fn load_here(name: &str, mut gate: Value) -> Result<Self> {
        let pins = PathBuf::from(format!("/sys/fs/bpf/tidegate-{name}-{}", std::process::id()));
        ward::guard(Item::Pins(pins.clone()));
        gate["pins"] = json!(pins);
        let text = json!({
            "listeners": [{ "name": "web", "address": "127.0.0.1:80", "protocol": "http" }],
            "routes": [{ "upstream": "app" }],
            "upstreams": { "app": { "servers": ["http://127.0.0.1:8080"] } },
            "gate": gate,
        });
        let config = config::parse(&text.to_string()).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
        let kernel = Kernel::load(&config)?;
        Ok(Self { kernel, config })
    }

    /// Fills the maps with what `world` holds.
    pub fn fill(&self, world: &World) -> Result<()> {
        let sorted = |list: &[(IpNet, u32)]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        let image = KernelImage {
            allow: sorted(&world.allow),
            deny: sorted(&world.deny),
            rules: world.rules.clone(),
            tables: compile_rules(&world.rules).map_err(anyhow::Error::msg)?,
            names: (1..=world.last_slot().max(NAMED)).map(|slot| (slot, rule_name(slot))).collect(),
            on_v4_prefixes: false,
        };
        self.kernel.apply(&image)?;
        let verdicts: Vec<_> = world.verdicts.iter().map(|(key, value)| (*key, *value)).collect();
        self.kernel.load_verdicts(&verdicts)?;
        for (service, key) in (0..).zip(world.services()) {
            let ip = IpAddr::from(Addr::from_bytes(key.addr));
            self.kernel.bind_service(key.proto, service, SocketAddr::new(ip, key.port), 1)?;
        }
        Ok(())
    }

    /// Puts the checks' state at its beginning: `world`'s settings, no fragments seen, full buckets, and a clock that
    /// stands at `world.now`.
    pub fn reset(&self, world: &World) -> Result<()> {
        let mut settings: Array<_, CheckSettings> = Array::try_from(Map::Array(self.data("CHECKS")?))?;
        settings.set(0, world.settings, 0)?;
        for (name, entries) in [("FRAGMENTS", FRAGMENT_SLOTS), ("BUCKETS", bucket_index::COUNT)] {
            let mut words = self.words(name)?;
            for index in 0..entries {
                if words.get(&index, 0)? != 0 {
                    words.set(index, 0, 0)?;
                }
            }
        }
        self.hold_clock(world.now)
    }

    /// What the program remembers of fragments, buckets and flows must be what the host does.
    pub fn remembers(&self, world: &World) -> Result<()> {
        for (name, words) in [
            ("FRAGMENTS", &world.fragments),
            ("BUCKETS", &world.buckets),
            ("RATE_BUCKETS", &world.rate_buckets),
            ("FLOWS", &world.flows),
        ] {
            let map = self.words(name)?;
            for (index, word) in &*words.borrow() {
                let found = map.get(index, 0)?;
                ensure!(found == *word, "{name} holds {found:#x} at {index}, wanted {word:#x}");
            }
        }
        Ok(())
    }

    /// Empties the buckets of the rate limits and forgets UDP flows, on both sides: those words that `world` wrote.
    pub fn forget_rates(&self, world: &World) -> Result<()> {
        for (name, words) in [("RATE_BUCKETS", &world.rate_buckets), ("FLOWS", &world.flows)] {
            let mut map = self.words(name)?;
            for index in std::mem::take(&mut *words.borrow_mut()).into_keys() {
                map.set(index, 0, 0)?;
            }
        }
        Ok(())
    }

    /// Puts these rate limits (the config's `gate.rates`) in force, with empty buckets where they are others than before; returns
    /// their image, with the secret that the gate has.
    pub fn set_rates(&self, rates: &Value) -> Result<RateImage> {
        let mut config = self.config.clone();
        config.gate.rates = serde_json::from_value(rates.clone())?;
        self.kernel.set_rates(&config)?;
        let settings: Array<_, RateSettings> = Array::try_from(Map::Array(self.data("RATES")?))?;
        Ok(RateImage { settings: settings.get(&0, 0)?, ..RateImage::of(&config) })
    }

    /// Bytes that the kernel holds for a map.
    pub fn memory(&self, name: &str) -> Result<String> {
        let map = self.data(name)?;
        let facts = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
        let line = facts.lines().find_map(|line| line.strip_prefix("memlock:"));
        Ok(line.with_context(|| format!("no memlock in {facts}"))?.trim().to_owned())
    }

    /// Stops the programs' clock at `ns`.
    pub fn hold_clock(&self, ns: u64) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
        let mut clock: PerCpuArray<_, Clock> = PerCpuArray::try_from(Map::PerCpuArray(self.data("CLOCK")?))?;
        clock.set(0, PerCpuValues::try_from(vec![Clock { jiffies: CLOCK_HELD, ns }; cpus])?, 0)?;
        Ok(())
    }

    fn words(&self, name: &str) -> Result<Array<MapData, u64>> {
        Ok(Array::try_from(Map::Array(self.data(name)?))?)
    }

    /// A pinned map of it.
    pub fn data(&self, name: &str) -> Result<MapData> {
        Ok(MapData::from_pin(self.config.gate.pins.join(name))?)
    }
}

/// The config's `checks` with all of them in one mode.
pub fn all_checks(mode: Mode) -> Value {
    let names = match json!(Checks::default()) {
        Value::Object(checks) => checks.into_iter().map(|(name, _)| name),
        other => unreachable!("checks are an object, not {other}"),
    };
    Value::Object(names.map(|name| (name, json!(mode))).collect::<Object<_, _>>())
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Err(error) = Kernel::unload(&self.config) {
            eprintln!("removing the pins of a test gate: {error:#}");
        }
    }
}
