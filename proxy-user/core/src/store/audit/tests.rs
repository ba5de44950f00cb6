use super::*;

fn event(act: Act, detail: &str) -> Event {
    Event {
        time: jiff::Timestamp::UNIX_EPOCH,
        who: Who { uid: Some(0), pid: Some(42) },
        act,
        outcome: Outcome::Done,
        revision: Some(3),
        digest: Some(Digest::of(b"set")),
        detail: Some(detail.to_owned()),
    }
}

fn log(entries: usize) -> (Vec<String>, Head) {
    let mut head = Head::default();
    let line = |number| {
        let (line, next) = head.append(&event(Act::Apply, &format!("change {number}")));
        head = next;
        line
    };
    let lines = (0..entries).map(line).collect();
    (lines, head)
}

fn checked(lines: &[String], head: Head) -> Checked {
    check(lines.iter().map(String::as_str), Some(head))
}

#[test]
fn a_log_as_it_was_written_is_whole() {
    let (lines, head) = log(5);
    let found = checked(&lines, head);
    assert_eq!((found.entries, found.first, found.torn, found.head), (5, 1, 0, head));
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    assert!(checked(&lines[2..], head).faults.is_empty(), "older parts may lie elsewhere");
    assert_eq!(Head::of_line(&lines[4]), Some(head));
    assert_eq!(check([], Some(Head::default())).faults, Vec::<String>::new());
    assert!(lines[0].contains(r#""uid":0,"pid":42,"act":"apply","outcome":"done""#), "{}", lines[0]);
}

#[test]
fn whatever_is_done_to_it_shows() {
    let (lines, head) = log(5);
    let said = |lines: &[String]| checked(lines, head).faults.join("\n");
    let mut altered = lines.clone();
    altered[2] = altered[2].replace("change 2", "change x");
    assert!(said(&altered).starts_with("line 3: its hash does not fit"), "{}", said(&altered));
    let mut spaced = lines.clone();
    spaced[1] = spaced[1].replace("\"seq\":2", "\"seq\": 2");
    assert!(said(&spaced).starts_with("line 2: "), "{}", said(&spaced));
    let mut without = lines.clone();
    without.remove(1);
    assert!(said(&without).contains("entry 3 follows on 1, expected 2"), "{}", said(&without));
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    assert!(!said(&swapped).is_empty());
    assert!(said(&lines[..4]).contains("ends with entry 4, but 5 were written"), "{}", said(&lines[..4]));
    let (other, _) = log(6);
    let forged = [&lines[..4], &other[5..]].concat();
    assert!(!said(&forged).is_empty());
    let mut foreign = lines.clone();
    foreign.insert(2, "hello".to_owned());
    assert!(said(&foreign).starts_with("line 3: not an entry"), "{}", said(&foreign));
    let made = Head { seq: 4, hash: Digest::of(b"else") }.append(&event(Act::Apply, "forged")).0;
    assert!(said(&[&lines[..4], &[made]].concat()).contains("names another hash"));

    // Written anew and gone on with, by somebody who left the head beside it.
    let (mut anew, mut forged) = (lines[..3].to_vec(), Head::of_line(&lines[2]).expect("an entry"));
    for number in 3..7 {
        let (line, next) = forged.append(&event(Act::Apply, &format!("forged {number}")));
        anew.push(line);
        forged = next;
    }
    assert!(said(&anew).starts_with("line 5: entry 5 is another"), "{}", said(&anew));
    assert!(said(&anew[5..]).contains("does not follow on entry 5"), "{}", said(&anew[5..]));
    assert_eq!(head.next_in(&anew[5]), None);
    let texts = |lines: &[String], hash| holds(lines.iter().map(String::as_str), hash);
    assert!(texts(&lines, head.hash) && !texts(&anew, head.hash));
    let torn = lines[4].trim_end_matches('}').to_owned();
    assert!(torn.contains(&head.hash.to_string()) && !texts(&[torn], head.hash));
}

#[test]
fn a_line_that_a_crash_tore_is_accounted_for() {
    let (mut lines, head) = log(3);
    let (torn, _) = head.append(&event(Act::Apply, "never finished"));
    lines.push(torn[..40].to_owned());
    assert_eq!(checked(&lines, head).faults.len(), 1);
    let detail = recovered(&Digest::of(&torn.as_bytes()[..40]));
    let (line, head) = head.append(&event(Act::Recovered, &detail));
    lines.push(line);
    let found = checked(&lines, head);
    assert_eq!((found.torn, found.faults), (1, Vec::new()));
}

#[test]
fn details_are_bounded() {
    let (line, _) = Head::default().append(&event(Act::Apply, &"é".repeat(MAX_DETAIL_BYTES)));
    assert!(line.len() < MAX_DETAIL_BYTES + 512 && Head::of_line(&line).is_some(), "{line}");
}

proptest::proptest! {
    #[test]
    fn never_panics(lines in proptest::collection::vec("\\PC{0,80}", 0..6)) {
        let found = check(lines.iter().map(String::as_str), None);
        proptest::prop_assert_eq!(found.entries, 0);
    }

    #[test]
    fn no_byte_can_be_changed(at in 0_usize..300, by in 1_u8..128) {
        let (lines, head) = log(2);
        let mut bytes = lines[0].clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = (bytes[at] ^ by) & 0x7f;
        let changed = String::from_utf8(bytes).expect("ASCII");
        if changed != lines[0] {
            proptest::prop_assert!(!checked(&[changed, lines[1].clone()], head).faults.is_empty());
        }
    }
}
