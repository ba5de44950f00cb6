//! Packet events: what `front` writes to the ring buffer `EVENTS`, and what userspace asks of it. Part of the ABI.
//!
//! Which packet becomes an event is decided here ([`wanted`], [`pause`]); reading the packet and the ring are the shells'.

use crate::reason::Reason;

/// First bytes of a packet that an event carries.
pub const EVENT_SNAP: usize = 256;
/// Bytes of the ring buffer, a power of two: about 3,400 events.
pub const EVENT_RING_BYTES: u32 = 1 << 20;
/// [`Event::rule`] where no rule decided.
pub const NO_RULE: u32 = u32::MAX;
/// Least of [`EventControl::every`]: each packet.
pub const MIN_SAMPLE: u32 = 1;
/// Most of [`EventControl::every`]: one packet in a million.
pub const MAX_SAMPLE: u32 = 1_000_000;

/// One sampled packet.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// Bytes of the packet, link header included.
    pub length: u32,
    /// Bytes of `snap` that are the packet's, from its link header on.
    pub captured: u32,
    /// Index of the interface that it came in on.
    pub ifindex: u32,
    /// Why it was handled as it was: the number of a [`Reason`].
    pub reason: u32,
    /// Rule slot that decided, or [`NO_RULE`].
    pub rule: u32,
    /// Policy revision that decided.
    pub revision: u32,
    /// 1 where it was dropped.
    pub dropped: u32,
    /// How many packets of its kind it stands for, about.
    pub sample: u32,
    /// The packet's first bytes; what lies beyond `captured` means nothing.
    pub snap: [u8; EVENT_SNAP],
}

/// The one entry of the `EVENT_CONTROL` array: which packets become events.
///
/// Whoever reads renews `until_ns`: when he is gone, the events end by themselves.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventControl {
    /// `CLOCK_MONOTONIC` nanoseconds; at or after it nothing is written.
    pub until_ns: u64,
    /// Reasons that become events, the bits of [`Reason::bit`]. [`Reason::Pass`] never does.
    pub reasons: u64,
    /// One packet in so many, on each CPU; 0 turns events off.
    pub every: u32,
    /// Zero.
    pub pad: u32,
}

/// Entry of the per-CPU `EVENT_COUNTS` array.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventCounts {
    /// Events written.
    pub written: u64,
    /// Events that found the ring full.
    pub lost: u64,
    /// Packets until the next event.
    pub left: u64,
}

/// Whether a packet of this reason may become an event.
#[inline(always)]
pub const fn wanted(control: &EventControl, reason: Reason) -> bool {
    control.every != 0 && control.reasons & reason.bit() != 0
}

/// Packets until the next event: `every` on average, drawn anew each time so that no regular traffic hides between.
#[inline(always)]
pub const fn pause(every: u32, random: u32) -> u64 {
    // From 1 to 2 × every − 1; the multiplication scales 32 random bits without a division.
    let span = 2 * every as u64 - 1;
    1 + ((random as u64 * span) >> 32)
}

#[cfg(feature = "user")]
mod pod {
    use super::{Event, EventControl, EventCounts};

    // SAFETY: `repr(C)`, made of integers only, and without implicit padding (tested below).
    unsafe impl aya::Pod for Event {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EventControl {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EventCounts {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_fixed() {
        assert_eq!((size_of::<Event>(), align_of::<Event>()), (8 + 8 * 4 + EVENT_SNAP, 8));
        assert_eq!((size_of::<EventControl>(), align_of::<EventControl>()), (8 + 8 + 8, 8));
        assert_eq!((size_of::<EventCounts>(), align_of::<EventCounts>()), (24, 8));
        assert!(EVENT_RING_BYTES.is_power_of_two());
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        for reason in Reason::ALL {
            let set = reason.bit();
            for other in Reason::ALL {
                assert_eq!(set & other.bit() != 0, other == reason, "{} {}", reason.name(), other.name());
            }
            assert!(!wanted(&EventControl { reasons: set, ..EventControl::default() }, reason), "0 is off");
            assert!(wanted(&EventControl { reasons: set, every: 7, ..EventControl::default() }, reason));
        }
    }

    #[test]
    fn the_mean_pause_is_the_sample() {
        for every in [MIN_SAMPLE, 2, 64, 1_000, MAX_SAMPLE] {
            assert_eq!(pause(every, 0), 1);
            assert_eq!(pause(every, u32::MAX), 2 * u64::from(every) - 1);
            let draws = 1 << 12;
            let sum: u64 = (0..draws).map(|n| pause(every, n << 20)).sum();
            // Rounded to the nearest: the draws are spread from 0 on, a hair below the middle.
            let mean = (sum + u64::from(draws / 2)) / u64::from(draws);
            assert!(mean.abs_diff(every.into()) <= u64::from(every / 100), "every {every}: mean {mean}");
        }
    }
}
