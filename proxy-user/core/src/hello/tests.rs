//! ClientHellos against the published fingerprints, and cut in every way that streams and packets cut them.

use proptest::prelude::*;

use super::ja4::fingerprint;
use super::parse::extension;
use super::samples::{RFC_9001, chrome, hex, message, records};
use super::{
    Assembly, ClientHello, Found, Frames, MAX_HELLO_BYTES, Malformed, Transport, from_stream, initials, is_grease,
};

fn hello(found: Found) -> ClientHello {
    match found {
        Found::Hello(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_published_fingerprints() {
    let stream = records(&message(&chrome()), 16_384);
    let read = hello(from_stream(&stream));
    assert_eq!(read.ja4, "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert_eq!((read.sni.as_deref(), read.versions.as_slice()), (Some(&b"first.test"[..]), &[0x0304, 0x0303][..]));
    assert_eq!((read.ciphers.len(), read.extensions.len(), read.groups.len()), (15, 16, 3));
    assert_eq!(read.length as usize, stream.len() - 5);
    let without = ClientHello { signature_algorithms: Vec::new(), ..read.clone() };
    assert_eq!(fingerprint(&without, Transport::Tcp), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    // The same browser some years later, as its makers' test pages show it.
    let later = ClientHello {
        extensions: vec![
            0x002d, 0x0033, 0x0010, 0xfe0d, 0x0017, 0x44cd, 0x0000, 0x000b, 0x000a, 0x002b, 0xff01, 0x0023, 0x0012,
            0x0005, 0x000d, 0x001b,
        ],
        ..read
    };
    assert_eq!(fingerprint(&later, Transport::Tcp), "t13d1516h2_8daaf6152771_d8a2da3f94cd");
    assert_eq!(fingerprint(&ClientHello::default(), Transport::Quic), "q00i000000_000000000000_000000000000");
}

#[test]
fn protocols_in_fingerprints() {
    let cases: [(&[u8], &str); 10] = [
        (b"h2", "h2"),
        (b"http/1.1", "h1"),
        (b"h", "hh"),
        (b"", "00"),
        (&[0xab], "ab"),
        (&[0xab, 0xcd], "ad"),
        (&[0x30, 0xab], "3b"),
        (&[0x30, 0x31, 0xab, 0xcd], "3d"),
        (&[0x30, 0xab, 0xcd, 0x31], "01"),
        (&[0xc0, 0xff], "cf"),
    ];
    for (protocol, shown) in cases {
        let hello = ClientHello { alpn: vec![protocol.into()], ..ClientHello::default() };
        assert_eq!(&fingerprint(&hello, Transport::Tcp)[8..10], shown, "{protocol:?}");
    }
}

#[test]
fn the_initial_of_rfc_9001() {
    let frames = hex(RFC_9001);
    let pieces: Vec<_> = Frames::new(&frames).collect();
    let [Ok((0, piece))] = pieces.as_slice() else { panic!("{pieces:?}") };
    let mut assembly = Assembly::default();
    assembly.add(0, piece);
    let read = hello(assembly.found());
    assert_eq!(read.sni.as_deref(), Some(&b"example.com"[..]));
    assert_eq!(read.alpn, [b"alpn".as_slice().into()]);
    assert_eq!((read.ciphers.as_slice(), read.versions.as_slice()), (&[0x1301, 0x1302][..], &[0x0304][..]));
    assert!(read.ja4.starts_with("q13d0211an_"), "{}", read.ja4);
}

#[test]
fn packets_of_a_datagram() {
    let head = |first: u8| vec![first, 0, 0, 0, 1, 2, 7, 8, 0];
    let initial = [head(0xc1), vec![0, 3, 1, 2, 3]].concat();
    let zero_rtt = [head(0xd1), vec![2, 9, 9]].concat();
    let datagram = [initial.clone(), zero_rtt, initial.clone(), vec![0; 40]].concat();
    let found: Vec<_> = initials(&datagram).map(|one| (one.start, one.number, one.end, one.destination)).collect();
    assert_eq!(found, [(0, 11, 14, &[7, 8][..]), (26, 37, 40, &[7, 8][..])]);
    // A short header, another version, a length beyond the datagram, no datagram.
    for bad in [&[0x40, 1, 2][..], &[0xc0, 0, 0, 0, 9, 0, 0, 0, 0], &[0xc0, 0, 0, 0, 1, 0, 0, 0, 9, 1], &[]] {
        assert_eq!(initials(bad).count(), 0, "{bad:?}");
    }
    let frames: Vec<_> = Frames::new(&[0, 1, 2, 5, 0, 0, 0, 6, 1, 2, 8, 9, 0xff]).collect();
    assert_eq!(frames, [Ok((1, &[8, 9][..])), Err(Malformed("a frame that no Initial has"))]);
}

#[test]
fn what_is_no_hello() {
    let stream = records(&message(&chrome()), 100);
    let not = |bytes: &[u8]| matches!(from_stream(bytes), Found::Not(_));
    assert!(not(b"GET / HTTP/1.1\r\n"));
    assert!(not(&[22, 2]) && not(&[22, 3, 1, 0, 0]) && not(&[22, 3, 1, 0x40, 1]) && not(&[22, 3, 1, 0, 1, 2]));
    let mut longer = stream.clone();
    longer[8] += 1;
    assert_eq!(from_stream(&longer), Found::More, "one byte is still to come");
    longer.extend([22, 3, 1, 0, 1, 0]);
    assert!(not(&longer), "behind the extensions");
    assert_eq!(from_stream(&[22, 3, 1, 64, 0, 1, 0, 64, 0]), Found::TooLarge);
    let mut assembly = Assembly::default();
    assembly.add(MAX_HELLO_BYTES as u64, &[0]);
    assert_eq!(assembly.found(), Found::TooLarge);
    let mut assembly = Assembly::default();
    (0..100).for_each(|n| assembly.add(n * 2 + 1, &[0]));
    assert_eq!(assembly.found(), Found::TooLarge, "too many gaps");
    let whole = message(&chrome());
    let (before, behind) = (&whole[..50], &whole[40..]);
    let mut assembly = Assembly::default();
    assembly.add(40, behind);
    assembly.add(0, &[&before[..49], &[!before[49]]].concat());
    assembly.add(0, before);
    assert!(matches!(assembly.found(), Found::Not(_)), "two hellos in one");
}

fn any_hello() -> impl Strategy<Value = ClientHello> {
    let codes = || prop::collection::vec(any::<u16>().prop_filter("GREASE", |code| !is_grease(*code)), 0..20);
    let word = || prop::collection::vec(any::<u8>().prop_map(|byte| (byte | 1).to_ascii_lowercase()), 3..9);
    (codes(), codes(), codes(), codes(), codes(), prop::collection::vec(word(), 0..4), prop::option::of(word()))
        .prop_map(|(ciphers, extensions, groups, signature_algorithms, versions, alpn, sni)| {
            use extension::{ALPN, SERVER_NAME, SIGNATURE_ALGORITHMS, SUPPORTED_GROUPS, SUPPORTED_VERSIONS};
            let read = [SERVER_NAME, ALPN, SUPPORTED_GROUPS, SUPPORTED_VERSIONS, SIGNATURE_ALGORITHMS];
            let mut kinds: Vec<u16> = extensions.into_iter().filter(|kind| !read.contains(kind)).collect();
            kinds.extend(read.into_iter().filter(|kind| *kind != SERVER_NAME || sni.is_some()));
            ClientHello {
                sni: sni.map(Into::into),
                alpn: alpn.into_iter().map(Into::into).collect(),
                extensions: kinds,
                ciphers,
                versions,
                groups,
                signature_algorithms,
                ..ClientHello::default()
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(written in any_hello(), longest in 1_usize..600, cuts in prop::collection::vec(0_usize..900, 0..6)) {
        let message = message(&written);
        let stream = records(&message, longest);
        let read = hello(from_stream(&stream));
        let ja4 = fingerprint(&written, Transport::Tcp);
        prop_assert_eq!(&read, &ClientHello { length: message.len() as u32, ja4, ..written });
        for cut in 0..stream.len() {
            prop_assert_eq!(from_stream(&stream[..cut]), Found::More);
        }
        // In packets: pieces from the last to the first, some of them twice.
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(message.len())).chain([0, message.len()]).collect();
        cuts.sort_unstable();
        let mut assembly = Assembly::default();
        for pair in cuts.windows(2).rev() {
            prop_assert!(matches!(assembly.found(), Found::More | Found::Hello(_)));
            assembly.add(pair[0].saturating_sub(3) as u64, &message[pair[0].saturating_sub(3)..pair[1]]);
        }
        let packets = hello(assembly.found());
        prop_assert_eq!(&packets.ja4[1..], &read.ja4[1..]);
        prop_assert_eq!(ClientHello { ja4: read.ja4.clone(), ..packets }, read);
    }

    #[test]
    fn garbage_is_read_over(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        from_stream(&[&[22, 3, 1, 1, 40, 1, 0, 1, 0][..], &bytes].concat());
        for initial in initials(&[&[0xc0, 0, 0, 0, 1][..], &bytes].concat()) {
            prop_assert!(initial.start < initial.number && initial.number <= initial.end && initial.end <= bytes.len() + 5);
        }
        let mut assembly = Assembly::default();
        Frames::new(&bytes).flatten().for_each(|(offset, piece)| assembly.add(offset, piece));
        assembly.found();
    }
}
