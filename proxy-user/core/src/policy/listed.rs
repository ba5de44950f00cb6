//! The sources that rules on the source alone name: one list of those allowed, one of those denied, and the bounds on what
//! the kernel's tables hold of both.

use ipnet::IpNet;
use proxy_common::abi::{MAX_HOSTS, MAX_PREFIXES};

use super::assemble::UnitFault;
use crate::hosts::{Parts, split};
use crate::json::shape::Fault;

/// No list that fits has more entries.
const MOST: usize = MAX_HOSTS as usize + MAX_PREFIXES as usize;

/// What to do about too many hosts.
const HOSTS: &str = ": drop what is out of date from its lists, or list the networks that most of them lie in";
/// What to do about too many prefixes.
const PREFIXES: &str = ": list fewer networks, or larger ones that cover several (single hosts do not count)";

/// Prefixes of one kind, with the rule slot of each.
#[derive(Debug, Default)]
pub(super) struct Listed {
    entries: Vec<(IpNet, u32)>,
    /// Entries that there were when there were too many to go on.
    lost: usize,
    /// The rule with the most entries: how many, its unit and its JSON pointer.
    largest: (usize, usize, String),
}

impl Listed {
    /// Adds a rule's sources; the first rule that names a prefix has it.
    pub fn add(&mut self, networks: Vec<IpNet>, slot: u32, unit: usize, pointer: &str) {
        if networks.len() > self.largest.0 {
            self.largest = (networks.len(), unit, pointer.to_owned());
        }
        self.entries.extend(networks.into_iter().map(|network| (network, slot)));
        // So that many lists that cannot be loaded do not take memory either.
        if self.entries.len() > 2 * MOST {
            self.settle();
            if self.entries.len() > MOST {
                self.lost += self.entries.len();
                self.entries = Vec::new();
            }
        }
    }

    fn settle(&mut self) {
        // Stable: of equal prefixes the first rule's stays.
        self.entries.sort_by_key(|(network, _)| *network);
        self.entries.dedup_by_key(|(network, _)| *network);
    }

    /// All of them, sorted, each once.
    pub fn finish(&mut self) -> Vec<(IpNet, u32)> {
        self.settle();
        std::mem::take(&mut self.entries)
    }
}

/// How many hosts are listed, and faults where the kernel's tables do not hold what is.
pub(super) fn bounded(
    allowed: &Listed,
    allow: &[(IpNet, u32)],
    denied: &Listed,
    deny: &[(IpNet, u32)],
) -> (usize, Vec<UnitFault>) {
    let fault = |list: &Listed, count: usize, what: &str, most: u32, advice: &str| {
        let (own, unit, pointer) = &list.largest;
        let message = format!(
            "there are {count} {what} in all policies, at most {most} fit; this rule has {own} of them{advice}"
        );
        (*unit, Fault::at(pointer.clone(), message))
    };
    let mut faults = Vec::new();
    for (list, what) in [(allowed, "allowed sources"), (denied, "denied sources")] {
        if list.lost > 0 {
            faults.push(fault(list, list.lost, what, MAX_HOSTS, HOSTS));
        }
    }
    let Parts { allow, deny, hosts } = split(allow, deny);
    if hosts.len() > MAX_HOSTS as usize {
        let larger = if denied.largest.0 >= allowed.largest.0 { denied } else { allowed };
        faults.push(fault(larger, hosts.len(), "allowed and denied hosts", MAX_HOSTS, HOSTS));
    }
    for (list, rest, what) in [(allowed, allow, "allowed prefixes"), (denied, deny, "denied prefixes")] {
        if rest.len() > MAX_PREFIXES as usize {
            faults.push(fault(list, rest.len(), what, MAX_PREFIXES, PREFIXES));
        }
    }
    (hosts.len(), faults)
}
