//! The end-to-end cases: each builds its own street, so that they run side by side and leave nothing for the next.

mod abuse;
mod attach;
mod bodies;
pub mod checks;
mod diagnosis;
mod endings;
mod events;
mod files;
mod filter;
mod inspect;
mod install;
mod lifecycle;
mod lists;
mod policies;
mod probes;
mod protocols;
mod rates;
mod reload;
mod same_host;
mod swap;
mod syn;
mod syn_frames;
mod syn_v6;
pub mod table;
mod unattended;
mod verdicts;
mod workers;

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use crate::process::patient;
use crate::tools;

/// Time within which a case must end, set-up and clean-up included.
const CASE_TIME: Duration = Duration::from_secs(120);

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Unique within its group.
    pub name: &'static str,
    /// What must hold.
    pub run: fn() -> Result<()>,
}

/// All cases, by group.
const GROUPS: [(&str, &[Case]); 21] = [
    ("protocols", protocols::CASES),
    ("bodies", bodies::CASES),
    ("verdicts", verdicts::CASES),
    ("abuse", abuse::CASES),
    ("workers", workers::CASES),
    ("reload", reload::CASES),
    ("same_host", same_host::CASES),
    ("lifecycle", lifecycle::CASES),
    ("files", files::CASES),
    ("inspect", inspect::CASES),
    ("events", events::CASES),
    ("diagnosis", diagnosis::CASES),
    ("install", install::CASES),
    ("syn", syn::CASES),
    ("rates", rates::CASES),
    ("syn_v6", syn_v6::CASES),
    ("probes", probes::CASES),
    ("lists", lists::CASES),
    ("policies", policies::CASES),
    ("attach", attach::CASES),
    ("endings", endings::CASES),
];

/// All cases as trials. `skip` ignores them: [`cannot_run`] says why.
pub fn trials(skip: bool) -> Vec<Trial> {
    let has_module = |name: &str| Path::new("/sys/module").join(name).exists();
    let with = |module, cases| has_module(module).then_some(("attach", cases));
    let browser = tools::find(policies::BROWSER).is_ok().then_some(("policies", policies::BROWSER_CASES));
    let more = [with("bonding", attach::BOND_CASES), with("8021q", attach::VLAN_CASES), browser];
    GROUPS
        .into_iter()
        .chain(more.into_iter().flatten())
        .flat_map(|(group, cases)| cases.iter().map(move |case| (group, case)))
        .map(|(group, case)| {
            let run = case.run;
            Trial::test(format!("e2e::{group}::{}", case.name), move || within(CASE_TIME, run)).with_ignored_flag(skip)
        })
        .collect()
}

/// Why no end-to-end case can run here, if so.
pub fn cannot_run() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces and eBPF need root".to_owned());
    }
    if !Path::new("/sys/fs/bpf").exists() {
        return Some("this kernel has no bpffs (CONFIG_BPF_SYSCALL)".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".to_owned());
    }
    None
}

/// Runs a case in a thread of its own and gives up on it when time is up; what it made is removed when the run ends.
pub fn within(time: Duration, case: fn() -> Result<()>) -> Result<(), Failed> {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        // The receiver is gone when time was up.
        let _ = done.send(case().map_err(|error| format!("{error:#}")));
    });
    let time = patient(time);
    match result.recv_timeout(time) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(message)) => Err(message.into()),
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("not done within {time:?}").into()),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => Err("the case ended without a result".into()),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Err(text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").into())
            }
        },
    }
}
