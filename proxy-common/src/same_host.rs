//! Responses of servers on the same host that are handed over without TCP: what the kernel programs and the daemon tell each
//! other, and when a message may go that way.
//!
//! A message that is handed over stands in a queue of its own before our socket, which is read before what came by TCP. So
//! within one response the way may change once, from the queue to TCP, and never back; and the queue has no window as TCP
//! has. The credit sees to both: a response may have so many bytes handed over, the rest takes the usual way, and there is
//! new credit only when the daemon has read the response to its end.

/// Bytes of one response that may be handed over: less than TCP's own window grows to, more than most responses have.
pub const CREDIT_BYTES: u64 = 256 << 10;
/// Most connections to servers on this host whose responses are handed over; further ones stay with TCP.
pub const MAX_SAME_HOST: u32 = 16_384;
/// How many ways there are.
pub const WAYS: u32 = Way::ALL.len() as u32;

/// The way of a message, and its place among the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Handed over.
    Handed = 0,
    /// Through TCP: beyond the credit, or our socket is gone.
    Tcp = 1,
}

impl Way {
    /// In the order of the counters.
    pub const ALL: [Self; 2] = [Self::Handed, Self::Tcp];

    /// Name in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handed => "handed_over",
            Self::Tcp => "tcp",
        }
    }
}

/// A connection as the program sees it that looks for ours among all that are accepted. The network namespace belongs to it:
/// each has its own loopback, with the same addresses and ports.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flow {
    /// Cookie of the network namespace (`SO_NETNS_COOKIE`).
    pub netns: u64,
    /// Our address, v4-mapped.
    pub client: [u8; 16],
    /// The server's, likewise.
    pub server: [u8; 16],
    /// Our port.
    pub client_port: u16,
    /// The server's.
    pub server_port: u16,
    /// Zero.
    pub pad: u32,
}

/// What a server's socket leads to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticket {
    /// Cookie of our socket (`SO_COOKIE`): never given twice, so that nothing meant for one connection comes to another.
    pub end: u64,
    /// Place of the connection's credit.
    pub slot: u32,
    /// Zero.
    pub pad: u32,
}

/// What a connection may still have handed over: a cache line of its own, mapped into the daemon.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credit {
    /// Whose it is: [`Ticket::end`]. Places are used again.
    pub end: u64,
    /// Bytes; 0 once a part of the response took the way through TCP.
    pub left: u64,
    /// Zero.
    pub pad: [u64; 6],
}

impl Credit {
    /// What is left when a message of the connection `end` has been handed over; `None` where it may not be.
    #[inline(always)]
    pub const fn after(&self, end: u64, bytes: u32) -> Option<u64> {
        if self.end != end {
            return None;
        }
        // Not to be used up to the last byte: 0 says that TCP has something.
        match self.left.checked_sub(bytes as u64) {
            Some(0) | None => None,
            rest => rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_never_used_up_to_the_last_byte() {
        let credit = Credit { end: 7, left: 10, pad: [0; 6] };
        assert_eq!(credit.after(7, 0), Some(10));
        assert_eq!(credit.after(7, 9), Some(1));
        assert_eq!(credit.after(7, 10), None);
        assert_eq!(credit.after(7, u32::MAX), None);
        assert_eq!(Credit { left: 0, ..credit }.after(7, 0), None);
    }

    #[test]
    fn credit_is_for_its_own_connection() {
        let credit = Credit { end: 7, left: CREDIT_BYTES, pad: [0; 6] };
        assert_eq!(credit.after(8, 1), None);
        assert_eq!(Credit::default().after(0, 1), None);
    }
}
