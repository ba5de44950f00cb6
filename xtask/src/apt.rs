//! Debian and Ubuntu packages: what is there, what can be had, and installing it.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::progress::Progress;
use crate::run;

/// Whether this system takes Debian packages.
pub fn is_here() -> bool {
    run::find("apt-get").is_some() && run::find("dpkg-query").is_some()
}

/// Whether a package is installed.
pub fn installed(package: &str) -> bool {
    run::command("dpkg-query")
        .args(["-W", "-f=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|out| out.stdout == b"installed")
}

/// The version that would be installed; empty when the package lists have none.
pub fn candidate(package: &str) -> String {
    let policy = run::quietly(run::command("apt-cache").args(["policy", package])).unwrap_or_default();
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:")).map_or("", str::trim);
    if version == "(none)" { String::new() } else { version.to_owned() }
}

/// Whether the package lists offer a package.
fn offered(package: &str) -> bool {
    !candidate(package).is_empty()
}

/// Whether all packages can be installed;
/// fetches the package lists when one is missing from them.
pub fn obtainable(packages: &[&str], progress: Progress) -> bool {
    if !is_here() {
        return false;
    }
    let all = || packages.iter().all(|package| installed(package) || offered(package));
    all() || (update(progress).is_ok() && all())
}

/// Fetches the package lists, once a run.
fn update(progress: Progress) -> Result<()> {
    static DONE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let ok = *DONE.get_or_init(|| {
        let Some(mut command) = run::as_root("apt-get") else { return false };
        progress.step("Fetching package lists", || run::quietly(command.args(["-q", "update"]))).is_ok()
    });
    if ok { Ok(()) } else { bail!("`apt-get update` did not succeed") }
}

/// Installs the packages that are missing.
///
/// # Errors
/// Names the command to run where this process may not install.
pub fn install(packages: &[&str], progress: Progress) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if !is_here() {
        bail!("this system has no apt-get. On Debian or Ubuntu one would run, as root:\n    {by_hand}");
    }
    if run::as_root("true").is_none_or(|mut probe| run::quietly(&mut probe).is_err()) {
        bail!("neither root nor sudo: have an administrator run\n    {by_hand}\nand repeat `cargo xtask setup`");
    }
    if !missing.iter().all(|package| offered(package)) {
        update(progress)?;
        let unknown: Vec<&str> = missing.iter().copied().filter(|package| !offered(package)).collect();
        if !unknown.is_empty() {
            bail!("no package source offers {}", unknown.join(", "));
        }
    }
    let attempt = || {
        let mut command = run::as_root("env").context("neither root nor sudo")?;
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "install", "--no-install-recommends"]);
        run::quietly(command.args(&missing))
    };
    progress
        .step(&format!("Installing {}", missing.join(" ")), || {
            // Lists that are too old name files that the mirror no longer has: fetch them and try once more.
            attempt().or_else(|_| update(Progress { quiet: true }).and_then(|()| attempt()))
        })
        .map(drop)
}
