//! Signatures of SYNs as p0f 3 writes them, in the words that the row table holds, and whether one fits.

use super::{Syn, quirk};
use crate::wire::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER};

/// Most options of a layout that can be compared; a SYN with more has no layout that a pattern names.
pub const MAX_LAYOUT: usize = 16;
/// Bytes that timestamps take of each segment; some systems count them off the MSS before they choose a window.
const TIMESTAMPS_LENGTH: u64 = 12;

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
    use super::super::READ;
    use super::*;

    fn linux() -> Syn {
        Syn {
            // MSS, SACK permitted, timestamps, no operation, window scale.
            layout: [0, 0x02_0408_0103],
            options: 5,
            mss: 1_460,
            scale: 7,
            version: 4,
            ttl: 60,
            window: 64_240,
            quirks: quirk::DF | quirk::ID_SET,
            state: READ,
            ..Syn::default()
        }
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
