//! Frames of HTTP/2 that cost more than they bring: how often a client may send them.

use std::time::{Duration, Instant};

use super::Kind;
use super::bucket::{Bucket, Rate};
use crate::http2::{flag, kind};

/// Bytes that were sent to the client for which one more window update is nothing unusual.
const BYTES_A_WINDOW: usize = 1 << 10;

const SECONDS: Duration = Duration::from_secs(2);
/// Frames with nothing in them.
const EMPTY: Rate = Rate::over(50, SECONDS);
/// SETTINGS: clients send one, and few ever another.
const SETTINGS: Rate = Rate::over(20, SECONDS);
/// PING: some clients send one for each round trip to find out their bandwidth.
const PING: Rate = Rate::over(500, SECONDS);
/// Window updates beyond those that [`BYTES_A_WINDOW`] and streams account for.
const WINDOW: Rate = Rate::over(1_000, SECONDS);
/// PRIORITY, `PRIORITY_UPDATE` and unknown types, beyond those that streams account for.
const PRIORITY: Rate = Rate::over(200, SECONDS);
/// Window updates and priorities that belong to a stream.
const FRAMES_A_STREAM: u32 = 8;

/// What one client may still send.
#[derive(Debug)]
pub struct Flood {
    last_stream: u32,
    resets: Rate,
    reset: Bucket,
    empty: Bucket,
    setting: Bucket,
    ping: Bucket,
    window: Bucket,
    priority: Bucket,
    sent: usize,
}

impl Flood {
    /// A connection's beginning; its client may reset `resets` streams a second.
    pub fn new(resets: u32, now: Instant) -> Self {
        let resets = Rate::over(resets, SECONDS);
        Self {
            last_stream: 0,
            resets,
            reset: Bucket::full(resets, now),
            empty: Bucket::full(EMPTY, now),
            setting: Bucket::full(SETTINGS, now),
            ping: Bucket::full(PING, now),
            window: Bucket::full(WINDOW, now),
            priority: Bucket::full(PRIORITY, now),
            sent: 0,
        }
    }

    /// So many bytes were sent to the client, which it will answer with window updates.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= BYTES_A_WINDOW {
            self.window.earn(WINDOW, u32::try_from(self.sent / BYTES_A_WINDOW).unwrap_or(u32::MAX));
            self.sent %= BYTES_A_WINDOW;
        }
    }

    /// A frame has come whose payload has so many bytes; what the client overdoes, if so. Time is only looked at where something is
    /// used up.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, length: usize, now: Instant) -> Option<Kind> {
        let (good, overdone) = match kind {
            kind::DATA => {
                (length > 0 || flags & flag::END_STREAM != 0 || self.empty.take(EMPTY, now), Kind::EmptyFrames)
            }
            kind::HEADERS => {
                if stream > self.last_stream {
                    self.last_stream = stream;
                    self.window.earn(WINDOW, FRAMES_A_STREAM);
                    self.priority.earn(PRIORITY, FRAMES_A_STREAM);
                }
                (length > 0 || self.empty.take(EMPTY, now), Kind::EmptyFrames)
            }
            kind::CONTINUATION => (length > 0 || self.empty.take(EMPTY, now), Kind::EmptyFrames),
            kind::RST_STREAM => (self.reset.take(self.resets, now), Kind::Resets),
            kind::SETTINGS | kind::GOAWAY => (self.setting.take(SETTINGS, now), Kind::Settings),
            kind::PING => (self.ping.take(PING, now), Kind::Ping),
            kind::WINDOW_UPDATE => (self.window.take(WINDOW, now), Kind::Window),
            _ => (self.priority.take(PRIORITY, now), Kind::Priority),
        };
        (!good).then_some(overdone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_are_named() {
        for (kind, flags, length, count, overdone) in [
            (kind::RST_STREAM, 0, 4, 20, Kind::Resets),
            (kind::SETTINGS, 0, 12, 40, Kind::Settings),
            (kind::GOAWAY, 0, 8, 40, Kind::Settings),
            (kind::PING, 0, 8, 1_000, Kind::Ping),
            (kind::WINDOW_UPDATE, 0, 4, 2_000, Kind::Window),
            (kind::PRIORITY, 0, 5, 400, Kind::Priority),
            (kind::PRIORITY_UPDATE, 0, 5, 400, Kind::Priority),
            (0x77, 0, 9, 400, Kind::Priority),
            (kind::DATA, 0, 0, 100, Kind::EmptyFrames),
            (kind::CONTINUATION, 0, 0, 100, Kind::EmptyFrames),
        ] {
            let now = Instant::now();
            let mut flood = Flood::new(10, now);
            for _ in 0..count {
                assert_eq!(flood.frame(kind, flags, 1, length, now), None);
            }
            assert_eq!(flood.frame(kind, flags, 1, length, now), Some(overdone), "{kind}");
            assert_eq!(flood.frame(kind, flags, 1, length, now + SECONDS), None, "{kind}");
        }
    }

    #[test]
    fn what_brings_something_is_none() {
        let now = Instant::now();
        let mut flood = Flood::new(10, now);
        for stream in 1..20_000 {
            assert_eq!(flood.frame(kind::DATA, 0, 1, 1, now), None);
            assert_eq!(flood.frame(kind::DATA, flag::END_STREAM, 1, 0, now), None);
            // What was sent, and streams, account for window updates.
            assert_eq!(flood.frame(kind::WINDOW_UPDATE, 0, 0, 4, now), None);
            flood.sent(1_500);
            assert_eq!(flood.frame(kind::HEADERS, 0, stream, 9, now), None);
            assert_eq!(flood.frame(kind::PRIORITY, 0, stream, 5, now), None);
        }
    }
}
