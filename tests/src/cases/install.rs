//! `cargo xtask install` into a tree of its own, and away again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Case;
use crate::process::{Finished, run};
use crate::scratch::Scratch;
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "installs_and_uninstalls", run: installs_and_uninstalls },
    Case { name: "an_edited_config_stays", run: an_edited_config_stays },
];

const TIME: Duration = Duration::from_secs(60);

fn install(tree: &Path, more: &[&str]) -> Result<Finished> {
    let mut command = Command::new(tools::xtask()?);
    command.args(["install", "--prefix", "/usr", "--destdir"]).arg(tree).args(more);
    if more.is_empty() {
        command.arg("--binary").arg(tools::tidegate()?);
    }
    run(&mut command, TIME)
}

/// Files below a directory, relative to it.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { found.push(path.strip_prefix(dir)?.to_owned()) }
        }
    }
    found.sort();
    Ok(found)
}

fn installs_and_uninstalls() -> Result<()> {
    let scratch = Scratch::new()?;
    let tree = scratch.path().join("tree");
    std::fs::create_dir_all(tree.join("usr/bin"))?;
    std::fs::write(tree.join("usr/bin/other"), "somebody else's")?;
    install(&tree, &[])?.ok()?;
    for file in [
        "usr/bin/tidegate",
        "usr/lib/systemd/system/tidegate.service",
        "usr/share/tidegate/schemas/config.schema.json",
        "usr/share/tidegate/schemas/policy.schema.json",
        "usr/share/bash-completion/completions/tidegate",
        "usr/share/zsh/site-functions/_tidegate",
        "usr/share/fish/vendor_completions.d/tidegate.fish",
        "usr/share/man/man1/tidegate.1",
        "etc/tidegate/tidegate.json",
    ] {
        let meta = std::fs::metadata(tree.join(file)).with_context(|| format!("{file} is missing"))?;
        ensure!(meta.len() > 0, "{file} is empty");
    }
    let unit = std::fs::read_to_string(tree.join("usr/lib/systemd/system/tidegate.service"))?;
    ensure!(unit.contains("ExecStart=/usr/bin/tidegate run --config /etc/tidegate/tidegate.json"), "{unit}");
    ensure!(!unit.contains('@') || !unit.contains("DIR@"), "a place was not filled in: {unit}");
    // What is installed runs, and the default config is good.
    let mut check = Command::new(tree.join("usr/bin/tidegate"));
    run(check.args(["check", "--config"]).arg(tree.join("etc/tidegate/tidegate.json")), TIME)?.ok()?;
    // Twice is as good as once.
    let before = files(&tree)?;
    install(&tree, &[])?.ok()?;
    ensure!(files(&tree)? == before, "a second installation left other files");
    install(&tree, &["--uninstall"])?.ok()?;
    let left = files(&tree)?;
    ensure!(left == [PathBuf::from("usr/bin/other")], "left behind: {left:?}");
    ensure!(!tree.join("etc/tidegate").exists() && !tree.join("usr/share/tidegate").exists(), "directories stayed");
    let again = install(&tree, &["--uninstall"])?;
    ensure!(!again.status.success() && again.stderr.contains("nothing to remove"), "{}", again.stderr);
    Ok(())
}

fn an_edited_config_stays() -> Result<()> {
    let scratch = Scratch::new()?;
    let tree = scratch.path();
    let config = tree.join("etc/tidegate/tidegate.json");
    install(tree, &[])?.ok()?;
    let edited = std::fs::read_to_string(&config)?.replace(":8080", ":3000");
    std::fs::write(&config, &edited)?;
    std::fs::write(tree.join("etc/tidegate/policies/mine.json"), "{}")?;
    let told = install(tree, &[])?;
    ensure!(told.status.success() && told.stderr.contains("was edited and stays"), "{}", told.stderr);
    ensure!(std::fs::read_to_string(&config)? == edited, "the edited config was overwritten");
    ensure!(config.with_extension("json.new").exists(), "the new default is not beside it");
    let told = install(tree, &["--uninstall"])?;
    ensure!(told.status.success() && told.stderr.contains("was edited and stays"), "{}", told.stderr);
    ensure!(std::fs::read_to_string(&config)? == edited, "the edited config was removed");
    ensure!(tree.join("etc/tidegate/policies/mine.json").exists(), "a policy was removed");
    ensure!(!tree.join("usr/bin/tidegate").exists(), "the binary stayed");
    Ok(())
}
