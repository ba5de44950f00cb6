use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::{Body, Chunks, Framing, Head, Last, Piece, Wrong, body_of, encode, encode_trailers, parse};
use crate::fields::Fields;

fn head(text: &str) -> Result<Option<Head>, Wrong> {
    parse(&mut BytesMut::from(text), &Method::GET, &mut Last::default())
}

#[test]
fn framing_is_what_the_rfc_says() {
    for (fields, framing, keeps) in [
        ("Content-Length: 5\r\n", Framing::Length(5), true),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Length(5), true),
        ("Content-Length: 5, 5\r\n", Framing::Length(5), true),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked, true),
        ("", Framing::Close, false),
        ("Content-Length: 5\r\nConnection: foo, CLOSE\r\n", Framing::Length(5), false),
    ] {
        let head = head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\nrest")).unwrap().unwrap();
        assert_eq!((head.framing, head.keeps), (framing, keeps), "{fields}");
    }
    let old =
        |fields: &str| head(&format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{fields}\r\n")).unwrap().unwrap().keeps;
    assert_eq!([old(""), old("Connection: keep-alive\r\n")], [false, true]);
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    for status in ["100 Continue", "204 No Content", "304 Not Modified"] {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(head(&text).unwrap().unwrap().framing, Framing::Length(0), "{status}");
    }
    let mut came = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(parse(&mut came, &Method::HEAD, &mut Last::default()).unwrap().unwrap().framing, Framing::Length(0));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (text, wrong) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Wrong::Framing),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Wrong::Framing),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Wrong::Framing),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", Wrong::Framing),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Wrong::Framing),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Wrong::Framing),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Wrong::Framing),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Wrong::Framing),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Wrong::Head),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Wrong::Head),
        ("HTTP/2.0 200 OK\r\n\r\n", Wrong::Head),
        ("HTTP/1.1 099 OK\r\n\r\n", Wrong::Head),
        ("SSH-2.0-OpenSSH\r\n", Wrong::Head),
    ] {
        assert_eq!(head(text).unwrap_err(), wrong, "{text:?}");
    }
    let long = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(super::MAX_FIELDS + 1));
    assert_eq!(head(&long).unwrap_err(), Wrong::Long);
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(super::MAX_HEAD));
    assert_eq!(head(&endless).unwrap_err(), Wrong::Long);
}

#[test]
fn a_header_leaves_what_stands_behind_it() {
    let mut came =
        BytesMut::from("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nE:\r\n\r\nbody");
    let hints = parse(&mut came, &Method::GET, &mut Last::default()).unwrap().unwrap();
    assert_eq!((hints.status.as_u16(), hints.fields["link"].as_bytes()), (103, &b"</a>"[..]));
    let whole = parse(&mut came, &Method::GET, &mut Last::default()).unwrap().unwrap();
    assert_eq!((whole.fields["x"].as_bytes(), whole.fields["e"].as_bytes()), (&b"y"[..], &b""[..]));
    assert_eq!(&came[..], b"body");
}

/// The body's bytes and trailers, and what is left.
fn read(chunks: &mut Chunks, came: &mut BytesMut) -> Result<(Vec<u8>, Option<HeaderMap>), Wrong> {
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(piece) = chunks.next(came)? {
        match piece {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(fields) => trailers = Some(fields),
            Piece::End => break,
        }
        match chunks.settle(came)? {
            Some(Piece::Trailers(fields)) => trailers = Some(fields),
            Some(Piece::Data(_)) => panic!("data out of turn"),
            Some(Piece::End) | None => {}
        }
    }
    Ok((body, trailers))
}

#[test]
fn chunks_are_put_together() {
    let mut came = BytesMut::from("3;a=b\r\nabc\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\nHTTP");
    let mut chunks = Chunks::default();
    let (body, trailers) = read(&mut chunks, &mut came).unwrap();
    assert_eq!((&body[..], trailers.unwrap()["x"].as_bytes()), (&b"abc0123456789"[..], &b"y"[..]));
    assert!(chunks.is_ended());
    assert_eq!(&came[..], b"HTTP");
}

#[test]
fn the_end_is_known_with_the_last_bytes() {
    let mut came = BytesMut::from("3\r\nabc\r\n0\r\n\r\n");
    let mut chunks = Chunks::default();
    assert!(matches!(chunks.next(&mut came), Ok(Some(Piece::Data(_)))));
    assert!(matches!(chunks.settle(&mut came), Ok(Some(Piece::End))));
    assert!(chunks.is_ended() && came.is_empty());
    let mut came = BytesMut::from("3\r\nabc\r\n2\r\nde\r\n");
    let mut chunks = Chunks::default();
    assert!(matches!(chunks.next(&mut came), Ok(Some(Piece::Data(_)))));
    assert!(matches!(chunks.settle(&mut came), Ok(None)));
    assert!(matches!(chunks.next(&mut came), Ok(Some(Piece::Data(data))) if &data[..] == b"de"));
}

#[test]
fn broken_chunks_are_refused() {
    for (text, wrong) in [
        ("x\r\n", Wrong::Chunk),
        ("+3\r\nabc\r\n", Wrong::Chunk),
        ("\r\n", Wrong::Chunk),
        ("3\nabc\r\n", Wrong::Chunk),
        ("3\r\nabcd\r\n", Wrong::Chunk),
        ("3\r\nabc\n0\r\n", Wrong::Chunk),
        ("3\r;\r\nabc", Wrong::Chunk),
        ("10000000000000000\r\n", Wrong::Chunk),
        ("0\r\nno field\r\n\r\n", Wrong::Trailers),
    ] {
        assert_eq!(read(&mut Chunks::default(), &mut BytesMut::from(text)).unwrap_err(), wrong, "{text:?}");
    }
    let endless = "1".repeat(super::MAX_CHUNK_LINE + 1);
    assert_eq!(read(&mut Chunks::default(), &mut BytesMut::from(&*endless)).unwrap_err(), Wrong::Chunk);
    let trailers = format!("0\r\nA: {}", "b".repeat(super::MAX_TRAILERS));
    assert_eq!(read(&mut Chunks::default(), &mut BytesMut::from(&*trailers)).unwrap_err(), Wrong::Trailers);
}

#[test]
fn a_request_is_written_with_one_framing() {
    let mut fields = Fields::new();
    fields.insert("x-a", HeaderValue::from_static("b"));
    fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let written = |fields: &Fields, body| {
        let mut out = Vec::new();
        encode(&mut out, &Method::POST, "/p?q", fields, body);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(&fields, Body::None), "POST /p?q HTTP/1.1\r\nx-a: b\r\n\r\n");
    assert_eq!(written(&fields, Body::Chunked), "POST /p?q HTTP/1.1\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(written(&fields, Body::Length(7)), "POST /p?q HTTP/1.1\r\nx-a: b\r\ncontent-length: 7\r\n\r\n");
    fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    assert_eq!(written(&fields, Body::None), "POST /p?q HTTP/1.1\r\nx-a: b\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn the_header_and_the_body_agree_on_the_length() {
    let mut fields = Fields::new();
    assert_eq!(body_of(&fields, None), Ok(Body::Chunked));
    assert_eq!(body_of(&fields, Some(3)), Ok(Body::Length(3)));
    fields.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
    assert_eq!(body_of(&fields, None), Ok(Body::Length(3)));
    assert_eq!(body_of(&fields, Some(3)), Ok(Body::Length(3)));
    assert_eq!(body_of(&fields, Some(4)), Err(Wrong::Framing));
}

#[test]
fn trailers_cannot_say_what_a_header_must() {
    let mut fields = HeaderMap::new();
    for name in ["content-length", "x-forwarded-for", "cookie", "grpc-status"] {
        fields.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    fields.insert(TRAILER, HeaderValue::from_static("x"));
    let mut out = Vec::new();
    encode_trailers(&mut out, Some(&fields));
    assert_eq!(String::from_utf8(out).unwrap(), "0\r\ngrpc-status: 1\r\n\r\n");
    let mut out = Vec::new();
    encode_trailers(&mut out, None);
    assert_eq!(out, b"0\r\n\r\n");
}

proptest! {
    /// In whatever pieces a body comes: the same bytes, and never a panic.
    #[test]
    fn pieces_do_not_matter(
        parts in proptest::collection::vec(
            proptest::sample::select(vec!["3\r\nabc\r\n", "5;x=y\r\nhello\r\n", "1\r\n", "0\r\n", "\r\n", "X: y\r\n", "a", "ff", ";", "\n", "\u{e9}"]),
            0..20,
        ),
        cuts in proptest::collection::vec(1_usize..7, 1..20),
    ) {
        let wire = parts.concat();
        let mut whole = BytesMut::from(&*wire);
        let mut at_once = Chunks::default();
        let expected = read(&mut at_once, &mut whole);
        let (mut chunks, mut came, mut body, mut rest) = (Chunks::default(), BytesMut::new(), Vec::new(), wire.as_bytes());
        let mut failed = None;
        for cut in cuts.iter().cycle() {
            if rest.is_empty() || chunks.is_ended() || failed.is_some() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            came.extend_from_slice(piece);
            rest = after;
            match read(&mut chunks, &mut came) {
                Ok((more, _)) => body.extend(more),
                Err(wrong) => failed = Some(wrong),
            }
        }
        match expected {
            Ok((bytes, _)) => {
                prop_assert_eq!(failed, None);
                prop_assert_eq!(body, bytes);
                prop_assert_eq!(chunks.is_ended(), at_once.is_ended());
            }
            Err(wrong) => prop_assert_eq!(failed, Some(wrong)),
        }
    }

    /// Any bytes as a header: an answer or an error, and nothing is taken unless it is whole.
    #[test]
    fn any_bytes_are_a_header_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut came = BytesMut::from(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat()[..]);
        let before = came.len();
        if let Ok(None) = parse(&mut came, &Method::GET, &mut Last::default()) {
            prop_assert_eq!(came.len(), before);
        }
    }
}
