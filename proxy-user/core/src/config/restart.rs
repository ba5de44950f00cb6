//! Which changes of a config a running daemon cannot take over.

use serde::Serialize;
use serde_json::Value;

use super::Config;
use crate::json::join;

/// Parts of `/gate` that a reload takes into the kernel half.
const GATE_RELOADS: [&str; 8] = [
    "/gate/checks",
    "/gate/own_addresses",
    "/gate/icmp_per_second",
    "/gate/rates",
    "/gate/known_for",
    "/gate/fail",
    "/gate/interfaces",
    "/gate/syn_cookies",
];

/// JSON pointers of what differs between two configs and takes effect only at the next start: sockets, threads, the
/// kernel half, the admin sockets and whether there is an access log. Everything else is taken over by a reload.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    differences("/workers", &value(&old.workers), &value(&new.workers), &mut found);
    differences("/listeners", &value(&old.listeners), &value(&new.listeners), &mut found);
    differences("/gate", &value(&old.gate), &value(&new.gate), &mut found);
    found.retain(|pointer| !GATE_RELOADS.iter().any(|part| pointer.starts_with(part)));
    differences("/cgroup", &value(&old.cgroup), &value(&new.cgroup), &mut found);
    differences("/admin", &value(&old.admin), &value(&new.admin), &mut found);
    differences("/state_dir", &value(&old.state_dir), &value(&new.state_dir), &mut found);
    // Another file is opened by a reload, and lines stop; but a log that was never on has no writer.
    if new.access_log.enabled && !old.access_log.enabled {
        found.push("/access_log/enabled".to_owned());
    }
    found
}

fn value<T: Serialize>(part: &T) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

fn differences(pointer: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                differences(&join(pointer, key), value, b.get(key).unwrap_or(&Value::Null), found);
            }
            found.extend(b.keys().filter(|key| !a.contains_key(*key)).map(|key| join(pointer, key)));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{pointer}/{index}"), a, b, found);
            }
        }
        _ if old != new => found.push(pointer.to_owned()),
        _ => {}
    }
}
