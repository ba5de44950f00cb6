//! Initial packets of QUIC (RFC 9000 section 17.2.2, RFC 9369 section 3.2): where their protected parts lie, and the frames
//! in them once they are decrypted. Decrypting is the caller's, with keys that follow from version and connection id.

use super::Malformed;
use super::cursor::Cursor;

/// Longest connection id (RFC 9000 section 17.2).
pub const MAX_CID_BYTES: usize = 20;

/// The long header's bit, and the one that every version sets.
const LONG_AND_FIXED: u8 = 0xc0;
/// First bytes of the frames that an Initial may hold (RFC 9000 section 12.4).
mod frame {
    pub const PADDING: u8 = 0x00;
    pub const PING: u8 = 0x01;
    pub const ACK: u8 = 0x02;
    pub const ACK_ECN: u8 = 0x03;
    pub const CRYPTO: u8 = 0x06;
    pub const CLOSE: u8 = 0x1c;
}

/// Versions of QUIC whose Initials are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 9000.
    V1,
    /// RFC 9369.
    V2,
}

impl Version {
    fn of(number: u32) -> Option<Self> {
        match number {
            0x0000_0001 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            _ => None,
        }
    }

    const fn initial(self) -> u8 {
        match self {
            Self::V1 => 0,
            Self::V2 => 1,
        }
    }

    /// Retry packets have no length: nothing follows them.
    const fn retry(self) -> u8 {
        match self {
            Self::V1 => 3,
            Self::V2 => 0,
        }
    }
}

/// An Initial within a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initial<'a> {
    /// Its version.
    pub version: Version,
    /// Destination connection id: what the keys of the client's first packets follow from.
    pub destination: &'a [u8],
    /// Where the packet begins.
    pub start: usize,
    /// Where its protected packet number begins.
    pub number: usize,
    /// Behind its last byte.
    pub end: usize,
}

/// The Initials of a datagram, which may hold several packets (RFC 9000 section 12.2). Ends at what is none of them.
pub fn initials(datagram: &[u8]) -> impl Iterator<Item = Initial<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (found, end) = packet(datagram, at).ok()?;
            at = end;
            if found.is_some() {
                return found;
            }
        }
    })
}

/// The packet at a place, if it is an Initial, and where the next one begins.
fn packet(datagram: &[u8], start: usize) -> Result<(Option<Initial<'_>>, usize), Malformed> {
    let mut rest = Cursor(datagram.get(start..).unwrap_or_default());
    let first = rest.byte()?;
    if first & LONG_AND_FIXED != LONG_AND_FIXED {
        return Err(Malformed("no long header"));
    }
    let version = Version::of(rest.long()?).ok_or(Malformed("another version of QUIC"))?;
    let destination = rest.short_field()?.0;
    let source = rest.short_field()?.0;
    if destination.len() > MAX_CID_BYTES || source.len() > MAX_CID_BYTES {
        return Err(Malformed("a connection id that is too long"));
    }
    let kind = first >> 4 & 3;
    if kind == version.retry() {
        return Err(Malformed("a Retry, which no client sends"));
    }
    if kind == version.initial() {
        rest.quic_field()?;
    }
    let length = rest.quic_number()?;
    let number = datagram.len() - rest.0.len();
    rest.take(usize::try_from(length).unwrap_or(usize::MAX))?;
    let end = datagram.len() - rest.0.len();
    let found = Initial { version, destination, start, number, end };
    Ok(((kind == version.initial()).then_some(found), end))
}

/// Pieces of the crypto stream in the frames of a decrypted Initial: offset and bytes. The other frames are read over; an
/// error ends it.
#[derive(Clone, Debug)]
pub struct Frames<'a>(Cursor<'a>);

impl<'a> Frames<'a> {
    /// Of a payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(Cursor(payload))
    }

    fn piece(&mut self) -> Result<Option<(u64, &'a [u8])>, Malformed> {
        let rest = &mut self.0;
        while !rest.0.is_empty() {
            match rest.byte()? {
                frame::PADDING | frame::PING => {}
                kind @ (frame::ACK | frame::ACK_ECN) => {
                    rest.quic_number()?;
                    rest.quic_number()?;
                    let ranges = rest.quic_number()?;
                    rest.quic_number()?;
                    let counts = if kind == frame::ACK_ECN { 3 } else { 0 };
                    for _ in 0..ranges.saturating_mul(2).saturating_add(counts) {
                        rest.quic_number()?;
                    }
                }
                frame::CRYPTO => {
                    let offset = rest.quic_number()?;
                    return Ok(Some((offset, rest.quic_field()?.0)));
                }
                frame::CLOSE => {
                    rest.quic_number()?;
                    rest.quic_number()?;
                    rest.quic_field()?;
                }
                _ => return Err(Malformed("a frame that no Initial has")),
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<(u64, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.piece().transpose();
        if matches!(found, Some(Err(_))) {
            self.0 = Cursor(&[]);
        }
        found
    }
}
