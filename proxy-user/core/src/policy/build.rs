//! One policy file, from its model to checked rules that know their phases. Everything that can be said of a file alone is
//! said here; what the files take together is `assemble`'s.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Deed, deed};
use super::challenge;
use super::edits::{Edits, ListSummary};
use super::interfaces::Interfaces;
use super::lang::{self, Expr, Lists, NamedList, Phases, Wildcard};
use super::list_file::{ListFault, ListFile, ListFiles, check_list_name};
use super::model::{self, ActionKind, List, ListKind, Mode, Policy, Rule};
use super::packet::{Lowered, lower, lower_alternatives};
use super::rate_key::RateKey;
use super::rollout::{self, AbortTerms};
use super::set::ListInfo;
use crate::config::Span;
use crate::json::join;
use crate::json::shape::Fault;
use crate::ranges::{RangeSet, network_ranges, parse_network};

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
    pub push: Option<Duration>,
    pub expires: Option<jiff::Timestamp>,
    /// Its packet form, where the packet phase has it.
    pub packet: Option<Lowered>,
    /// Whether a request can tell it.
    pub request: bool,
    /// Whether it waits for the body of a request.
    pub body: bool,
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
    let mut infos = Vec::new();
    let mut named = Vec::new();
    let mut lists = Lists::new();
    for (name, list) in &policy.lists {
        let found = match &list.file {
            None => items(name, list, &mut faults),
            Some(list_file) => {
                let known = files.get(&(file.to_owned(), list_file.clone()));
                let found = from_file(name, list, list_file, known, &mut faults);
                infos.extend(found.map(|known| ListInfo {
                    name: format!("{}/{name}", policy.id),
                    file: list_file.clone(),
                    items: known.items,
                    ranges: match &known.list {
                        NamedList::Cidr(ranges) => ranges.ranges().len(),
                        NamedList::Text(_) => 0,
                    },
                }));
                let none = || match list.kind {
                    ListKind::Cidr => NamedList::Cidr(Arc::default()),
                    ListKind::String => NamedList::Text(Arc::default()),
                };
                found.map_or_else(none, |known| known.list.clone())
            }
        };
        let full = format!("{}/{name}", policy.id);
        let own = found.clone();
        let found = match found {
            NamedList::Cidr(ranges) => NamedList::Cidr(edits.0.over_ranges(&full, edits.1, &ranges)),
            NamedList::Text(mut strings) => {
                if edits.0.of(&full, edits.1).next().is_some() {
                    edits.0.over_strings(&full, edits.1, Arc::make_mut(&mut strings));
                }
                NamedList::Text(strings)
            }
        };
        named.push(ListSummary::new(full, list_items(list, file, files), own));
        lists.insert(name.clone(), found);
    }
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
        Ok(Unit { id: policy.id.clone(), hosts, listeners, lists: Arc::new(lists), rules, files: infos, named })
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

/// Items of a list, without what was edited.
fn list_items(list: &List, policy: &str, files: &ListFiles) -> usize {
    match &list.file {
        None => list.items.as_ref().map_or(0, Vec::len),
        Some(file) => match files.get(&(policy.to_owned(), file.clone())) {
            Some(Ok(list)) => list.items,
            _ => 0,
        },
    }
}

/// The pointer of a list, whose name is checked.
fn list_pointer(name: &str, faults: &mut Vec<Fault>) -> String {
    let pointer = join("/lists", name);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')) {
        let message = format!("`{name}` cannot be the name of a list: write letters, digits, `_`, `-` and `.`");
        faults.push(Fault::at_key(pointer.clone(), message));
    }
    pointer
}

/// A list from a file that the caller has read.
fn from_file<'f>(
    name: &str,
    list: &List,
    file: &str,
    known: Option<&'f Result<ListFile, ListFault>>,
    faults: &mut Vec<Fault>,
) -> Option<&'f ListFile> {
    let pointer = list_pointer(name, faults);
    let message = if list.items.is_some() {
        "a list has its items here or in a file, not both; make two lists, and name both in the rule".to_owned()
    } else if let Err(message) = check_list_name(file) {
        message
    } else {
        match known {
            Some(Ok(known)) if matches!(known.list, NamedList::Cidr(_)) != (list.kind == ListKind::Cidr) => {
                format!("`{file}` is named by two lists of different types; each list has its own file")
            }
            Some(Ok(known)) => return Some(known),
            Some(Err(ListFault::Unread(message))) => message.clone(),
            // Said line by line already.
            Some(Err(ListFault::Lines(_))) => return None,
            None => format!("`{file}` was not read; check the policy together with its files"),
        }
    };
    faults.push(Fault::at(format!("{pointer}/file"), message));
    None
}

fn items(name: &str, list: &List, faults: &mut Vec<Fault>) -> NamedList {
    let pointer = list_pointer(name, faults);
    if list.items.is_none() {
        let message = "a list needs `items`, or a `file` that holds them";
        faults.push(Fault::at(pointer.clone(), message.to_owned()));
    }
    let items = list.items.as_deref().unwrap_or_default();
    match list.kind {
        ListKind::String => {
            let items = items.iter().map(|item| item.as_bytes().into()).collect::<HashSet<Box<[u8]>>>();
            NamedList::Text(Arc::new(items))
        }
        ListKind::Cidr => {
            let mut ranges = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                match parse_network(item) {
                    Ok(network) => ranges.extend(network_ranges(network)),
                    Err(message) => faults.push(Fault::at(format!("{pointer}/items/{index}"), message)),
                }
            }
            NamedList::Cidr(Arc::new(RangeSet::new(ranges)))
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
    terms(rule, pointer, faults);
    let when = match lang::parse(&rule.when, lists, None) {
        Ok(when) => when.cheapest_first(),
        Err(e) => {
            let message = e.render(&rule.when);
            faults.push(Fault { inside: Some(e.at), ..Fault::at(format!("{pointer}/when"), message) });
            return None;
        }
    };
    let rate = rule.rate.as_ref().and_then(|rate| unit_rate(rate, lists, &format!("{pointer}/rate"), faults));
    let cost = when.cost() + rate.as_ref().map_or(0, |rate| rate.key.cost());
    if cost > MAX_RULE_COST {
        let message = format!(
            "this condition may cost {cost} units a request, at most {MAX_RULE_COST} are taken; use fewer regular \
             expressions and functions, lists instead of alternatives, or several rules"
        );
        faults.push(Fault::at(format!("{pointer}/when"), message));
    }
    let (packet, request) = phases(policy, rule, &when, pointer, interfaces, faults);
    let later = policy.rules.iter().skip_while(|other| !std::ptr::eq(*other, rule)).skip(1);
    let later: Vec<&str> = later.map(|rule| rule.id.as_str()).collect();
    let deed = deed(&rule.action, lists, &format!("{pointer}/action"), &later, faults);
    let count_when = rule.rate.as_ref().and_then(|rate| rate.count_when.as_deref());
    let count_when = count_when.and_then(|text| response(text, lists, &format!("{pointer}/rate/count_when"), faults));
    let hello = request && when.phases().hello && at_handshake(policy, rule, when.looks_at(lang::Availability::Hello));
    let mut body = when.looks_at(lang::Availability::Body);
    let mut look = |field: lang::Field| body |= field.availability() == lang::Availability::Body;
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
        push: rule.push.as_ref().map(|push| bounds(push.ttl)),
        expires: rule.expires.map(|expiry| expiry.0),
        packet,
        request,
        body,
        hello,
    })
}

/// Whether a rule that a handshake tells is decided there: what it does is done to a connection, and nothing says that
/// requests are meant (a status, a rate, hosts, a `skip` before it). What blocks without a look at the ClientHello is told
/// so in an answer; what allows spares handshakes too.
fn at_handshake(policy: &Policy, rule: &Rule, looks_at_hello: bool) -> bool {
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

/// A rate whose key requests have.
fn unit_rate(rate: &model::Rate, lists: &Lists, pointer: &str, faults: &mut Vec<Fault>) -> Option<UnitRate> {
    let key = match RateKey::new(&rate.key, lists) {
        Ok(key) => key,
        Err((place, e)) => {
            let text = rate.key.get(place).map(String::as_str).unwrap_or_default();
            let at = Fault::at(format!("{pointer}/key/{place}"), e.render(text));
            faults.push(Fault { inside: Some(e.at), ..at });
            return None;
        }
    };
    let mut unknown = Vec::new();
    key.fields(&mut |field| {
        let of_requests = matches!(
            field.availability(),
            lang::Availability::Both
                | lang::Availability::Hello
                | lang::Availability::Request
                | lang::Availability::Body
        );
        unknown.extend((!of_requests).then(|| format!("`{}`", field.name())));
    });
    if !unknown.is_empty() {
        let message = format!("{}: requests do not have it, and rates count requests", unknown.join(", "));
        faults.push(Fault::at(format!("{pointer}/key"), message));
        return None;
    }
    let mitigation = rate.mitigation_timeout.map(|span| span.0);
    Some(UnitRate { key, limit: rate.limit, period: rate.period.0, mitigation })
}

/// A condition on the response.
fn response(text: &str, lists: &Lists, pointer: &str, faults: &mut Vec<Fault>) -> Option<Expr> {
    let fault = match lang::parse(text, lists, None) {
        Ok(expr) if expr.phases().response && expr.cost() <= MAX_RULE_COST => return Some(expr),
        Ok(expr) if expr.phases().response => {
            Fault::at(pointer, format!("this may cost {} units, at most {MAX_RULE_COST} are taken", expr.cost()))
        }
        Ok(expr) => {
            let mut fields = Vec::new();
            expr.fields(&mut |field| fields.extend((!field.of_responses()).then(|| format!("`{}`", field.name()))));
            let message = format!(
                "{}: not known of a response; `count_when` looks at `http.response.code`, `http.response.headers`, `ip.src`",
                fields.join(", ")
            );
            Fault::at(pointer, message)
        }
        Err(e) => Fault { inside: Some(e.at), ..Fault::at(pointer, e.render(text)) },
    };
    faults.push(fault);
    None
}

/// What goes together, and times within their bounds.
fn terms(rule: &Rule, pointer: &str, faults: &mut Vec<Fault>) {
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
    }
}

/// Where the rule can be decided: its packet form, and whether requests can tell it.
fn phases(
    policy: &Policy,
    rule: &Rule,
    when: &Expr,
    pointer: &str,
    interfaces: Interfaces<'_>,
    faults: &mut Vec<Fault>,
) -> (Option<Lowered>, bool) {
    let Phases { packet, request, .. } = when.phases();
    let scoped = !policy.scope.hosts.is_empty() || !policy.scope.listeners.is_empty();
    let mut fault = |key: &str, message: String| faults.push(Fault::at(format!("{pointer}/{key}"), message));
    let response = named(when, lang::Availability::Response);
    if !response.is_empty() {
        fault("when", format!("{response}: known when the request has been answered, which is too late for `when`"));
        return (None, false);
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
