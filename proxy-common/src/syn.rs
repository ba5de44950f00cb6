//! When XDP answers a service's SYNs with cookies: the measure, the two thresholds, and the state that stands in
//! `SYN_STATE`. Decides on numbers alone; time is an argument. What an answer looks like is in [`crate::syn_ack`].
//!
//! The measure is *unanswered SYNs*: SYNs that came for a service, less connections that its workers accepted. In normal
//! operation `steer` counts the SYNs, which it is run for anyway, so that no packet pays for it in `front`; with cookies on
//! `front_syn` counts them. Accepted connections are counted by the workers, by a store into the mapped array.

/// What may be done for a service, as [`SynSettings::policy`].
pub mod syn_policy {
    /// Never answer with cookies.
    pub const OFF: u32 = 0;
    /// Answer with cookies while too many SYNs stay unanswered.
    pub const AUTO: u32 = 1;
    /// Always answer with cookies.
    pub const ALWAYS: u32 = 2;
}

/// SYNs are counted over windows of this length.
pub const WINDOW_NS: u64 = 1_000_000_000;
/// A listener's mark (the kernel calls it overflow; it says that cookies are out) is renewed when it is older than this.
pub const MARK_AGAIN_NS: u64 = 30 * 1_000_000_000;
/// Beyond this age a mark is not relied on: the kernel takes cookies for two minutes after one
/// (`TCP_SYNCOOKIE_VALID`, `include/net/tcp.h`).
pub const MARK_VALID_NS: u64 = 110 * 1_000_000_000;
/// Upper bound of both thresholds, SYNs a second.
pub const MAX_SYN_RATE: u32 = 10_000_000;
/// Upper bound of the time that it must have been calm.
pub const MAX_HOLD_MS: u32 = 3_600_000;
/// A window counts as no longer than this when a rate is told from it.
const LONGEST_WINDOW_NS: u64 = 60 * WINDOW_NS;
/// [`SynSettings::options`]: timestamps may be offered, and with them window scale and SACK. The low byte is the
/// window scale that the kernel itself would offer.
pub const SYN_TIMESTAMPS: u32 = 0x100;

/// What the daemon sets for a service.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynSettings {
    /// One of [`syn_policy`].
    pub policy: u32,
    /// Cookies begin when more SYNs than this stay unanswered within a window (one second).
    pub threshold: u32,
    /// Calm is a window in which at most this many SYNs a second stayed unanswered.
    pub release: u32,
    /// Milliseconds of calm after which cookies end.
    pub hold_ms: u32,
    /// Bytes of the largest IP packet that the interfaces take; the offered MSS follows from it.
    pub mtu: u32,
    /// [`SYN_TIMESTAMPS`] and the window scale, or 0 to offer the MSS alone.
    pub options: u32,
}

/// What the kernel programs count and decide. CPUs that write at the same moment may lose counts, which errs towards
/// normal operation and is made up for by the next SYNs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynMeter {
    /// Start of the window, `CLOCK_MONOTONIC` nanoseconds.
    pub window_ns: u64,
    /// Since when it has been calm; 0 while it is not.
    pub calm_ns: u64,
    /// When the listener was last marked; 0 for never.
    pub marked_ns: u64,
    /// SYNs ever, wrapping.
    pub syns: u32,
    /// `syns` at the start of the window.
    pub window_syns: u32,
    /// [`SynState::accepted`] at the start of the window.
    pub window_accepted: u32,
    /// 1 while SYNs are answered with cookies.
    pub cookies: u32,
}

/// Entry of the `SYN_STATE` array, one a service.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynState {
    /// Written by the daemon.
    pub settings: SynSettings,
    /// Connections that workers accepted, ever, wrapping. Written by the workers.
    pub accepted: u32,
    /// Zero.
    pub pad: u32,
    /// Written by the kernel programs; the daemon ends what nobody sends packets to any more.
    pub meter: SynMeter,
}

impl SynMeter {
    /// A SYN came: it is counted, and the mode decided.
    #[inline(always)]
    #[must_use]
    pub const fn on_syn(self, now_ns: u64, accepted: u32, settings: &SynSettings) -> Self {
        let mut meter = self.on_time(now_ns, accepted, settings);
        meter.syns = meter.syns.wrapping_add(1);
        if settings.policy == syn_policy::AUTO && meter.cookies == 0 && meter.unanswered(accepted) > settings.threshold
        {
            meter.cookies = 1;
            meter.calm_ns = 0;
        }
        meter
    }

    /// Time went on: a window that is over is judged, and the next begins.
    #[inline(always)]
    #[must_use]
    pub const fn on_time(mut self, now_ns: u64, accepted: u32, settings: &SynSettings) -> Self {
        if settings.policy == syn_policy::OFF {
            self.cookies = 0;
        } else if settings.policy == syn_policy::ALWAYS {
            self.cookies = 1;
        }
        let elapsed = now_ns.saturating_sub(self.window_ns);
        if elapsed < WINDOW_NS {
            return self;
        }
        let elapsed = if elapsed > LONGEST_WINDOW_NS { LONGEST_WINDOW_NS } else { elapsed };
        // unanswered / elapsed ≤ release / second, without a division.
        if self.unanswered(accepted) as u64 * WINDOW_NS > settings.release as u64 * elapsed {
            self.calm_ns = 0;
        } else if self.calm_ns == 0 {
            self.calm_ns = self.window_ns;
        }
        if settings.policy == syn_policy::AUTO
            && self.calm_ns != 0
            && now_ns.saturating_sub(self.calm_ns) >= hold_ns(settings)
        {
            self.cookies = 0;
        }
        self.window_ns = now_ns;
        self.window_syns = self.syns;
        self.window_accepted = accepted;
        self
    }

    /// Whether cookies are on although no packet has come for as long as it takes to end them.
    pub const fn lapsed(&self, now_ns: u64, settings: &SynSettings) -> bool {
        settings.policy != syn_policy::ALWAYS
            && self.cookies != 0
            && now_ns.saturating_sub(self.window_ns) >= hold_ns(settings) + WINDOW_NS
    }

    /// SYNs of this window that no accepted connection stands against. A worker accepts a little after the SYN, so more
    /// may be accepted than came: that is none.
    #[inline(always)]
    pub const fn unanswered(&self, accepted: u32) -> u32 {
        let came = self.syns.wrapping_sub(self.window_syns);
        let taken = accepted.wrapping_sub(self.window_accepted);
        came.saturating_sub(taken)
    }

    /// Age of the listener's mark.
    #[inline(always)]
    pub const fn mark_age_ns(&self, now_ns: u64) -> u64 {
        if self.marked_ns == 0 { u64::MAX } else { now_ns.saturating_sub(self.marked_ns) }
    }
}

#[inline(always)]
const fn hold_ns(settings: &SynSettings) -> u64 {
    settings.hold_ms as u64 * 1_000_000
}

#[cfg(test)]
#[path = "syn_tests.rs"]
mod tests;
