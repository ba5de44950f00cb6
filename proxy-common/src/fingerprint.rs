//! What a SYN tells of the system that sent it, as p0f 3 reads it: TTL, window, MSS, window scale, the layout of the TCP
//! options and oddities of the headers. [`read`] observes, [`SynPattern::holds`] compares; neither decides anything.
//!
//! Options are read one at a time, [`options::read_option`], in the kernel by a function of its own: the verifier then looks at
//! one option at any place, not at each list of options there may be.

mod options;
mod pattern;

pub use options::{Options, read_option, walk};
pub use pattern::{MAX_LAYOUT, PATTERN_WORDS, SynPattern, Window};

use crate::abi::{frag, proto};
use crate::parse::{Frame, Packet};
use crate::syn_ack::MAX_OPTIONS;
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, tcp_flag};

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
    let mut raw = Options::NONE;
    headers(frame, packet, syn, &mut raw);
    walk(raw.length, |at| read_option(&raw, syn, at));
}

/// The first half: the fixed parts of the headers, and the options as they are, for [`walk`].
#[inline(always)]
pub fn headers<F: Frame + ?Sized>(frame: &F, packet: &Packet, syn: &mut Syn, raw: &mut Options) {
    *raw = Options::NONE;
    *syn = Syn { state: NO_SYN, ..Syn::default() };
    if read_headers(frame, packet, syn, raw).is_some() {
        syn.state = READ;
    }
}

#[inline(always)]
fn read_headers<F: Frame + ?Sized>(frame: &F, packet: &Packet, syn: &mut Syn, raw: &mut Options) -> Option<()> {
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
    raw.length = payload.wrapping_sub(upper + TCP_HEADER) as u64 & 63;
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
