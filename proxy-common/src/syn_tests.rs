//! Mode transitions as rows, and what must hold for any sequence of SYNs and accepted connections.

extern crate std;
use std::vec::Vec;

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
/// Any start; not a multiple of the window.
const START: u64 = 7_123_456_789;

const AUTO: SynSettings =
    SynSettings { policy: syn_policy::AUTO, threshold: 100, release: 20, hold_ms: 5_000, mtu: 1_500, options: 0 };

/// One service under a load that the test drives.
struct Load {
    meter: SynMeter,
    settings: SynSettings,
    now: u64,
    accepted: u32,
}

impl Load {
    fn new(settings: SynSettings) -> Self {
        Self { meter: SynMeter::default(), settings, now: START, accepted: 0 }
    }

    /// `rate` SYNs a second for `ms`, of which `answered` percent are accepted at once.
    fn run(&mut self, ms: u64, rate: u64, answered: u64) -> bool {
        let count = rate * ms / 1_000;
        for n in 0..count {
            self.now += ms * MS / count;
            self.meter = self.meter.on_syn(self.now, self.accepted, &self.settings);
            if n * answered % 100 < answered {
                self.accepted = self.accepted.wrapping_add(1);
            }
        }
        if count == 0 {
            self.now += ms * MS;
        }
        self.meter.cookies == 1
    }
}

/// Milliseconds, SYNs a second, percent answered, whether cookies are on at the end.
type Phase = (u64, u64, u64, bool);

#[test]
fn transitions() {
    let rows: &[(&str, &[Phase])] = &[
        ("answered load of any height stays normal", &[(3_000, 5_000, 100, false)]),
        ("unanswered below the threshold stays normal", &[(10_000, 90, 0, false)]),
        ("unanswered above the threshold turns on within the window", &[(500, 1_000, 0, true)]),
        ("a little above it, within two windows", &[(2_500, 130, 0, true)]),
        ("a third unanswered of a high rate", &[(2_000, 600, 60, true)]),
        ("between the two thresholds it stays as it is, off", &[(20_000, 60, 0, false)]),
        ("between the two thresholds it stays as it is, on", &[(500, 1_000, 0, true), (20_000, 60, 0, true)]),
        (
            "below the release it ends after the hold, not before",
            &[(500, 1_000, 0, true), (5_000, 10, 0, true), (3_000, 10, 0, false)],
        ),
        ("an answered high rate is calm", &[(500, 1_000, 0, true), (9_000, 1_000, 100, false)]),
        (
            "a burst within the hold begins it anew",
            &[
                (500, 1_000, 0, true),
                (4_000, 10, 0, true),
                (1_000, 500, 0, true),
                (4_000, 10, 0, true),
                (5_000, 10, 0, false),
            ],
        ),
        (
            "silence, then one second's worth of normal load",
            &[(500, 1_000, 0, true), (60_000, 0, 0, true), (1_000, 10, 100, false)],
        ),
        ("and it turns on again", &[(500, 1_000, 0, true), (9_000, 1_000, 100, false), (500, 1_000, 0, true)]),
    ];
    for (what, phases) in rows {
        let mut load = Load::new(AUTO);
        for (index, (ms, rate, answered, on)) in phases.iter().enumerate() {
            assert_eq!(load.run(*ms, *rate, *answered), *on, "{what}, phase {index}: {:?}", load.meter);
        }
    }
}

#[test]
fn policies_override_the_measure() {
    let mut off = Load::new(SynSettings { policy: syn_policy::OFF, ..AUTO });
    assert!(!off.run(3_000, 10_000, 0));
    let mut always = Load::new(SynSettings { policy: syn_policy::ALWAYS, ..AUTO });
    assert!(always.run(1_000, 1, 100) && always.run(20_000, 1, 100));
    assert!(!always.meter.lapsed(u64::MAX, &always.settings));
    // From always to off with a restart of the daemon: the next packet ends it.
    always.settings.policy = syn_policy::OFF;
    assert!(!always.run(1, 1_000, 0));
}

#[test]
fn what_nobody_sends_to_lapses() {
    let mut load = Load::new(AUTO);
    assert!(load.run(500, 1_000, 0));
    let window = load.meter.window_ns;
    assert!(!load.meter.lapsed(window + 5_999 * MS, &AUTO));
    assert!(load.meter.lapsed(window + 6_000 * MS, &AUTO));
}

#[test]
fn marks_age() {
    let meter = SynMeter::default();
    assert_eq!(meter.mark_age_ns(5), u64::MAX);
    assert_eq!(SynMeter { marked_ns: 3, ..meter }.mark_age_ns(5), 2);
}

#[test]
fn counters_wrap() {
    let meter = SynMeter { syns: 3, window_syns: u32::MAX - 1, window_accepted: u32::MAX, ..SynMeter::default() };
    assert_eq!(meter.unanswered(u32::MAX), 5);
    assert_eq!(meter.unanswered(1), 3);
    assert_eq!(meter.unanswered(90), 0);
}

proptest! {
    /// Whatever comes: cookies begin only in a window with more unanswered than the threshold, and end only after a hold
    /// in which every window was calm.
    #[test]
    fn hysteresis(
        steps in prop::collection::vec((0_u64..3_000, 0_u32..200, prop::bool::weighted(0.8)), 1..400),
        threshold in 10_u32..150,
        release in 0_u32..10,
    ) {
        let settings = SynSettings { threshold, release, ..AUTO };
        let mut meter = SynMeter::default();
        let (mut now, mut accepted) = (START, 0_u32);
        // Ends of windows that were not calm.
        let mut unrest: Vec<u64> = Vec::new();
        for (ms, syns, answered) in steps {
            now += ms * MS;
            for _ in 0..=syns {
                let before = meter;
                let over = now - before.window_ns >= WINDOW_NS;
                let calm = u64::from(before.unanswered(accepted)) * WINDOW_NS
                    <= u64::from(release) * (now - before.window_ns);
                meter = meter.on_syn(now, accepted, &settings);
                if over && !calm {
                    unrest.push(now);
                }
                match (before.cookies, meter.cookies) {
                    (0, 1) => prop_assert!(meter.unanswered(accepted) > threshold),
                    (1, 0) => {
                        prop_assert!(over && calm);
                        prop_assert!(unrest.last().is_none_or(|at| now - at >= 5_000 * MS));
                    }
                    _ => {}
                }
                prop_assert!(meter.window_ns <= now && now - meter.window_ns < WINDOW_NS);
                now += MS;
                if answered {
                    accepted = accepted.wrapping_add(1);
                }
            }
        }
    }

    /// No state and no clock makes it overflow.
    #[test]
    fn any_state(now in any::<u64>(), window_ns in any::<u64>(), calm_ns in any::<u64>(), syns in any::<u32>(),
                 window_syns in any::<u32>(), accepted in any::<u32>(), release in 0..=MAX_SYN_RATE) {
        let settings = SynSettings { release, threshold: MAX_SYN_RATE, hold_ms: MAX_HOLD_MS, ..AUTO };
        let meter = SynMeter { window_ns, calm_ns, syns, window_syns, cookies: 1, ..SynMeter::default() };
        let after = meter.on_syn(now, accepted, &settings);
        prop_assert_eq!(after.syns, syns.wrapping_add(1));
        let _ = meter.lapsed(now, &settings);
    }
}
