use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn edit(list: &str, item: &str, edit: EditKind, until: Option<i64>) -> Edit {
    let until = until.map(|seconds| Timestamp::from_second(seconds).expect("a time"));
    Edit { list: list.to_owned(), item: item.to_owned(), edit, until }
}

#[test]
fn edits_stand_until_their_time_and_can_be_put_back() {
    let mut edits = Edits::default();
    let undo = edits.put(&edit("p/l", "a", EditKind::Add, Some(10)));
    assert_eq!((undo.edit, edits.len()), (EditKind::Forget, 1));
    let back = edits.put(&edit("p/l", "a", EditKind::Remove, None));
    assert_eq!((back.edit, back.until), (EditKind::Add, Some(Timestamp::from_second(10).expect("a time"))));
    edits.put(&back);
    let later = Timestamp::from_second(10).expect("a time");
    assert_eq!((edits.next_expiry(NOW), edits.next_expiry(later)), (Some(later), None));
    assert!(edits.standing("p/l", "a", NOW).is_some_and(|s| s.added) && edits.standing("p/l", "a", later).is_none());
    edits.put(&undo);
    assert!(edits.is_empty() && edits.of("p/l", NOW).next().is_none());
    edits.put(&edit("p/l", "a", EditKind::Add, Some(10)));
    edits.expire(later);
    assert!(edits.is_empty());
}

#[test]
fn the_journal_gives_the_same_again() {
    let lines = [
        edit("p/l", "a", EditKind::Add, None),
        edit("p/l", "b", EditKind::Remove, Some(99)),
        edit("p/m", "a", EditKind::Add, None),
        edit("p/m", "a", EditKind::Forget, None),
    ];
    let text: Vec<String> = lines.iter().map(Edit::line).collect();
    let (edits, broken) = Edits::read(text.iter().map(String::as_str).chain(["{", "torn"]), NOW);
    assert_eq!((edits.len(), broken), (2, 2));
    let journal: Vec<String> = edits.journal().collect();
    assert_eq!(journal, text[..2]);
}

#[test]
fn a_full_journal_refuses_new_items_only() {
    let lines = [
        edit("p/l", "over", EditKind::Add, Some(5)),
        edit("p/l", "a", EditKind::Add, None),
        edit("p/l", "b", EditKind::Add, None),
        edit("p/l", "c", EditKind::Add, None),
        edit("p/l", "a", EditKind::Remove, None),
        edit("p/l", "b", EditKind::Forget, None),
        edit("p/l", "d", EditKind::Add, None),
        edit("p/l", "d", EditKind::Remove, Some(5)),
    ];
    let text: Vec<String> = lines.iter().map(Edit::line).collect();
    let now = Timestamp::from_second(5).expect("a time");
    let read = |lines: &[String]| Edits::read_most(lines.iter().map(String::as_str), now, 2);
    let (edits, left_out) = read(&text[..7]);
    assert_eq!((edits.journal().collect::<Vec<_>>(), left_out), (vec![text[4].clone(), text[6].clone()], 1));
    assert_eq!(read(&text).0.journal().collect::<Vec<_>>(), [text[4].clone()], "the last of an item counts");
}

#[test]
fn lists_are_edited() {
    let mut edits = Edits::default();
    for (item, kind) in [("192.0.2.7", EditKind::Remove), ("203.0.113.0/24", EditKind::Add)] {
        edits.put(&edit("p/l", item, kind, None));
    }
    let networks = |text: &str| RangeSet::new(network_ranges(text.parse().expect("a network")));
    let own = Arc::new(networks("192.0.2.0/24"));
    let over = edits.over_ranges("p/l", NOW, &own);
    let number = |text: &str| crate::ranges::number(text.parse().expect("an address"));
    let is = |text: &str| over.contains(number(text));
    assert_eq!([is("192.0.2.6"), is("192.0.2.7"), is("203.0.113.9")], [true, false, true]);
    assert!(Arc::ptr_eq(&edits.over_ranges("p/other", NOW, &own), &own));
    let strings: HashSet<Box<[u8]>> = HashSet::from([b"192.0.2.7"[..].into()]);
    let strings = edits.over_strings("p/l", NOW, Arc::new(strings));
    assert_eq!(*strings, HashSet::from([b"203.0.113.0/24"[..].into()]));
    assert_eq!(edit_item(ItemKind::Hash, &"Ab".repeat(32)), Ok("ab".repeat(32)));
    assert!(edit_item(ItemKind::Hash, "abc").is_err());
}

#[test]
fn an_edit_that_says_what_the_policy_says_is_none() {
    let strings = HashSet::from([b"own"[..].into()]);
    let list = ListSummary::new("p/l".to_owned(), 1, NamedList::Text(Arc::new(strings)));
    let (added, removed) = (Standing { added: true, until: None }, Standing { added: false, until: None });
    let edit = |item: &str, add, before| list.edit(item.to_owned(), add, None, before).edit;
    assert_eq!(edit("new", true, None), EditKind::Add);
    assert_eq!(edit("new", false, Some(added)), EditKind::Forget);
    assert_eq!(edit("own", false, None), EditKind::Remove);
    assert_eq!(edit("own", true, Some(removed)), EditKind::Forget);
    assert_eq!(edit("own", false, Some(added)), EditKind::Remove);
    let networks = Arc::new(RangeSet::new(network_ranges("192.0.2.0/24".parse().expect("a network"))));
    let list = ListSummary::new("p/n".to_owned(), 1, NamedList::Cidr(networks));
    let edit = |item: &str, add, before| list.edit(item.to_owned(), add, None, before).edit;
    assert_eq!(edit("192.0.2.7", false, Some(added)), EditKind::Remove, "the policy's network holds it");
    assert_eq!(edit("203.0.113.7", false, Some(added)), EditKind::Forget);
    assert_eq!(edit("203.0.113.7", false, None), EditKind::Remove, "it may lie in a network that was added");
}

#[test]
fn items_are_checked() {
    assert_eq!(edit_item(ItemKind::Cidr, "192.0.2.1/32").as_deref(), Ok("192.0.2.1"));
    assert_eq!(edit_item(ItemKind::Cidr, "2001:DB8::/32").as_deref(), Ok("2001:db8::/32"));
    assert!(edit_item(ItemKind::Cidr, "192.0.2.1/24").is_err() && edit_item(ItemKind::Cidr, "x").is_err());
    assert!(
        edit_item(ItemKind::String, "").is_err()
            && edit_item(ItemKind::String, &"x".repeat(MAX_EDIT_BYTES + 1)).is_err()
    );
}
