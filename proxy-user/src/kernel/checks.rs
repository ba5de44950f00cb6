//! The checks of the config in the maps: which are made, what they drop, whose addresses are our own.

use std::collections::HashMap;

use anyhow::{Context, Result};
use proxy_common::abi::{CheckSettings, GateConfig, HostKey, Reason};
use proxy_common::addr::Addr;
use proxy_common::bucket::Limit;
use proxy_common::sanity::own_bit;
use proxy_core::config::{Config, Gate};
use proxy_core::planned::Host;

use super::attach::is_loopback;
use super::load::Maps;
use super::{Kernel, sysctl};

/// `net.ipv4.ip_local_port_range` of a kernel that nobody told otherwise.
const EPHEMERAL_PORTS: u32 = 32_768;

impl Kernel {
    /// Writes the checks that the config asks for.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn set_checks(&self, config: &Config) -> Result<()> {
        set(&self.maps, config)
    }
}

/// As [`Kernel::set_checks`], before there is a [`Kernel`]. Settings and addresses go first: a check that is switched on finds them.
pub fn set(maps: &Maps, config: &Config) -> Result<()> {
    let gate = &config.gate;
    let before = maps.checks.get(&0)?.unwrap_or_default();
    let seed = if before.seed == 0 { super::random_key()?.k0 } else { before.seed };
    let rate = u64::from(gate.icmp_per_second);
    let settings = CheckSettings { seed, icmp: Limit::per_second(rate, rate), udp_below: ephemeral_ports(), pad: 0 };
    maps.checks.set(&0, &settings).context("writing CHECKS")?;
    let own: HashMap<HostKey, u32> =
        config.own_addresses().into_iter().map(|ip| (Addr::from(ip).host_key(), 1)).collect();
    for key in own.keys() {
        maps.own.set(key, &1).context("writing OWN")?;
    }
    let own_bits = own.keys().fold(0, |bits, key| bits | (1 << own_bit(key.first_addr())));
    let (checked, enforced) = words(gate);
    let standing = maps.gate.get(&0)?.unwrap_or_default();
    maps.gate.set(&0, &GateConfig { checked, enforced, own_bits, ..standing }).context("writing GATE")?;
    for key in maps.own.keys()? {
        if !own.contains_key(&key) {
            maps.own.remove(&key).context("writing OWN")?;
        }
    }
    Ok(())
}

/// What this host adds to a config where no kernel half is loaded.
pub fn host_facts(config: &Config) -> Host {
    let loopback = config.gate.interfaces.iter().any(|name| is_loopback(name));
    Host { ephemeral: ephemeral_ports(), loopback }
}

/// What is checked and enforced. On a loopback interface our own addresses talk to each other.
fn words(gate: &Gate) -> (u64, u64) {
    let (checked, enforced) = gate.checks.words();
    let keep = if gate.interfaces.iter().any(|name| is_loopback(name)) {
        tracing::info!(
            "checks for bogons and spoofed own sources are off: the gate is attached to a loopback interface"
        );
        !(Reason::Bogon.bit() | Reason::SpoofedOwn.bit())
    } else {
        u64::MAX
    };
    (checked & keep, enforced & keep)
}

/// The first port that the kernel gives to clients.
fn ephemeral_ports() -> u32 {
    let lowest = sysctl::first_number("net/ipv4/ip_local_port_range");
    lowest.ok().and_then(|port| u32::try_from(port).ok()).unwrap_or(EPHEMERAL_PORTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_the_listeners_and_the_configs() {
        let text = r#"{"listeners":[{"name":"a","address":"192.0.2.1:80","protocol":"http"},
            {"name":"b","address":"0.0.0.0:81","protocol":"http"}],
            "routes":[{"upstream":"o"}],"upstreams":{"o":{"servers":["http://127.0.0.1:1"]}},
            "gate":{"own_addresses":["192.0.2.9","2001:db8::9"]}}"#;
        let config = proxy_core::config::parse(text).unwrap();
        let own: Vec<String> = config.own_addresses().iter().map(ToString::to_string).collect();
        assert_eq!(own, ["192.0.2.9", "2001:db8::9", "192.0.2.1"]);
    }

    #[test]
    fn loopback_is_told_by_its_flags() {
        assert!(is_loopback("lo"));
        assert!(!is_loopback("no-such-interface"));
    }
}
