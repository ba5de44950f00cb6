use super::*;

fn about(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (source, destination) = text.split_once(' ')?;
    Some((source.parse().ok()?, destination.parse().ok()?))
}

fn v2(kind: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend_from_slice(&[kind, family]);
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn lines() {
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Some("192.0.2.1:56324 198.51.100.1:443")),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Some("[2001:db8::1]:1 [2001:db8::2]:65535")),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 whatever\r\n", None),
    ] {
        let length = line.len();
        let with_more = format!("{line}GET / HTTP/1.1\r\n");
        let found = Found::Header { length, about: expected.and_then(about) };
        assert_eq!(parse(with_more.as_bytes()), found, "{line}");
        for cut in 0..length {
            assert_eq!(parse(&line.as_bytes()[..cut]), Found::More, "{line} cut at {cut}");
        }
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    for bad in [
        "GET / HTTP/1.1\r\n",
        "PROXX",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 056 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +56 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56 65536\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.1 56 443\r\n",
        "PROXY TCP4 ::1 ::2 56 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 56 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 56 443\r\n",
        "PROXY \r\n",
        &endless,
    ] {
        assert!(matches!(parse(bad.as_bytes()), Found::Not(_)), "{bad:?} was taken");
    }
}

#[test]
fn binary_headers() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 187];
    let expected = about("192.0.2.1:56324 198.51.100.1:443");
    let plain = v2(0x21, 0x11, &v4);
    assert_eq!(parse(&plain), Found::Header { length: 28, about: expected });
    for cut in 0..plain.len() {
        assert_eq!(parse(&plain[..cut]), Found::More, "cut at {cut}");
    }
    // With an extension, and with bytes behind the header.
    let mut extended = v2(0x21, 0x11, &[v4.as_slice(), &[3, 0, 4, 1, 2, 3, 4]].concat());
    extended.push(22);
    assert_eq!(parse(&extended), Found::Header { length: 35, about: expected });
    assert_eq!(parse(&v2(0x20, 0x11, &v4)), Found::Header { length: 28, about: None }, "LOCAL");
    assert_eq!(parse(&v2(0x21, 0, b"anything")), Found::Header { length: 24, about: None }, "of no family");
    for (bad, why) in [
        (v2(0x31, 0x11, &v4), "version 3"),
        (v2(0x22, 0x11, &v4), "a command that is not known"),
        (v2(0x21, 0x12, &v4), "UDP"),
        (v2(0x21, 0x31, &[0; 216]), "a Unix socket"),
        (v2(0x21, 0x11, &v4[..11]), "too short for its family"),
        (v2(0x21, 0x21, &v4), "too short for IPv6"),
        (v2(0x21, 0x11, &[v4.as_slice(), &[3, 0, 9, 1]].concat()), "an extension beyond the end"),
        (v2(0x21, 0x11, &[v4.as_slice(), &[3, 0]].concat()), "half an extension"),
        (v2(0x21, 0x11, &[0; 2_000]), "too long"),
    ] {
        assert!(matches!(parse(&bad), Found::Not(_)), "{why} was taken");
    }
}

#[test]
fn of_a_connection_of_its_own_nobody_is_the_client() {
    for version in [Version::V1, Version::V2] {
        let bytes = write_own(version);
        assert_eq!(parse(&bytes), Found::Header { length: bytes.len(), about: None });
    }
}

#[test]
fn what_is_written_is_read() {
    for (client, reached) in [
        ("192.0.2.1:1", "198.51.100.1:443"),
        ("[2001:db8::1]:65535", "[2001:db8::2]:80"),
        ("[2001:db8::1]:5", "198.51.100.1:443"),
    ] {
        let (client, reached): (SocketAddr, SocketAddr) = (client.parse().unwrap(), reached.parse().unwrap());
        for version in [Version::V1, Version::V2] {
            let bytes = write(version, client, reached);
            let Found::Header { length, about: Some((source, destination)) } = parse(&bytes) else {
                panic!("{version:?} of {client} was not read");
            };
            let same = |one: SocketAddr, other: SocketAddr| {
                (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
            };
            assert!(length == bytes.len() && same(source, client) && same(destination, reached));
        }
    }
}

proptest::proptest! {
    #[test]
    fn headers_lie_within_the_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64), binary: bool) {
        let begin: &[u8] = if binary { SIGNATURE } else { LINE };
        for bytes in [bytes.clone(), [begin, &bytes].concat()] {
            if let Found::Header { length, .. } = parse(&bytes) {
                proptest::prop_assert!(length <= bytes.len().min(MAX_HEADER));
            }
        }
    }
}
