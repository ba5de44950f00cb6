//! SETTINGS of the other side (RFC 9113 section 6.5), as far as they matter to who answers requests.

use super::{Broken, Code, MOST};

/// Bytes of a setting.
const SETTING: usize = 6;
/// The longest payload that a side may ask for.
const LONGEST_FRAME: u32 = (1 << 24) - 1;

/// Numbers of settings (section 6.5.2, RFC 8441 section 3, RFC 9218 section 2.1).
pub mod id {
    /// Bytes of the dynamic table that blocks may refer to.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// Whether promises are taken.
    pub const ENABLE_PUSH: u16 = 2;
    /// Most streams at a time.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// The window that streams begin with.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// Longest payload of a frame.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// What a message's fields may count for.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// Extended CONNECT is served.
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
    /// How streams depend on each other is not heeded.
    pub const NO_RFC7540_PRIORITIES: u16 = 9;
}

/// What a SETTINGS frame sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of the table that blocks sent to it may refer to.
    pub header_table: Option<u32>,
    /// The window of its streams.
    pub window: Option<u32>,
    /// Longest payload that it takes.
    pub frame: Option<u32>,
}

impl Settings {
    /// Reads a payload.
    ///
    /// # Errors
    /// Its length is none, or a value may not be.
    pub fn read(payload: &[u8]) -> Result<Self, Broken> {
        if !payload.len().is_multiple_of(SETTING) {
            return Err(Broken::rule(Code::FrameSizeError, "SETTINGS that end within one"));
        }
        let mut settings = Self::default();
        for setting in payload.chunks_exact(SETTING) {
            let Ok([high, low, value @ ..]) = <[u8; SETTING]>::try_from(setting) else { continue };
            let value = u32::from_be_bytes(value);
            match u16::from_be_bytes([high, low]) {
                id::HEADER_TABLE_SIZE => settings.header_table = Some(value),
                id::INITIAL_WINDOW_SIZE if value > MOST => {
                    return Err(Broken::rule(Code::FlowControlError, "a window beyond the largest"));
                }
                id::INITIAL_WINDOW_SIZE => settings.window = Some(value),
                id::MAX_FRAME_SIZE if !(super::FRAME_MOST as u32..=LONGEST_FRAME).contains(&value) => {
                    return Err(Broken::rule(Code::ProtocolError, "frames of a size that may not be"));
                }
                id::MAX_FRAME_SIZE => settings.frame = Some(value),
                id::ENABLE_PUSH | id::ENABLE_CONNECT_PROTOCOL | id::NO_RFC7540_PRIORITIES if value > 1 => {
                    return Err(Broken::rule(Code::ProtocolError, "a setting that is neither yes nor no"));
                }
                _ => {}
            }
        }
        Ok(settings)
    }
}

/// Writes settings as a payload has them.
pub fn put(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    for (id, value) in settings {
        out.extend(id.to_be_bytes());
        out.extend(value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(u16, u32)]) -> Result<Settings, Code> {
        let mut payload = Vec::new();
        put(settings, &mut payload);
        Settings::read(&payload).map_err(|broken| broken.code)
    }

    #[test]
    fn what_is_set() {
        assert_eq!(read(&[]), Ok(Settings::default()));
        let set = Settings { header_table: Some(0), window: Some(MOST), frame: Some(LONGEST_FRAME) };
        assert_eq!(read(&[(1, 9), (1, 0), (4, MOST), (5, LONGEST_FRAME), (2, 1), (0x99, 7), (3, 0)]), Ok(set));
        assert_eq!(read(&[(4, MOST + 1)]), Err(Code::FlowControlError));
        for wrong in [(5, 16_383), (5, LONGEST_FRAME + 1), (2, 2), (8, 2), (9, 2)] {
            assert_eq!(read(&[wrong]), Err(Code::ProtocolError), "{wrong:?}");
        }
        assert_eq!(Settings::read(&[0; 7]).map_err(|broken| broken.code), Err(Code::FrameSizeError));
    }
}
