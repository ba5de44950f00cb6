//! Where a rule can be decided: by packets, handshakes, requests, their bodies or their responses.

use super::super::action::Side;
use super::super::interfaces::Interfaces;
use super::super::lang::{self, Expr, Phases};
use super::super::model::{ActionKind, Policy, Rule};
use super::super::packet::{Lowered, lower, lower_alternatives};
use super::rolls_out;
use crate::json::shape::Fault;

/// Whether a rule that a handshake tells is decided there: what it does is done to a connection, and nothing says that
/// requests are meant (a status, a rate, hosts, a `skip` before it). What blocks without a look at the ClientHello is told
/// so in an answer; what allows spares handshakes too.
pub(super) fn at_handshake(policy: &Policy, rule: &Rule, looks_at_hello: bool) -> bool {
    let action = &rule.action;
    let early = match action.kind {
        ActionKind::Allow => true,
        ActionKind::Reset | ActionKind::Tarpit => looks_at_hello,
        ActionKind::Block => looks_at_hello && action.status.is_none() && action.body.is_none(),
        _ => false,
    };
    let before = policy.rules.iter().take_while(|other| !std::ptr::eq(*other, rule));
    let skips = |other: &Rule| {
        let named = &other.action.rules;
        other.action.kind == ActionKind::Skip && (named.is_empty() || named.contains(&rule.id))
    };
    let whole = rule.percent.or(policy.percent).is_none_or(|percent| percent == 100)
        && rule.abort_if.as_ref().or(policy.abort_if.as_ref()).is_none();
    early
        && (whole || !rolls_out(rule))
        && rule.rate.is_none()
        && policy.scope.hosts.is_empty()
        && !before.into_iter().any(skips)
}

/// Where the rule can be decided: its packet form, and whether requests can tell it.
pub(super) fn phases(
    policy: &Policy,
    rule: &Rule,
    (when, answered): (&Expr, bool),
    pointer: &str,
    interfaces: Interfaces<'_>,
    faults: &mut Vec<Fault>,
) -> (Option<Lowered>, bool) {
    let Phases { packet, request, .. } = when.phases();
    let scoped = !policy.scope.hosts.is_empty() || !policy.scope.listeners.is_empty();
    let mut fault = |key: &str, message: String| faults.push(Fault::at(format!("{pointer}/{key}"), message));
    if answered {
        let message = on_response(rule, when);
        if let Some((key, message)) = &message {
            fault(key, message.clone());
        }
        return (None, message.is_none());
    }
    if !packet && !request {
        let names = [lang::Availability::Hello, lang::Availability::Request, lang::Availability::Body]
            .map(|known| named(when, known));
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|names| !names.is_empty()).collect();
        let message = format!(
            "no phase knows all of these fields: {} for packets only, {} for requests only; use two rules",
            named(when, lang::Availability::Packet),
            names.join(", ")
        );
        fault("when", message);
        return (None, false);
    }
    match rule.action.kind {
        ActionKind::Drop if !packet => {
            let later = [lang::Availability::Hello, lang::Availability::Request, lang::Availability::Body];
            let fields = later.map(|later| named(when, later)).into_iter().find(|names| !names.is_empty());
            let fields = fields.unwrap_or_default();
            fault("action/type", format!("`drop` is decided on packets, which have no {fields}; write `block`"));
            (None, false)
        }
        ActionKind::Drop if scoped => {
            let message = "packets are dropped before their host and listener are known: take this rule out of a policy \
                           with a scope, and name the listener by `ip.dst`, `tcp.dstport` or `udp.dstport`";
            fault("action/type", message.to_owned());
            (None, false)
        }
        ActionKind::Drop | ActionKind::Allow if packet && !scoped => match lower(when, interfaces) {
            Ok(lowered) => (Some(lowered), request),
            Err(message) => {
                fault("when", message);
                (None, false)
            }
        },
        ActionKind::Allow if !request => {
            let fields = named(when, lang::Availability::Packet);
            fault("when", format!("the policy's scope is known for requests only, which have no {fields}"));
            (None, false)
        }
        // What packets decide of it spares them in the kernel too.
        ActionKind::Allow if !scoped => match lower_alternatives(when, interfaces) {
            Ok(lowered) => (lowered, true),
            Err(message) => {
                fault("when", message);
                (None, false)
            }
        },
        kind if !request => {
            let (name, fields) = (kind.name(), named(when, lang::Availability::Packet));
            fault("action/type", format!("`{name}` is decided on requests, which have no {fields}; write `drop`"));
            (None, false)
        }
        // On requests alone.
        _ => (None, true),
    }
}

/// What hinders a rule from being decided on responses: the key and why.
fn on_response(rule: &Rule, when: &Expr) -> Option<(&'static str, String)> {
    let gone =
        [(lang::Availability::Packet, "packets only"), (lang::Availability::Body, "a request's body, which has gone")];
    for (availability, what) in gone {
        let names = named(when, availability);
        if !names.is_empty() {
            let message = format!("{names}: known of {what}; a rule that looks at the response cannot; use two rules");
            return Some(("when", message));
        }
    }
    let action = &rule.action;
    let taken =
        [ActionKind::Block, ActionKind::Reset, ActionKind::Log, ActionKind::SetHeader, ActionKind::RemoveHeader];
    if !taken.contains(&action.kind) {
        let names: Vec<String> = taken.iter().map(|kind| format!("`{}`", kind.name())).collect();
        let (name, names) = (action.kind.name(), names.join(", "));
        return Some(("action/type", format!("`{name}` comes too late for a response; it takes {names}")));
    }
    if action.on == Some(Side::Request) {
        return Some(("action/on", "the request has been forwarded; a rule on responses changes those".to_owned()));
    }
    rule.rate.is_some().then(|| {
        let message = "a rule on responses has no rate: write a rule on requests whose rate has `count_when`";
        ("rate", message.to_owned())
    })
}

/// The fields in an expression that one phase alone knows.
fn named(when: &Expr, availability: lang::Availability) -> String {
    let mut found: Vec<String> = Vec::new();
    when.fields(&mut |field| {
        let name = format!("`{}`", field.name());
        if field.availability() == availability && !found.contains(&name) {
            found.push(name);
        }
    });
    found.join(", ")
}
