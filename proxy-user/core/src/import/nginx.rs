//! `allow`, `deny` and `limit_req` of an nginx configuration, with the servers and locations that they stand in. In nginx
//! the first line that fits decides within its block: each `deny` becomes a rule that spares what was allowed before it.

use std::collections::HashMap;

use serde_json::json;

use super::{Draft, limits, quoted};
use crate::ranges::parse_network;

/// Deepest nesting of blocks that is followed.
const MAX_DEPTH: usize = 16;
/// What nginx answers a limited request with unless `limit_req_status` says otherwise.
const LIMITED: u16 = 503;
/// A rate in requests a second is counted over so many seconds, so that it is as even as a leaky bucket is.
const SECONDS: u64 = 10;
/// Most requests of a rate that is taken.
const MAX_RATE: u64 = 100_000;
/// Blocks that say nothing of their own.
const PLAIN_BLOCKS: [&str; 3] = ["http", "server", "events"];

/// Names of a server that stand for no host of their own, but for whatever no other server has.
const EVERY_HOST: [&str; 3] = ["_", "", "*"];

/// A block that is open.
#[derive(Clone, Default)]
struct Block {
    /// Conditions that requests in it fulfil, all of them.
    conditions: Vec<String>,
    /// What differs from nginx's way to choose it.
    note: Option<String>,
    /// Sources allowed so far.
    allowed: Vec<String>,
    /// `allow all` stood here: nothing behind it decides.
    decided: bool,
    /// The server that it stands in has no name, or only one that stands for every host.
    nameless: bool,
    status: Option<u16>,
    /// Limits in it only count (`limit_req_dry_run`).
    dry: bool,
}

/// A `limit_req_zone`.
struct Zone {
    /// What is counted by.
    keys: Vec<String>,
    /// What requests fulfil that are counted.
    given: Option<String>,
    requests: u64,
    /// In so many seconds.
    period: u64,
}

pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), String> {
    let mut zones = HashMap::new();
    let all = directives(text)?;
    let mut root = Block::default();
    root.names(&all);
    let mut blocks = vec![root];
    for (at, (number, words, end)) in all.iter().enumerate() {
        let (number, end) = (*number, *end);
        if draft.full(number) {
            break;
        }
        let shown = words.join(" ");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (end, words.as_slice()) {
            ('}', _) => {
                if blocks.len() > 1 {
                    blocks.pop();
                }
            }
            ('{', words) => {
                if blocks.len() > MAX_DEPTH {
                    return Err(format!("line {number}: more than {MAX_DEPTH} blocks in each other"));
                }
                let block = open(&blocks, words);
                if block.is_none() {
                    draft.refuse(number, &shown, "what stands in this block is taken as if it stood outside");
                }
                let mut block = block.unwrap_or_else(|| blocks.last().cloned().unwrap_or_default());
                if words == ["server"] {
                    block.nameless = true;
                }
                block.names(all.get(at + 1..).unwrap_or_default());
                blocks.push(block);
            }
            (_, words) => {
                if let Some(block) = blocks.last_mut() {
                    directive(number, &shown, words, block, &mut zones, draft);
                }
            }
        }
    }
    Ok(())
}

impl Block {
    /// Takes up what stands in it and holds for what is before it too: names, and how limits are answered. `inside` begins behind
    /// its brace.
    fn names(&mut self, inside: &[(usize, Vec<String>, char)]) {
        let mut hosts = Vec::new();
        let mut any = false;
        let mut depth = 0_usize;
        for (_, words, end) in inside {
            match (end, words.as_slice()) {
                ('{', _) => depth += 1,
                ('}', _) if depth == 0 => break,
                ('}', _) => depth -= 1,
                (_, [word, names @ ..]) if depth == 0 && word == "server_name" => {
                    any |= !names.is_empty();
                    hosts.extend(
                        names.iter().filter(|name| !EVERY_HOST.contains(&name.as_str())).map(|name| host(name)),
                    );
                }
                (_, [word, value]) if depth == 0 && word == "limit_req_status" => {
                    self.status = status(value).or(self.status);
                }
                (_, [word, value]) if depth == 0 && word == "limit_req_dry_run" => self.dry = value == "on",
                _ => {}
            }
        }
        if !hosts.is_empty() {
            self.conditions.push(format!("({})", hosts.join(" or ")));
        }
        if any {
            self.nameless = hosts.is_empty();
        }
    }
}

/// A status that limited requests may be answered with.
fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (400..600).contains(status))
}

/// The condition that a name of a server stands for.
fn host(name: &str) -> String {
    if let Some(pattern) = name.strip_prefix('~') {
        return format!("http.host matches {}", quoted(pattern));
    }
    let name = name.strip_prefix('.').map_or_else(|| name.to_owned(), |rest| format!("*{rest}"));
    format!("http.host wildcard {}", quoted(&name))
}

/// A block inside of those that are open; None where it is of a kind that is not known.
fn open(blocks: &[Block], words: &[&str]) -> Option<Block> {
    let outer = blocks.last().cloned().unwrap_or_default();
    let Block { conditions, note, nameless, status, dry, .. } = outer;
    let mut inner = Block { conditions, note, nameless, status, dry, ..Block::default() };
    let path = "http.request.uri.path";
    let condition = match words {
        [plain] if PLAIN_BLOCKS.contains(plain) => return Some(inner),
        ["location", "=", exact] => format!("{path} eq {}", quoted(exact)),
        ["location", "~", pattern] => format!("{path} matches {}", quoted(pattern)),
        ["location", "~*", pattern] => format!("{path} matches {}", quoted(&format!("(?i){pattern}"))),
        ["location", "^~", prefix] | ["location", prefix] => format!("starts_with({path}, {})", quoted(prefix)),
        _ => return None,
    };
    inner.note =
        Some("for every path that fits, as it was sent; nginx decodes it and takes the best location only".into());
    inner.conditions.push(condition);
    Some(inner)
}

fn directive(
    number: usize,
    shown: &str,
    words: &[&str],
    block: &mut Block,
    zones: &mut HashMap<String, Zone>,
    draft: &mut Draft<'_>,
) {
    let when = |block: &Block, own: Option<String>| {
        let all: Vec<String> = block.conditions.iter().cloned().chain(own).collect();
        if all.is_empty() { "true".to_owned() } else { all.join(" and ") }
    };
    match words {
        ["allow" | "deny" | "limit_req", ..] if block.nameless => draft.refuse(
            number,
            shown,
            "its server has no `server_name` that tells hosts: it would hold for every host. Name them, or take the \
             line out of `server`, where every host is meant",
        ),
        ["allow" | "deny", _] if block.decided => {
            draft.refuse(number, shown, "a line before it decides everything: it is never reached");
        }
        ["allow", "all"] => {
            block.decided = true;
            draft.line(number, shown, super::Outcome::Mapped, None, None);
        }
        ["allow", source] => match parse_network(source) {
            Ok(network) => {
                block.allowed.push(network.to_string());
                draft.line(number, shown, super::Outcome::Mapped, None, None);
            }
            Err(why) => draft.refuse(number, shown, why),
        },
        ["deny", source] => {
            let own = if *source == "all" {
                block.decided = true;
                None
            } else {
                match parse_network(source) {
                    Ok(network) => Some(format!("ip.src in {{{network}}}")),
                    Err(why) => return draft.refuse(number, shown, why),
                }
            };
            let spared = (!block.allowed.is_empty()).then(|| format!("not ip.src in {{{}}}", block.allowed.join(" ")));
            let own = own.into_iter().chain(spared).collect::<Vec<_>>().join(" and ");
            let when = when(block, Some(own).filter(|own| !own.is_empty()));
            let rule =
                json!({ "id": draft.rule_id(shown), "when": when, "action": { "type": "block", "status": 403 } });
            draft.rule(number, shown, vec![(rule, block.note.clone())]);
        }
        ["limit_req_status", text] if status(text).is_none() => {
            draft.refuse(number, shown, "the status is none from 400 to 599");
        }
        ["limit_req_zone", key, rest @ ..] => match zone(key, rest) {
            Ok((name, zone)) => drop(zones.insert(name, zone)),
            Err(why) => draft.refuse(number, shown, why),
        },
        ["limit_req", rest @ ..] => {
            let value = |key: &str| rest.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            let Some(zone) = value("zone").and_then(|name| zones.get(name)) else {
                return draft.refuse(number, shown, "its `limit_req_zone` does not stand before it, or was refused");
            };
            let burst: u64 = value("burst").and_then(|burst| burst.parse().ok()).unwrap_or(0);
            let Zone { keys, requests, period, .. } = zone;
            let mut rule = json!({
                "id": draft.rule_id(shown), "when": when(block, zone.given.clone()),
                "rate": { "key": keys, "limit": requests.saturating_add(burst), "period": format!("{period}s") },
                "action": { "type": "block", "status": block.status.unwrap_or(LIMITED) },
            });
            if block.dry {
                rule["mode"] = "shadow".into();
            }
            let note = format!("counted in a window of {period} s, `burst` on top; nothing is delayed");
            let note = block.note.iter().cloned().chain([note]).collect::<Vec<_>>().join("; ");
            draft.rule(number, shown, vec![(rule, Some(note))]);
        }
        // The others were looked at when the block was opened.
        [] | ["server_name", _, ..] | ["limit_req_status" | "limit_req_dry_run", _] => {}
        _ => draft.refuse(number, shown, "no access rule: only `allow`, `deny` and `limit_req` are taken"),
    }
}

/// A zone and its name.
fn zone(key: &str, rest: &[&str]) -> Result<(String, Zone), String> {
    let (keys, given) = limits::nginx(key)?;
    let value = |key: &str| rest.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let name = value("zone").and_then(|zone| zone.split(':').next()).ok_or("it has no `zone`")?;
    let rate = value("rate").ok_or("it has no `rate`")?;
    let number =
        |unit: &str| rate.strip_suffix(unit).and_then(|n| n.parse().ok()).filter(|n| (1..=MAX_RATE).contains(n));
    let rate = number("r/s").map(|n| (n * SECONDS, SECONDS)).or(number("r/m").map(|n| (n, 60)));
    let rate = rate.ok_or_else(|| format!("the rate is none from 1 to {MAX_RATE} `r/s` or `r/m`"))?;
    let (requests, period) = rate;
    Ok((name.to_owned(), Zone { keys, given, requests, period }))
}

/// Words of each directive, the line that it begins in, and what ends it: `;`, `{` or `}`.
fn directives(text: &str) -> Result<Vec<(usize, Vec<String>, char)>, String> {
    let mut found = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let (mut line, mut began) = (1, 1);
    let mut chars = text.chars().peekable();
    let mut word = String::new();
    while let Some(c) = chars.next() {
        let ends = c.is_whitespace() || matches!(c, ';' | '{' | '}' | '#');
        // A brace inside of a word, as in a regular expression, is quoted in nginx.
        if !ends && word.is_empty() && words.is_empty() {
            began = line;
        }
        match c {
            '"' | '\'' if word.is_empty() => {
                loop {
                    match chars.next() {
                        Some('\\') if chars.peek() == Some(&c) => word.extend(chars.next()),
                        Some(next) if next == c => break,
                        Some(next) => {
                            line += usize::from(next == '\n');
                            word.push(next);
                        }
                        None => return Err(format!("line {began}: a quote is never closed")),
                    }
                }
                words.push(std::mem::take(&mut word));
            }
            _ if ends => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                match c {
                    '#' => while chars.next_if(|next| *next != '\n').is_some() {},
                    '\n' => line += 1,
                    ';' | '{' | '}' => found.push((began.min(line), std::mem::take(&mut words), c)),
                    _ => {}
                }
            }
            _ => word.push(c),
        }
    }
    if words.is_empty() && word.is_empty() {
        Ok(found)
    } else {
        Err(format!("line {began}: this does not end with `;`"))
    }
}
