//! ClientHellos for tests: one of RFC 9001, and a writer of any.

use super::ClientHello;
use super::parse::extension;

/// The CRYPTO frame of RFC 9001 section A.2, in hex.
pub const RFC_9001: &str = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000\
    c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e00050005010000\
    0000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e\
    0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104\
    800075300901100f088394c8f03e51570806048000ffff";

/// Bytes of hex digits.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn shorts(codes: &[u16]) -> Vec<u8> {
    codes.iter().flat_map(|code| code.to_be_bytes()).collect()
}

/// The handshake message of a hello: its lists, and no more of its extensions than those hold.
pub fn message(hello: &ClientHello) -> Vec<u8> {
    let mut extensions = Vec::new();
    for kind in &hello.extensions {
        let value = match *kind {
            extension::SERVER_NAME => {
                let name = hello.sni.as_deref().unwrap_or_default();
                prefixed(&[&[0], &*prefixed(name)].concat())
            }
            extension::ALPN => {
                let names = hello.alpn.iter().flat_map(|name| [&[name.len() as u8], &**name].concat());
                prefixed(&names.collect::<Vec<_>>())
            }
            extension::SUPPORTED_VERSIONS => [&[hello.versions.len() as u8 * 2], &*shorts(&hello.versions)].concat(),
            extension::SUPPORTED_GROUPS => prefixed(&shorts(&hello.groups)),
            extension::SIGNATURE_ALGORITHMS => prefixed(&shorts(&hello.signature_algorithms)),
            _ => Vec::new(),
        };
        extensions.extend([&kind.to_be_bytes(), &*prefixed(&value)].concat());
    }
    let body =
        [&[3, 3][..], &[7; 32], &[0], &prefixed(&shorts(&hello.ciphers)), &[1, 0], &prefixed(&extensions)].concat();
    [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
}

/// A message in records of at most so many bytes.
pub fn records(message: &[u8], longest: usize) -> Vec<u8> {
    message.chunks(longest).flat_map(|part| [&[22, 3, 1][..], &prefixed(part)].concat()).collect()
}

/// What Chrome 108 sent, as JA4's documentation has it, with GREASE before and behind each list.
pub fn chrome() -> ClientHello {
    ClientHello {
        sni: Some((*b"first.test").into()),
        alpn: vec![(*b"h2").into(), (*b"http/1.1").into()],
        versions: vec![0x3a3a, 0x0304, 0x0303],
        ciphers: vec![
            0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c,
            0x009d, 0x002f, 0x0035,
        ],
        extensions: vec![
            0x2a2a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b,
            0xff01, 0x000b, 0x000a, 0x0015, 0xfafa,
        ],
        groups: vec![0x4a4a, 0x001d, 0x0017, 0x0018],
        signature_algorithms: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
        ..ClientHello::default()
    }
}
