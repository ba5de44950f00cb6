//! The answer to a SYN: what its options say, and the bytes of the SYN-ACK with the kernel's cookie in it.
//!
//! Where the kernel lets a cookie's timestamp carry them, window scale and SACK are kept: the low six bits of the `TSval` are
//! the encoding of `net/ipv4/syncookies.c` (`cookie_init_timestamp`), which the kernel decodes from the client's echo. It
//! makes no cookie: the kernel's helpers do.

use crate::abi::proto;
use crate::syn::{SYN_TIMESTAMPS, SynSettings};
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, tcp_flag};

/// Bytes of TCP options, at most (RFC 9293 section 3.1).
pub const MAX_OPTIONS: usize = 40;
/// Bytes of a SYN-ACK's TCP header that offers the MSS alone.
pub const SHORT_HEADER: usize = 24;
/// Bytes of one that offers MSS, SACK, timestamps and window scale.
pub const LONG_HEADER: usize = 40;

/// MSS of a client that names none: RFC 9293 section 3.7.1.
const DEFAULT_MSS_V4: u16 = 536;
const DEFAULT_MSS_V6: u16 = 1_220;
/// The window of the SYN-ACK, never scaled (RFC 7323 section 2.2): 44 segments of 1,460 bytes, not more than what the
/// kernel itself begins with.
const WINDOW: u16 = 64_240;
/// Hop limit of the answer, Linux's default.
const TTL: u8 = 64;
/// Don't fragment.
const DONT_FRAGMENT: u8 = 0x40;

/// Kinds of TCP options, RFC 9293 section 3.2, RFC 2018 and RFC 7323.
pub mod kind {
    /// Nothing follows.
    pub const END: u8 = 0;
    /// One byte of padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale.
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgments are understood.
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgments.
    pub const SACK: u8 = 5;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 8;
}

/// Largest window scale (RFC 7323 section 2.3).
pub const MAX_SCALE: u8 = 14;
/// Bits of the `TSval` that carry options, `TSBITS` of the kernel.
const COOKIE_TS_MASK: u32 = 0x3f;
/// "The client scales no windows", `TS_OPT_WSCALE_MASK`.
const COOKIE_TS_NO_SCALE: u32 = 0xf;
/// "The client takes SACK", `TS_OPT_SACK`.
const COOKIE_TS_SACK: u32 = 0x10;

/// The options of a SYN as raw bytes, zero behind them. A struct of its own, so that the kernel side can hand it to a
/// function by pointer.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawOptions {
    /// Options, then zeros, which end a list of options.
    pub bytes: [u8; MAX_OPTIONS],
}

/// What a SYN's options say.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SynOptions {
    /// The client's clock; counts with `timestamps`.
    pub tsval: u32,
    /// Largest segment that the client takes; 0 when it does not say.
    pub mss: u16,
    /// Window scale, at most 14; counts with `scales`.
    pub scale: u8,
    /// 1 when the client scales windows.
    pub scales: u8,
    /// 1 when the client takes SACK.
    pub sack: u8,
    /// 1 when the client sends timestamps.
    pub timestamps: u8,
    /// Zero.
    pub pad: [u8; 2],
}

/// One SYN and its answer, in the making. The kernel side keeps it in a map: the stack is too small for it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// The SYN's IP header; the first twenty bytes for IPv4.
    pub ip: [u8; IPV6_HEADER],
    /// The SYN's TCP header without options.
    pub tcp: [u8; TCP_HEADER],
    /// What its options say.
    pub options: SynOptions,
    /// Its options.
    pub raw: RawOptions,
    /// The TCP header that the cookie is made over.
    pub cookie_header: [u8; SHORT_HEADER],
    /// The answer's IP header; the first twenty bytes for IPv4.
    pub reply_ip: [u8; IPV6_HEADER],
    /// The answer's TCP header.
    pub reply_tcp: [u8; LONG_HEADER],
    /// What the service offers.
    pub settings: SynSettings,
}

impl Exchange {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        ip: [0; IPV6_HEADER],
        tcp: [0; TCP_HEADER],
        options: SynOptions { tsval: 0, mss: 0, scale: 0, scales: 0, sack: 0, timestamps: 0, pad: [0; 2] },
        raw: RawOptions { bytes: [0; MAX_OPTIONS] },
        cookie_header: [0; SHORT_HEADER],
        reply_ip: [0; IPV6_HEADER],
        reply_tcp: [0; LONG_HEADER],
        settings: SynSettings { policy: 0, threshold: 0, release: 0, hold_ms: 0, mtu: 0, options: 0 },
    };

    /// Reads the options and writes the header for the cookie.
    #[inline(always)]
    pub fn prepare(&mut self, v6: bool) {
        self.options = parse_options(&self.raw);
        self.cookie_header = cookie_header(self.tcp, &self.options, v6);
    }

    /// Writes the answer's headers; returns how many bytes of `reply_tcp` count: [`SHORT_HEADER`] or [`LONG_HEADER`].
    ///
    /// `now_ms` is the kernel's timestamp clock, milliseconds of `CLOCK_MONOTONIC`. In place, field by field: on the kernel
    /// side all of this shares half a kilobyte of stack.
    #[inline(always)]
    pub fn answer(&mut self, v6: bool, cookie: u32, now_ms: u32) -> usize {
        let length = self.write_tcp(v6, cookie, now_ms);
        let addresses = if v6 { self.write_ipv6(length) } else { self.write_ipv4(length) };
        let sum = sum(&self.reply_tcp, 0) + addresses + u32::from(proto::TCP) + length as u32;
        [self.reply_tcp[16], self.reply_tcp[17]] = fold(sum).to_be_bytes();
        length
    }

    /// The TCP header without its checksum; zero behind what counts.
    #[inline(always)]
    fn write_tcp(&mut self, v6: bool, cookie: u32, now_ms: u32) -> usize {
        let options = self.options;
        let long = options.timestamps != 0 && self.settings.options & SYN_TIMESTAMPS != 0;
        let length = if long { LONG_HEADER } else { SHORT_HEADER };
        let overhead = (TCP_HEADER + if v6 { IPV6_HEADER } else { IPV4_HEADER }) as u32;
        let mss = self.settings.mtu.saturating_sub(overhead);
        let mss = if mss > 0xffff { 0xffff } else { mss as u16 };
        let [sport0, sport1, dport0, dport1, q0, q1, q2, q3, ..] = self.tcp;
        let acknowledged = u32::from_be_bytes([q0, q1, q2, q3]).wrapping_add(1);
        let reply = &mut self.reply_tcp;
        [reply[0], reply[1], reply[2], reply[3]] = [dport0, dport1, sport0, sport1];
        [reply[4], reply[5], reply[6], reply[7]] = cookie.to_be_bytes();
        [reply[8], reply[9], reply[10], reply[11]] = acknowledged.to_be_bytes();
        [reply[12], reply[13]] = [(length as u8 / 4) << 4, tcp_flag::SYN | tcp_flag::ACK];
        [reply[14], reply[15]] = WINDOW.to_be_bytes();
        [reply[16], reply[17], reply[18], reply[19]] = [0; 4];
        [reply[20], reply[21]] = [kind::MSS, 4];
        [reply[22], reply[23]] = mss.to_be_bytes();
        if !long {
            let mut at = SHORT_HEADER;
            while at < LONG_HEADER {
                reply[at] = 0;
                at += 1;
            }
            return length;
        }
        [reply[24], reply[25]] = if options.sack != 0 { [kind::SACK_PERMITTED, 2] } else { [kind::NOP; 2] };
        [reply[26], reply[27]] = [kind::TIMESTAMPS, 10];
        [reply[28], reply[29], reply[30], reply[31]] = cookie_tsval(&options, now_ms).to_be_bytes();
        [reply[32], reply[33], reply[34], reply[35]] = options.tsval.to_be_bytes();
        let own = self.settings.options as u8;
        [reply[36], reply[37], reply[38], reply[39]] =
            if options.scales != 0 { [kind::NOP, kind::WINDOW_SCALE, 3, own] } else { [kind::NOP; 4] };
        length
    }

    /// The IPv4 header with its checksum; returns the sum over its addresses.
    #[inline(always)]
    fn write_ipv4(&mut self, tcp_length: usize) -> u32 {
        let [_, _, _, _, _, _, _, _, _, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3, ..] = self.ip;
        let reply = &mut self.reply_ip;
        [reply[0], reply[1]] = [0x45, 0];
        [reply[2], reply[3]] = ((IPV4_HEADER + tcp_length) as u16).to_be_bytes();
        [reply[4], reply[5], reply[6], reply[7]] = [0, 0, DONT_FRAGMENT, 0];
        [reply[8], reply[9], reply[10], reply[11]] = [TTL, proto::TCP, 0, 0];
        [reply[12], reply[13], reply[14], reply[15]] = [d0, d1, d2, d3];
        [reply[16], reply[17], reply[18], reply[19]] = [s0, s1, s2, s3];
        let mut at = IPV4_HEADER;
        while at < IPV6_HEADER {
            reply[at] = 0;
            at += 1;
        }
        [reply[10], reply[11]] = fold(sum(reply, 0)).to_be_bytes();
        let word = |high: u8, low: u8| u32::from(u16::from_be_bytes([high, low]));
        word(s0, s1) + word(s2, s3) + word(d0, d1) + word(d2, d3)
    }

    /// The IPv6 header; returns the sum over its addresses.
    #[inline(always)]
    fn write_ipv6(&mut self, tcp_length: usize) -> u32 {
        let reply = &mut self.reply_ip;
        [reply[0], reply[1], reply[2], reply[3]] = [0x60, 0, 0, 0];
        [reply[4], reply[5]] = (tcp_length as u16).to_be_bytes();
        [reply[6], reply[7]] = [proto::TCP, TTL];
        let mut at = 0;
        while at < 16 {
            reply[8 + at] = self.ip[24 + at];
            reply[24 + at] = self.ip[8 + at];
            at += 1;
        }
        sum(reply, 8)
    }

    /// The destination of an IPv4 SYN.
    #[inline(always)]
    pub const fn destination_v4(&self) -> [u8; 4] {
        [self.ip[16], self.ip[17], self.ip[18], self.ip[19]]
    }
}

/// Reads the options. What is cut short or has an impossible length ends the list, as in the kernel's `tcp_parse_options`.
///
/// Byte by byte, with one bit a byte for "an option starts here": every read is at a known offset, and the verifier is
/// spared the offsets that lengths add up to (with them it gave up after a million instructions).
#[inline(always)]
pub fn parse_options(raw: &RawOptions) -> SynOptions {
    let byte = |at: usize| raw.bytes.get(at).copied().unwrap_or(0);
    let mut options = SynOptions::default();
    let mut starts = 1_u64;
    let mut at = 0;
    while at < MAX_OPTIONS {
        let here = at;
        at += 1;
        if (starts >> here) & 1 == 0 {
            continue;
        }
        let kind = byte(here);
        if kind == kind::END {
            break;
        }
        if kind == kind::NOP {
            starts |= 1 << at;
            continue;
        }
        let length = byte(at);
        if length < 2 || here + usize::from(length) > MAX_OPTIONS {
            break;
        }
        starts |= 1 << (here + usize::from(length));
        if kind == kind::MSS && length == 4 {
            options.mss = u16::from_be_bytes([byte(here + 2), byte(here + 3)]);
        } else if kind == kind::WINDOW_SCALE && length == 3 {
            options.scales = 1;
            options.scale = if byte(here + 2) > MAX_SCALE { MAX_SCALE } else { byte(here + 2) };
        } else if kind == kind::SACK_PERMITTED && length == 2 {
            options.sack = 1;
        } else if kind == kind::TIMESTAMPS && length == 10 {
            options.timestamps = 1;
            options.tsval = u32::from_be_bytes([byte(here + 2), byte(here + 3), byte(here + 4), byte(here + 5)]);
        }
    }
    options
}

/// The header that the cookie helpers get: the SYN's first twenty bytes and its MSS as the only option.
#[inline(always)]
pub const fn cookie_header(syn: [u8; TCP_HEADER], options: &SynOptions, v6: bool) -> [u8; SHORT_HEADER] {
    let named = if options.mss != 0 {
        options.mss
    } else if v6 {
        DEFAULT_MSS_V6
    } else {
        DEFAULT_MSS_V4
    };
    let [high, low] = named.to_be_bytes();
    let [a, b, c, d, e, f, g, h, i, j, k, l, _, flags, n, o, p, q, r, s] = syn;
    let offset = (SHORT_HEADER as u8 / 4) << 4;
    [a, b, c, d, e, f, g, h, i, j, k, l, offset, flags, n, o, p, q, r, s, kind::MSS, 4, high, low]
}

/// The clock with the client's options in its low bits, never ahead of the clock (`cookie_init_timestamp`).
#[inline(always)]
const fn cookie_tsval(options: &SynOptions, now_ms: u32) -> u32 {
    let mut bits = if options.scales != 0 { options.scale as u32 } else { COOKIE_TS_NO_SCALE };
    if options.sack != 0 {
        bits |= COOKIE_TS_SACK;
    }
    let tsval = (now_ms & !COOKIE_TS_MASK) | bits;
    if tsval > now_ms { tsval.wrapping_sub(COOKIE_TS_MASK + 1) } else { tsval }
}

/// Sum of the big-endian 16-bit words from an offset on (RFC 1071), not folded: forty bytes and their carries fit well.
#[inline(always)]
const fn sum(bytes: &[u8; 40], from: usize) -> u32 {
    let mut total = 0;
    let mut at = from;
    while at + 1 < bytes.len() {
        total += ((bytes[at] as u32) << 8) | bytes[at + 1] as u32;
        at += 2;
    }
    total
}

#[inline(always)]
const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    !(twice as u16)
}

#[cfg(test)]
#[path = "syn_ack_tests.rs"]
mod tests;
