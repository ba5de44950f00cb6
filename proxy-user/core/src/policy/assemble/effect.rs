//! What follows from one checked rule when a set is put together: what its match does, how far it is rolled out, and what of
//! the config it lacks.

use std::sync::Arc;

use super::{Purpose, Terms};
use crate::geo::Databases;
use crate::policy::build::UnitRule;
use crate::policy::lang::{Expr, Field};
use crate::policy::model::ActionKind;
use crate::policy::rollout::{Abort, AbortTerms, Rollout, Share};
use crate::policy::set::{Effect, RequestRule};

/// The file that a rule asks and the config does not name, by its key.
pub(super) fn missing(places: &Databases, rule: &UnitRule) -> Option<&'static str> {
    let mut found = None;
    let mut look = |field: Field| {
        let key = field.of_places().filter(|key| match *key {
            "country" => !places.has_countries(),
            _ => !places.has_networks(),
        });
        found = found.or(key);
    };
    rule.when.fields(&mut look);
    rule.deed.fields(&mut look);
    if let Some(rate) = &rule.rate {
        rate.key.fields(&mut look);
    }
    found
}

/// What a match of a rule does.
pub(super) fn effect(rule: &UnitRule, shadow: bool) -> Effect {
    match rule.action {
        _ if shadow => Effect::Log,
        ActionKind::Allow => Effect::Allow,
        ActionKind::Block => Effect::Block(rule.status),
        ActionKind::Reset => Effect::Reset,
        ActionKind::Tarpit => Effect::Tarpit(rule.hold),
        ActionKind::Challenge => Effect::Challenge(rule.challenge),
        ActionKind::Log | ActionKind::Drop => Effect::Log,
        ActionKind::Redirect => Effect::Redirect,
        ActionKind::Rewrite | ActionKind::SetHeader | ActionKind::RemoveHeader => Effect::Change,
        ActionKind::Skip => Effect::Skip,
        ActionKind::Score => Effect::Score(rule.points),
    }
}

/// Whether a condition is about what the source did, and else at most about what is known of every connection: it can be
/// decided when the source does something.
pub(super) fn on_abuse(when: &Expr) -> bool {
    let (mut about, mut else_known) = (false, true);
    when.fields(&mut |field| {
        about |= field.is_of_abuse();
        else_known &= field.is_of_abuse() || field.of_handshakes();
    });
    about && else_known
}

/// How far a rule is rolled out; what it did so far goes on, and so does its watch if that is the same.
pub(super) fn rollout(rule: &UnitRule, shadow: bool, before: Option<&RequestRule>, terms: &Terms<'_>) -> Rollout {
    if matches!(terms.purpose, Purpose::Test) {
        return Rollout::default();
    }
    let before = before.map(|old| &old.rollout);
    let watch = |wanted: AbortTerms| {
        let same = before.and_then(|before| before.abort.as_ref()).filter(|abort| abort.terms == wanted);
        same.map_or_else(|| Arc::new(Abort::new(wanted)), Arc::clone)
    };
    let share = |percent: u8| Share::new(&rule.name, percent, terms.ipv6_prefix);
    Rollout {
        shadow,
        percent: rule.percent,
        share: rule.percent.filter(|percent| *percent < 100).map(share),
        abort: rule.abort.map(watch),
        tally: before.map(|before| Arc::clone(&before.tally)).unwrap_or_default(),
    }
}
