//! Faults of config and policy files as a command reports them.

/// `1 fault`, `2 faults`.
pub(super) fn count(faults: usize) -> String {
    match faults {
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    }
}

/// A text of faults, each starting a line and going on in indented ones, as one string a fault.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut faults: Vec<String> = Vec::new();
    for line in text.lines() {
        match faults.last_mut() {
            Some(fault) if line.starts_with(' ') => {
                fault.push('\n');
                fault.push_str(line);
            }
            _ => faults.push(line.to_owned()),
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_lines_belong_to_the_fault_above() {
        let text = "p.json:3:9: /rules/0/when: unknown field\n    htpp.host eq\n    ^^^^^^^^^\nq.json: no such file";
        let faults = split(text);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].ends_with("^^^^^^^^^") && faults[1].starts_with("q.json"));
        assert_eq!((count(1), count(2)), ("1 fault".to_owned(), "2 faults".to_owned()));
    }
}
