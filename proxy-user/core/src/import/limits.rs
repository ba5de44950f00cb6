//! What Cloudflare's and nginx's rate limits count by, as keys of a `rate` here, and the `ratelimit` of a rule of Cloudflare's. It
//! proposes: the compiler has the last word.

use serde_json::{Value, json};

use super::quoted;
use crate::policy::{MAX_RATE_KEYS, MAX_RATE_PERIOD};

/// A rate that comes near, and what differs.
pub(super) type Proposal = (Value, Option<String>);

/// Proposals for the `ratelimit` of a rule with this condition, the nearest first.
pub(super) fn cloudflare(limit: &Value, expression: &str) -> Result<Vec<Proposal>, String> {
    let number = |key: &str| limit.get(key).and_then(Value::as_u64);
    let longest = MAX_RATE_PERIOD.as_secs();
    let period = number("period")
        .filter(|period| (1..=longest).contains(period))
        .ok_or_else(|| format!("its period is none of 1 to {longest} seconds"))?;
    let Some(requests) = number("requests_per_period") else {
        return Err(if limit.get("score_per_period").is_some() {
            "it adds up scores that the origin gives (`score_per_period`); here requests are counted".to_owned()
        } else {
            "it has no `requests_per_period`".to_owned()
        });
    };
    let mut notes = Vec::new();
    let named = limit.get("characteristics").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let (mut keys, mut left_out): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    for name in named {
        match key(name) {
            Some(found) if keys.len() < MAX_RATE_KEYS as usize => {
                if !keys.iter().any(|known| known == found.0.as_str()) {
                    keys.push(found.0);
                }
                notes.extend(found.1.map(str::to_owned));
            }
            // There is one place that counts.
            None if name == "cf.colo.id" => {}
            _ => left_out.push(name),
        }
    }
    if !left_out.is_empty() {
        notes.push(format!("not counted by {:.80}", left_out.join(", ")));
    }
    if keys.is_empty() {
        keys.push("ip.src".to_owned());
    }
    if limit.get("requests_to_origin") == Some(&Value::Bool(true)) {
        notes.push("requests count that are answered from a cache too".to_owned());
    }
    let mut rate = json!({ "key": keys, "limit": requests, "period": format!("{period}s") });
    if let Some(timeout) = number("mitigation_timeout").filter(|timeout| *timeout > 0) {
        if timeout > longest {
            notes.push(format!("once over the limit it stays so for {longest} s, not for {timeout} s"));
        }
        rate["mitigation_timeout"] = format!("{}s", timeout.min(longest)).into();
    }
    let mut proposals = Vec::new();
    if let Some(counting) = limit.get("counting_expression").and_then(Value::as_str).map(bare)
        && !counting.is_empty()
        && counting != bare(expression)
    {
        let parts = conjuncts(counting);
        let mine = conjuncts(bare(expression));
        let (answers, asked): (Vec<&str>, Vec<&str>) = parts.iter().partition(|part| part.contains("http.response."));
        let other: Vec<&str> = asked.into_iter().filter(|part| !mine.contains(part)).collect();
        let mut rate = rate.clone();
        let mut notes = notes.clone();
        if !answers.is_empty() {
            rate["count_when"] = answers.join(" and ").into();
        }
        if !other.is_empty() {
            notes.push(format!("counts requests that the rule matches, not those of `{:.80}`", other.join(" and ")));
        }
        proposals.push((rate, (!notes.is_empty()).then(|| notes.join("; "))));
    } else {
        proposals.push((rate, (!notes.is_empty()).then(|| notes.join("; "))));
    }
    // Keys that are no fields here go, but for the source.
    let last = proposals.first().filter(|_| keys != ["ip.src"]).cloned();
    if let Some((mut rate, note)) = last {
        rate["key"] = json!(["ip.src"]);
        let differs = format!("counted by source alone, not by {:.80}", keys.join(", "));
        proposals.push((rate, Some(note.into_iter().chain([differs]).collect::<Vec<_>>().join("; "))));
    }
    Ok(proposals)
}

/// A characteristic as a key, and what differs; None for what has no counterpart.
fn key(name: &str) -> Option<(String, Option<&'static str>)> {
    Some(match name {
        "cf.colo.id" | "cf.bot_management.ja3_hash" => return None,
        "cf.unique_visitor_id" => ("ip.src".to_owned(), Some("counted by source, where there it is by visitor")),
        // The first of several.
        list if list.ends_with(']') && !list.ends_with("[0]") => (format!("{list}[0]"), None),
        other => (other.to_owned(), None),
    })
}

/// A condition without the parentheses around all of it.
fn bare(text: &str) -> &str {
    let text = text.trim();
    match text.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) if closes(inner) => bare(inner),
        _ => text,
    }
}

/// Whether each parenthesis that closes was opened before.
fn closes(text: &str) -> bool {
    let mut depth = 0_i32;
    walk(text, |_, c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth >= 0
    }) && depth == 0
}

/// The parts that `and` joins on the outside; the whole where another word does.
fn conjuncts(text: &str) -> Vec<&str> {
    let mut cuts = Vec::new();
    let mut depth = 0_i32;
    let mut other = false;
    walk(text, |at, c| {
        depth += i32::from(matches!(c, '(' | '{' | '[')) - i32::from(matches!(c, ')' | '}' | ']'));
        let rest = text.get(at..).unwrap_or_default();
        if depth == 0 {
            other |= [" or ", " xor ", "||", "^^"].iter().any(|word| rest.starts_with(word));
            if let Some(word) = [" and ", "&&"].iter().find(|word| rest.starts_with(**word)) {
                cuts.push((at, at + word.len()));
            }
        }
        true
    });
    if other {
        return vec![text];
    }
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut.1));
    let ends = cuts.iter().map(|cut| cut.0).chain([text.len()]);
    starts.zip(ends).filter_map(|(start, end)| text.get(start..end)).map(bare).collect()
}

/// Shows each character that stands outside of strings, while `look` wants more; whether it wanted all.
fn walk(text: &str, mut look: impl FnMut(usize, char) -> bool) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if quoted {
            (quoted, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
        } else if c == '"' {
            quoted = true;
        } else if !look(at, c) {
            return false;
        }
    }
    true
}

/// What nginx counts by, such as `$binary_remote_addr$http_x_key`: keys, and the condition that there is anything to count by.
pub(super) fn nginx(key: &str) -> Result<(Vec<String>, Option<String>), String> {
    let mut keys = Vec::new();
    let mut may_be_empty = Vec::new();
    for part in key.split('$').skip(1) {
        let name: &str = match part.strip_prefix('{') {
            Some(rest) => rest.split('}').next().unwrap_or_default(),
            None => part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default(),
        };
        let (key, empty) =
            variable(name).ok_or_else(|| format!("it counts by `${name:.40}`, which has no counterpart here"))?;
        if !keys.contains(&key) {
            keys.push(key.clone());
        }
        may_be_empty.extend(empty.then_some(key));
    }
    match keys.len() {
        0 => Err(format!("it counts by `{key:.40}`: there is no variable in it")),
        many if many > MAX_RATE_KEYS as usize => Err(format!("it counts by more than {MAX_RATE_KEYS} values")),
        // Nothing is counted there whose key is empty.
        one if one == may_be_empty.len() => {
            let given: Vec<String> = may_be_empty.iter().map(|key| format!("{key} ne \"\"")).collect();
            Ok((keys, Some(if one == 1 { given.concat() } else { format!("({})", given.join(" or ")) })))
        }
        _ => Ok((keys, None)),
    }
}

/// A variable as a key, and whether it may be empty.
fn variable(name: &str) -> Option<(String, bool)> {
    let plain = match name {
        "binary_remote_addr" | "remote_addr" => "ip.src",
        "host" | "http_host" | "server_name" => "http.host",
        "request_uri" => "http.request.uri",
        "uri" | "document_uri" => "http.request.uri.path",
        "args" | "query_string" => return Some(("http.request.uri.query".to_owned(), true)),
        "request_method" => "http.request.method",
        "scheme" => "http.request.scheme",
        "ssl_client_s_dn" => return Some(("tls.client.cert.subject_dn".to_owned(), true)),
        _ => {
            let (kind, name) = [("http_", "headers"), ("cookie_", "cookies"), ("arg_", "uri.args")]
                .into_iter()
                .find_map(|(prefix, kind)| Some((kind, name.strip_prefix(prefix)?)))?;
            let name = if kind == "headers" { name.replace('_', "-") } else { name.to_owned() };
            return Some((format!("http.request.{kind}[{}][0]", quoted(&name)), true));
        }
    };
    Some((plain.to_owned(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_taken_apart_on_the_outside() {
        let whole = r#"((a eq "x) and (y") and (b or c) and d in {1 2}) and e"#;
        assert_eq!(conjuncts(bare(whole)), [r#"(a eq "x) and (y") and (b or c) and d in {1 2}"#, "e"].map(bare));
        assert_eq!(conjuncts(r#"a eq "\" and " && b"#), [r#"a eq "\" and ""#, "b"]);
        assert_eq!(conjuncts("a and b or c"), ["a and b or c"]);
        assert_eq!(bare("((a) and (b))"), "(a) and (b)");
        assert_eq!(bare("(a) and (b)"), "(a) and (b)");
        assert_eq!(bare("((a"), "((a");
    }

    #[test]
    fn variables_of_nginx() {
        let ip = "ip.src".to_owned();
        assert_eq!(nginx("$binary_remote_addr"), Ok((vec![ip.clone()], None)));
        let key = r#"http.request.headers["x-api-key"][0]"#.to_owned();
        assert_eq!(nginx("$http_x_api_key"), Ok((vec![key.clone()], Some(format!("{key} ne \"\"")))));
        assert_eq!(nginx("${binary_remote_addr}:$http_x_api_key"), Ok((vec![ip, key], None)));
        assert!(nginx("$geo_zone").is_err() && nginx("text").is_err() && nginx("$").is_err());
    }
}
