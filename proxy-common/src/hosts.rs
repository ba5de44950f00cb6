//! Single hosts of the policies' lists (IPv4 /32, IPv6 /128 and /64): a table of cache lines, one look-up of which is one
//! line in nearly all cases, and the filter before it. What decides and what it costs stands here; who fills it is
//! `proxy-core`'s `hosts`.
//!
//! A trie look-up costs two microseconds at a million entries, and the kernel's own hash takes 112 bytes an entry and frees
//! them one by one. This table takes 16 to 32 bytes for each IPv4 host (53 to 107 for IPv6), is written by plain stores
//! while no packet reads it, and is freed in one piece. It is two tables in one array: lines of IPv4, then lines of IPv6; the first
//! line says how many of each.
//!
//! A host's place is a hash with a secret; where its line is full, the next one takes it, up to [`PROBES`] lines. Lines
//! are filled from their beginning, so that one with a free last slot ends the search.

use core::borrow::Borrow;

use crate::abi::HostKey;
use crate::addr::{Addr, v6_mask};
use crate::hint::SPREAD;

/// Most hosts of all lists together, allowed and denied ones.
pub const MAX_HOSTS: u32 = 1_048_576;
/// IPv4 hosts of one line.
pub const V4_SLOTS: usize = 8;
/// IPv6 hosts and prefixes of one line.
pub const V6_SLOTS: usize = 3;
/// Lines in which a host may stand.
pub const PROBES: u32 = 16;
/// Binary logarithm of the bits of the smallest filter, a page.
pub const MIN_HOST_BITS: u32 = 15;
/// Binary logarithm of the bits of the largest filter: eight a host.
pub const MAX_HOST_BITS: u32 = MAX_HOSTS.trailing_zeros() + 3;
/// Words of a line.
pub const HOST_LINE_WORDS: usize = 8;
/// Words of one side's filter.
pub const HOST_HINT_WORDS: u32 = 1 << (MAX_HOST_BITS - 6);
/// Bits of an IPv6 prefix that the table holds.
pub const V6_PREFIX: u8 = 64;

/// One line of the table, of the size of a cache line.
///
/// IPv4: eight words, the address as a number above and its [`terms`] below, 0 for a free slot. IPv6: three keys (a
/// [`HostKey`]'s two words each), then their terms in the last two words. The first line of the table is a [`Shape`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostLine {
    /// As above.
    pub words: [u64; HOST_LINE_WORDS],
}

/// What a table looks like; its first line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Lines that IPv4 hashes choose from.
    pub v4: u32,
    /// Lines that IPv6 hashes choose from.
    pub v6: u32,
    /// Secret of the hash: list feeds are written by others.
    pub seed: u64,
    /// Hosts and prefixes in the table; for userspace.
    pub hosts: u32,
}

/// What the lists say of a host: the rule slot that denies it, and the one that allows it in the upper half. 0 is none:
/// slot 0 is the operator's, and he writes no lists.
pub mod terms {
    /// Of a denied host.
    pub const fn deny(slot: u32) -> u32 {
        slot & 0xffff
    }

    /// Of an allowed host.
    pub const fn allow(slot: u32) -> u32 {
        slot << 16
    }

    /// Whether the host is denied.
    pub const fn denies(terms: u32) -> bool {
        super::HostFound { terms, line: 0 }.denied().is_some()
    }
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostFound {
    /// [`terms`] of the host, and where it has none of a kind, of its /64.
    pub terms: u32,
    /// Line in which they stand; 0 for none.
    pub line: u32,
}

impl HostFound {
    /// Rule slot that denies the host.
    #[inline(always)]
    pub const fn denied(self) -> Option<u32> {
        let slot = self.terms & 0xffff;
        if slot == 0 { None } else { Some(slot) }
    }

    /// Rule slot that allows it.
    #[inline(always)]
    pub const fn allowed(self) -> Option<u32> {
        let slot = self.terms >> 16;
        if slot == 0 { None } else { Some(slot) }
    }

    /// As one word, which a kernel function returns.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        ((self.line as u64) << 32) | self.terms as u64
    }

    /// From [`Self::pack`].
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self { terms: word as u32, line: (word >> 32) as u32 }
    }

    /// The host's own terms before those of its prefix.
    #[inline(always)]
    const fn or(self, prefix: Self) -> Self {
        let low = if self.terms & 0xffff != 0 { self.terms } else { prefix.terms } & 0xffff;
        let high = if self.terms >> 16 != 0 { self.terms } else { prefix.terms } & 0xffff_0000;
        Self { terms: low | high, line: if self.line != 0 { self.line } else { prefix.line } }
    }
}

impl Shape {
    /// Reads the first line.
    #[inline(always)]
    pub const fn of(line: &HostLine) -> Self {
        let [sizes, seed, hosts, ..] = line.words;
        Self { v4: sizes as u32, v6: (sizes >> 32) as u32, seed, hosts: hosts as u32 }
    }

    /// The first line.
    pub const fn line(self) -> HostLine {
        HostLine { words: [((self.v6 as u64) << 32) | self.v4 as u64, self.seed, self.hosts as u64, 0, 0, 0, 0, 0] }
    }

    /// Lines of the whole table, the first among them.
    pub const fn lines(self) -> u32 {
        1 + span(self.v4) + span(self.v6)
    }

    /// The line that an IPv4 host's hash chooses; the next [`PROBES`]` - 1` may hold it too.
    #[inline(always)]
    pub const fn v4_line(self, address: u32) -> u32 {
        // Multiply-shift with a random odd factor (Dietzfelbinger et al. 1997).
        1 + reduce(((address as u64).wrapping_mul(self.seed | 1) >> 32) as u32, self.v4)
    }

    /// The line that an IPv6 host's or prefix's hash chooses, likewise.
    #[inline(always)]
    pub const fn v6_line(self, key: Addr) -> u32 {
        let first = key.hi.wrapping_mul(self.seed | 1);
        let second = ((first ^ (first >> 32)) ^ key.lo).wrapping_mul(self.seed.rotate_left(31) | 1);
        let hash = (second ^ (second >> 29)).wrapping_mul(SPREAD);
        1 + span(self.v4) + reduce((hash >> 32) as u32, self.v6)
    }
}

/// Lines that `n` chosen lines need: the last one runs over too.
const fn span(n: u32) -> u32 {
    if n == 0 { 0 } else { n + PROBES - 1 }
}

/// `hash` spread over `0..n`.
#[inline(always)]
const fn reduce(hash: u32, n: u32) -> u32 {
    ((hash as u64 * n as u64) >> 32) as u32
}

/// The key of a /64 in the table: as in `VERDICTS`, behind a prefix that no host has.
#[inline(always)]
pub const fn prefix_of(addr: Addr) -> HostKey {
    addr.prefix_key(v6_mask(V6_PREFIX))
}

/// What the table whose lines `line` reads says of an address.
#[inline(always)]
pub fn find<L: Borrow<HostLine>>(addr: Addr, line: impl Fn(u32) -> Option<L>) -> HostFound {
    let Some(shape) = shape(&line) else { return HostFound::default() };
    if addr.is_v4() {
        return find_v4(addr.v4_number(), shape, &line);
    }
    let prefix = Addr::from_bytes(prefix_of(addr).addr);
    find_v6(addr, shape, &line).or(find_v6(prefix, shape, &line))
}

/// What it says of one key, a host's or that of a /64 ([`prefix_of`]).
pub fn entry<L: Borrow<HostLine>>(key: &HostKey, line: impl Fn(u32) -> Option<L>) -> HostFound {
    let Some(shape) = shape(&line) else { return HostFound::default() };
    let addr = Addr::from_bytes(key.addr);
    if addr.is_v4() { find_v4(addr.v4_number(), shape, &line) } else { find_v6(addr, shape, &line) }
}

#[inline(always)]
fn shape<L: Borrow<HostLine>>(line: &impl Fn(u32) -> Option<L>) -> Option<Shape> {
    line(0).map(|first| Shape::of(first.borrow()))
}

#[inline(always)]
fn find_v4<L: Borrow<HostLine>>(address: u32, shape: Shape, line: &impl Fn(u32) -> Option<L>) -> HostFound {
    if shape.v4 == 0 {
        return HostFound::default();
    }
    let first = shape.v4_line(address);
    let mut probe = 0;
    while probe < PROBES {
        let at = first + probe;
        let Some(here) = line(at) else { break };
        let HostLine { words } = here.borrow();
        let mut slot = 0;
        while slot < V4_SLOTS {
            let word = words[slot];
            if (word >> 32) as u32 == address && word as u32 != 0 {
                return HostFound { terms: word as u32, line: at };
            }
            slot += 1;
        }
        if words[V4_SLOTS - 1] as u32 == 0 {
            break;
        }
        probe += 1;
    }
    HostFound::default()
}

#[inline(always)]
fn find_v6<L: Borrow<HostLine>>(key: Addr, shape: Shape, line: &impl Fn(u32) -> Option<L>) -> HostFound {
    if shape.v6 == 0 {
        return HostFound::default();
    }
    let first = shape.v6_line(key);
    let mut probe = 0;
    while probe < PROBES {
        let at = first + probe;
        let Some(here) = line(at) else { break };
        let HostLine { words: [a_hi, a_lo, b_hi, b_lo, c_hi, c_lo, ab, c] } = here.borrow();
        let found = if *a_hi == key.hi && *a_lo == key.lo {
            *ab as u32
        } else if *b_hi == key.hi && *b_lo == key.lo {
            (*ab >> 32) as u32
        } else if *c_hi == key.hi && *c_lo == key.lo {
            *c as u32
        } else {
            0
        };
        // A free slot is all zero, which is `::`; its terms are none.
        if found != 0 {
            return HostFound { terms: found, line: at };
        }
        if *c == 0 {
            break;
        }
        probe += 1;
    }
    HostFound::default()
}

/// Binary logarithm of the filter's bits for so many denied hosts.
pub const fn host_bits(denied: u32) -> u32 {
    let bits = denied.next_power_of_two().trailing_zeros() + 3;
    if bits < MIN_HOST_BITS {
        MIN_HOST_BITS
    } else if bits > MAX_HOST_BITS {
        MAX_HOST_BITS
    } else {
        bits
    }
}

/// Word (of one side's filter) and bits of an address: three bits of one word, so that the filter costs one load and lets
/// one in twenty-five by. IPv6 hosts share the bits of their /64.
#[inline(always)]
pub const fn hint_place(addr: Addr, bits: u32) -> (u32, u64) {
    let source = if addr.is_v4() { addr.lo } else { addr.hi };
    let folded = source ^ (source >> 32);
    let product = folded.wrapping_mul(SPREAD);
    let word = product >> ((70 - bits) & 63);
    let rest = product << ((bits - 6) & 63);
    let mask = (1 << (rest >> 58)) | (1 << ((rest >> 52) & 63)) | (1 << ((rest >> 46) & 63));
    (word as u32, mask)
}
