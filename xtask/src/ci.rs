//! `cargo xtask ci`: everything that must hold before a change lands, in order of how soon it fails.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

use crate::progress::Progress;
use crate::{build, run, setup, tree};

/// Crates that the pure core may not depend on.
const NOT_IN_CORE: [&str; 7] = ["tokio", "hyper", "aya", "quinn", "rustls", "mio", "socket2"];
/// The checker of licences and sources.
const DENY: &str = "cargo-deny";

/// Options of `ci`.
#[derive(clap::Args)]
pub struct Args {
    /// Only what needs no root: formatting, lints, dependencies, generated files
    #[arg(long)]
    checks: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<ExitCode> {
    let progress = Progress { quiet: false };
    let toolchain = setup::for_build(progress)?;
    progress.step("Formatting", || run::quietly(run::cargo().args(["fmt", "--all", "--check"])))?;
    progress.step("The core depends on no I/O", core_is_pure)?;
    progress.step("proxy-common builds for the BPF target", || {
        let mut cargo = build::bpf_cargo(&toolchain, "build", "proxy-common");
        run::quietly(cargo.args(["--profile", "bpf"]))
    })?;
    let object = build::object(&toolchain, progress)?;
    progress.announce("Lints");
    let mut clippy = run::cargo();
    clippy.args(["clippy", "--workspace", "--exclude", "proxy-ebpf", "--all-targets"]);
    build::embed(&mut clippy, &object);
    run::shown(clippy.args(["--", "-D", "warnings"]), false)?;
    licences(progress)?;
    let built = build::workspace(&toolchain, build::TEST_PROFILE, &["proxy-user"], progress)?;
    progress.step("Generated files are up to date", || generated(&built))?;
    if args.checks {
        return Ok(ExitCode::SUCCESS);
    }
    let this = std::env::current_exe()?;
    run::shown(run::command(&this).arg("test"), false)?;
    run::shown(run::command(&this).args(["demo", "--json"]), false)?;
    progress.announce("All of it holds");
    Ok(ExitCode::SUCCESS)
}

fn core_is_pure() -> Result<()> {
    let mut cargo = run::cargo();
    cargo.args(["tree", "--package", "proxy-core", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let tree = run::quietly(&mut cargo)?;
    let found: Vec<&str> =
        tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| NOT_IN_CORE.contains(name)).collect();
    ensure!(found.is_empty(), "proxy-core depends on {}", found.join(", "));
    Ok(())
}

fn licences(progress: Progress) -> Result<()> {
    let built = tree::cache()?.join(DENY);
    let deny = run::find(DENY).unwrap_or_else(|| built.join("bin").join(DENY));
    if !deny.exists() {
        progress.step("Building cargo-deny (several minutes, once)", || {
            let mut install = run::cargo();
            install.current_dir("/").args(["install", DENY, "--locked", "--root"]).arg(&built);
            run::quietly(&mut install)
        })?;
    }
    progress.step("Licences, bans and sources of all dependencies", || {
        run::quietly(run::command(&deny).args(["check", "licenses", "bans", "sources"]))
    })?;
    // Needs the advisory database from a git server, which not every network lets through.
    let advisories = progress.step("Security advisories", || {
        let checked = run::quietly(run::command(&deny).args(["check", "advisories"]));
        match checked {
            Err(error) if format!("{error:#}").contains("failed to fetch advisory database") => Ok(false),
            other => other.map(|_| true),
        }
    })?;
    if !advisories {
        progress.warn("skipped the advisories: their database cannot be fetched from here");
    }
    Ok(())
}

/// The schemas under `policies/` are what the binary prints.
fn generated(built: &build::Built) -> Result<()> {
    let dir: PathBuf = tree::root().join("policies");
    for (what, name) in [("config", "config.schema.json"), ("policy", "schema.json")] {
        let file = dir.join(name);
        let printed = run::quietly(run::command(&built.binary).args(["schema", what]))?;
        let stored = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
        if printed.trim_end() != stored.trim_end() {
            bail!("{0} is out of date: `tidegate schema {what} > {0}`", file.display());
        }
    }
    Ok(())
}
