//! Rules of other products as a policy: what could be said exactly, what only nearly, and what not, line by line. Each
//! rule is compiled before it is taken, so that what comes out is a policy that loads.

mod ban_time;
mod cloudflare;
mod decisions;
mod limits;
mod nginx;

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::policy::{self, Options};

/// Most bytes of a text that is imported.
pub const MAX_IMPORT_BYTES: usize = 16 << 20;
/// Most lines of a report; what comes behind is refused as one.
pub const MAX_LINES: usize = 100_000;
/// Most characters of a line that the report repeats.
const MAX_SHOWN: usize = 120;
/// Most characters of a rule's id.
const MAX_ID: usize = 31;

/// Where the text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Rules or a ruleset, as Cloudflare's API gives them, in JSON.
    Cloudflare,
    /// Decisions of `CrowdSec` (`cscli decisions list -o json` or `-o raw`), bans of fail2ban, or an address a line.
    Decisions,
    /// `allow`, `deny` and `limit_req` of an nginx configuration.
    Nginx,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The policy says the same.
    Mapped,
    /// The policy says nearly the same; the note says what differs.
    Approximated,
    /// The policy does not say it; the note says why.
    Refused,
}

/// One line, rule or decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Number of the line, or of the rule in a list of rules, from 1.
    pub number: usize,
    /// Its beginning.
    pub text: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Rule or list of the policy that it went into.
    pub into: Option<String>,
    /// What differs, or why it was refused.
    pub note: Option<String>,
}

/// What an import came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// In the order of the text.
    pub lines: Vec<Line>,
    /// The policy; none where nothing could be taken.
    pub policy: Option<Value>,
}

impl Report {
    /// Lines of an outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.lines.iter().filter(|line| line.outcome == outcome).count()
    }
}

/// Turns a text into a policy of the name `id`. Bans that last for a time last from `now` on.
///
/// # Errors
/// The text is too long, or not of this product at all; or `id` is no name of a policy.
pub fn import(product: Product, text: &str, id: &str, now: Timestamp) -> Result<Report, String> {
    if text.len() > MAX_IMPORT_BYTES {
        return Err(format!("the text has {} bytes, at most {MAX_IMPORT_BYTES} are imported", text.len()));
    }
    let mut draft = Draft::new(id, now);
    draft.check_id()?;
    match product {
        Product::Cloudflare => cloudflare::read(text, &mut draft)?,
        Product::Decisions => decisions::read(text, &mut draft)?,
        Product::Nginx => nginx::read(text, &mut draft)?,
    }
    draft.finish()
}

/// The policy and the report as they grow.
struct Draft<'a> {
    id: &'a str,
    now: Timestamp,
    lists: Map<String, Value>,
    rules: Vec<Value>,
    lines: Vec<Line>,
}

impl<'a> Draft<'a> {
    fn new(id: &'a str, now: Timestamp) -> Self {
        Self { id, now, lists: Map::new(), rules: Vec::new(), lines: Vec::new() }
    }

    fn check_id(&self) -> Result<(), String> {
        let probe = json!({ "id": "r", "when": "true", "action": { "type": "log" } });
        let said = |fault: String| format!("`{}` cannot be the id of a policy: {fault}", self.id);
        self.faults(&[probe]).map_or(Ok(()), |fault| Err(said(fault)))
    }

    fn policy(&self, rules: &[Value]) -> Value {
        let mut policy = json!({ "schema": "tidegate.policy/v1", "id": self.id, "revision": 1 });
        if !self.lists.is_empty() {
            policy["lists"] = Value::Object(self.lists.clone());
        }
        policy["rules"] = rules.to_vec().into();
        policy
    }

    /// What the compiler says of these rules.
    fn faults(&self, rules: &[Value]) -> Option<String> {
        let text = self.policy(rules).to_string();
        let faults = policy::compile(&[("import", text)], &Options::new(Timestamp::UNIX_EPOCH)).err()?;
        let fault = faults.into_iter().next()?.diagnostic;
        Some(fault.message.lines().next().unwrap_or_default().to_owned())
    }

    /// Adds the first of the rules that compiles; the note says what differs, where something does. With none, the
    /// line is refused with what the compiler says of the first.
    fn rule(&mut self, number: usize, text: &str, candidates: Vec<(Value, Option<String>)>) {
        let mut first_fault = None;
        for (rule, note) in candidates {
            match self.faults(std::slice::from_ref(&rule)) {
                None => {
                    let into = rule["id"].as_str().map(str::to_owned);
                    let outcome = if note.is_some() { Outcome::Approximated } else { Outcome::Mapped };
                    self.rules.push(rule);
                    return self.line(number, text, outcome, into, note);
                }
                Some(fault) => drop(first_fault.get_or_insert(fault)),
            }
        }
        let note = first_fault.unwrap_or_else(|| "nothing here says the same".to_owned());
        self.refuse(number, text, note);
    }

    fn refuse(&mut self, number: usize, text: &str, note: impl Into<String>) {
        self.line(number, text, Outcome::Refused, None, Some(note.into()));
    }

    fn line(&mut self, number: usize, text: &str, outcome: Outcome, into: Option<String>, note: Option<String>) {
        let shown = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN).collect();
        self.lines.push(Line { number, text: shown, outcome, into, note });
    }

    /// Whether the report is full; what is left is then refused in one line.
    fn full(&mut self, number: usize) -> bool {
        if self.lines.len() < MAX_LINES {
            return false;
        }
        self.refuse(number, "", format!("more than {MAX_LINES} lines: what comes from here on was not looked at"));
        true
    }

    /// An id for a rule that people call `wanted`, which no other has.
    fn rule_id(&self, wanted: &str) -> String {
        let mut id = String::new();
        for c in wanted.chars() {
            let c = c.to_ascii_lowercase();
            let plain = c.is_ascii_alphanumeric() || (!id.is_empty() && matches!(c, '.' | '_'));
            if plain {
                id.push(c);
            } else if !id.is_empty() && !id.ends_with('-') {
                id.push('-');
            }
        }
        id.truncate(MAX_ID);
        let base = id.trim_end_matches(['-', '.', '_']).to_owned();
        let base = if base.is_empty() { "rule".to_owned() } else { base };
        let taken = |id: &str| self.rules.iter().any(|rule| rule["id"] == id);
        if !taken(&base) {
            return base;
        }
        let numbered = (2..).map(|number| {
            let suffix = format!("-{number}");
            format!("{}{suffix}", base.get(..base.len().min(MAX_ID - suffix.len())).unwrap_or(&base))
        });
        numbered.into_iter().find(|id| !taken(id)).unwrap_or(base)
    }

    fn finish(self) -> Result<Report, String> {
        if self.rules.is_empty() {
            return Ok(Report { lines: self.lines, policy: None });
        }
        if let Some(fault) = self.faults(&self.rules) {
            return Err(format!("each rule can be taken, and all of them together cannot: {fault}"));
        }
        let policy = self.policy(&self.rules);
        Ok(Report { lines: self.lines, policy: Some(policy) })
    }
}

/// A string as the expression language writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            0x20..=0x7e => quoted.push(char::from(byte)),
            // Writing to a string does not fail.
            other => _ = write!(quoted, "\\x{other:02x}"),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
