//! What a rule counts, checked: its key, and the condition on responses.

use super::super::lang::{self, Expr, Lists};
use super::super::model;
use super::super::rate_key::RateKey;
use super::{MAX_RULE_COST, UnitRate};
use crate::json::shape::Fault;

/// A rate whose key requests have.
pub(super) fn unit_rate(rate: &model::Rate, lists: &Lists, pointer: &str, faults: &mut Vec<Fault>) -> Option<UnitRate> {
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
pub(super) fn response(text: &str, lists: &Lists, pointer: &str, faults: &mut Vec<Fault>) -> Option<Expr> {
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
