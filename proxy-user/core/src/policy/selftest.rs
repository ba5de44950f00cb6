//! Runs the tests that stand in a policy, through the same evaluation and the same packet rules that are loaded.
//!
//! Every rule counts as enforcing and not expired, so that a shadow policy can be tested before it acts, and a policy does
//! not fail to load when a rule's time is over.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proxy_common::abi::rule_action;

use super::assemble::{Purpose, Terms, assemble, by_name};
use super::build::{Unit, UnitRule};
use super::interfaces::Interfaces;
use super::model::{Expect, Policy, Test};
use super::sample::Sample;
use super::{Action, PolicySet, RuleSlot};
use crate::image::longest;
use crate::json::shape::Fault;

/// Time of the first request of a test, within a bucket of any period.
const START_NS: u64 = 1;

/// One test of a policy, run.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    /// Its place among the policy's tests.
    pub index: usize,
    /// What it shows.
    pub description: Option<String>,
    /// What was to become of the sample.
    pub expected: &'static str,
    /// Why it did not pass.
    pub faults: Vec<Fault>,
}

/// Faults of the tests of one policy.
pub(super) fn run(policy: &Policy, unit: &Unit, ipv6_prefix: u8, interfaces: Interfaces<'_>) -> Vec<Fault> {
    each(policy, unit, ipv6_prefix, interfaces).into_iter().flat_map(|ran| ran.faults).collect()
}

/// Runs the tests of one policy.
pub(super) fn each(policy: &Policy, unit: &Unit, ipv6_prefix: u8, interfaces: Interfaces<'_>) -> Vec<Ran> {
    let slots: BTreeMap<String, u32> =
        unit.rules.iter().zip(1..).map(|(rule, slot)| (rule.name.clone(), slot)).collect();
    let terms = Terms {
        purpose: Purpose::Test,
        slots: &slots,
        ipv6_prefix,
        seed: [0; 2],
        challenge_key: None,
        places: None,
        previous: None,
        before: by_name(None),
    };
    // Tables of rates are made anew only where one has counted.
    let counts = |rule: &UnitRule| rule.rate.is_some() || rule.push.as_ref().is_some_and(|push| push.after.is_some());
    let counts = unit.rules.iter().any(counts);
    let mut set = None;
    let mut one = |index: usize, test: &Test| -> Result<(), Vec<Fault>> {
        let pointer = format!("/tests/{index}");
        let sample = Sample::new(&test.given, &format!("{pointer}/given"), interfaces)?;
        if let Some(rule) = test.rule.as_ref().filter(|id| unit.rules.iter().all(|rule| rule.id != **id)) {
            let near = crate::diagnostic::hint(rule, unit.rules.iter().map(|rule| rule.id.as_str()));
            return Err(vec![Fault::at(format!("{pointer}/rule"), format!("there is no rule `{rule}`{near}"))]);
        }
        if counts {
            set = None;
        }
        let set = set.get_or_insert_with(|| assemble(&[("", unit)], &terms).0);
        let outcome = judge(set, &sample, test.times);
        let decided =
            outcome.rule.and_then(|slot| set.rule_name(slot)).map(|name| name.rsplit('/').next().unwrap_or(name));
        let as_expected = outcome.is(test.expect) && test.rule.as_deref().is_none_or(|rule| decided == Some(rule));
        if as_expected {
            return Ok(());
        }
        Err(vec![Fault::at(format!("{pointer}/expect"), failure(test, &outcome, decided))])
    };
    let ran = |(index, test): (usize, &Test)| Ran {
        index,
        description: test.description.clone(),
        expected: test.expect.name(),
        faults: one(index, test).err().unwrap_or_default(),
    };
    policy.tests.iter().enumerate().map(ran).collect()
}

/// What became of a sample.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    what: Expect,
    rule: Option<RuleSlot>,
}

impl Outcome {
    fn is(self, expected: Expect) -> bool {
        match expected {
            Expect::Allow => matches!(self.what, Expect::Allow | Expect::Pass | Expect::Log),
            other => self.what == other,
        }
    }
}

fn judge(set: &PolicySet, sample: &Sample, times: u32) -> Outcome {
    let packet = on_packet(set, sample);
    if sample.packet_only || packet.what == Expect::Drop {
        return packet;
    }
    let request = sample.request();
    let mut decision = super::Decision::default();
    if request.connection.hello.is_some() {
        decision = set.evaluate_hello(&request, Some(START_NS));
    }
    let times = if matches!(decision.action, Action::Pass | Action::Allow(_)) { times } else { 0 };
    for _ in 0..times {
        decision = set.evaluate(&request, START_NS);
        if decision.action == Action::Pass {
            set.evaluate_body(&request, START_NS, &mut decision);
        }
        if decision.action == Action::Pass {
            set.evaluate_response(&request, &sample.response(), START_NS, &mut decision);
        }
        set.count(&decision.pending, &sample.response(), START_NS);
    }
    match decision.action {
        Action::Block { rule, .. } => Outcome { what: Expect::Block, rule: Some(rule) },
        Action::Reset { rule } => Outcome { what: Expect::Reset, rule: Some(rule) },
        Action::Tarpit { rule, .. } => Outcome { what: Expect::Tarpit, rule: Some(rule) },
        Action::Challenge { rule, .. } => Outcome { what: Expect::Challenge, rule: Some(rule) },
        Action::Redirect { rule, .. } => Outcome { what: Expect::Redirect, rule: Some(rule) },
        Action::Allow(rule) => Outcome { what: Expect::Allow, rule: Some(rule) },
        Action::Pass => match decision.logged.first() {
            Some(rule) => Outcome { what: Expect::Log, rule: Some(*rule) },
            None => packet,
        },
    }
}

/// As `decide` has it: whatever allows beats whatever drops.
fn on_packet(set: &PolicySet, sample: &Sample) -> Outcome {
    let (frame, packet) = sample.packet();
    let source = sample.request().src;
    let image = set.kernel_image();
    let rule =
        |action| image.rules.iter().find(|rule| rule.action == action && rule.matches(&frame, &packet)).map(|r| r.slot);
    let prefix = |list: &[(IpNet, u32)]| longest(list, crate::ranges::number(source));
    let allowed = prefix(&image.allow).or_else(|| rule(rule_action::ALLOW));
    let dropped = || prefix(&image.deny).or_else(|| rule(rule_action::DROP));
    let (what, slot) = match allowed {
        Some(slot) => (Expect::Allow, Some(slot)),
        None => dropped().map_or((Expect::Pass, None), |slot| (Expect::Drop, Some(slot))),
    };
    Outcome { what, rule: slot.map(RuleSlot) }
}

fn failure(test: &Test, outcome: &Outcome, decided: Option<&str>) -> String {
    let given: Vec<String> = test.given.iter().map(|(field, value)| format!("{field} = {value}")).collect();
    let times = if test.times > 1 { format!(", {} times", test.times) } else { String::new() };
    let wanted = test.rule.as_ref().map_or_else(String::new, |rule| format!(" by rule `{rule}`"));
    let got = decided.map_or_else(|| "no rule applied".to_owned(), |rule| format!("by rule `{rule}`"));
    format!(
        "this test fails: given {}{times}; expected `{}`{wanted}, got `{}`, {got}",
        given.join(", "),
        test.expect.name(),
        outcome.what.name()
    )
}
