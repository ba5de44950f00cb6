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
use proxy_core::config::Gate;

use super::attach::{self, LinkFacts};
use super::heart::Heart;
use super::mapped::{Mapped, Shared};
use super::syn_settings::{SYNCOOKIES, decide};
use super::{Kernel, now_ns, sysctl};

/// The value of `SYNCOOKIES` with which the kernel gives out cookies when asked.
const ON_REQUEST: &str = "2";

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
    /// Why `front_syn` is missing, if it is.
    stage: Option<String>,
    settings: Mutex<SynSettings>,
    /// Services by index: where, and whether cookies were on at the last look.
    services: Mutex<BTreeMap<u32, (SocketAddr, bool)>>,
    /// What `tcp_syncookies` was before it was raised; `None` while it is not.
    raised_from: Mutex<Option<String>>,
    /// Keeps the same for the next daemon, should this one be killed.
    heart: Arc<Heart>,
}

impl SynDefence {
    /// Takes up what services get. `stage` says why `front_syn` is missing.
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
        let settings = Mutex::new(decide(gate, stage.as_deref(), links));
        Ok(Self { states, stage, settings, services: Mutex::default(), raised_from: Mutex::default(), heart })
    }

    fn settings(&self) -> SynSettings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the services other settings; what was counted stays. Returns whether anything changed.
    fn renew(&self, settings: SynSettings) -> bool {
        if std::mem::replace(&mut *self.settings.lock().unwrap_or_else(PoisonError::into_inner), settings) == settings {
            return false;
        }
        let SynSettings { policy, threshold, release, hold_ms, mtu, options } = settings;
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        for state in services.keys().filter_map(|index| self.states.entries().get(*index as usize)) {
            for (place, word) in state.settings.iter().zip([policy, threshold, release, hold_ms, mtu, options]) {
                place.store(word, Ordering::Relaxed);
            }
            match policy {
                syn_policy::OFF => state.cookies.store(0, Ordering::Relaxed),
                syn_policy::ALWAYS => state.cookies.store(1, Ordering::Relaxed),
                _ => {}
            }
        }
        true
    }

    /// The entry with which a service begins: nothing counted, and nothing believed of its listeners' marks.
    fn fresh(&self) -> SynState {
        let settings = self.settings();
        let always = settings.policy == syn_policy::ALWAYS;
        let meter = SynMeter { cookies: always.into(), ..SynMeter::default() };
        SynState { settings, meter, ..SynState::default() }
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
        let settings = self.settings();
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (address, was_on)) in services.iter_mut() {
            let Some(state) = self.states.entries().get(*index as usize) else { continue };
            let meter = SynMeter {
                window_ns: state.window_ns.load(Ordering::Relaxed),
                cookies: state.cookies.load(Ordering::Relaxed),
                ..SynMeter::default()
            };
            if meter.lapsed(now_ns, &settings) {
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
        if self.syn.settings().policy == syn_policy::ALWAYS { self.tick_syn() } else { Ok(()) }
    }

    /// Counts a connection that a worker accepted on a listener; a store into a mapped page, no syscall.
    pub fn accepted(&self, service: u32) {
        self.syn.accepted(service);
    }

    /// Follows the mode that the kernel programs decide: the flag that sends TCP packets through `front_syn`, and
    /// `tcp_syncookies`. Called a few times a second, from the thread that applies policies.
    pub fn tick_syn(&self) -> Result<()> {
        if self.syn.settings().policy == syn_policy::OFF { Ok(()) } else { self.follow_syn() }
    }

    /// Decides anew what services get, after a reload: the config may ask for something else, the interfaces may be others.
    ///
    /// # Errors
    /// The interfaces cannot be looked at, or `GATE` cannot be written.
    pub fn set_syn(&self, gate: &Gate) -> Result<()> {
        let interfaces = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let links = attach::facts(&interfaces).context("looking at the interfaces")?;
        if self.syn.renew(decide(gate, self.syn.stage.as_deref(), &links)) { self.follow_syn() } else { Ok(()) }
    }

    fn follow_syn(&self) -> Result<()> {
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
