//! Bans of other products: `CrowdSec`'s decisions as JSON or CSV, fail2ban's as it lists them, an address a line. Those
//! without an end become one list and a rule that drops who is in it; those with one are put into lists by their ends, each
//! with a rule that expires then. Who is to solve a captcha is challenged in the same way.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Draft, MAX_LINES, Outcome, ban_time};
use crate::policy::MAX_LIST_ITEMS;
use crate::ranges::parse_network;

/// Most lists that decisions of one kind are put into by their ends.
const MAX_GROUPS: usize = 16;
/// Ends are moved back to the next multiple of so many seconds; beyond the last it is doubled.
const STEPS: [i64; 7] = [1, 60, 600, 3_600, 21_600, 86_400, 604_800];
/// Behind this word `fail2ban-client status JAIL` lists its bans; the rest of it is for people.
const STATUS_LIST: &str = "Banned IP list:";
/// What differs where somebody else asks for a captcha.
const NO_CAPTCHA: &str = "a proof of work, not a captcha";
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

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    Ban,
    Captcha,
}

impl Remedy {
    const ALL: [Self; 2] = [Self::Ban, Self::Captcha];

    /// By `CrowdSec`'s word; none is a ban.
    fn by_name(name: &str) -> Option<Self> {
        match name {
            "" => Some(Self::Ban),
            name if name.eq_ignore_ascii_case("ban") => Some(Self::Ban),
            name if name.eq_ignore_ascii_case("captcha") => Some(Self::Captcha),
            _ => None,
        }
    }

    /// The list of those without an end is 0, the others are numbered.
    fn list(self, number: usize) -> String {
        let name = match self {
            Self::Ban => "banned",
            Self::Captcha => "challenged",
        };
        if number == 0 { name.to_owned() } else { format!("{name}_{number}") }
    }

    fn action(self) -> Value {
        match self {
            Self::Ban => json!({ "type": "drop" }),
            Self::Captcha => json!({ "type": "challenge" }),
        }
    }
}

/// What stands in a line.
enum Found {
    /// Nothing that could be taken.
    Refused(String),
    /// A decision, until this second since 1970 or without an end, and what differs.
    Taken(Remedy, Option<i64>, Option<&'static str>),
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
        if text.trim() == "null" {
            // So `cscli` says that there are none.
            return;
        }
        let mut header = false;
        let status = text.contains(STATUS_LIST);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if self.full(number) {
                return;
            }
            if status {
                let (_, listed) = line.split_once(STATUS_LIST).unwrap_or_default();
                listed.split_whitespace().for_each(|part| self.source(number, part, Remedy::Ban, End::Never));
                continue;
            }
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            if cells.first() == Some(&"id") && !header {
                header = true;
            } else if line.contains('\'') {
                // fail2ban-client banned: [{'sshd': ['192.0.2.1', '192.0.2.2']}, …]
                let quoted = line.split('\'').skip(1).step_by(2);
                quoted
                    .filter(|part| part.contains(['.', ':']))
                    .for_each(|part| self.source(number, part, Remedy::Ban, End::Never));
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
                self.source(number, source, Remedy::Ban, end);
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
        let remedy = Remedy::by_name(kind);
        let refused = if !scope.is_empty() && !scope.eq_ignore_ascii_case("ip") && !scope.eq_ignore_ascii_case("range")
        {
            format!("its scope is `{scope:.40}`, and not an address or a network")
        } else if simulated {
            "it is simulated there, and bans nobody".to_owned()
        } else if let Some(remedy) = remedy {
            return self.source(number, value, remedy, end);
        } else {
            format!("it asks for `{kind:.40}`, not for a ban or a captcha")
        };
        self.found.push((number, value.to_owned(), Found::Refused(refused)));
    }

    fn source(&mut self, number: usize, text: &str, remedy: Remedy, end: End) {
        let found = match (parse_network(text), end) {
            (Err(why), _) => Found::Refused(why),
            (Ok(network), _) if network.prefix_len() == 0 => {
                Found::Refused("every address is in it: nobody would be let in any more".to_owned())
            }
            (Ok(_), End::Never) => Found::Taken(remedy, None, None),
            (Ok(_), End::Unknown) => Found::Taken(remedy, None, Some(NO_END)),
            (Ok(_), End::At(at, _)) if at <= self.now => Found::Refused("its time is over".to_owned()),
            (Ok(_), End::At(at, note)) => Found::Taken(remedy, Some(at.as_second()), note),
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
        let place = |remedy: Remedy, end: Option<i64>| (remedy, end.map(|end| moved(end, step)));
        let mut lists: BTreeMap<(Remedy, Option<i64>), Vec<&str>> = BTreeMap::new();
        for (_, text, found) in &self.found {
            if let Found::Taken(remedy, end, _) = found {
                lists.entry(place(*remedy, *end)).or_default().push(text);
            }
        }
        let mut names: BTreeMap<(Remedy, Option<i64>), String> = BTreeMap::new();
        for remedy in Remedy::ALL {
            // Without an end comes first.
            let first = usize::from(!lists.contains_key(&(remedy, None)));
            let own = lists.keys().filter(|(of, _)| *of == remedy);
            names.extend(own.zip(first..).map(|(key, number)| (*key, remedy.list(number))));
        }
        for ((remedy, end), items) in lists {
            let Some(list) = names.get(&(remedy, end)) else { continue };
            let kept = items.get(..items.len().min(MAX_LIST_ITEMS as usize)).unwrap_or_default();
            draft.lists.insert(list.clone(), json!({ "type": "cidr", "items": kept }));
            let mut rule = json!({ "id": list, "when": format!("ip.src in ${list}"), "action": remedy.action() });
            if let Some(end) = end.and_then(|end| Timestamp::from_second(end).ok()) {
                rule["expires"] = end.to_string().into();
            }
            draft.rules.push(rule);
        }
        let mut taken: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, text, found) in &self.found {
            let (remedy, end, note) = match found {
                Found::Refused(why) => {
                    draft.refuse(*number, text, why.as_str());
                    continue;
                }
                Found::Taken(remedy, end, note) => (*remedy, *end, *note),
            };
            let Some(list) = names.get(&place(remedy, end)) else { continue };
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
            let other = (remedy == Remedy::Captcha).then_some(NO_CAPTCHA);
            let notes: Vec<String> = other.into_iter().chain(note).map(str::to_owned).chain(late).collect();
            let outcome = if notes.is_empty() { Outcome::Mapped } else { Outcome::Approximated };
            let note = (!notes.is_empty()).then(|| notes.join("; "));
            draft.line(*number, text, outcome, Some(format!("${list}")), note);
        }
    }
}

impl Found {
    fn end(&self) -> Option<i64> {
        match self {
            Self::Taken(_, end, _) => *end,
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
