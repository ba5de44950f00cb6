use http::header::{CONNECTION, COOKIE, DATE, HOST, VIA};

use super::*;

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn fields(pairs: &[(HeaderName, &'static str)]) -> Fields {
    pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
}

#[test]
fn fields_of_a_name_are_found_in_their_order() {
    let all = fields(&[(VIA, "1"), (HOST, "a"), (VIA, "2"), (HeaderName::from_static("x-own"), "")]);
    assert_eq!(
        (all.len(), all.get(VIA), all.get("hOsT"), all.get(COOKIE)),
        (4, Some(&value("1")), Some(&value("a")), None)
    );
    assert_eq!(all.get_all(&VIA).collect::<Vec<_>>(), ["1", "2"]);
    assert!(all.contains_key("X-Own".to_owned()) && !all.contains_key("x-ow"));
    assert_eq!(all.keys().collect::<Vec<_>>(), ["via", "host", "via", "x-own"]);
    assert_eq!(all["host"], "a");
}

#[test]
fn a_field_takes_the_place_of_all_of_its_name() {
    let mut all = fields(&[(VIA, "1"), (HOST, "a"), (VIA, "2"), (COOKIE, "c"), (VIA, "3")]);
    all.insert(VIA, value("4"));
    assert_eq!(all, fields(&[(HOST, "a"), (COOKIE, "c"), (VIA, "4")]));
    all.insert_missing(VIA, || value("5"));
    all.insert_missing(CONNECTION, || value("x"));
    assert_eq!(all, fields(&[(HOST, "a"), (COOKIE, "c"), (VIA, "4"), (CONNECTION, "x")]));
}

#[test]
fn what_is_remembered_is_as_if_it_were_its_own() {
    let pairs = [(VIA, "1"), (HOST, "a"), (VIA, "2"), (COOKIE, "c")];
    let (mut own, shared) = (fields(&pairs), Arc::new(Shared::of(&fields(&pairs)).unwrap()));
    let mut other = Fields::of(Arc::clone(&shared));
    let same = |own: &Fields, other: &Fields| {
        assert_eq!((own, own.len()), (other, other.len()));
        assert!(own.iter().rev().eq(other.iter().rev()));
        for name in [VIA, HOST, COOKIE, CONNECTION] {
            assert!(own.get_all(&name).eq(other.get_all(&name)), "{name}");
        }
        let [lines, others] = [own, other].map(|fields| {
            let mut out = Vec::new();
            fields.put_lines(&mut out, |name| *name == COOKIE);
            out
        });
        assert_eq!(lines.escape_ascii().to_string(), others.escape_ascii().to_string());
        let expected = own.iter().filter(|(name, _)| **name != COOKIE);
        let expected: Vec<u8> = expected
            .flat_map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat())
            .collect();
        assert_eq!(lines, expected);
        let [block, others] = [own, other].map(|fields| {
            let mut out = BytesMut::from(&b"before"[..]);
            fields.put_block(&mut out, |name, value, out| {
                out.extend_from_slice(&[name.as_str().len() as u8, value.len() as u8]);
                out.extend_from_slice(value.as_bytes());
            });
            out
        });
        let expected = own
            .iter()
            .flat_map(|(name, value)| [&[name.as_str().len() as u8, value.len() as u8], value.as_bytes()].concat());
        assert_eq!((&block[6..], &block), (&expected.collect::<Vec<_>>()[..], &others));
    };
    same(&own, &other);
    let changes: [fn(&mut Fields); 6] = [
        |all| all.append(VIA, value("3")),
        |all| drop(all.remove(HOST)),
        |all| all.append(HOST, value("b")),
        |all| all.retain(|_, value| value != "1"),
        |all| all.insert(COOKIE, value("d")),
        |all| drop(all.remove(VIA)),
    ];
    for change in changes {
        change(&mut own);
        change(&mut other);
        same(&own, &other);
        same(&own, &other.clone());
    }
    assert_eq!(Fields::of(shared), fields(&pairs));
}

#[test]
fn fields_are_taken_away_by_their_name() {
    let mut all = fields(&[(VIA, "1"), (HOST, "a"), (VIA, "2")]);
    assert_eq!((all.remove(COOKIE), all.remove("vIa"), all.remove(VIA)), (None, Some(value("1")), None));
    assert_eq!(all, fields(&[(HOST, "a")]));
    all.retain(|name, _| name != HOST);
    assert!(all.is_empty());
}

#[test]
fn what_is_special_is_known() {
    let mut all = fields(&[(HOST, "a"), (CONNECTION, "Keep-Alive")]);
    assert_eq!(all.special(), Special::CONNECTION | Special::HOST);
    assert_eq!((all.get_special(Special::HOST, HOST), all.get_special(Special::DATE, DATE)), (Some(&value("a")), None));
    all.insert(COOKIE, value("a=b"));
    all.append(CONNECTION, value("close"));
    assert_eq!(all.special(), Special::CONNECTION | Special::HOST | Special::OPTIONS | Special::COOKIE);
}

#[test]
fn they_become_a_map_and_a_map_them() {
    let all = fields(&[(VIA, "1"), (VIA, "2"), (HOST, "a")]);
    let map = HeaderMap::from(&all);
    assert_eq!(map.get_all(VIA).iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(Fields::from(&map), all);
    assert_eq!(Fields::from(map), all);
}
