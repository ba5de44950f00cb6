//! SYN cookies as the daemon sees them: what each service is set to, counting accepted connections, ending what nobody
//! sends to any more, and the kernel's own switch. The mode of a service is decided by the kernel programs
//! (`proxy_common::syn`); this only ends it when no packet comes that could.
//!
//! `net.ipv4.tcp_syncookies` must be 2 for the kernel to give out cookies before a listener's queue is full. It is raised
//! while some service answers with cookies, and set back after that: at 2 the kernel answers every SYN with a cookie, which
//! costs clients without timestamps their window scale. Only the daemon's own network namespace is touched.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use proxy_common::abi::{GateConfig, MAX_SERVICES, SynMeter, SynSettings, SynState, syn_policy};
use proxy_common::syn::SYN_TIMESTAMPS;
use proxy_core::config::{Gate, SynMode};

use super::attach::LinkFacts;
use super::heart::Heart;
use super::mapped::{Mapped, Shared};
use super::{Kernel, now_ns, sysctl};

const SYNCOOKIES: &str = "net/ipv4/tcp_syncookies";
/// The value of `SYNCOOKIES` with which the kernel gives out cookies when asked.
const ON_REQUEST: &str = "2";
/// Bytes of an IP packet where no interface says otherwise.
const ETHERNET_MTU: u32 = 1_500;
/// Largest window scale, RFC 7323 section 2.3.
const MAX_SCALE: u32 = 14;

/// An entry of `SYN_STATE`, word for word as [`SynState`] lays it out.
#[repr(C)]
#[derive(Debug)]
struct State {
    settings: [AtomicU32; 6],
    accepted: AtomicU32,
    pad: AtomicU32,
    window_ns: AtomicU64,
    calm_ns: AtomicU64,
    marked_ns: AtomicU64,
    syns: AtomicU32,
    window_syns: AtomicU32,
    window_accepted: AtomicU32,
    cookies: AtomicU32,
}

const _: () = assert!(size_of::<State>() == size_of::<SynState>());
const _: () = assert!(size_of::<SynState>().is_multiple_of(8));

// SAFETY: atomic integers only, without padding, as large as the map's value (asserted above).
unsafe impl Shared for State {}

/// SYN defence of this daemon.
#[derive(Debug)]
pub struct SynDefence {
    states: Mapped<State>,
    settings: SynSettings,
    /// Services by index: where, and whether cookies were on at the last look.
    services: Mutex<BTreeMap<u32, (SocketAddr, bool)>>,
    /// What `tcp_syncookies` was before it was raised; `None` while it is not.
    raised_from: Mutex<Option<String>>,
    /// Keeps the same for the next daemon, should this one be killed.
    heart: Arc<Heart>,
}

/// What the host says that bears on cookies.
#[derive(Clone, Debug, Default)]
struct Host {
    mtu: u32,
    /// `tcp_timestamps`, `tcp_sack` and `tcp_window_scaling`.
    timestamps: u64,
    sack: bool,
    scaling: bool,
    /// The larger of `tcp_rmem`'s bound and `rmem_max`, where both could be read.
    receive_buffer: Option<u64>,
}

impl SynDefence {
    /// Decides what services get, and logs it with what was found on the host. `stage` says why `front_syn` is missing.
    pub fn new(
        gate: &Gate,
        array: impl AsFd,
        stage: Option<String>,
        links: &[LinkFacts],
        heart: Arc<Heart>,
    ) -> Result<Self> {
        if let Some(before) = heart.raised_from() {
            set_back(before);
            heart.note_raised(None);
        }
        let states = Mapped::new(array, MAX_SERVICES).context("SYN_STATE")?;
        let config = &gate.syn_cookies;
        let mut policy = match config.mode {
            None | Some(SynMode::Auto) => syn_policy::AUTO,
            Some(SynMode::Off) => syn_policy::OFF,
            Some(SynMode::Always) => syn_policy::ALWAYS,
        };
        if let Some(why) = stage.filter(|_| policy != syn_policy::OFF) {
            tracing::warn!(why, "SYN cookies are off: this kernel does not take `front_syn` (Linux 6.0 and newer do)");
            policy = syn_policy::OFF;
        }
        if gate.interfaces.is_empty() {
            policy = syn_policy::OFF;
        }
        let veth = links.iter().find(|link| link.veth && link.driver_mode);
        if let Some(link) = veth.filter(|_| config.mode.is_none() && policy != syn_policy::OFF) {
            tracing::info!(
                interface = link.name,
                "SYN cookies are off: a veth sends answers back from XDP only if its other end has an XDP program or \
                 GRO on (`ethtool -K IFACE gro on`); see to that and set gate.syn_cookies.mode to \"auto\", or set \
                 gate.mode to \"generic\""
            );
            policy = syn_policy::OFF;
        }
        let host = Host::read(links);
        let settings = SynSettings {
            policy,
            threshold: config.threshold,
            release: config.release,
            hold_ms: u32::try_from(config.hold.0.as_millis()).unwrap_or(u32::MAX),
            mtu: host.mtu,
            options: host.options(),
        };
        if policy != syn_policy::OFF {
            let found = sysctl::read(SYNCOOKIES).unwrap_or_else(|error| error.to_string());
            let kept = if settings.options == 0 {
                "MSS only (net.ipv4.tcp_timestamps=2 would keep window scale, SACK and timestamps)"
            } else {
                "MSS, window scale, SACK and timestamps"
            };
            let mode = if policy == syn_policy::ALWAYS { "always" } else { "auto" };
            tracing::info!(mode, threshold = config.threshold, tcp_syncookies = found, kept, "SYN cookies in XDP");
        }
        Ok(Self { states, settings, services: Mutex::default(), raised_from: Mutex::default(), heart })
    }

    /// The entry with which a service begins: nothing counted, and nothing believed of its listeners' marks.
    fn fresh(&self) -> SynState {
        let always = self.settings.policy == syn_policy::ALWAYS;
        let meter = SynMeter { cookies: always.into(), ..SynMeter::default() };
        SynState { settings: self.settings, meter, ..SynState::default() }
    }

    /// Counts a connection that a worker accepted.
    pub fn accepted(&self, service: u32) {
        if let Some(state) = self.states.entries().get(service as usize) {
            state.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the next SYN mark the listeners again: a service's last socket may have gone, and its mark with it.
    pub fn forget_mark(&self, service: u32) {
        if let Some(state) = self.states.entries().get(service as usize) {
            state.marked_ns.store(0, Ordering::Relaxed);
        }
    }

    /// Whether some service answers with cookies. Ends those that nobody sends to, and logs what changed.
    fn look(&self, now_ns: u64) -> bool {
        let mut any = false;
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (address, was_on)) in services.iter_mut() {
            let Some(state) = self.states.entries().get(*index as usize) else { continue };
            let meter = SynMeter {
                window_ns: state.window_ns.load(Ordering::Relaxed),
                cookies: state.cookies.load(Ordering::Relaxed),
                ..SynMeter::default()
            };
            if meter.lapsed(now_ns, &self.settings) {
                state.cookies.store(0, Ordering::Relaxed);
            }
            let on = state.cookies.load(Ordering::Relaxed) != 0;
            if on && !*was_on {
                tracing::warn!(%address, "SYNs are answered with cookies");
            } else if *was_on && !on {
                tracing::warn!(%address, "SYN cookies have ended");
            }
            *was_on = on;
            any |= on;
        }
        any
    }

    /// Raises `tcp_syncookies`, or sets it back.
    fn switch(&self, on: bool) {
        let mut raised_from = self.raised_from.lock().unwrap_or_else(PoisonError::into_inner);
        if on == raised_from.is_some() {
            return;
        }
        let result = if on {
            let found = sysctl::read(SYNCOOKIES);
            let result = match &found {
                Ok(value) if value == ON_REQUEST => Ok(()),
                Ok(value) => {
                    self.heart.note_raised(value.parse().ok());
                    sysctl::write(SYNCOOKIES, ON_REQUEST)
                }
                Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
            };
            *raised_from = Some(found.unwrap_or_else(|_| ON_REQUEST.to_owned()));
            result
        } else {
            let before = raised_from.take().unwrap_or_default();
            // Whoever changed it meanwhile shall have it as it is.
            let result = match sysctl::read(SYNCOOKIES) {
                Ok(now) if now == ON_REQUEST && before != ON_REQUEST => sysctl::write(SYNCOOKIES, &before),
                _ => Ok(()),
            };
            self.heart.note_raised(None);
            result
        };
        if let Err(error) = result {
            tracing::warn!(
                %error,
                "net.ipv4.tcp_syncookies could not be set: set it to 2 by hand (`sysctl -w net.ipv4.tcp_syncookies=2`). \
                 Until then XDP answers SYNs only after a listener's own queue has overflowed"
            );
        }
    }

    /// Addresses of the services that answer with cookies.
    pub fn active(&self) -> Vec<String> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let on = |index: u32| {
            self.states.entries().get(index as usize).is_some_and(|s| s.cookies.load(Ordering::Relaxed) != 0)
        };
        services.iter().filter(|(index, _)| on(**index)).map(|(_, (address, _))| address.to_string()).collect()
    }
}

/// Sets `tcp_syncookies` back to what it was before a daemon raised it that was killed.
pub fn set_back(before: u64) {
    let done = match sysctl::read(SYNCOOKIES) {
        // Whoever changed it meanwhile shall have it as it is.
        Ok(now) if now == ON_REQUEST => sysctl::write(SYNCOOKIES, &before.to_string()),
        other => other.map(drop),
    };
    match done {
        Ok(()) => tracing::info!(tcp_syncookies = before, "set back what an earlier daemon had raised"),
        Err(error) => tracing::warn!(
            %error,
            "an earlier daemon raised net.ipv4.tcp_syncookies, and it could not be set back:              `sysctl -w net.ipv4.tcp_syncookies={before}`"
        ),
    }
}

impl Drop for SynDefence {
    fn drop(&mut self) {
        self.switch(false);
    }
}

impl Kernel {
    /// Sets a TCP service up for SYN defence; to be called when its sockets listen.
    pub(super) fn arm_syn(&self, service: u32, address: SocketAddr) -> Result<()> {
        self.maps.syn_state.set(&service, &self.syn.fresh()).context("writing SYN_STATE")?;
        self.syn.services.lock().unwrap_or_else(PoisonError::into_inner).insert(service, (address, false));
        // Where cookies are wanted from the first SYN on, the next tick would come too late.
        if self.syn.settings.policy == syn_policy::ALWAYS { self.tick_syn() } else { Ok(()) }
    }

    /// Counts a connection that a worker accepted on a listener; a store into a mapped page, no syscall.
    pub fn accepted(&self, service: u32) {
        self.syn.accepted(service);
    }

    /// Follows the mode that the kernel programs decide: the flag that sends TCP packets through `front_syn`, and
    /// `tcp_syncookies`. Called a few times a second, from the thread that applies policies.
    pub fn tick_syn(&self) -> Result<()> {
        if self.syn.settings.policy == syn_policy::OFF {
            return Ok(());
        }
        let on = self.syn.look(now_ns());
        self.syn.switch(on);
        let _alone = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = self.maps.gate.get(&0)?.unwrap_or_default();
        if (gate.cookies != 0) != on {
            self.maps.gate.set(&0, &GateConfig { cookies: on.into(), ..gate }).context("writing GATE")?;
        }
        Ok(())
    }

    /// Sets `tcp_syncookies` back, where it was raised. For the daemon's end.
    pub fn end_syn(&self) {
        self.syn.switch(false);
    }
}

impl Host {
    fn read(links: &[LinkFacts]) -> Self {
        let flag = |name: &str| sysctl::last_number(name).unwrap_or(0);
        let buffers = (sysctl::last_number("net/ipv4/tcp_rmem"), sysctl::last_number("net/core/rmem_max"));
        Self {
            mtu: links.iter().map(|link| link.mtu).min().unwrap_or(ETHERNET_MTU),
            timestamps: flag("net/ipv4/tcp_timestamps"),
            sack: flag("net/ipv4/tcp_sack") != 0,
            scaling: flag("net/ipv4/tcp_window_scaling") != 0,
            receive_buffer: match buffers {
                (Ok(tcp), Ok(any)) => Some(tcp.max(any)),
                _ => None,
            },
        }
    }

    /// [`SynSettings::options`]. The kernel decodes a cookie's timestamp only if it adds no secret of its own to it
    /// (`tcp_timestamps` 2), and refuses options that are turned off (`cookie_timestamp_decode`). The window scale must be
    /// the one that it computes itself when the acknowledgment comes (`tcp_select_initial_window`).
    fn options(&self) -> u32 {
        match self.receive_buffer {
            Some(bytes) if self.timestamps == 2 && self.sack && self.scaling => {
                let scale = bytes.max(1).ilog2().saturating_sub(15).min(MAX_SCALE);
                SYN_TIMESTAMPS | scale
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_host() {
        let host = Host { mtu: 1_500, timestamps: 2, sack: true, scaling: true, receive_buffer: Some(6 << 20) };
        // net/ipv4/tcp_output.c: ilog2(6 MiB) is 22, less 15.
        assert_eq!(host.options(), SYN_TIMESTAMPS | 7);
        assert_eq!(Host { receive_buffer: Some(1 << 40), ..host.clone() }.options(), SYN_TIMESTAMPS | MAX_SCALE);
        assert_eq!(Host { receive_buffer: Some(0), ..host.clone() }.options(), SYN_TIMESTAMPS);
        for without in [
            Host { timestamps: 1, ..host.clone() },
            Host { timestamps: 0, ..host.clone() },
            Host { sack: false, ..host.clone() },
            Host { scaling: false, ..host.clone() },
            Host { receive_buffer: None, ..host },
        ] {
            assert_eq!(without.options(), 0, "{without:?}");
        }
    }
}
