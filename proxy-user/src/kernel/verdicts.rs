//! Verdicts in the `VERDICTS` map: written by workers and the operator, read for people, swept when expired.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv6Net};
use nix::time::{ClockId, clock_gettime};
use proxy_common::abi::{HostKey, VERDICT_OWN_ONLY, VerdictValue};
use proxy_common::addr::{Addr, v6_mask};
use proxy_core::config::Scope;
use proxy_core::policy::RuleSlot;
use serde::{Deserialize, Serialize};

use super::load::TrieKey;
use super::{Kernel, OPERATOR};

/// Longest time that a verdict may stand.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// A verdict as people see it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct VerdictInfo {
    /// Address, or IPv6 prefix `2001:db8::/64`.
    pub source: String,
    /// `policy/rule`, or `operator`.
    pub rule: String,
    /// Seconds until it expires; 0 when it has.
    pub expires_in: f64,
    /// Seconds since the decision.
    pub age: f64,
    /// Packets dropped so far.
    pub drops: u64,
    /// Bytes of those packets.
    pub drop_bytes: u64,
    /// Microseconds from the decision to the first dropped packet.
    pub first_drop_us: Option<u64>,
    /// Applies to the listeners only.
    pub own_only: bool,
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the kernel programs.
pub fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs())
}

impl Kernel {
    /// Writes a verdict now. An IPv6 source is banned by its prefix. Returns false where the loaded policies allow
    /// the source. `own_only` binds it to the listeners.
    pub fn push_verdict(&self, src: IpAddr, rule: RuleSlot, ttl: Duration, own_only: bool) -> Result<bool> {
        let addr = Addr::from(src.to_canonical());
        let key = if addr.is_v4() { addr.host_key() } else { addr.prefix_key(v6_mask(self.ipv6_prefix)) };
        self.write_verdict(addr, key, rule, ttl, own_only)
    }

    /// Adds a verdict by hand. `source` is an address (that host alone), or an IPv6 prefix of the configured length.
    pub fn add_verdict(&self, source: &str, ttl: Duration) -> Result<bool> {
        let (addr, key) = self.parse_source(source)?;
        self.write_verdict(addr, key, RuleSlot(OPERATOR), ttl, self.scope == Scope::Own)
    }

    fn write_verdict(&self, addr: Addr, key: HostKey, rule: RuleSlot, ttl: Duration, own_only: bool) -> Result<bool> {
        if ttl.is_zero() || ttl > MAX_TTL {
            bail!("the time of a verdict must be between 1s and 30d");
        }
        if self.allow_in_force().get(&TrieKey { bits: 128, addr: addr.to_bytes() })?.is_some() {
            return Ok(false);
        }
        let now = now_ns();
        // A standing verdict is prolonged: its count and its first drop stay.
        let standing = self.maps.verdicts.get(&key)?.filter(|v| v.expires_ns > now);
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        let value = VerdictValue {
            expires_ns: now.saturating_add(ttl),
            rule: rule.0,
            flags: if own_only { VERDICT_OWN_ONLY } else { 0 },
            ..standing.unwrap_or(VerdictValue { created_ns: now, ..VerdictValue::default() })
        };
        match self.filter.around(&[key], |key| key, || self.maps.verdicts.set(&key, &value)) {
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
                bail!("the verdict table is full ({} entries): raise gate.max_verdicts", self.max_verdicts)
            }
            result => result.context("writing VERDICTS")?,
        }
        Ok(true)
    }

    /// Writes many verdicts at once, in batches; for bulk loads and tests. Nothing is checked against the allow list.
    pub fn load_verdicts(&self, verdicts: &[(HostKey, VerdictValue)]) -> Result<()> {
        let write = || self.maps.verdicts.set_many(verdicts);
        self.filter.around(verdicts, |(key, _)| key, write).context("writing VERDICTS")
    }

    /// Removes a verdict (an address, or a prefix as listed). False when there was none.
    pub fn remove_verdict(&self, source: &str) -> Result<bool> {
        let (_, key) = self.parse_source(source)?;
        Ok(self.maps.verdicts.remove(&key)?)
    }

    /// Standing verdicts, unordered; expired ones that were not swept yet are left out.
    pub fn verdicts(&self) -> Result<Vec<VerdictInfo>> {
        let now = now_ns();
        let names = self.slot_names()?;
        let entries = self.maps.verdicts.entries().context("reading VERDICTS")?;
        let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        Ok(entries
            .into_iter()
            .filter(|(_, value)| value.expires_ns > now)
            .map(|(key, value)| VerdictInfo {
                source: self.source_text(&key),
                rule: names.get(&value.rule).cloned().unwrap_or_else(|| format!("slot {}", value.rule)),
                expires_in: seconds(value.expires_ns - now),
                age: seconds(now.saturating_sub(value.created_ns)),
                drops: value.drops,
                drop_bytes: value.drop_bytes,
                first_drop_us: (value.first_drop_ns != 0)
                    .then(|| value.first_drop_ns.saturating_sub(value.created_ns) / 1_000),
                own_only: value.flags & VERDICT_OWN_ONLY != 0,
            })
            .collect())
    }

    /// Removes expired verdicts, which have no effect any more, and returns how many; settles the workers' loads. Called
    /// every few seconds.
    pub fn sweep(&self) -> Result<u32> {
        self.workers.settle();
        let now = now_ns();
        let mut removed = 0;
        self.filter.renew(|| {
            let mut standing = self.maps.verdicts.entries()?;
            let mut failed = Ok(());
            standing.retain(|(key, value)| {
                // A worker may renew it between the two calls: look again, so that the window is microseconds.
                let gone = value.expires_ns <= now
                    && self.remove_expired(key, now).unwrap_or_else(|error| {
                        failed = Err(error);
                        false
                    });
                removed += u32::from(gone);
                !gone
            });
            failed?;
            Ok(standing.into_iter().map(|(key, _)| key).collect())
        })?;
        Ok(removed)
    }

    fn remove_expired(&self, key: &HostKey, now: u64) -> Result<bool> {
        let expired = self.maps.verdicts.get(key)?.is_some_and(|value| value.expires_ns <= now);
        Ok(expired && self.maps.verdicts.remove(key)?)
    }

    /// Removes the verdicts that `allowed` covers whole; returns how many.
    pub(super) fn retract(&self, allowed: &[(IpNet, u32)]) -> Result<u32> {
        if allowed.is_empty() {
            return Ok(0);
        }
        let mut keys = Vec::new();
        for (key, _) in self.maps.verdicts.entries()? {
            let source = self.source_net(&key);
            if allowed.iter().any(|(net, _)| net.contains(&source)) {
                keys.push(key);
            }
        }
        self.maps.verdicts.remove_many(&keys)?;
        Ok(keys.len() as u32)
    }

    fn parse_source(&self, source: &str) -> Result<(Addr, HostKey)> {
        if let Ok(ip) = source.parse::<IpAddr>() {
            let addr = Addr::from(ip.to_canonical());
            return Ok((addr, addr.host_key()));
        }
        let wanted = self.ipv6_prefix;
        match source.parse::<IpNet>() {
            Ok(IpNet::V4(net)) if net.prefix_len() == 32 => {
                let addr = Addr::from(IpAddr::from(net.addr()));
                Ok((addr, addr.host_key()))
            }
            Ok(IpNet::V6(net)) if net.prefix_len() == 128 => {
                let addr = Addr::from(IpAddr::from(net.addr()));
                Ok((addr, addr.host_key()))
            }
            Ok(IpNet::V6(net)) if net.prefix_len() == wanted => {
                let addr = Addr::from(IpAddr::from(net.addr()));
                Ok((addr, addr.prefix_key(v6_mask(wanted))))
            }
            Ok(net) => bail!(
                "`{net}`: a verdict names one address, or an IPv6 prefix of /{wanted} (gate.ipv6_prefix); for other \
                 prefixes write a policy with a CIDR list"
            ),
            Err(_) => bail!("`{source}` is neither an IP address nor an IPv6 prefix of /{wanted}"),
        }
    }

    fn source_net(&self, key: &HostKey) -> IpNet {
        match key.prefix() {
            None => IpNet::from(IpAddr::from(key.first_addr())),
            Some(prefix) => {
                let first = Ipv6Addr::from(prefix.to_bytes());
                IpNet::V6(Ipv6Net::new(first, self.ipv6_prefix).unwrap_or_default())
            }
        }
    }

    fn source_text(&self, key: &HostKey) -> String {
        let net = self.source_net(key);
        if key.prefix().is_some() { net.to_string() } else { net.addr().to_string() }
    }
}
