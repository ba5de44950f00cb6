use std::os::unix::fs::PermissionsExt as _;

use proxy_core::store::{MAX_REVISIONS, Origin, Who, audit};

use super::*;

/// A fresh directory of this test's own.
fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tidegate-store-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    dir
}

fn texts(text: &str) -> Texts {
    let list = ListText { policy: "p.json".to_owned(), name: "l.txt".to_owned(), text: "192.0.2.1\n".to_owned() };
    Texts { files: vec![("p.json".to_owned(), text.to_owned())], lists: vec![list] }
}

fn put(store: &mut Store, text: &str) -> u64 {
    let number = store.next_number();
    let (texts, time) = (texts(text), jiff::Timestamp::UNIX_EPOCH);
    store.add(Revision::new(number, &texts, 1, Origin::Apply, Who::default(), time), &texts).unwrap();
    store.set_current(Current { revision: Some(number), held: true, newest: None, ..Current::default() }).unwrap();
    number
}

fn objects(dir: &Path) -> usize {
    fs::read_dir(directory(dir).join("objects")).unwrap().count()
}

#[test]
fn what_was_written_is_there_again() {
    let dir = scratch("again");
    let mut store = Store::open(&dir).unwrap();
    assert_eq!((store.current(), store.next_number()), (Current::default(), 1));
    put(&mut store, "one");
    put(&mut store, "two");
    assert!(Store::open(&dir).unwrap_err().to_string().contains("another tidegate has"));
    drop(store);
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.current(), Current { revision: Some(2), held: true, newest: None, ..Current::default() });
    assert_eq!(store.revisions().iter().map(|r| r.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.texts(1).unwrap(), texts("one"));
    assert_eq!(objects(&dir), 3, "the list is shared");
    assert!(store.texts(9).unwrap_err().to_string().contains("there is no revision 9; 1 to 2 are kept"));
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o007;
    assert_eq!((mode(directory(&dir)), mode(directory(&dir).join("current.json"))), (0, 0));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn revisions_are_bounded_and_numbers_never_given_twice() {
    let dir = scratch("bounded");
    let mut store = Store::open(&dir).unwrap();
    for number in 0..MAX_REVISIONS + 3 {
        put(&mut store, &format!("text {number}"));
    }
    assert_eq!((store.revisions().len(), store.revisions()[0].number), (MAX_REVISIONS, 4));
    assert_eq!(objects(&dir), MAX_REVISIONS + 1);
    assert_eq!(fs::read_dir(directory(&dir).join("revisions")).unwrap().count(), MAX_REVISIONS);
    drop(store);
    let mut store = Store::open(&dir).unwrap();
    assert_eq!(put(&mut store, "next"), MAX_REVISIONS as u64 + 4);
    store.remove_last();
    assert_eq!(store.revisions().len(), MAX_REVISIONS - 1);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn altered_and_broken_files_are_told() {
    let dir = scratch("altered");
    let mut store = Store::open(&dir).unwrap();
    put(&mut store, "one");
    let digest = Digest::of(b"one");
    fs::write(directory(&dir).join("objects").join(digest.to_string()), "owned").unwrap();
    assert!(store.texts(1).unwrap_err().to_string().contains("was altered"));
    fs::remove_file(directory(&dir).join("objects").join(digest.to_string())).unwrap();
    assert!(store.texts(1).is_err());
    drop(store);
    fs::write(directory(&dir).join("revisions/7.json"), "{").unwrap();
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.revisions().len(), 1, "the broken one is left out");
    drop(store);
    fs::write(directory(&dir).join("current.json"), "{").unwrap();
    assert!(Store::open(&dir).is_err());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_cannot_be_written_or_read_back_is_told_and_leaves_nothing() {
    let dir = scratch("unwritten");
    let mut store = Store::open(&dir).unwrap();
    put(&mut store, "one");
    let long = texts(&"x".repeat(usize::try_from(MAX_OBJECT_BYTES).unwrap() + 1));
    let revision = Revision::new(2, &long, 1, Origin::Apply, Who::default(), jiff::Timestamp::UNIX_EPOCH);
    assert!(store.add(revision, &long).unwrap_err().to_string().contains("at most"));
    assert_eq!((store.revisions().len(), objects(&dir)), (1, 2));
    // A directory is never replaced by a file.
    let current = directory(&dir).join("current.json");
    fs::remove_file(&current).unwrap();
    fs::create_dir(&current).unwrap();
    let other = Current { revision: None, held: false, newest: None, ..Current::default() };
    assert!(store.set_current(other).is_err());
    assert!(store.current().held && !current.with_extension("new").exists());
    fs::remove_dir(&current).unwrap();
    store.set_current(other).unwrap();
    assert_eq!(store.current(), other);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_audit_log_goes_on_over_starts_and_torn_lines() {
    let dir = scratch("audit");
    let event = || audit::Event {
        time: jiff::Timestamp::UNIX_EPOCH,
        who: Who { uid: Some(7), pid: Some(8) },
        act: audit::Act::Apply,
        outcome: audit::Outcome::Done,
        revision: Some(1),
        digest: None,
        detail: None,
    };
    let file = directory(&dir).join(AUDIT_FILE);
    let check = || {
        let text = fs::read_to_string(&file).unwrap();
        audit::check(text.lines(), read_head(&directory(&dir).join(HEAD_FILE)).unwrap())
    };
    let mut store = Store::open(&dir).unwrap();
    store.audit().append(&event()).unwrap();
    drop(store);
    let mut store = Store::open(&dir).unwrap();
    store.audit().append(&event()).unwrap();
    drop(store);
    assert_eq!((check().entries, check().faults), (2, Vec::new()));

    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{whole}{}", &whole[..50])).unwrap();
    drop(Store::open(&dir).unwrap());
    assert_eq!((check().entries, check().torn, check().faults), (3, 1, Vec::new()));

    // A crash behind the line and before the head: the line counts.
    let before = fs::read(directory(&dir).join(HEAD_FILE)).unwrap();
    let mut store = Store::open(&dir).unwrap();
    store.audit().append(&event()).unwrap();
    drop(store);
    fs::write(directory(&dir).join(HEAD_FILE), before).unwrap();
    let mut store = Store::open(&dir).unwrap();
    store.audit().append(&event()).unwrap();
    assert_eq!((check().entries, check().faults), (5, Vec::new()));

    // Moved away, as by a rotation: numbers and hashes go on.
    fs::remove_file(&file).unwrap();
    drop(store);
    let mut store = Store::open(&dir).unwrap();
    store.audit().append(&event()).unwrap();
    assert_eq!((check().first, check().faults), (6, Vec::new()));

    // And while the daemon runs.
    let away = directory(&dir).join("audit.1");
    fs::rename(&file, &away).unwrap();
    store.audit().append(&event()).unwrap();
    assert_eq!((check().first, check().faults), (7, Vec::new()));
    assert_eq!(fs::read_to_string(&away).unwrap().lines().count(), 1);
    drop(store);

    // Gone on with by somebody else: the log goes on from its head, and it shows.
    let (lines, _) = (0..3).fold((String::new(), audit::Head::default()), |(text, head), _| {
        let (line, head) = head.append(&event());
        (format!("{text}{line}\n"), head)
    });
    fs::write(&file, lines.repeat(4)).unwrap();
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.audit_head().seq, 7);
    assert!(!check().faults.is_empty());
    fs::remove_dir_all(dir).unwrap();
}
