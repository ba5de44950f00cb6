//! QUIC frames that cost more than they bring (RFC 9000 section 19, and CVE-2023-44487 for resets): a connection tells how many
//! of each have come, and this whether that was too often.

use std::time::{Duration, Instant};

use super::Kind;

/// Resets and control frames may come at once as often as in this time.
const AT_ONCE: Duration = Duration::from_secs(2);
/// PING: clients send one to keep a connection, and to find out sizes of packets.
const PINGS: u32 = 500;
/// Windows, blocks, connection ids, paths, beyond those that [`BYTES_A_FRAME`] account for.
const CONTROL: u32 = 1_000;
/// Bytes that went to and fro for which one more control frame is nothing unusual.
const BYTES_A_FRAME: u64 = 1 << 10;

/// What has come over a connection since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Streams that the client reset, or wanted nothing more of.
    pub resets: u64,
    /// PING.
    pub pings: u64,
    /// Other frames that carry nothing of a request.
    pub control: u64,
    /// Bytes in both directions.
    pub bytes: u64,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Frames {
    before: Seen,
    at: Instant,
    /// How many of each may come now.
    resets: u64,
    pings: u64,
    control: u64,
}

impl Frames {
    /// A connection that begins, whose client may reset so many streams a second.
    pub fn new(resets: u32, now: Instant) -> Self {
        let [resets, pings, control] = [resets, PINGS, CONTROL].map(at_once);
        Self { before: Seen::default(), at: now, resets, pings, control }
    }

    /// What the client overdoes, by what has come up to `now`.
    pub fn judge(&mut self, seen: Seen, resets: u32, now: Instant) -> Option<Kind> {
        let since = now.saturating_duration_since(self.at);
        let bytes = seen.bytes.saturating_sub(self.before.bytes);
        let new = |of: fn(&Seen) -> u64| of(&seen).saturating_sub(of(&self.before));
        let found = [
            (Kind::Resets, take(&mut self.resets, new(|seen| seen.resets), resets, 0, since)),
            (Kind::Ping, take(&mut self.pings, new(|seen| seen.pings), PINGS, 0, since)),
            (Kind::Control, take(&mut self.control, new(|seen| seen.control), CONTROL, bytes / BYTES_A_FRAME, since)),
        ];
        (self.before, self.at) = (seen, now);
        found.into_iter().find(|(_, within)| !within).map(|(kind, _)| kind)
    }
}

fn at_once(per_second: u32) -> u64 {
    u64::from(per_second) * AT_ONCE.as_secs()
}

/// Takes `used` of what is left, of what the time since has brought, and of what was `earned`; whether there were as many.
fn take(left: &mut u64, used: u64, per_second: u32, earned: u64, since: Duration) -> bool {
    let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let brought = u64::from(per_second).saturating_mul(since) / 1_000;
    let there = left.saturating_add(brought).min(at_once(per_second)).saturating_add(earned);
    *left = there.saturating_sub(used).min(at_once(per_second));
    used <= there
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn floods_are_named() {
        let now = Instant::now();
        for (seen, kind) in [
            (Seen { resets: 201, ..Seen::default() }, Kind::Resets),
            (Seen { pings: 1_001, ..Seen::default() }, Kind::Ping),
            (Seen { control: 2_001, ..Seen::default() }, Kind::Control),
        ] {
            assert_eq!(Frames::new(100, now).judge(seen, 100, now), Some(kind));
        }
        let most = Seen { resets: 200, pings: 1_000, control: 2_000, bytes: 0 };
        assert_eq!(Frames::new(100, now).judge(most, 100, now), None);
    }

    #[test]
    fn time_brings_more_and_no_more_than_at_once() {
        let begun = Instant::now();
        let mut frames = Frames::new(100, begun);
        let resets = |resets| Seen { resets, ..Seen::default() };
        assert_eq!(frames.judge(resets(200), 100, begun), None);
        assert_eq!(frames.judge(resets(300), 100, begun + SECOND), None);
        assert_eq!(frames.judge(resets(400), 100, begun + 2 * SECOND), None);
        assert_eq!(frames.judge(resets(601), 100, begun + 100 * SECOND), Some(Kind::Resets));
    }

    #[test]
    fn bytes_account_for_control_frames() {
        let now = Instant::now();
        let mut frames = Frames::new(100, now);
        let seen = |control, bytes| Seen { control, bytes, ..Seen::default() };
        assert_eq!(frames.judge(seen(50_000, 50_000 << 10), 100, now), None);
        assert_eq!(frames.judge(seen(52_000, 50_000 << 10), 100, now), None);
        assert_eq!(frames.judge(seen(52_001, 50_000 << 10), 100, now), Some(Kind::Control));
    }
}
