//! The checks of the config in the maps: which are made, what they drop, whose addresses are our own.

use std::collections::HashSet;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use proxy_common::abi::GateConfig;
use proxy_common::addr::Addr;
use proxy_common::sanity::own_bits;
use proxy_core::config::Config;
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
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        set(&self.maps, config)
    }
}

/// As [`Kernel::set_checks`], before there is a [`Kernel`]. Settings and addresses go first: a check that is switched on finds them.
pub fn set(maps: &Maps, config: &Config) -> Result<()> {
    let gate = &config.gate;
    let host = host_facts(config);
    let before = maps.checks.get(&0)?.unwrap_or_default();
    let seed = if before.seed == 0 { super::random_key()?.k0 } else { before.seed };
    maps.checks.set(&0, &gate.check_settings(seed, host.ephemeral)).context("writing CHECKS")?;
    let own: HashSet<Addr> = config.own_addresses().into_iter().map(Addr::from).collect();
    for addr in &own {
        maps.own.set(&addr.host_key(), &1).context("writing OWN")?;
    }
    if host.loopback {
        tracing::info!(
            "checks for bogons and spoofed own sources are off: the gate is attached to a loopback interface"
        );
    }
    let (checked, enforced) = gate.check_words(host.loopback);
    let own_bits = own_bits(own.iter().copied());
    let standing = maps.gate.get(&0)?.unwrap_or_default();
    maps.gate.set(&0, &GateConfig { checked, enforced, own_bits, ..standing }).context("writing GATE")?;
    for key in maps.own.keys()? {
        if !own.contains(&key.first_addr()) {
            maps.own.remove(&key).context("writing OWN")?;
        }
    }
    Ok(())
}

/// What this host adds to a config.
pub fn host_facts(config: &Config) -> Host {
    let loopback = config.gate.interfaces.iter().any(|name| is_loopback(name));
    Host { ephemeral: ephemeral_ports(), loopback }
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
    fn loopback_is_told_by_its_flags() {
        assert!(is_loopback("lo"));
        assert!(!is_loopback("no-such-interface"));
    }
}
