//! The rate limits of the config in the maps, and the table of known sources that the workers write.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use proxy_common::abi::{GATE_HAS_RATES, GateConfig, MAX_RATES, RATE_BUCKETS, RateLimit, RateSettings, SEEN_SLOTS};
use proxy_common::addr::{Addr, v6_mask};
use proxy_common::{rates, seen};
use proxy_core::config::{Config, RateImage};

use super::load::Maps;
use super::mapped::Mapped;
use super::{Kernel, now_ns};

impl Kernel {
    /// Puts the rate limits of the config in force.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn set_rates(&self, config: &Config) -> Result<()> {
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        set(&self.maps, config)
    }

    /// Notes a source that completed a handshake, and so receives what is sent to it. A store into a mapped page.
    pub fn note_known(&self, source: IpAddr) {
        self.note_known_at(source, now_ns());
    }

    /// As [`Kernel::note_known`], at another time; tests hold the clock.
    pub fn note_known_at(&self, source: IpAddr, now_ns: u64) {
        self.known.note(source, now_ns);
    }
}

/// As [`Kernel::set_rates`], before there is a [`Kernel`]. The limits go to the half that no packet reads, then one write of the
/// settings flips to it. Buckets are emptied of what they held only where limits changed: they have another meaning then.
pub fn set(maps: &Maps, config: &Config) -> Result<()> {
    let image = RateImage::of(config);
    let before = maps.rates.get(&0)?.unwrap_or_default();
    let standing: Vec<RateLimit> = (before.first..before.first + before.count.min(MAX_RATES))
        .filter_map(|index| maps.rate_limits.get(&index).transpose())
        .collect::<std::io::Result<_>>()
        .context("reading RATE_LIMITS")?;
    let changed = standing != image.limits;
    let (k0, k1) = if before.k0 == 0 { secret()? } else { (before.k0, before.k1) };
    let first = if changed && before.first == 0 {
        MAX_RATES
    } else if changed {
        0
    } else {
        before.first
    };
    if changed {
        let empty = std::iter::repeat(RateLimit::default());
        let limits: Vec<(u32, RateLimit)> =
            (first..first + MAX_RATES).zip(image.limits.iter().copied().chain(empty)).collect();
        maps.rate_limits.set_many(&limits).context("writing RATE_LIMITS")?;
    }
    let settings = RateSettings { k0, k1, first, ..image.settings };
    maps.rates.set(&0, &settings).context("writing RATES")?;
    if changed {
        let words: Vec<(u32, u64)> = (0..RATE_BUCKETS).map(|word| (word, 0)).collect();
        maps.rate_buckets.set_many(&words).context("writing RATE_BUCKETS")?;
    }
    let gate = maps.gate.get(&0)?.unwrap_or_default();
    let has = if image.limits.is_empty() { 0 } else { GATE_HAS_RATES };
    let flags = (gate.flags & !GATE_HAS_RATES) | has;
    maps.gate.set(&0, &GateConfig { flags, ..gate }).context("writing GATE")
}

/// A secret of the hashes that is not zero, which stands for none.
fn secret() -> Result<(u64, u64)> {
    let key = super::random_key()?;
    Ok((key.k0 | 1, key.k1))
}

/// `KNOWN`, mapped into the daemon.
#[derive(Debug)]
pub struct Known {
    slots: Mapped<AtomicU64>,
    settings: RateSettings,
    v6_mask: u64,
}

impl Known {
    /// Maps the table; the secret must stand in `RATES` already.
    pub fn map(maps: &Maps, ipv6_prefix: u8) -> Result<Self> {
        let slots = Mapped::new(&maps.known, SEEN_SLOTS).context("KNOWN")?;
        let settings = maps.rates.get(&0)?.unwrap_or_default();
        Ok(Self { slots, settings, v6_mask: v6_mask(ipv6_prefix) })
    }

    /// Notes a source. Workers that take the same slot at the same moment leave one of two sources known.
    fn note(&self, source: IpAddr, now_ns: u64) {
        let hash = rates::known_hash(Addr::from(source.to_canonical()), self.v6_mask, &self.settings);
        let slot = |slot: u32| self.slots.entries().get(slot as usize);
        let read = |at| slot(at).map_or(0, |slot| slot.load(Ordering::Relaxed));
        let (at, _, word) = seen::place(hash, now_ns, read);
        if let Some(slot) = slot(at) {
            slot.store(word, Ordering::Relaxed);
        }
    }
}
