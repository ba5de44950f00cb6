//! Blocks of others, and what a block may not be.

use super::*;
use crate::fields::text::put_prefixed;

fn hex(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn target(decoder: &mut Decoder, block: &[u8]) -> String {
    let head = decoder.header(block, 1_000).unwrap();
    let more: Vec<_> =
        head.headers.iter().map(|(name, value)| format!(" {name}={}", value.to_str().unwrap())).collect();
    format!("{} {}{}", head.method, head.uri, more.concat())
}

#[test]
fn examples_of_the_standard() {
    // RFC 7541 appendix C.3 and C.4: three requests on one connection, without Huffman's code and with it.
    let expected = [
        "GET http://www.example.com/",
        "GET http://www.example.com/ cache-control=no-cache",
        "GET https://www.example.com/index.html custom-key=custom-value",
    ];
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        for (block, expected) in blocks.into_iter().zip(expected) {
            assert_eq!(target(&mut decoder, &hex(block)), expected);
        }
        assert_eq!((decoder.table.len(), decoder.table.size()), (3, 164));
    }
}

#[test]
fn the_table_keeps_to_its_size() {
    let mut decoder = Decoder::default();
    // Two fields of 2,000 bytes have no room beside each other; one of 5,000 leaves none.
    let field = |name: u8, length: usize| {
        let mut out = vec![0x40, 1, name];
        put_prefixed(0, 7, length, &mut out);
        out.resize(out.len() + length, b'v');
        out
    };
    for (block, entries, size) in [
        (field(b'a', 2_000), 1, 2_033),
        (field(b'b', 2_000), 2, 4_066),
        (field(b'c', 2_000), 2, 4_066),
        (field(b'd', 5_000), 0, 0),
        (field(b'e', 10), 1, 43),
        ([&[0x20][..], &field(b'e', 10)].concat(), 0, 0),
        (vec![0x3f, 0x45], 0, 0),
        (field(b'e', 68), 0, 0),
        (field(b'e', 10), 1, 43),
        (vec![0x3f, 0xe1, 0x1f], 1, 43),
    ] {
        decoder.trailers(&block, 1 << 20).unwrap();
        assert_eq!((decoder.table.len(), decoder.table.size()), (entries, size), "{:?}", &block[..3]);
    }
    // A field that is referred to counts each time.
    assert_eq!(decoder.trailers(&[0xbe; 100], 4_300).map(|fields| fields.len()), Ok(100));
    assert_eq!(decoder.trailers(&[0xbe; 101], 4_300), Err(Refused::TooLong));
    assert_eq!(decoder.trailers(&[0xbe; 400], 4_300), Err(Refused::TooLong));
    assert_eq!(decoder.trailers(&[0xbe; 401], 4_300), Err(Refused::Bomb));
    assert_eq!(decoder.header(&[0x82; 101], 10_000).err(), Some(Refused::Malformed("a pseudo-header field twice")));
}

#[test]
fn a_block_of_no_use_counts_for_the_table() {
    for wrong in [&b"\x40\x01X\x01v"[..], b"\x40\x01:\x01v", b"\x40\x01x\x01\n", b"\x44\x01x"] {
        let mut decoder = Decoder::default();
        // What stands behind the wrong field is kept as well, and what was wrong stays so.
        let block = [wrong, b"\x40\x01y\x01z"].concat();
        assert!(matches!(decoder.header(&block, 1_000), Err(Refused::Malformed(_))), "{wrong:?}");
        assert_eq!(decoder.trailers(&[0xbe], 100).unwrap()["y"], "z");
        assert!(matches!(decoder.trailers(&[0xbf], 100), Err(Refused::Malformed(_))));
        decoder.skip(&[0xbf], 10).unwrap();
    }
    let mut decoder = Decoder::default();
    assert_eq!(decoder.trailers(b"\x40\x01x\x01y\x40\x01y\x01z", 40), Err(Refused::TooLong));
    assert_eq!(decoder.trailers(&[0xbe], 100).unwrap()["y"], "z");
}

#[test]
fn what_a_block_may_not_be() {
    for wrong in [
        // No such index; a name that ends behind the block; a value that does; a code that is none.
        &[0x80][..],
        &[0xbe],
        &[0x7e, 0],
        &[0x40, 2, b'x'],
        &[0x41, 2, b'x'],
        &[0x41, 0x81, 0xfe],
        &[0x41],
        // Sizes: too large, behind a field, three.
        &[0x3f, 0xe2, 0x1f],
        &[0x82, 0x20],
        &[0x20, 0x20, 0x20],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    ] {
        assert_eq!(Decoder::default().trailers(wrong, 1_000), Err(Refused::Unreadable), "{wrong:?}");
    }
    assert!(Decoder::default().trailers(&[0x20, 0x3f, 0xe1, 0x1f], 1_000).unwrap().is_empty());
}

proptest::proptest! {
    #[test]
    fn any_bytes_will_do(blocks in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..100), 0..5)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let _ = decoder.header(&block, 5_000);
            proptest::prop_assert!(decoder.table.size() <= decoder.table.most());
        }
    }
}
