//! The door: texts of policy files in, a [`PolicySet`] or every fault with its file and line out. All or nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::assemble::{Purpose, Terms, UnitFault, assemble, by_name};
use super::build::{Unit, build};
use super::challenge::ChallengeKey;
use super::edits::{Edits, NO_EDITS};
use super::interfaces::Interfaces;
use super::list_file::{self, ListFault, ListFiles};
use super::model::{MAX_POLICIES, Policy, schema};
use super::{PolicySet, selftest, slots};
use crate::diagnostic::{Diagnostic, FileDiagnostic};
use crate::geo::Databases;
use crate::json::Document;
use crate::json::shape::Fault;

/// What compiling needs besides the files.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Slots and names that the kernel maps hold from before (`Kernel::rule_names`).
    pub known_slots: &'a [(u32, String)],
    /// Now: rules that expired are off.
    pub wall_now: jiff::Timestamp,
    /// `gate.ipv6_prefix`: bits of an IPv6 source that count as one.
    pub ipv6_prefix: u8,
    /// Names of the config's listeners, to check scopes against; unchecked where empty.
    pub listeners: &'a [String],
    /// The config's `gate.interfaces` and their indexes on this host, [`super::stand_in`]s for those that it lacks; names of
    /// rules are checked against them, and may be any where there are none.
    pub interfaces: &'a [(String, u32)],
    /// Random: keys the hash of the rate tables. Its value matters only where `previous` has no table to go on with.
    pub seed: [u64; 2],
    /// What challenges are signed with; that of `previous` goes on where there is none, and there is a random one without.
    pub challenge_key: Option<ChallengeKey>,
    /// The list files that the policies name, see [`super::list_files`].
    pub lists: &'a ListFiles,
    /// The config's files of places: rules may ask for those that are there. Rules are not checked for that where there is
    /// nothing.
    pub places: Option<&'a Arc<Databases>>,
    /// What was edited in lists at run time.
    pub edits: &'a Edits,
    /// The set in force: its slots and the counts of unchanged rates are kept.
    pub previous: Option<&'a PolicySet>,
}

impl Options<'_> {
    /// Nothing known from before, IPv6 by /64, listeners unchecked, seed zero: for checks. A daemon sets the rest.
    pub fn new(wall_now: jiff::Timestamp) -> Self {
        Self {
            known_slots: &[],
            wall_now,
            ipv6_prefix: 64,
            listeners: &[],
            interfaces: &[],
            seed: [0; 2],
            challenge_key: None,
            lists: &list_file::NONE,
            places: None,
            edits: &NO_EDITS,
            previous: None,
        }
    }
}

/// Compiles all policies; `files` are names (for messages) and texts, in the order in which they are asked.
/// The policies' own tests are run. On any fault nothing is returned but the faults.
pub fn compile<N: AsRef<str>, T: AsRef<str>>(
    files: &[(N, T)],
    options: &Options<'_>,
) -> Result<PolicySet, Vec<FileDiagnostic>> {
    let schema = schema();
    let mut faults = Vec::new();
    let mut units: Vec<(&str, Document<'_>, Unit)> = Vec::new();
    for (file, text) in files {
        let broken = faulty_lines(file.as_ref(), options.lists);
        if !broken.is_empty() {
            faults.extend(broken);
            continue;
        }
        match read(file.as_ref(), text.as_ref(), &schema, options) {
            Ok((document, unit)) => units.push((file.as_ref(), document, unit)),
            Err(found) => faults.extend(of_file(file.as_ref(), found)),
        }
    }
    let mut extra = Vec::new();
    let mut ids = HashMap::new();
    for (index, (file, _, unit)) in units.iter().enumerate() {
        if let Some(first) = ids.insert(unit.id.as_str(), *file) {
            let message = format!("the id `{}` is taken by the policy in {first}; ids are unique", unit.id);
            extra.push((index, Fault::at("/id", message)));
        } else if index >= MAX_POLICIES {
            extra.push((index, Fault::at("", format!("more than {MAX_POLICIES} policies"))));
        }
    }
    let slots = allocate(&units, options, &mut extra);
    let terms = Terms {
        purpose: Purpose::Live(options.wall_now),
        slots: &slots,
        ipv6_prefix: options.ipv6_prefix,
        seed: options.seed,
        challenge_key: options.challenge_key,
        places: options.places,
        previous: options.previous,
        before: by_name(options.previous),
    };
    let parts: Vec<(&str, &Unit)> = units.iter().map(|(file, _, unit)| (*file, unit)).collect();
    let (mut set, found, warnings) = assemble(&parts, &terms);
    extra.extend(found);
    faults.extend(placed(&units, extra));
    if faults.is_empty() {
        set.warnings = placed(&units, warnings);
        set.next_expiry = set.next_expiry.into_iter().chain(options.edits.next_expiry(options.wall_now)).min();
        return Ok(set);
    }
    faults.sort_by(|a, b| {
        let key = |f: &FileDiagnostic| (f.diagnostic.line, f.diagnostic.column);
        order(files, &a.file).cmp(&order(files, &b.file)).then(key(a).cmp(&key(b)))
    });
    Err(faults)
}

/// One test of a policy, run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TestReport {
    /// Name of the policy's file.
    pub file: String,
    /// Its id.
    pub policy: String,
    /// Place of the test, from 0.
    pub test: usize,
    /// What it shows.
    pub description: Option<String>,
    /// What was to become of the request or packet.
    pub expect: &'static str,
    /// Whether that became of it.
    pub passed: bool,
    /// Why not, with file and line.
    pub faults: Vec<String>,
}

/// Runs the tests of policies, each by itself. Faults are those of the files beside their tests.
pub fn run_tests<N: AsRef<str>, T: AsRef<str>>(
    files: &[(N, T)],
    options: &Options<'_>,
) -> (Vec<TestReport>, Vec<FileDiagnostic>) {
    let schema = schema();
    let (mut reports, mut faults) = (Vec::new(), Vec::new());
    for (file, text) in files {
        let file = file.as_ref();
        let broken = faulty_lines(file, options.lists);
        if !broken.is_empty() {
            faults.extend(broken);
            continue;
        }
        let (document, policy, unit) = match built(file, text.as_ref(), &schema, options) {
            Ok(built) => built,
            Err(found) => {
                faults.extend(of_file(file, found));
                continue;
            }
        };
        for ran in selftest::each(&policy, &unit, options.ipv6_prefix, Interfaces(options.interfaces)) {
            reports.push(TestReport {
                file: file.to_owned(),
                policy: policy.id.clone(),
                test: ran.index,
                description: ran.description,
                expect: ran.expected,
                passed: ran.faults.is_empty(),
                faults: of_file(file, document.locate(ran.faults)).map(|fault| fault.to_string()).collect(),
            });
        }
    }
    (reports, faults)
}

fn order<N: AsRef<str>, T>(files: &[(N, T)], name: &str) -> usize {
    files.iter().position(|(file, _)| file.as_ref() == name).unwrap_or(usize::MAX)
}

/// What is wrong in the list files of a policy.
fn faulty_lines(file: &str, lists: &ListFiles) -> Vec<FileDiagnostic> {
    let of_file = lists.iter().filter(|((policy, _), _)| policy == file);
    let lines = of_file.filter_map(|(_, list)| match list {
        Err(ListFault::Lines(faults)) => Some(faults.iter().cloned()),
        _ => None,
    });
    lines.flatten().collect()
}

/// One file on its own, its tests included.
fn read<'t>(
    file: &str,
    text: &'t str,
    schema: &serde_json::Value,
    options: &Options<'_>,
) -> Result<(Document<'t>, Unit), Vec<Diagnostic>> {
    let (document, policy, unit) = built(file, text, schema, options)?;
    let faults = selftest::run(&policy, &unit, options.ipv6_prefix, Interfaces(options.interfaces));
    if faults.is_empty() { Ok((document, unit)) } else { Err(document.locate(faults)) }
}

/// One file on its own, its tests not run yet.
fn built<'t>(
    file: &str,
    text: &'t str,
    schema: &serde_json::Value,
    options: &Options<'_>,
) -> Result<(Document<'t>, Policy, Unit), Vec<Diagnostic>> {
    let document = Document::parse(text)?;
    let (policy, mut faults) = document.read::<Policy>(schema);
    let Some(policy) = policy else { return Err(document.locate(faults)) };
    let edits = (options.edits, options.wall_now);
    match build(&policy, file, options.listeners, Interfaces(options.interfaces), options.lists, edits) {
        Ok(unit) if faults.is_empty() => Ok((document, policy, unit)),
        Ok(unit) => {
            // Found out together with the rest.
            faults.extend(selftest::run(&policy, &unit, options.ipv6_prefix, Interfaces(options.interfaces)));
            Err(document.locate(faults))
        }
        Err(found) => {
            faults.extend(found);
            Err(document.locate(faults))
        }
    }
}

fn allocate(
    units: &[(&str, Document<'_>, Unit)],
    options: &Options<'_>,
    faults: &mut Vec<UnitFault>,
) -> BTreeMap<String, u32> {
    // A rule that is in force keeps its slot before one of an earlier run does.
    let mut known: Vec<(u32, String)> = Vec::new();
    known.extend(options.previous.into_iter().flat_map(|set| set.image.names.iter().cloned()));
    known.extend(options.known_slots.iter().cloned());
    let names: Vec<&str> = units.iter().flat_map(|(_, _, unit)| &unit.rules).map(|rule| rule.name.as_str()).collect();
    slots::allocate(&names, &known).unwrap_or_else(|name| {
        let place = units.iter().enumerate().find_map(|(index, (_, _, unit))| {
            unit.rules.iter().find(|rule| rule.name == name).map(|rule| (index, rule.pointer.clone()))
        });
        let (index, pointer) = place.unwrap_or_default();
        let most = proxy_common::abi::MAX_RULE_SLOTS - 1;
        let message = format!("{} rules in all policies, at most {most} are taken", names.len());
        faults.push((index, Fault::at(pointer, message)));
        BTreeMap::new()
    })
}

fn of_file(file: &str, found: Vec<Diagnostic>) -> impl Iterator<Item = FileDiagnostic> {
    found.into_iter().map(move |diagnostic| FileDiagnostic { file: file.to_owned(), diagnostic })
}

fn placed(units: &[(&str, Document<'_>, Unit)], faults: Vec<UnitFault>) -> Vec<FileDiagnostic> {
    let mut by_unit: BTreeMap<usize, Vec<Fault>> = BTreeMap::new();
    for (index, fault) in faults {
        by_unit.entry(index).or_default().push(fault);
    }
    let located = by_unit.into_iter().filter_map(|(index, faults)| {
        let (file, document, _) = units.get(index)?;
        Some(of_file(file, document.locate(faults)).collect::<Vec<_>>())
    });
    located.flatten().collect()
}
