//! Verdicts in the `VERDICTS` map: written by workers and the operator, read for people, swept when expired.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::time::{ClockId, clock_gettime};
use proxy_common::abi::{GATE_V4_PREFIX, GATE_V4_PREFIX_SHIFT, GateConfig, HostKey, VERDICT_OWN_ONLY, VerdictValue};
use proxy_common::addr::{Addr, v6_mask};
use proxy_core::config::Scope;
use proxy_core::policy::{Push, PushScope, RuleSlot};
use proxy_core::ranges::{RangeSet, mapped_range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict_table::Full;
use super::{Kernel, OPERATOR};

/// Longest time that a verdict may stand.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// A verdict as people see it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, JsonSchema)]
pub struct VerdictInfo {
    /// Address, or prefix: `192.0.2.0/24`, `2001:db8::/64`.
    pub source: String,
    /// `policy/rule`, or `operator`.
    pub rule: String,
    /// Where it stands in `VERDICTS`: the key for `bpftool map lookup`.
    pub slot: u32,
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

/// What [`Kernel::add_verdicts`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BulkAdded {
    /// Verdicts written, new ones and those prolonged.
    pub written: u32,
    /// Sources left out because a policy allows them.
    pub allowed: u32,
}

/// The bits of `GATE` that have packets look for verdicts on IPv4 prefixes of this length.
pub(super) const fn v4_prefix_flags(bits: u8) -> u32 {
    (bits as u32) << GATE_V4_PREFIX_SHIFT
}

fn check_ttl(ttl: Duration) -> Result<()> {
    if ttl.is_zero() || ttl > MAX_TTL {
        bail!("the time of a verdict must be between 1s and 30d");
    }
    Ok(())
}

/// A verdict from now on.
fn verdict(now: u64, rule: RuleSlot, ttl: Duration, own_only: bool) -> VerdictValue {
    let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
    VerdictValue {
        expires_ns: now.saturating_add(ttl),
        created_ns: now,
        rule: rule.0,
        flags: if own_only { VERDICT_OWN_ONLY } else { 0 },
        ..VerdictValue::default()
    }
}

impl Kernel {
    /// Writes a verdict that a policy in force wants, now. Returns false where the loaded policies allow the source. `own_only`
    /// binds it to the listeners.
    pub fn push_verdict(&self, src: IpAddr, push: &Push, own_only: bool) -> Result<bool> {
        let addr = Addr::from(src.to_canonical());
        let key = match (push.scope, addr.is_v4()) {
            (PushScope::Host, _) | (PushScope::Source, true) => addr.host_key(),
            (PushScope::Prefix, true) => addr.v4_prefix_key(self.ipv4_prefix.into()),
            (PushScope::Source | PushScope::Prefix, false) => addr.prefix_key(v6_mask(self.ipv6_prefix)),
        };
        self.write_verdict(addr, key, push.rule, push.ttl, own_only)
    }

    /// Adds a verdict by hand. `source` is an address (that host alone), or a prefix of the configured length.
    pub fn add_verdict(&self, source: &str, ttl: Duration) -> Result<bool> {
        let (addr, key) = self.parse_source(source)?;
        let write = || self.write_verdict(addr, key, RuleSlot(OPERATOR), ttl, self.scope == Scope::Own);
        self.with_v4_prefixes(key.v4_bits().is_some(), write)
    }

    /// Adds many verdicts by hand, all or none: sources as [`Self::add_verdict`] takes them. Those that a policy allows are
    /// left out; a source that has a verdict has it prolonged.
    pub fn add_verdicts(&self, sources: &[String], ttl: Duration) -> Result<BulkAdded> {
        check_ttl(ttl)?;
        let mut keys = Vec::with_capacity(sources.len());
        let mut allowed = 0;
        for (number, source) in (1..).zip(sources) {
            let (addr, key) = self.parse_source(source).with_context(|| format!("source {number}"))?;
            if self.is_allowed(addr)? {
                allowed += 1;
            } else {
                keys.push(key);
            }
        }
        keys.sort_unstable_by_key(|key| key.addr);
        keys.dedup();
        let standing = self.verdicts.len();
        let new = keys.iter().filter(|key| self.verdicts.get(key).is_none()).count();
        if standing as usize + new > self.verdicts.most() as usize {
            bail!(
                "{new} new verdicts beside {standing} that stand are more than the table's {}: raise \
                 gate.max_verdicts, or put the list into a policy, as a file",
                self.verdicts.most()
            );
        }
        let value = verdict(now_ns(), RuleSlot(OPERATOR), ttl, self.scope == Scope::Own);
        let write = || keys.iter().try_for_each(|key| self.set_or_prolong(key, &value));
        let prefixes = keys.iter().any(|key| key.v4_bits().is_some());
        self.with_v4_prefixes(prefixes, || self.filter.around(&keys, |key| key, write).or_else(|Full| self.full()))?;
        Ok(BulkAdded { written: keys.len() as u32, allowed })
    }

    fn write_verdict(&self, addr: Addr, key: HostKey, rule: RuleSlot, ttl: Duration, own_only: bool) -> Result<bool> {
        check_ttl(ttl)?;
        if self.is_allowed(addr)? {
            return Ok(false);
        }
        let value = verdict(now_ns(), rule, ttl, own_only);
        let written = self.filter.around(&[key], |key| key, || self.set_or_prolong(&key, &value));
        written.or_else(|Full| self.full()).map(|()| true)
    }

    /// Writes a verdict that was decided just now. One that stands is prolonged: its count and its first drop stay.
    fn set_or_prolong(&self, key: &HostKey, value: &VerdictValue) -> Result<(), Full> {
        if self.verdicts.prolong(key, value.created_ns, value) { Ok(()) } else { self.verdicts.set(key, value) }
    }

    fn full(&self) -> Result<()> {
        bail!("the verdict table is full ({} entries): raise gate.max_verdicts", self.verdicts.most())
    }

    /// Writes many verdicts at once; for bulk loads and tests. Nothing is checked against the allow list.
    pub fn load_verdicts(&self, verdicts: &[(HostKey, VerdictValue)]) -> Result<()> {
        let write = || verdicts.iter().try_for_each(|(key, value)| self.verdicts.set(key, value));
        let prefixes = verdicts.iter().any(|(key, _)| key.v4_bits().is_some());
        self.with_v4_prefixes(prefixes, || {
            self.filter.around(verdicts, |(key, _)| key, write).or_else(|Full| self.full())
        })
    }

    /// Removes the verdicts that rules pushed, but for those of the rules in `kept`; returns how many.
    pub fn withdraw(&self, kept: &HashSet<RuleSlot>) -> u32 {
        let gone = |rule: u32| rule != OPERATOR && !kept.contains(&RuleSlot(rule));
        let found = self.verdicts.entries().into_iter().filter(|(.., value)| gone(value.rule));
        found.map(|(_, key, _)| u32::from(self.verdicts.remove(&key))).sum()
    }

    /// Removes a verdict (an address, or a prefix as listed). False when there was none.
    pub fn remove_verdict(&self, source: &str) -> Result<bool> {
        let (_, key) = self.parse_source(source)?;
        Ok(self.verdicts.remove(&key))
    }

    /// Standing verdicts, unordered; expired ones that were not swept yet are left out.
    pub fn verdicts(&self) -> Result<Vec<VerdictInfo>> {
        let now = now_ns();
        let names = self.slot_names()?;
        let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
        Ok(self
            .verdicts
            .entries()
            .into_iter()
            .filter(|(.., value)| value.expires_ns > now)
            .map(|(slot, key, value)| VerdictInfo {
                source: self.source_text(&key),
                slot,
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
    pub fn sweep(&self) -> u32 {
        self.workers.settle();
        let bits = Some(u32::from(self.ipv4_prefix));
        let (removed, on_prefixes) = self.filter.renew(|| {
            let (removed, left) = self.verdicts.sweep(now_ns());
            let on_prefixes = left.iter().any(|key| key.v4_bits() == bits);
            ((removed, on_prefixes), left)
        });
        if let Err(error) = self.follow_v4_prefixes(on_prefixes) {
            tracing::warn!(
                error = format!("{error:#}"),
                "whether there are verdicts on IPv4 prefixes could not be written"
            );
        }
        removed
    }

    /// The bits of `GATE` that have packets look for verdicts on IPv4 prefixes: where a rule in force may push some, or one
    /// stands. Only while `applying` is held.
    pub(super) fn wanted_v4_prefixes(&self, pushed: bool) -> u32 {
        self.on_v4_prefixes.store(pushed, Ordering::Relaxed);
        let bits = Some(u32::from(self.ipv4_prefix));
        if pushed || self.verdicts.any(|key| key.v4_bits() == bits) { v4_prefix_flags(self.ipv4_prefix) } else { 0 }
    }

    /// Writes verdicts, with packets looking for those on IPv4 prefixes where some of them are `on_prefixes`.
    fn with_v4_prefixes<T>(&self, on_prefixes: bool, write: impl FnOnce() -> Result<T>) -> Result<T> {
        if !on_prefixes {
            return write();
        }
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_v4_prefixes(v4_prefix_flags(self.ipv4_prefix))?;
        write()
    }

    /// Has packets look for verdicts on IPv4 prefixes while there are or may be some. `standing` where one was seen.
    fn follow_v4_prefixes(&self, standing: bool) -> Result<()> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let pushed = self.on_v4_prefixes.load(Ordering::Relaxed);
        let sought = self.maps.gate.get(&0)?.unwrap_or_default().v4_prefix() != 0;
        // One may have been added by hand since they were looked through.
        if pushed || standing || sought { self.set_v4_prefixes(self.wanted_v4_prefixes(pushed)) } else { Ok(()) }
    }

    fn set_v4_prefixes(&self, wanted: u32) -> Result<()> {
        let gate = self.maps.gate.get(&0)?.unwrap_or_default();
        if gate.flags & GATE_V4_PREFIX == wanted {
            return Ok(());
        }
        let flags = gate.flags & !GATE_V4_PREFIX | wanted;
        self.maps.gate.set(&0, &GateConfig { flags, ..gate }).context("writing GATE")
    }

    /// Removes the verdicts that `allowed` covers whole; returns how many.
    pub(super) fn retract(&self, allowed: &[(IpNet, u32)]) -> u32 {
        if allowed.is_empty() {
            return 0;
        }
        let allowed = RangeSet::new(allowed.iter().map(|(net, _)| mapped_range(net)).collect());
        // A prefix is covered by one range: what touches is merged.
        let covered = |key: &HostKey| {
            let (low, high) = mapped_range(&self.source_net(key));
            allowed.contains_range(low, high)
        };
        let keys = self.verdicts.entries().into_iter().map(|(_, key, _)| key).filter(covered);
        keys.map(|key| u32::from(self.verdicts.remove(&key))).sum()
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
            Ok(IpNet::V4(net)) if net.prefix_len() == self.ipv4_prefix => {
                let addr = Addr::from(IpAddr::from(net.addr()));
                Ok((addr, addr.v4_prefix_key(self.ipv4_prefix.into())))
            }
            Ok(IpNet::V6(net)) if net.prefix_len() == wanted => {
                let addr = Addr::from(IpAddr::from(net.addr()));
                Ok((addr, addr.prefix_key(v6_mask(wanted))))
            }
            Ok(net) => bail!(
                "`{net}`: a verdict names one address, an IPv4 prefix of /{} (gate.ipv4_prefix) or an IPv6 prefix of \
                 /{wanted} (gate.ipv6_prefix); for other prefixes write a policy with a CIDR list",
                self.ipv4_prefix
            ),
            Err(_) => {
                bail!("`{source}` is neither an IP address nor a prefix of /{} or /{wanted}", self.ipv4_prefix)
            }
        }
    }

    fn source_net(&self, key: &HostKey) -> IpNet {
        match key.prefix() {
            None => IpNet::from(IpAddr::from(key.first_addr())),
            Some(prefix) => {
                if let (Some(bits), IpAddr::V4(first)) = (key.v4_bits(), IpAddr::from(prefix)) {
                    return IpNet::V4(Ipv4Net::new(first, bits as u8).unwrap_or_default());
                }
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
