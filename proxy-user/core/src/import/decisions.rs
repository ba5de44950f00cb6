//! Bans of other products: `CrowdSec`'s decisions as JSON or CSV, fail2ban's as it lists them, an address a line. All of
//! them become one list and a rule that drops who is in it.

use serde_json::{Value, json};

use super::{Draft, Outcome};
use crate::policy::MAX_LIST_ITEMS;
use crate::ranges::parse_network;

/// The list that the sources go into.
const LIST: &str = "banned";
/// What a ban with a time becomes.
const NO_END: &str = "stays until it is taken out of the list; `tidegate verdict load` bans for a time";

pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), String> {
    let mut banned = Banned { draft, items: Vec::new(), skipped_header: false };
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with(['[', '{']) && !text.contains('\'') {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
        banned.json(&value);
    } else {
        banned.lines(text);
    }
    let items = banned.items;
    if !items.is_empty() {
        draft.lists.insert(LIST.to_owned(), json!({ "type": "cidr", "items": items }));
        draft.rules.push(json!({ "id": LIST, "when": format!("ip.src in ${LIST}"), "action": { "type": "drop" } }));
    }
    Ok(())
}

struct Banned<'d, 'a> {
    draft: &'d mut Draft<'a>,
    items: Vec<String>,
    skipped_header: bool,
}

impl Banned<'_, '_> {
    /// Alerts with decisions in them, or decisions.
    fn json(&mut self, value: &Value) {
        let alerts = match value {
            Value::Array(alerts) => alerts.as_slice(),
            single => std::slice::from_ref(single),
        };
        let inside = |alert: &Value| match alert.get("decisions").and_then(Value::as_array) {
            Some(decisions) => decisions.clone(),
            None => vec![alert.clone()],
        };
        let decisions: Vec<Value> = alerts.iter().flat_map(inside).collect();
        for (number, decision) in (1..).zip(&decisions) {
            if self.draft.full(number) {
                return;
            }
            let text = |key: &str| decision.get(key).and_then(Value::as_str).unwrap_or_default();
            self.decision(number, text("scope"), text("value"), text("type"), !text("duration").is_empty());
        }
    }

    fn lines(&mut self, text: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if self.draft.full(number) {
                return;
            }
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            if cells.first() == Some(&"id") && !self.skipped_header {
                self.skipped_header = true;
            } else if line.contains('\'') {
                // fail2ban-client banned: [{'sshd': ['192.0.2.1', '192.0.2.2']}, …]
                let quoted = line.split('\'').skip(1).step_by(2);
                quoted.filter(|part| part.contains(['.', ':'])).for_each(|part| self.source(number, part, false));
            } else if cells.len() > 4 {
                // cscli decisions list -o raw: id,source,Ip:192.0.2.1,reason,action,…
                let (scope, value) = cells.get(2).and_then(|cell| cell.split_once(':')).unwrap_or(("", line));
                self.decision(number, scope, value, cells.get(4).copied().unwrap_or_default(), true);
            } else {
                // The address, and behind it when it was banned and for how long.
                let mut words = line.split_whitespace();
                let source = words.next().unwrap_or_default();
                self.source(number, source, words.next().is_some());
            }
        }
    }

    fn decision(&mut self, number: usize, scope: &str, value: &str, kind: &str, ends: bool) {
        if !scope.is_empty() && !scope.eq_ignore_ascii_case("ip") && !scope.eq_ignore_ascii_case("range") {
            let why = format!("it is about a {scope:.40}, not about addresses");
            return self.draft.refuse(number, value, why);
        }
        if !kind.is_empty() && !kind.eq_ignore_ascii_case("ban") {
            return self.draft.refuse(number, value, format!("it asks for `{kind:.40}`, not for a ban"));
        }
        self.source(number, value, ends);
    }

    fn source(&mut self, number: usize, text: &str, ends: bool) {
        if let Err(why) = parse_network(text) {
            return self.draft.refuse(number, text, why);
        }
        if self.items.len() >= MAX_LIST_ITEMS as usize {
            let why = format!("a list in a policy has at most {MAX_LIST_ITEMS} items; put them in a file, one a line");
            return self.draft.refuse(number, text, why);
        }
        self.items.push(text.to_owned());
        let (outcome, note) = if ends { (Outcome::Approximated, Some(NO_END)) } else { (Outcome::Mapped, None) };
        self.draft.line(number, text, outcome, Some(format!("${LIST}")), note.map(str::to_owned));
    }
}
