//! The body of a ClientHello message (RFC 8446 section 4.1.2).

use super::cursor::Cursor;
use super::{ClientHello, Malformed, Transport, is_grease, ja4};

/// Most protocols of ALPN that are kept.
pub const MAX_PROTOCOLS: usize = 64;

/// Bytes of `random`.
const RANDOM_BYTES: usize = 32;
/// `host_name`, the only type of a server name.
const HOST_NAME: u8 = 0;
/// Bytes of the handshake header in front of the body.
const HEADER_BYTES: usize = 4;

/// Types of the extensions that are read (IANA's TLS `ExtensionType` values).
pub(super) mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const SUPPORTED_VERSIONS: u16 = 43;
}

/// Parses what stands behind the handshake header. Of an extension that comes twice, the first counts.
pub fn parse(body: &[u8], transport: Transport) -> Result<ClientHello, Malformed> {
    let mut rest = Cursor(body);
    let version = rest.short()?;
    rest.take(RANDOM_BYTES)?;
    rest.short_field()?;
    let ciphers = rest.field()?.shorts()?;
    rest.short_field()?;
    let mut hello = ClientHello {
        length: (body.len() + HEADER_BYTES) as u32,
        ciphers: without_grease(ciphers),
        ..ClientHello::default()
    };
    // TLS 1.2 lets them be left out altogether.
    let mut extensions = if rest.0.is_empty() { rest } else { rest.field()? };
    if !rest.0.is_empty() {
        return Err(Malformed("bytes behind the extensions"));
    }
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let value = extensions.field()?;
        if is_grease(kind) {
            continue;
        }
        if !hello.extensions.contains(&kind) {
            hello.read(kind, value)?;
        }
        hello.extensions.push(kind);
    }
    if !hello.extensions.contains(&extension::SUPPORTED_VERSIONS) {
        hello.versions = vec![version];
    }
    hello.ja4 = ja4::fingerprint(&hello, transport);
    Ok(hello)
}

impl ClientHello {
    fn read(&mut self, kind: u16, mut value: Cursor<'_>) -> Result<(), Malformed> {
        match kind {
            extension::SERVER_NAME => {
                let mut names = value.field()?;
                while !names.0.is_empty() {
                    let (kind, name) = (names.byte()?, names.field()?.0);
                    if kind == HOST_NAME && self.sni.is_none() {
                        let name = name.strip_suffix(b".").unwrap_or(name);
                        self.sni = Some(name.to_ascii_lowercase().into_boxed_slice());
                    }
                }
            }
            extension::ALPN => {
                let mut protocols = value.field()?;
                while !protocols.0.is_empty() {
                    let name = protocols.short_field()?.0;
                    let grease = matches!(name, [a, b] if is_grease(u16::from_be_bytes([*a, *b])));
                    if !grease && self.alpn.len() < MAX_PROTOCOLS {
                        self.alpn.push(name.into());
                    }
                }
            }
            extension::SUPPORTED_VERSIONS => self.versions = without_grease(value.short_field()?.shorts()?),
            extension::SUPPORTED_GROUPS => self.groups = without_grease(value.field()?.shorts()?),
            extension::SIGNATURE_ALGORITHMS => {
                self.signature_algorithms = without_grease(value.field()?.shorts()?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn without_grease(mut codes: Vec<u16>) -> Vec<u16> {
    codes.retain(|code| !is_grease(*code));
    codes
}
