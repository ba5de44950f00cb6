//! What a SYN tells of the system that sent it, as p0f 3 reads it: TTL, window, MSS, window scale, the layout of the TCP
//! options and oddities of the headers. [`read`] observes, [`SynPattern::holds`] compares; neither decides anything.
//!
//! The options are walked as in [`crate::syn_ack::parse_options`]: byte by byte, each read at a known offset. What adds up
//! along the way is never compared there, or the verifier would follow each sum apart.

use crate::abi::{frag, proto};
use crate::parse::{Frame, Packet};
use crate::syn_ack::{MAX_OPTIONS, RawOptions, kind};
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, tcp_flag};

/// Most options of a layout that can be compared; a SYN with more has no layout that a pattern names.
pub const MAX_LAYOUT: usize = 16;
/// Largest window scale (RFC 7323 section 2.3).
const MAX_SCALE: u8 = 14;
/// Bytes that timestamps take of each segment; some systems count them off the MSS before they choose a window.
const TIMESTAMPS_LENGTH: u64 = 12;

/// Oddities of a SYN, one bit each, in the order of [`quirk::NAMES`].
pub mod quirk {
    /// Don't fragment (IPv4).
    pub const DF: u32 = 1;
    /// Don't fragment, and an identification all the same (IPv4).
    pub const ID_SET: u32 = 1 << 1;
    /// May be fragmented, without an identification (IPv4).
    pub const ID_ZERO: u32 = 1 << 2;
    /// Offers explicit congestion notification.
    pub const ECN: u32 = 1 << 3;
    /// The reserved flag is set (IPv4).
    pub const RESERVED: u32 = 1 << 4;
    /// A flow label (IPv6).
    pub const FLOW: u32 = 1 << 5;
    /// Sequence number 0.
    pub const SEQ_ZERO: u32 = 1 << 6;
    /// An acknowledgment number without its flag.
    pub const ACK_SET: u32 = 1 << 7;
    /// An urgent pointer without its flag.
    pub const URGENT_SET: u32 = 1 << 8;
    /// The urgent flag.
    pub const URGENT: u32 = 1 << 9;
    /// The push flag.
    pub const PUSH: u32 = 1 << 10;
    /// Its own timestamp is 0.
    pub const TS_ZERO: u32 = 1 << 11;
    /// A timestamp of the peer, who has sent none yet.
    pub const PEER_TS: u32 = 1 << 12;
    /// Something behind the end of the options.
    pub const TRAILING: u32 = 1 << 13;
    /// A window scale beyond 14.
    pub const LARGE_SCALE: u32 = 1 << 14;
    /// Options of a wrong length.
    pub const BAD: u32 = 1 << 15;

    /// As p0f writes them, in the order of the bits.
    pub const NAMES: [&str; 16] = [
        "df", "id+", "id-", "ecn", "0+", "flow", "seq-", "ack+", "uptr+", "urgf+", "pushf+", "ts1-", "ts2+", "opt+",
        "exws", "bad",
    ];
    /// Those that IPv4 alone has.
    pub const V4_ONLY: u32 = DF | ID_SET | ID_ZERO | RESERVED;
    /// Those that IPv6 alone has.
    pub const V6_ONLY: u32 = FLOW;
}

/// [`Syn::state`]: nobody looked yet.
pub const UNREAD: u8 = 0;
/// [`Syn::state`]: the packet is no SYN, or its header is not all there.
pub const NO_SYN: u8 = 1;
/// [`Syn::state`]: the rest holds.
pub const READ: u8 = 2;

/// What is seen of one SYN. Without padding: the kernel side hands it to functions by pointer.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Syn {
    /// Kinds of the options, a byte each, the last one lowest: the upper eight bytes, then the lower ones.
    pub layout: [u64; 2],
    /// Bits of [`quirk`].
    pub quirks: u32,
    /// Largest segment that it takes; 0 where it does not say.
    pub mss: u16,
    /// Window as sent.
    pub window: u16,
    /// How many options there are.
    pub options: u8,
    /// Bytes behind the end of the options.
    pub padding: u8,
    /// Window scale; 0 where it does not say.
    pub scale: u8,
    /// 4 or 6.
    pub version: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of IPv4 options or IPv6 extension headers, at most 255.
    pub ip_options: u8,
    /// 1 where it carries data.
    pub data: u8,
    /// [`UNREAD`], [`NO_SYN`] or [`READ`].
    pub state: u8,
}

const _: () = assert!(size_of::<Syn>() == 2 * 8 + 4 + 2 * 2 + 8, "Syn has padding");

/// Observes the SYN in `frame`, in one piece, as the host does.
pub fn read<F: Frame + ?Sized>(frame: &F, packet: &Packet, syn: &mut Syn) {
    let mut raw = RawOptions { bytes: [0; MAX_OPTIONS] };
    headers(frame, packet, syn, &mut raw);
    scan_options(&raw, syn);
}

/// The first half: the fixed parts of the headers, and the options as they are, for [`scan_options`].
#[inline(always)]
pub fn headers<F: Frame + ?Sized>(frame: &F, packet: &Packet, syn: &mut Syn, raw: &mut RawOptions) {
    raw.bytes = [0; MAX_OPTIONS];
    *syn = Syn { state: NO_SYN, ..Syn::default() };
    if read_headers(frame, packet, syn, raw).is_some() {
        syn.state = READ;
    }
}

#[inline(always)]
fn read_headers<F: Frame + ?Sized>(frame: &F, packet: &Packet, syn: &mut Syn, raw: &mut RawOptions) -> Option<()> {
    const DECIDING: u8 = tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST | tcp_flag::FIN;
    let (network, upper, payload) =
        (usize::from(packet.network), usize::from(packet.upper), usize::from(packet.payload));
    let is_syn = packet.proto == proto::TCP && packet.ports && packet.tcp_flags & DECIDING == tcp_flag::SYN;
    if !is_syn || packet.frag == frag::LATER || payload > packet.end() {
        return None;
    }
    let [a, b, c, d, e, f, g, _]: [u8; 8] = frame.bytes(network)?;
    let [s0, s1, s2, s3, k0, k1, k2, k3]: [u8; 8] = frame.bytes(upper + SEQUENCE)?;
    let urgent: [u8; 2] = frame.bytes(upper + URGENT)?;
    let mut quirks = 0;
    let mut note = |holds: bool, quirk: u32| quirks |= if holds { quirk } else { 0 };
    let fixed = if a >> 4 == 4 {
        let (df, id) = (g & 0x40 != 0, u16::from_be_bytes([e, f]) != 0);
        note(df, quirk::DF);
        note(df && id, quirk::ID_SET);
        note(!df && !id, quirk::ID_ZERO);
        note(g & 0x80 != 0, quirk::RESERVED);
        note(b & 3 != 0, quirk::ECN);
        syn.version = 4;
        IPV4_HEADER
    } else {
        note(u32::from_be_bytes([a, b, c, d]) & 0x000f_ffff != 0, quirk::FLOW);
        note(b & 0x30 != 0, quirk::ECN);
        syn.version = 6;
        IPV6_HEADER
    };
    note(packet.tcp_flags & (ECE | CWR) != 0, quirk::ECN);
    note(u32::from_be_bytes([s0, s1, s2, s3]) == 0, quirk::SEQ_ZERO);
    note(u32::from_be_bytes([k0, k1, k2, k3]) != 0, quirk::ACK_SET);
    let flag = packet.tcp_flags & tcp_flag::URG != 0;
    note(flag, quirk::URGENT);
    note(!flag && u16::from_be_bytes(urgent) != 0, quirk::URGENT_SET);
    note(packet.tcp_flags & tcp_flag::PSH != 0, quirk::PUSH);
    syn.quirks = quirks;
    syn.ttl = packet.ttl;
    syn.window = packet.window;
    let ip_options = upper.wrapping_sub(network + fixed);
    syn.ip_options = if ip_options > 255 { 255 } else { ip_options as u8 };
    syn.data = u8::from(payload < packet.end());
    // Where the options end: what lies behind reads as zero, in the packet or not.
    syn.padding = payload.wrapping_sub(upper + TCP_HEADER) as u8;
    let mut at = 0;
    while at < MAX_OPTIONS {
        let here = upper + TCP_HEADER + at;
        if here >= payload {
            break;
        }
        let four: [u8; 4] = frame.bytes(here)?;
        if let Some(place) = raw.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&four);
        }
        at += 4;
    }
    Some(())
}

const SEQUENCE: usize = 4;
const URGENT: usize = 18;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// Walks the options. [`Syn::padding`] says how many bytes they take, and is what lies behind their end afterwards.
#[inline(always)]
pub fn scan_options(raw: &RawOptions, syn: &mut Syn) {
    let byte = |at: usize| raw.bytes.get(at).copied().unwrap_or(0);
    let length = u32::from(syn.padding) & 63;
    let inside = (1_u64 << length) - 1;
    let mut starts = 1_u64;
    let (mut upper, mut lower) = (0_u64, 0_u64);
    let (mut count, mut padding, mut trailing, mut behind) = (0_u8, 0_u8, 0_u8, 0_u8);
    let mut quirks = 0_u32;
    let (mut mss, mut scale) = (0_u16, 0_u8);
    let mut at = 0;
    while at < MAX_OPTIONS {
        let here = at;
        at += 1;
        let kind = byte(here);
        trailing |= kind & behind;
        if (starts & inside) >> here & 1 == 0 {
            continue;
        }
        upper = (upper << 8) | (lower >> 56);
        lower = (lower << 8) | u64::from(kind);
        count = count.wrapping_add(1);
        if kind == kind::END {
            behind = 0xff;
            padding = (length as u8).wrapping_sub(at as u8);
            continue;
        }
        if kind == kind::NOP {
            starts |= 1 << at;
            continue;
        }
        let size = u32::from(byte(at));
        if size < 2 || size > length.wrapping_sub(here as u32) {
            quirks |= quirk::BAD;
            continue;
        }
        starts |= 1_u64 << ((here as u32 + size) & 63);
        let wanted = match kind {
            kind::MSS => 4,
            kind::WINDOW_SCALE => 3,
            kind::SACK_PERMITTED => 2,
            kind::TIMESTAMPS => 10,
            _ => size,
        };
        if size != wanted {
            quirks |= quirk::BAD;
        } else if kind == kind::MSS {
            mss = u16::from_be_bytes([byte(here + 2), byte(here + 3)]);
        } else if kind == kind::WINDOW_SCALE {
            scale = byte(here + 2);
            quirks |= if scale > MAX_SCALE { quirk::LARGE_SCALE } else { 0 };
        } else if kind == kind::TIMESTAMPS {
            let own = byte(here + 2) | byte(here + 3) | byte(here + 4) | byte(here + 5);
            let peer = byte(here + 6) | byte(here + 7) | byte(here + 8) | byte(here + 9);
            quirks |= if own == 0 { quirk::TS_ZERO } else { 0 };
            quirks |= if peer != 0 { quirk::PEER_TS } else { 0 };
        }
    }
    quirks |= if trailing != 0 { quirk::TRAILING } else { 0 };
    syn.layout = [upper, lower];
    syn.quirks |= quirks;
    syn.mss = mss;
    syn.scale = scale;
    syn.options = count;
    syn.padding = padding;
}

/// What a window is compared with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Window {
    /// Any.
    Any,
    /// This one.
    Exact(u16),
    /// So many times the MSS; also the MSS less twelve bytes where the SYN has timestamps in its layout.
    Mss(u16),
    /// So many times the MSS and the headers without options.
    Mtu(u16),
    /// A multiple of this.
    MultipleOf(u16),
}

/// A signature as p0f 3 writes them: what a SYN must look like. `None` is any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SynPattern {
    /// 4 or 6; 0 is either.
    pub version: u8,
    /// Least and largest TTL.
    pub ttl: [u8; 2],
    /// [`Syn::ip_options`].
    pub ip_options: Option<u8>,
    /// [`Syn::mss`].
    pub mss: Option<u16>,
    /// [`Syn::window`].
    pub window: Window,
    /// [`Syn::scale`].
    pub scale: Option<u8>,
    /// [`Syn::options`], [`Syn::layout`] and [`Syn::padding`].
    pub layout: Option<(u8, [u64; 2], u8)>,
    /// Exactly these [`quirk`]s, of those that the IP version has.
    pub quirks: Option<u32>,
    /// [`Syn::data`].
    pub data: Option<u8>,
}

/// Words of a pattern in the row table.
pub const PATTERN_WORDS: usize = 4;

/// Bits of a pattern's first word that say what counts.
mod counts {
    pub const IP_OPTIONS: u8 = 1;
    pub const MSS: u8 = 2;
    pub const SCALE: u8 = 4;
    pub const LAYOUT: u8 = 8;
    pub const QUIRKS: u8 = 16;
    pub const DATA: u8 = 32;
}

impl SynPattern {
    /// Any SYN.
    pub const ANY: Self = Self {
        version: 0,
        ttl: [0, 255],
        ip_options: None,
        mss: None,
        window: Window::Any,
        scale: None,
        layout: None,
        quirks: None,
        data: None,
    };

    /// As it stands in the row table. The first word leaves its low byte free.
    pub const fn words(&self) -> [u64; PATTERN_WORDS] {
        let mut count = 0;
        let (mut ip_options, mut mss, mut scale, mut data, mut quirks) = (0, 0, 0, 0, 0);
        let (mut options, mut layout, mut padding) = (0, [0; 2], 0);
        if let Some(value) = self.ip_options {
            (count, ip_options) = (count | counts::IP_OPTIONS, value);
        }
        if let Some(value) = self.mss {
            (count, mss) = (count | counts::MSS, value);
        }
        if let Some(value) = self.scale {
            (count, scale) = (count | counts::SCALE, value);
        }
        if let Some(value) = self.layout {
            count |= counts::LAYOUT;
            (options, layout, padding) = value;
        }
        if let Some(value) = self.quirks {
            (count, quirks) = (count | counts::QUIRKS, value);
        }
        if let Some(value) = self.data {
            (count, data) = (count | counts::DATA, value);
        }
        let (window, number) = match self.window {
            Window::Any => (0, 0),
            Window::Exact(number) => (1, number),
            Window::Mss(number) => (2, number),
            Window::Mtu(number) => (3, number),
            Window::MultipleOf(number) => (4, number),
        };
        let first = [0, count, window, self.version, self.ttl[0], self.ttl[1], options, padding];
        let second = mss as u64 | (number as u64) << 16 | (quirks as u64 & 0xffff) << 32;
        let rest = (scale as u64) << 48 | (ip_options as u64) << 56;
        // Data has the top bit of the options' number, which is at most sixteen.
        let data = (data as u64 & 1) << 55;
        [u64::from_le_bytes(first) | data, second | rest, layout[0], layout[1]]
    }

    /// From the row table.
    #[inline(always)]
    pub const fn of(words: [u64; PATTERN_WORDS]) -> Self {
        let [_, count, window, version, low, high, options, padding] = words[0].to_le_bytes();
        let second = words[1];
        let number = (second >> 16) as u16;
        Self {
            version,
            ttl: [low, high],
            ip_options: if count & counts::IP_OPTIONS != 0 { Some((second >> 56) as u8) } else { None },
            mss: if count & counts::MSS != 0 { Some(second as u16) } else { None },
            window: match window {
                1 => Window::Exact(number),
                2 => Window::Mss(number),
                3 => Window::Mtu(number),
                4 => Window::MultipleOf(number),
                _ => Window::Any,
            },
            scale: if count & counts::SCALE != 0 { Some((second >> 48) as u8) } else { None },
            layout: if count & counts::LAYOUT != 0 {
                Some((options & 0x7f, [words[2], words[3]], padding))
            } else {
                None
            },
            quirks: if count & counts::QUIRKS != 0 { Some((second >> 32) as u16 as u32) } else { None },
            data: if count & counts::DATA != 0 { Some(options >> 7) } else { None },
        }
    }

    /// Whether a SYN that was read looks like this.
    #[inline(always)]
    pub const fn holds(&self, syn: &Syn) -> bool {
        const fn fits(wanted: Option<u8>, value: u8) -> bool {
            match wanted {
                Some(wanted) => wanted == value,
                None => true,
            }
        }
        if (self.version != 0 && self.version != syn.version) || syn.ttl < self.ttl[0] || syn.ttl > self.ttl[1] {
            return false;
        }
        if !fits(self.ip_options, syn.ip_options) || !fits(self.scale, syn.scale) || !fits(self.data, syn.data) {
            return false;
        }
        if let Some(mss) = self.mss
            && mss != syn.mss
        {
            return false;
        }
        if let Some((options, layout, padding)) = self.layout
            && (options != syn.options
                || layout[0] != syn.layout[0]
                || layout[1] != syn.layout[1]
                || padding != syn.padding)
        {
            return false;
        }
        if let Some(quirks) = self.quirks {
            let foreign = if syn.version == 4 { quirk::V6_ONLY } else { quirk::V4_ONLY };
            if (quirks ^ syn.quirks) & !foreign != 0 {
                return false;
            }
        }
        self.window_fits(syn)
    }

    #[inline(always)]
    const fn window_fits(&self, syn: &Syn) -> bool {
        let (window, mss) = (syn.window as u64, syn.mss as u64);
        match self.window {
            Window::Any => true,
            Window::Exact(number) => syn.window == number,
            Window::Mss(times) => {
                let times = times as u64;
                mss != 0 && (window == times * mss || window == times * mss.saturating_sub(TIMESTAMPS_LENGTH))
            }
            Window::Mtu(times) => {
                let headers = if syn.version == 4 { IPV4_HEADER + TCP_HEADER } else { IPV6_HEADER + TCP_HEADER };
                mss != 0 && window == times as u64 * (mss + headers as u64)
            }
            Window::MultipleOf(number) => number != 0 && window % (number as u64) == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn scan(options: &[u8]) -> Syn {
        let mut raw = RawOptions { bytes: [0; MAX_OPTIONS] };
        raw.bytes[..options.len()].copy_from_slice(options);
        let mut syn = Syn { padding: options.len() as u8, ..Syn::default() };
        scan_options(&raw, &mut syn);
        syn
    }

    fn kinds(syn: &Syn) -> Vec<u8> {
        let all = u128::from(syn.layout[0]) << 64 | u128::from(syn.layout[1]);
        (0..syn.options).rev().map(|n| (all >> (8 * u32::from(n))) as u8).collect()
    }

    const LINUX: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

    #[test]
    fn options_of_an_ordinary_system() {
        let syn = scan(&LINUX);
        assert_eq!(kinds(&syn), [2, 4, 8, 1, 3]);
        assert_eq!((syn.mss, syn.scale, syn.padding, syn.quirks), (1_460, 7, 0, 0));
        let bsd = scan(&[2, 4, 5, 0xb4, 1, 3, 3, 6, 4, 2, 0, 0]);
        assert_eq!((kinds(&bsd), bsd.padding, bsd.quirks), (Vec::from([2, 1, 3, 4, 0]), 1, 0));
    }

    #[test]
    fn no_options_and_as_many_as_fit() {
        assert_eq!((scan(&[]).options, scan(&[]).padding), (0, 0));
        let all = scan(&[1; 40]);
        assert_eq!((all.options, all.quirks), (40, 0));
        assert_eq!(scan(&[0; 40]).padding, 39);
    }

    #[test]
    fn what_is_wrong_is_a_quirk() {
        for (options, quirks) in [
            (&[2, 1, 0, 0][..], quirk::BAD),             // a length that holds not even itself
            (&[1, 1, 1, 2], quirk::BAD),                 // its length is not there
            (&[2, 4, 5, 0xb4, 8, 10, 0, 0], quirk::BAD), // longer than the header
            (&[2, 3, 5, 1], quirk::BAD),                 // an MSS of one byte
            (&[3, 3, 15, 1], quirk::LARGE_SCALE),
            (&[0, 0, 0, 9], quirk::TRAILING),
            (&[8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], quirk::TS_ZERO),
            (&[8, 10, 0, 0, 0, 1, 0, 0, 2, 0, 1, 1], quirk::PEER_TS),
        ] {
            assert_eq!(scan(options).quirks, quirks, "{options:?}");
        }
        assert_eq!(scan(&[2, 3, 5, 1]).mss, 0);
        assert_eq!(kinds(&scan(&[1, 2, 9, 9, 1, 1, 1, 1])), [1, 2], "what is behind a bad one is not read");
    }

    fn linux() -> Syn {
        Syn { version: 4, ttl: 60, window: 64_240, quirks: quirk::DF | quirk::ID_SET, state: READ, ..scan(&LINUX) }
    }

    #[test]
    fn patterns_keep_their_words_and_compare() {
        let syn = linux();
        let exact = SynPattern {
            version: 4,
            ttl: [29, 64],
            ip_options: Some(0),
            mss: Some(1_460),
            window: Window::Mss(44),
            scale: Some(7),
            layout: Some((5, syn.layout, 0)),
            quirks: Some(quirk::DF | quirk::ID_SET | quirk::FLOW),
            data: Some(0),
        };
        let away: [(SynPattern, bool); 18] = [
            (exact, true),
            (SynPattern::ANY, true),
            (SynPattern { version: 6, ..exact }, false),
            (SynPattern { ttl: [61, 64], ..exact }, false),
            (SynPattern { ttl: [29, 59], ..exact }, false),
            (SynPattern { ip_options: Some(4), ..exact }, false),
            (SynPattern { mss: Some(1_461), ..exact }, false),
            (SynPattern { window: Window::Exact(64_240), ..exact }, true),
            (SynPattern { window: Window::Exact(64_241), ..exact }, false),
            (SynPattern { window: Window::Mss(43), ..exact }, false),
            (SynPattern { window: Window::Mtu(44), ..exact }, false),
            (SynPattern { window: Window::MultipleOf(1_460), ..exact }, true),
            (SynPattern { window: Window::MultipleOf(1_000), ..exact }, false),
            (SynPattern { scale: Some(8), ..exact }, false),
            (SynPattern { layout: Some((5, syn.layout, 1)), ..exact }, false),
            (SynPattern { layout: Some((6, syn.layout, 0)), ..exact }, false),
            (SynPattern { quirks: Some(quirk::DF), ..exact }, false),
            (SynPattern { data: Some(1), ..exact }, false),
        ];
        for (pattern, holds) in away {
            assert_eq!(SynPattern::of(pattern.words()), pattern);
            assert_eq!(pattern.words()[0] & 0xff, 0);
            assert_eq!(pattern.holds(&syn), holds, "{pattern:?}");
        }
        let six = Syn { version: 6, quirks: quirk::FLOW, ..syn };
        assert!(SynPattern { version: 0, ..exact }.holds(&six), "quirks of the other version do not count");
    }
}
