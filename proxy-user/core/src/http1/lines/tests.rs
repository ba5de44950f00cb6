use proptest::prelude::*;

use super::*;
use crate::fields::MOST_SHARED;

/// What the parser proper makes of fields.
fn parsed(fields: &[u8]) -> Option<Fields> {
    let mut room = [httparse::EMPTY_HEADER; 100];
    let Ok(httparse::Status::Complete((length, parsed))) = httparse::parse_headers(fields, &mut room) else {
        return None;
    };
    assert_eq!(length, fields.len());
    let pairs = parsed.iter().map(|field| {
        Some((HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?))
    });
    pairs.collect()
}

fn found(came: &[u8], fields: usize, last: Last) -> Option<Lines> {
    let mut lines = Lines::default();
    lines.find(came, fields, last).map(|()| lines)
}

/// The same by lines, and what is left; anew, known half, known, and the same as last.
fn by_lines(fields: &[u8]) -> [Option<Fields>; 4] {
    let whole = [b"GET / HTTP/1.1\r\n", fields, b"body"].concat();
    let mut last = Last::default();
    [(); 4].map(|()| {
        let mut came = BytesMut::from(&whole[..]);
        let lines = found(&came, 100, last)?;
        assert_eq!(lines.first(&came), b"GET / HTTP/1.1\r\n");
        assert_eq!(lines.again, last.0.is_some());
        let taken = lines.take(&mut came, &mut last);
        assert_eq!(&came[..], if taken.is_some() { b"body" } else { &whole[..] });
        if let Some(fields) = &taken {
            let special = fields.iter().map(|(name, value)| Special::one(name, value));
            assert_eq!(fields.special(), special.collect());
        }
        taken
    })
}

#[test]
fn each_byte_is_taken_where_the_parser_takes_it() {
    for byte in 0..=u8::MAX {
        for line in
            [&[b'a', byte, b':', b'b'][..], &[byte, b':', b'b'], &[b'a', b':', b'b', byte, b'c'], &[b'a', b':', byte]]
        {
            let fields = [line, b"\r\n\r\n"].concat();
            let expected = if byte == b'\n' { None } else { parsed(&fields) };
            assert_eq!(by_lines(&fields), [(); 4].map(|()| expected.clone()), "{:?}", line.escape_ascii());
        }
    }
}

#[test]
fn what_is_not_whole_or_not_plain_is_left_alone() {
    for head in
        ["", "\r\n", "\r\n\r\n", "a\r\n", "a\r\nb: c\r\n", "a\nb: c\r\n\r\n", "a\r\nb: c\n\r\n", "a\r\nb: c\r\n\n"]
    {
        assert!(found(head.as_bytes(), 100, Last::default()).is_none(), "{head:?}");
    }
    let many = format!("a\r\n{}\r\n", "b: c\r\n".repeat(3));
    assert!(found(many.as_bytes(), 2, Last::default()).is_none());
    assert_eq!(found(many.as_bytes(), 3, Last::default()).unwrap().length(), many.len());
}

#[test]
fn only_what_came_last_is_the_same_as_last() {
    let fields = "x-last: a\r\nx-last: b\r\n\r\n";
    by_lines(fields.as_bytes());
    let mut last = Last::default();
    let mut came = BytesMut::from(&*format!("a\r\n{fields}"));
    found(&came, 100, last).unwrap().take(&mut came, &mut last).unwrap();
    assert!(last.0.is_some());
    let again = |head: &str, most| found(head.as_bytes(), most, last).map(|lines| (lines.again, lines.length()));
    let length = |first: &str| first.len() + fields.len();
    for (first, expected) in
        [("a b\r\n", Some((true, length("a b\r\n")))), ("\r\n", None), ("\n", None), ("a b\n", None)]
    {
        assert_eq!(again(&format!("{first}{fields}body"), 2), expected, "{first:?}");
    }
    assert_eq!(again(&format!("a\r\n{fields}"), 1), None);
    // Not whole yet, or other ones.
    assert_eq!(again(&format!("a\r\n{}", &fields[..fields.len() - 1]), 2), None);
    for other in ["x-last: a\r\nx-last: c\r\n\r\n", "x-last: a\r\n\r\n", "y: z\r\nx-last: a\r\nx-last: b\r\n\r\n"] {
        assert_eq!(again(&format!("a\r\n{other}"), 100), Some((false, 3 + other.len())), "{other:?}");
    }
    let other = BytesMut::from("a\r\nx-other: c\r\n\r\n");
    found(&other, 100, last).unwrap().take(&mut other.clone(), &mut last).unwrap();
    assert!(last.0.is_none());
}

#[test]
fn secrets_and_long_lines_are_not_remembered() {
    let long = format!("x-long: {}\r\n", "x".repeat(MOST_OF_LINE));
    for (line, kept) in [("x-plain: said twice\r\n", true), ("Cookie: said=twice\r\n", false), (&*long, false)] {
        let fields = format!("{line}\r\n");
        by_lines(fields.as_bytes());
        assert_eq!(LINES.with_borrow(|lines| lines.texts().any(|text| text == line.as_bytes())), kept, "{line}");
        let together = line.len() > MOST_OF_LINE || kept;
        assert_eq!(HEADS.with_borrow(|heads| heads.texts().any(|text| text == fields.as_bytes())), together, "{line}");
    }
    for long in [format!("x-long: {}\r\n\r\n", "x".repeat(MOST_OF_HEAD)), "x: y\r\n".repeat(MOST_SHARED + 1) + "\r\n"] {
        by_lines(long.as_bytes());
        assert!(!HEADS.with_borrow(|heads| heads.texts().any(|text| text == long.as_bytes())));
    }
}

#[test]
fn line_feeds_are_found_wherever_they_stand() {
    for word in [*b"abcdefgh", *b"\n\x0b\n\n\x8a\x00\xff\n", [b'\n'; 8], [0x8a; 8], [0x0b; 8]] {
        let expected: Vec<u32> = (0..8).filter(|at| word[*at as usize] == b'\n').collect();
        let mut feeds = line_feeds(u64::from_le_bytes(word));
        let mut found = Vec::new();
        while feeds != 0 {
            found.push(feeds.trailing_zeros() / 8);
            feeds &= feeds - 1;
        }
        assert_eq!(found, expected, "{word:?}");
    }
}

proptest! {
    /// Whatever the fields are made of: the same as the parser proper has, or nothing where it has nothing.
    #[test]
    fn lines_are_what_the_parser_says(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "Host", "connection", "Content-Length", ":", ": ", " ", "\t", "\r", "\r\n", "\r\n", "\u{e9}", "\0", "\"",
                "Host: a\r\n", "TE: trailers\r\n", "x-a:b\r\n", "x-a: \r\n", "x-a:\t b \t\r\n", "close",
            ]),
            0..20,
        ),
    ) {
        let mut fields = parts.concat();
        // Up to the end that comes first.
        fields.push_str("\r\n\r\n");
        let end = if fields.starts_with("\r\n") { 2 } else { fields.find("\r\n\r\n").map_or(0, |at| at + 4) };
        let fields = &fields.as_bytes()[..end];
        let expected = parsed(fields);
        prop_assert_eq!(by_lines(fields), [(); 4].map(|()| expected.clone()));
    }
}
