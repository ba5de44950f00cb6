//! The kernel's side of packet events: what becomes one, the ring that they come through, and how many were lost.
//!
//! One reader at a time: the ring has one position. Who reads, and for whom, is `crate::events`.

use std::fmt;
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proxy_common::event::{Event, EventControl, EventCounts};

use super::Kernel;
use super::load::map_data;

/// The reading end of the ring buffer `EVENTS`.
pub struct EventRing(RingBuf<MapData>);

impl fmt::Debug for EventRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventRing")
    }
}

impl EventRing {
    /// The next event, if one is there. What is not an event of this build is passed over.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let item = self.0.next()?;
            if item.len() == size_of::<Event>() {
                // SAFETY: as many bytes as an `Event` has, which is made of integers only; the read takes any alignment.
                return Some(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
            }
        }
    }

    /// Waits until there is an event, at most `time`; returns early on a signal.
    pub fn wait(&self, time: Duration) -> Result<()> {
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("waiting for the ring EVENTS"),
        }
    }
}

impl Kernel {
    /// Opens the ring. Events of an earlier reader may still be in it.
    pub fn event_ring(&self) -> Result<EventRing> {
        let map = self.ebpf.map("EVENTS").and_then(map_data).ok_or_else(|| anyhow!("the object lacks `EVENTS`"))?;
        let data = MapData::from_fd(map.fd().as_fd().try_clone_to_owned()?)?;
        Ok(EventRing(RingBuf::try_from(aya::maps::Map::RingBuf(data)).context("mapping the ring EVENTS")?))
    }

    /// Says which packets become events.
    pub fn set_events(&self, control: &EventControl) -> Result<()> {
        self.maps.event_control.set(&0, control).context("writing EVENT_CONTROL")
    }

    /// Events written and lost since the programs were loaded, summed over CPUs.
    pub fn event_counts(&self) -> Result<EventCounts> {
        let each = self.maps.event_counts.get_per_cpu(&0, self.cpus).context("reading EVENT_COUNTS")?;
        Ok(each.into_iter().fold(EventCounts::default(), |a, b| EventCounts {
            written: a.written.wrapping_add(b.written),
            lost: a.lost.wrapping_add(b.lost),
            left: 0,
        }))
    }
}
