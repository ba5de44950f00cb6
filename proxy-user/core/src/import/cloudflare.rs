//! A ruleset of Cloudflare's, as their API gives it: the expressions are the same language, so that the compiler tells
//! what of them there is here; actions are translated.

use serde_json::{Value, json};

use super::{Draft, limits};

pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
    let set = value.get("result").unwrap_or(&value);
    let rules = set.get("rules").unwrap_or(set).as_array();
    let rules = rules.ok_or("there are no rules in it: give a ruleset, or an array of rules, as the API gives them")?;
    let response = set.get("phase").and_then(Value::as_str) == Some("http_response_headers_transform");
    for (number, rule) in (1..).zip(rules) {
        if draft.full(number) {
            break;
        }
        one(number, rule, response, draft);
    }
    Ok(())
}

fn one(number: usize, rule: &Value, response: bool, draft: &mut Draft<'_>) {
    let text = |key: &str| rule.get(key).and_then(Value::as_str);
    let name = ["ref", "description", "id"].into_iter().find_map(text).unwrap_or_default();
    let shown = text("description").or(text("expression")).unwrap_or(name);
    // Rules of the older firewall API keep it in a filter.
    let filtered = rule.get("filter").and_then(|filter| filter.get("expression")).and_then(Value::as_str);
    let Some(expression) = text("expression").or(filtered) else {
        return draft.refuse(number, shown, "it has no `expression`");
    };
    let says = |key: &str, word: bool| rule.get(key) == Some(&Value::Bool(word));
    if says("enabled", false) || says("paused", true) {
        return draft.refuse(number, shown, "it is disabled there");
    }
    let parameters = rule.get("action_parameters").unwrap_or(&Value::Null);
    for parameters in changes(parameters) {
        translate(number, rule, (shown, name, expression), &parameters, response, draft);
    }
}

/// A rule there may change several headers, one here changes one: all see the request as it came, so that several rules
/// say the same.
fn changes(parameters: &Value) -> Vec<Value> {
    match parameters.get("headers").and_then(Value::as_object) {
        Some(headers) if headers.len() > 1 => {
            headers.iter().map(|(name, header)| json!({ "headers": { name: header } })).collect()
        }
        _ => vec![parameters.clone()],
    }
}

fn translate(
    number: usize,
    rule: &Value,
    (shown, name, expression): (&str, &str, &str),
    parameters: &Value,
    response: bool,
    draft: &mut Draft<'_>,
) {
    let text = |key: &str| rule.get(key).and_then(Value::as_str);
    let base = json!({ "id": draft.rule_id(name), "description": text("description"), "when": expression });
    let mut candidates = actions(text("action").unwrap_or_default(), parameters, response);
    if candidates.is_empty() {
        let action = text("action").unwrap_or_default();
        return draft.refuse(number, shown, format!("the action `{action:.40}` has no counterpart here"));
    }
    let limited = match rule.get("ratelimit").map(|limit| limits::cloudflare(limit, expression)).transpose() {
        Ok(limited) => limited.unwrap_or_default(),
        Err(why) => return draft.refuse(number, shown, why),
    };
    let mut finished = Vec::new();
    for (action, note) in candidates.drain(..) {
        let mut rule = base.clone();
        if rule["description"].is_null()
            && let Some(rule) = rule.as_object_mut()
        {
            rule.remove("description");
        }
        rule["action"] = action;
        if limited.is_empty() {
            finished.push((rule, note));
            continue;
        }
        for (rate, differs) in &limited {
            let mut rule = rule.clone();
            rule["rate"] = rate.clone();
            let notes: Vec<String> = note.iter().chain(differs).cloned().collect();
            finished.push((rule, (!notes.is_empty()).then(|| notes.join("; "))));
        }
    }
    draft.rule(number, shown, finished);
}

/// Actions that come near, the nearest first, and what differs.
fn actions(name: &str, parameters: &Value, response: bool) -> Vec<(Value, Option<String>)> {
    let exact = |action: Value| vec![(action, None)];
    let nearly = |action: Value, note: &str| vec![(action, Some(note.to_owned()))];
    match name {
        "block" => {
            let mut action = json!({ "type": "block" });
            let own = parameters.get("response").unwrap_or(&Value::Null);
            for (from, to) in [("status_code", "status"), ("content", "body"), ("content_type", "content_type")] {
                if let Some(value) = own.get(from) {
                    action[to] = value.clone();
                }
            }
            exact(action)
        }
        "managed_challenge" | "js_challenge" | "challenge" => {
            let challenge = (json!({ "type": "challenge" }), Some("another kind of challenge".to_owned()));
            let log = (json!({ "type": "log" }), Some("only logged: there is no challenge here".to_owned()));
            vec![challenge, log]
        }
        "log" => exact(json!({ "type": "log" })),
        "skip" => match parameters.get("ruleset").and_then(Value::as_str) {
            Some("current") => exact(json!({ "type": "skip" })),
            _ => nearly(
                json!({ "type": "skip" }),
                "skips the rules that follow here, not Cloudflare's products and phases",
            ),
        },
        "redirect" => redirect(parameters),
        "rewrite" => rewrite(parameters, response),
        _ => Vec::new(),
    }
}

fn redirect(parameters: &Value) -> Vec<(Value, Option<String>)> {
    let Some(from) = parameters.get("from_value") else { return Vec::new() };
    let mut action = json!({ "type": "redirect" });
    if let Some(status) = from.get("status_code") {
        action["status"] = status.clone();
    }
    if let Some(keep) = from.get("preserve_query_string") {
        action["keep_query"] = keep.clone();
    }
    let target = from.get("target_url").unwrap_or(&Value::Null);
    for (key, to) in [("value", "to"), ("expression", "to_expression")] {
        if let Some(value) = target.get(key) {
            action[to] = value.clone();
        }
    }
    vec![(action, None)]
}

/// A rewrite of path and query, or of one header: an action here changes one thing.
fn rewrite(parameters: &Value, response: bool) -> Vec<(Value, Option<String>)> {
    if let Some(uri) = parameters.get("uri") {
        let mut action = json!({ "type": "rewrite" });
        for part in ["path", "query"] {
            for (key, suffix) in [("value", ""), ("expression", "_expression")] {
                if let Some(value) = uri.get(part).and_then(|part| part.get(key)) {
                    action[format!("{part}{suffix}")] = value.clone();
                }
            }
        }
        return vec![(action, None)];
    }
    let headers = parameters.get("headers").and_then(Value::as_object);
    let Some((name, header)) = headers.and_then(|headers| headers.iter().next()) else { return Vec::new() };
    let mut note = None;
    let side = if response { "response" } else { "request" };
    let mut action = json!({ "type": "set_header", "header": name, "on": side });
    match header.get("operation").and_then(Value::as_str) {
        Some("remove") => action["type"] = "remove_header".into(),
        Some("add") => note = Some("sets the header where there it adds one".to_owned()),
        _ => {}
    }
    for (key, to) in [("value", "value"), ("expression", "value_expression")] {
        if let Some(value) = header.get(key) {
            action[to] = value.clone();
        }
    }
    vec![(action, note)]
}
