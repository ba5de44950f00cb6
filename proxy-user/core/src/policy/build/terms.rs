//! What may stand together in a rule, and times within their bounds.

use std::time::Duration;

use super::super::model::{self, ActionKind, Rule};
use super::super::rollout;
use super::rolls_out;
use crate::config::Span;
use crate::json::shape::Fault;

/// What goes together, and times within their bounds.
pub(super) fn terms(rule: &Rule, pointer: &str, faults: &mut Vec<Fault>) {
    let action = rule.action.kind;
    let ends = [ActionKind::Block, ActionKind::Reset, ActionKind::Tarpit];
    if rule.push.is_some() && !ends.contains(&action) {
        let message = match action {
            ActionKind::Drop => "a drop rule is in the kernel already; `push` is for `block`".to_owned(),
            _ => format!("`push` is for `block`, `reset` and `tarpit`; `{}` bans nobody", action.name()),
        };
        faults.push(Fault::at_key(format!("{pointer}/push"), message));
    }
    if rule.rate.is_some() && matches!(action, ActionKind::Allow | ActionKind::Drop) {
        let message = format!("rates count requests, which `{}` is not about", action.name());
        faults.push(Fault::at_key(format!("{pointer}/rate"), message));
    }
    if (rule.percent.is_some() || rule.abort_if.is_some()) && !rolls_out(rule) {
        let key = if rule.percent.is_some() { "percent" } else { "abort_if" };
        let message = format!("`{}` acts on all or on none; leave `{key}` out, or use `mode`", action.name());
        faults.push(Fault::at_key(format!("{pointer}/{key}"), message));
    }
    let mut within = |key: &str, span: Span, least: Duration, most: Duration| {
        if !(least..=most).contains(&span.0) {
            let message = format!("found {span}, expected {} to {}", Span(least), Span(most));
            faults.push(Fault::at(format!("{pointer}/{key}"), message));
        }
    };
    if let Some(rate) = &rule.rate {
        within("rate/period", rate.period, model::MIN_RATE_PERIOD, model::MAX_RATE_PERIOD);
        if let Some(timeout) = rate.mitigation_timeout {
            within("rate/mitigation_timeout", timeout, model::MIN_RATE_PERIOD, model::MAX_RATE_PERIOD);
        }
    }
    if let Some(hold) = rule.action.hold {
        within("action/hold", hold, model::MIN_HOLD, model::MAX_HOLD);
    }
    if let Some(pass_for) = rule.action.pass_for {
        within("action/pass_for", pass_for, model::MIN_PASS, model::MAX_PASS);
    }
    if let Some(abort) = &rule.abort_if {
        within("abort_if/period", abort.period, rollout::MIN_ABORT_PERIOD, rollout::MAX_ABORT_PERIOD);
    }
    if let Some(push) = &rule.push {
        within("push/ttl", push.ttl, model::MIN_PUSH_TTL, model::MAX_PUSH_TTL);
        if let Some(after) = &push.after {
            within("push/after/period", after.period, model::MIN_RATE_PERIOD, model::MAX_RATE_PERIOD);
        }
    }
}
