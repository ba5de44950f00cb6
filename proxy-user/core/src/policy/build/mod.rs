//! One policy file, from its model to checked rules that know their phases. Everything that can be said of a file alone is
//! said here; what the files take together is `assemble`'s.

mod lists;
mod phases;
mod rates;
mod terms;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::action::Side;
use super::answer::{Deed, deed};
use super::challenge;
use super::edits::{Edits, ListSummary};
use super::interfaces::Interfaces;
use super::lang::{self, Availability, Expr, Field, Lists, Wildcard};
use super::list_file::ListFiles;
use super::model::{ActionKind, Mode, Policy, PushScope, Rule};
use super::packet::Lowered;
use super::rate_key::RateKey;
use super::rollout::AbortTerms;
use super::set::ListInfo;
use crate::config::Span;
use crate::json::shape::Fault;
use phases::{at_handshake, phases};

/// HTTP status of `block` and `challenge` without one.
const DEFAULT_STATUS: u16 = 403;
/// How long `tarpit` holds unless it says.
const DEFAULT_HOLD: Duration = Duration::from_secs(30);
/// Most units, of about a nanosecond, that the condition of one rule may cost; see `lang::cost`.
pub const MAX_RULE_COST: u64 = 250_000;

/// A checked policy.
#[derive(Debug)]
pub(super) struct Unit {
    pub id: String,
    pub hosts: Vec<Wildcard>,
    pub listeners: Vec<String>,
    pub lists: Arc<Lists>,
    pub rules: Vec<UnitRule>,
    /// Lists that were read from files.
    pub files: Vec<ListInfo>,
    /// All lists.
    pub named: Vec<ListSummary>,
}

/// A checked rate.
#[derive(Debug)]
pub(super) struct UnitRate {
    pub key: RateKey,
    pub limit: u32,
    pub period: Duration,
    pub mitigation: Option<Duration>,
}

/// A checked push.
#[derive(Debug)]
pub(super) struct UnitPush {
    pub ttl: Duration,
    /// What of the source.
    pub scope: PushScope,
    /// How many matches are let go before.
    pub after: Option<UnitRate>,
}

/// A checked rule.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "what each says is asked by itself")]
pub(super) struct UnitRule {
    /// `policy/rule`
    pub name: String,
    pub id: String,
    pub description: Option<String>,
    /// JSON pointer.
    pub pointer: String,
    pub when: Arc<Expr>,
    /// The condition as written.
    pub text: String,
    /// Units that evaluating it may cost.
    pub cost: u64,
    pub action: ActionKind,
    pub status: u16,
    /// Of `tarpit`.
    pub hold: Duration,
    /// Of `challenge`.
    pub challenge: challenge::Terms,
    pub shadow: bool,
    /// What the action's terms come to.
    pub deed: Arc<Deed>,
    pub rate: Option<UnitRate>,
    /// On the response: whether the request counts for the rate.
    pub count_when: Option<Arc<Expr>>,
    pub push: Option<UnitPush>,
    pub expires: Option<jiff::Timestamp>,
    /// Its packet form, where the packet phase has it.
    pub packet: Option<Lowered>,
    /// Whether a request can tell it.
    pub request: bool,
    /// Whether it waits for the body of a request.
    pub body: bool,
    /// Whether it waits for the header of the response.
    pub answered: bool,
    /// Whether it is decided when the ClientHello has come, and again for requests.
    pub hello: bool,
    /// Of `score`.
    pub points: u16,
    /// Percentage of the sources that it acts on.
    pub percent: Option<u8>,
    pub abort: Option<AbortTerms>,
}

/// Whether a rule can act on some requests and not on others: what the kernel decides, and what would spare others a later
/// rule, is for all.
fn rolls_out(rule: &Rule) -> bool {
    !matches!(rule.action.kind, ActionKind::Drop | ActionKind::Allow)
}

/// Checks a policy, which stands in `file`. `listeners` are the names that its scope may have; none means that they are not
/// known. `files` are the list files that it names. Its rules may name `interfaces`. `edits` of its lists are laid over them,
/// those that stand at the time beside them.
pub(super) fn build(
    policy: &Policy,
    file: &str,
    listeners: &[String],
    interfaces: Interfaces<'_>,
    files: &ListFiles,
    edits: (&Edits, jiff::Timestamp),
) -> Result<Unit, Vec<Fault>> {
    let mut faults = Vec::new();
    let hosts = scope_hosts(policy, &mut faults);
    scope_listeners(policy, listeners, &mut faults);
    let lists::Found { lists, files, named } = lists::read(policy, file, files, edits, &mut faults);
    let mut ids = HashMap::new();
    let mut rules = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        let pointer = format!("/rules/{index}");
        if let Some(first) = ids.insert(rule.id.as_str(), index) {
            let message = format!("the id `{}` is taken by /rules/{first}; ids are unique in a policy", rule.id);
            faults.push(Fault::at(format!("{pointer}/id"), message));
        }
        rules.extend(checked_rule(policy, rule, &pointer, &lists, interfaces, &mut faults));
    }
    if faults.is_empty() {
        let listeners = policy.scope.listeners.clone();
        Ok(Unit { id: policy.id.clone(), hosts, listeners, lists: Arc::new(lists), rules, files, named })
    } else {
        Err(faults)
    }
}

fn scope_hosts(policy: &Policy, faults: &mut Vec<Fault>) -> Vec<Wildcard> {
    let mut found = Vec::new();
    for (index, host) in policy.scope.hosts.iter().enumerate() {
        let pointer = format!("/scope/hosts/{index}");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.*[]:".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            let message = format!("`{host}` is not a host pattern; write a name, `*.example.com` or `shop.*`");
            faults.push(Fault::at(pointer, message));
            continue;
        }
        match Wildcard::new(host.as_bytes(), true) {
            Ok(pattern) => found.push(pattern),
            Err(message) => faults.push(Fault::at(pointer, message)),
        }
    }
    found
}

fn scope_listeners(policy: &Policy, listeners: &[String], faults: &mut Vec<Fault>) {
    for (index, name) in policy.scope.listeners.iter().enumerate() {
        if !listeners.is_empty() && !listeners.contains(name) {
            let near = crate::diagnostic::hint(name, listeners.iter().map(String::as_str));
            let message = format!("the config has no listener `{name}`{near}");
            faults.push(Fault::at(format!("/scope/listeners/{index}"), message));
        }
    }
}

/// None where a fault was found.
fn checked_rule(
    policy: &Policy,
    rule: &Rule,
    pointer: &str,
    lists: &Lists,
    interfaces: Interfaces<'_>,
    faults: &mut Vec<Fault>,
) -> Option<UnitRule> {
    let before = faults.len();
    terms::terms(rule, pointer, faults);
    let when = match lang::parse(&rule.when, lists, None) {
        Ok(when) => when.cheapest_first(),
        Err(e) => {
            let message = e.render(&rule.when);
            faults.push(Fault { inside: Some(e.at), ..Fault::at(format!("{pointer}/when"), message) });
            return None;
        }
    };
    let rate = rule.rate.as_ref().and_then(|rate| rates::unit_rate(rate, lists, &format!("{pointer}/rate"), faults));
    let cost = when.cost() + rate.as_ref().map_or(0, |rate| rate.key.cost());
    if cost > MAX_RULE_COST {
        let message = format!(
            "this condition may cost {cost} units a request, at most {MAX_RULE_COST} are taken; use fewer regular \
             expressions and functions, lists instead of alternatives, or several rules"
        );
        faults.push(Fault::at(format!("{pointer}/when"), message));
    }
    // Only `skip` names others.
    let asked = if rule.action.kind == ActionKind::Skip { policy.rules.as_slice() } else { &[] };
    let later = asked.iter().skip_while(|other| !std::ptr::eq(*other, rule)).skip(1);
    let later: Vec<&str> = later.map(|rule| rule.id.as_str()).collect();
    let mut deed = deed(&rule.action, lists, &format!("{pointer}/action"), &later, faults);
    let mut answered = when.looks_at(Availability::Response);
    deed.fields(&mut |field| answered |= field.availability() == Availability::Response);
    if let (true, Deed::Header { side, .. }) = (answered, &mut deed) {
        // The request is gone; `phases` says so where it is named.
        *side = Side::Response;
    }
    let (packet, request) = phases(policy, rule, (&when, answered), pointer, interfaces, faults);
    let count_when = rule.rate.as_ref().and_then(|rate| rate.count_when.as_deref());
    let count_when =
        count_when.and_then(|text| rates::response(text, lists, &format!("{pointer}/rate/count_when"), faults));
    let hello = request && when.phases().hello && at_handshake(policy, rule, when.looks_at(Availability::Hello));
    let mut body = when.looks_at(Availability::Body);
    let mut look = |field: Field| body |= field.availability() == Availability::Body;
    deed.fields(&mut look);
    if let Some(rate) = &rate {
        rate.key.fields(&mut look);
    }
    let bounds = |span: Span| span.0;
    (faults.len() == before).then(|| UnitRule {
        name: format!("{}/{}", policy.id, rule.id),
        id: rule.id.clone(),
        description: rule.description.clone(),
        pointer: pointer.to_owned(),
        when: Arc::new(when),
        text: rule.when.clone(),
        cost,
        action: rule.action.kind,
        status: rule.action.status.unwrap_or(DEFAULT_STATUS),
        hold: rule.action.hold.map_or(DEFAULT_HOLD, bounds),
        challenge: challenge::Terms {
            status: rule.action.status.unwrap_or(DEFAULT_STATUS),
            difficulty: rule.action.difficulty.unwrap_or(challenge::DEFAULT_DIFFICULTY),
            pass_for: rule.action.pass_for.map_or(challenge::DEFAULT_PASS, bounds),
        },
        shadow: policy.mode == Mode::Shadow || rule.mode == Mode::Shadow,
        points: rule.action.points.unwrap_or_default(),
        percent: rule.percent.or(policy.percent).filter(|_| rolls_out(rule)),
        abort: rule.abort_if.as_ref().or(policy.abort_if.as_ref()).filter(|_| rolls_out(rule)).map(|abort| {
            AbortTerms { match_percent: abort.match_percent, period: abort.period.0, requests: abort.requests }
        }),
        deed: Arc::new(deed),
        count_when: count_when.map(Arc::new),
        rate,
        push: rule.push.as_ref().map(|push| UnitPush {
            ttl: bounds(push.ttl),
            scope: push.scope,
            after: push.after.as_ref().map(|after| UnitRate {
                key: RateKey::source(),
                // The match that makes the number full is over the limit.
                limit: after.matches - 1,
                period: after.period.0,
                mitigation: None,
            }),
        }),
        expires: rule.expires.map(|expiry| expiry.0),
        packet,
        request,
        body,
        answered,
        hello,
    })
}
