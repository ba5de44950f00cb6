//! Checks a value against the JSON Schema that the crate publishes, so that what editors are told and what is enforced are
//! one thing. It knows the keywords that `schemars` writes for our models, collects every fault, and names the nearest
//! known key or value.

use std::collections::HashMap;
use std::net::SocketAddr;

use regex::Regex;
use serde_json::{Map, Value};

use super::join;
use crate::config::{ServerUrl, Size, Span};
use crate::diagnostic::hint;

/// One fault, not yet placed in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// JSON pointer.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// The key is meant, not the value.
    pub at_key: bool,
    /// Byte inside the (decoded) string value that is meant.
    pub inside: Option<usize>,
    /// Without this key the document could still be read.
    pub removable: bool,
}

impl Fault {
    /// About the value at `pointer`.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), at_key: false, inside: None, removable: false }
    }

    /// About the key at `pointer`.
    pub fn at_key(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at_key: true, ..Self::at(pointer, message) }
    }
}

/// All faults of `value` against `schema`.
pub fn check(schema: &Value, value: &Value) -> Vec<Fault> {
    let mut checker = Checker { root: schema, faults: Vec::new(), patterns: HashMap::new() };
    checker.value(schema, value, "", false);
    checker.faults
}

/// Takes a member out of the object that holds it.
pub fn remove(value: &mut Value, pointer: &str) {
    if let Some((parent, key)) = pointer.rsplit_once('/')
        && let Some(Value::Object(members)) = value.pointer_mut(parent)
    {
        members.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
    }
}

struct Checker<'s> {
    root: &'s Value,
    faults: Vec<Fault>,
    /// Compiled once, however many values a pattern is for.
    patterns: HashMap<&'s str, Option<Regex>>,
}

impl<'s> Checker<'s> {
    fn fault(&mut self, pointer: &str, removable: bool, message: String) {
        self.faults.push(Fault { removable, ..Fault::at(pointer, message) });
    }

    fn resolve(&self, mut schema: &'s Value) -> &'s Value {
        // A chain of references is as long as there are definitions; ours has one link.
        for _ in 0..8 {
            let Some(target) = schema.get("$ref").and_then(Value::as_str) else { break };
            let Some(found) = self.root.pointer(target.trim_start_matches('#')) else { break };
            schema = found;
        }
        schema
    }

    /// `removable`: the value stands under a key that may be absent.
    fn value(&mut self, schema: &'s Value, value: &Value, pointer: &str, removable: bool) {
        let schema = self.resolve(schema);
        if let Some(known) = choices(schema) {
            return self.choice(&known, value, pointer, removable);
        }
        if let Some(variants) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            return self.variants(variants, value, pointer, removable);
        }
        if !type_fits(schema, value) {
            let expected = type_names(schema);
            return self.fault(pointer, removable, format!("found {}, expected {expected}", describe(value)));
        }
        match value {
            Value::Object(members) => self.object(schema, members, pointer),
            Value::Array(items) => self.array(schema, items, pointer, removable),
            Value::String(text) => self.string(schema, text, pointer, removable),
            Value::Number(number) => self.number(schema, number, pointer, removable),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn choice(&mut self, known: &[&'s str], value: &Value, pointer: &str, removable: bool) {
        let listed = known.iter().map(|k| format!("\"{k}\"")).collect::<Vec<_>>().join(", ");
        let expected = if known.len() == 1 { listed } else { format!("one of {listed}") };
        match value {
            Value::String(text) if known.contains(&text.as_str()) => {}
            Value::String(text) => {
                let near = crate::diagnostic::nearest(text, known.iter().copied()).filter(|_| known.len() > 1);
                let near = near.map_or_else(String::new, |n| format!("; did you mean \"{n}\"?"));
                self.fault(pointer, removable, format!("unknown value \"{text}\", expected {expected}{near}"));
            }
            other => self.fault(pointer, removable, format!("found {}, expected {expected}", describe(other))),
        }
    }

    fn variants(&mut self, variants: &'s [Value], value: &Value, pointer: &str, removable: bool) {
        let fitting = variants.iter().find(|v| {
            let v = self.resolve(v);
            choices(v).map_or_else(|| type_fits(v, value), |_| value.is_string())
        });
        if let Some(schema) = fitting {
            return self.value(schema, value, pointer, removable);
        }
        let expected: Vec<String> = variants.iter().map(|v| type_names(self.resolve(v))).collect();
        let message = format!("found {}, expected {}", describe(value), expected.join(" or "));
        self.fault(pointer, removable, message);
    }

    fn object(&mut self, schema: &'s Value, members: &Map<String, Value>, pointer: &str) {
        let known = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = strings(schema.get("required"));
        for name in &required {
            if !members.contains_key(*name) {
                self.fault(pointer, false, format!("the key `{name}` is missing here"));
            }
        }
        let others = schema.get("additionalProperties");
        for (key, value) in members {
            let inner = join(pointer, key);
            if let Some(schema) = known.and_then(|k| k.get(key)) {
                self.value(schema, value, &inner, !required.contains(&key.as_str()));
            } else if others == Some(&Value::Bool(false)) {
                let names: Vec<&str> = known.into_iter().flat_map(|k| k.keys().map(String::as_str)).collect();
                let message = format!("unknown key `{key}`{}", hint(key, names.iter().copied()));
                self.faults.push(Fault { removable: true, ..Fault::at_key(inner, message) });
            } else if let Some(schema @ Value::Object(_)) = others {
                self.value(schema, value, &inner, false);
            }
        }
        if let Some(most) = limit(schema, "maxProperties").filter(|most| members.len() as u64 > *most) {
            self.fault(pointer, false, format!("{} entries; at most {most} are taken", members.len()));
        }
    }

    fn array(&mut self, schema: &'s Value, items: &[Value], pointer: &str, removable: bool) {
        let count = items.len() as u64;
        if let Some(least) = limit(schema, "minItems").filter(|least| count < *least) {
            self.fault(pointer, removable, format!("found {count} entries, expected at least {least}"));
        }
        if let Some(most) = limit(schema, "maxItems").filter(|most| count > *most) {
            self.fault(pointer, removable, format!("found {count} entries, expected at most {most}"));
        }
        if let Some(inner) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(inner, item, &format!("{pointer}/{index}"), false);
            }
        }
    }

    fn string(&mut self, schema: &'s Value, text: &str, pointer: &str, removable: bool) {
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && let Err(message) = check_format(format, text)
        {
            return self.fault(pointer, removable, message);
        }
        let count = text.chars().count() as u64;
        if let Some(least) = limit(schema, "minLength").filter(|least| count < *least) {
            return self.fault(pointer, removable, format!("{count} characters long, expected at least {least}"));
        }
        if let Some(most) = limit(schema, "maxLength").filter(|most| count > *most) {
            return self.fault(pointer, removable, format!("{count} characters long, expected at most {most}"));
        }
        let Some(pattern) = schema.get("pattern").and_then(Value::as_str) else { return };
        let regex = self.patterns.entry(pattern).or_insert_with(|| Regex::new(pattern).ok());
        if regex.as_ref().is_some_and(|regex| !regex.is_match(text)) {
            self.fault(pointer, removable, format!("found \"{text}\", expected text of the form {pattern}"));
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, pointer: &str, removable: bool) {
        let below = schema.get("minimum").and_then(Value::as_f64).filter(|least| number.as_f64() < Some(*least));
        let above = schema.get("maximum").and_then(Value::as_f64).filter(|most| number.as_f64() > Some(*most));
        if let Some(least) = below {
            self.fault(pointer, removable, format!("found {number}, expected at least {least}"));
        } else if let Some(most) = above {
            self.fault(pointer, removable, format!("found {number}, expected at most {most}"));
        }
    }
}

/// Whether the schema's `type` takes the value.
fn type_fits(schema: &Value, value: &Value) -> bool {
    let fits = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    };
    match schema.get("type") {
        Some(Value::String(name)) => fits(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(fits),
        _ => true,
    }
}

/// The texts among which a schema lets choose, as `schemars` writes enums without and with descriptions.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(one) = schema.get("const") {
        return Some(one.as_str().into_iter().collect());
    }
    if schema.get("enum").is_some() {
        return Some(strings(schema.get("enum")));
    }
    let variants = schema.get("oneOf")?.as_array()?;
    let nested: Option<Vec<Vec<&str>>> =
        variants.iter().map(|v| if v.get("$ref").is_some() { None } else { choices(v) }).collect();
    nested.map(Vec::from_iter).map(|lists| lists.concat())
}

fn strings(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn limit(schema: &Value, keyword: &str) -> Option<u64> {
    schema.get(keyword).and_then(Value::as_u64)
}

fn type_names(schema: &Value) -> String {
    let name = |name: &str| match name {
        "object" => "an object",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "null" => "null",
        _ => "another value",
    };
    if let Some(known) = choices(schema) {
        return format!("one of {}", known.iter().map(|k| format!("\"{k}\"")).collect::<Vec<_>>().join(", "));
    }
    match schema.get("type") {
        Some(Value::String(one)) => name(one).to_owned(),
        Some(many) => strings(Some(many)).into_iter().map(name).collect::<Vec<_>>().join(" or "),
        None => "another value".to_owned(),
    }
}

/// A short text for what stands there.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) if s.chars().count() <= 40 => format!("the string \"{s}\""),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Text forms that a type reads by itself; the type's own message is the better one.
fn check_format(format: &str, text: &str) -> Result<(), String> {
    match format {
        "span" => text.parse::<Span>().map(drop),
        "size" => text.parse::<Size>().map(drop),
        "server-url" => text.parse::<ServerUrl>().map(drop),
        "socket-address" => text.parse::<SocketAddr>().map(drop).map_err(|_| {
            format!("`{text}` is not an address and port: write e.g. \"0.0.0.0:443\", \"[::]:443\" or \"127.0.0.1:80\"")
        }),
        "date-time" => text
            .parse::<jiff::Timestamp>()
            .map(drop)
            .map_err(|_| format!("`{text}` is not a point in time: write e.g. \"2027-01-31T00:00:00Z\"")),
        _ => Ok(()),
    }
}
