//! Bans of other products: `CrowdSec`'s decisions as JSON or CSV, fail2ban's as it lists them, an address a line. Those
//! without an end become one list and a rule that drops who is in it; those with one are put into lists by their ends, each
//! with a rule that expires then.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Draft, MAX_LINES, Outcome, ban_time};
use crate::policy::MAX_LIST_ITEMS;
use crate::ranges::parse_network;

/// The list of bans without an end; the others are numbered.
const LIST: &str = "banned";
/// Most lists that bans are put into by their ends.
const MAX_GROUPS: usize = 16;
/// Ends are moved back to the next multiple of so many seconds; beyond the last it is doubled.
const STEPS: [i64; 7] = [1, 60, 600, 3_600, 21_600, 86_400, 604_800];
/// What differs where an end cannot be read.
const NO_END: &str = "stays until it is taken out of the list: its end cannot be read";

pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), String> {
    let mut bans = Bans { found: Vec::new(), now: draft.now };
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with(['[', '{']) && !text.contains('\'') {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
        bans.json(&value);
    } else {
        bans.lines(text);
    }
    bans.divide(draft);
    Ok(())
}

/// What stands in a line.
enum Found {
    /// No ban.
    Refused(String),
    /// A ban, until this second since 1970 or without an end, and what differs.
    Ban(Option<i64>, Option<&'static str>),
}

/// When a ban ends.
#[derive(Clone, Copy)]
enum End {
    Never,
    At(Timestamp, Option<&'static str>),
    Unknown,
}

struct Bans {
    /// Number and text of the line.
    found: Vec<(usize, String, Found)>,
    now: Timestamp,
}

impl Bans {
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
            if self.full(number) {
                return;
            }
            let text = |key: &str| decision.get(key).and_then(Value::as_str).unwrap_or_default();
            let end = match (text("until").parse(), text("duration")) {
                (Ok(until), _) => End::At(until, None),
                (_, "") => End::Never,
                (_, duration) => self.after(duration),
            };
            let simulated = decision.get("simulated") == Some(&Value::Bool(true));
            self.decision(number, [text("scope"), text("value"), text("type")], simulated, end);
        }
    }

    fn lines(&mut self, text: &str) {
        let mut header = false;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if self.full(number) {
                return;
            }
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            if cells.first() == Some(&"id") && !header {
                header = true;
            } else if line.contains('\'') {
                // fail2ban-client banned: [{'sshd': ['192.0.2.1', '192.0.2.2']}, …]
                let quoted = line.split('\'').skip(1).step_by(2);
                quoted.filter(|part| part.contains(['.', ':'])).for_each(|part| self.source(number, part, End::Never));
            } else if cells.len() > 4 {
                // cscli decisions list -o raw: id,source,Ip:192.0.2.1,reason,action,…,expiration,simulated,alert_id; names of
                // networks before the last three may hold commas.
                let (scope, value) = cells.get(2).and_then(|cell| cell.split_once(':')).unwrap_or(("", line));
                let last = |at: usize| cells.iter().rev().nth(at).copied().unwrap_or_default();
                let end = if cells.len() >= 8 { self.after(last(2)) } else { End::Unknown };
                let kind = cells.get(4).copied().unwrap_or_default();
                self.decision(number, [scope, value, kind], last(1) == "true", end);
            } else {
                // The address, and behind it for how long, or as `get JAIL banip --with-time` says it: when, `+` and seconds.
                let mut words = line.split_whitespace();
                let source = words.next().unwrap_or_default();
                let end = self.behind(&words.collect::<Vec<_>>());
                self.source(number, source, end);
            }
        }
    }

    /// When a ban ends that these words stand behind.
    fn behind(&self, words: &[&str]) -> End {
        match words {
            [] => End::Never,
            [duration] => self.after(duration),
            [.., "+", seconds, "=", _, _] => match seconds.parse::<i64>() {
                Ok(forever) if forever < 0 => End::Never,
                Ok(seconds) => match self.in_seconds(seconds) {
                    Some(at) => End::At(at, Some("counted from now, for its clock's time zone is not told")),
                    None => End::Unknown,
                },
                Err(_) => End::Unknown,
            },
            _ => End::Unknown,
        }
    }

    /// The end of a ban that lasts so long from now on.
    fn after(&self, duration: &str) -> End {
        match ban_time::seconds(duration).and_then(|seconds| self.in_seconds(seconds)) {
            Some(at) => End::At(at, None),
            None => End::Unknown,
        }
    }

    fn in_seconds(&self, seconds: i64) -> Option<Timestamp> {
        Timestamp::from_second(self.now.as_second().checked_add(seconds)?).ok()
    }

    fn decision(&mut self, number: usize, [scope, value, kind]: [&str; 3], simulated: bool, end: End) {
        let refused = if !scope.is_empty() && !scope.eq_ignore_ascii_case("ip") && !scope.eq_ignore_ascii_case("range")
        {
            format!("it is about a {scope:.40}, not about addresses")
        } else if !kind.is_empty() && !kind.eq_ignore_ascii_case("ban") {
            format!("it asks for `{kind:.40}`, not for a ban")
        } else if simulated {
            "it is simulated there, and bans nobody".to_owned()
        } else {
            return self.source(number, value, end);
        };
        self.found.push((number, value.to_owned(), Found::Refused(refused)));
    }

    fn source(&mut self, number: usize, text: &str, end: End) {
        let found = match (parse_network(text), end) {
            (Err(why), _) => Found::Refused(why),
            (Ok(_), End::Never) => Found::Ban(None, None),
            (Ok(_), End::Unknown) => Found::Ban(None, Some(NO_END)),
            (Ok(_), End::At(at, _)) if at <= self.now => Found::Refused("its time is over".to_owned()),
            (Ok(_), End::At(at, note)) => Found::Ban(Some(at.as_second()), note),
        };
        self.found.push((number, text.to_owned(), found));
    }

    fn full(&mut self, number: usize) -> bool {
        if self.found.len() < MAX_LINES {
            return false;
        }
        let why = format!("more than {MAX_LINES} lines: what comes from here on was not looked at");
        self.found.push((number, String::new(), Found::Refused(why)));
        true
    }

    /// Puts the bans into lists by their ends, few enough of them, and tells of each line.
    fn divide(self, draft: &mut Draft<'_>) {
        let ends: Vec<i64> = self.found.iter().filter_map(|(_, _, found)| found.end()).collect();
        let step = step(&ends);
        let mut lists: BTreeMap<Option<i64>, Vec<&str>> = BTreeMap::new();
        for (_, text, found) in &self.found {
            if let Found::Ban(end, _) = found {
                lists.entry(end.map(|end| moved(end, step))).or_default().push(text);
            }
        }
        let name = |number: usize| if number == 0 { LIST.to_owned() } else { format!("{LIST}_{number}") };
        // Without an end comes first.
        let first = usize::from(!lists.contains_key(&None));
        let names: BTreeMap<Option<i64>, String> =
            lists.keys().zip(first..).map(|(end, number)| (*end, name(number))).collect();
        for (end, items) in lists {
            let Some(list) = names.get(&end) else { continue };
            let kept = items.get(..items.len().min(MAX_LIST_ITEMS as usize)).unwrap_or_default();
            draft.lists.insert(list.clone(), json!({ "type": "cidr", "items": kept }));
            let mut rule = json!({ "id": list, "when": format!("ip.src in ${list}"), "action": { "type": "drop" } });
            if let Some(end) = end.and_then(|end| Timestamp::from_second(end).ok()) {
                rule["expires"] = end.to_string().into();
            }
            draft.rules.push(rule);
        }
        let mut taken: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, text, found) in &self.found {
            let (end, note) = match found {
                Found::Refused(why) => {
                    draft.refuse(*number, text, why.as_str());
                    continue;
                }
                Found::Ban(end, note) => (*end, *note),
            };
            let Some(list) = names.get(&end.map(|end| moved(end, step))) else { continue };
            let count = taken.entry(list.as_str()).or_default();
            if *count >= MAX_LIST_ITEMS {
                let why =
                    format!("a list in a policy has at most {MAX_LIST_ITEMS} items; put them in a file, one a line");
                draft.refuse(*number, text, why);
                continue;
            }
            *count += 1;
            let late = end.map_or(0, |end| moved(end, step) - end);
            let late = (late > 0).then(|| format!("{late} s longer, so that there are few lists"));
            let notes: Vec<String> = note.map(str::to_owned).into_iter().chain(late).collect();
            let outcome = if notes.is_empty() { Outcome::Mapped } else { Outcome::Approximated };
            let note = (!notes.is_empty()).then(|| notes.join("; "));
            draft.line(*number, text, outcome, Some(format!("${list}")), note);
        }
    }
}

impl Found {
    fn end(&self) -> Option<i64> {
        match self {
            Self::Ban(end, _) => *end,
            Self::Refused(_) => None,
        }
    }
}

/// The least step that leaves few enough ends.
fn step(ends: &[i64]) -> i64 {
    let few = |step: i64| {
        let moved = ends.iter().map(|end| moved(*end, step)).collect::<std::collections::BTreeSet<_>>();
        moved.len() <= MAX_GROUPS
    };
    let longest = STEPS.last().copied().unwrap_or(1);
    let doubled = std::iter::successors(Some(longest), |step| step.checked_mul(2));
    STEPS.into_iter().chain(doubled).find(|step| few(*step)).unwrap_or(longest)
}

/// An end, moved back to the next multiple of a step.
fn moved(end: i64, step: i64) -> i64 {
    end.saturating_add(step - 1).div_euclid(step).saturating_mul(step)
}
