//! What people write and what they are told: `tidegate check` on bad configs and policies, and on the examples.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::Case;
use crate::process::{Finished, run};
use crate::scratch::Scratch;
use crate::tools;

pub const CASES: &[Case] = &[
    Case { name: "bad_policies_each_with_their_message", run: bad_policies_each_with_their_message },
    Case { name: "bad_configs_each_with_their_message", run: bad_configs_each_with_their_message },
    Case { name: "examples_are_good", run: examples_are_good },
    Case { name: "run_refuses_a_bad_config", run: run_refuses_a_bad_config },
];

const TIME: std::time::Duration = std::time::Duration::from_secs(20);

/// The JSON files of a directory under `policies/`, sorted.
fn json_files(dir: &str) -> Result<Vec<PathBuf>> {
    let dir = tools::in_workspace("policies").join(dir);
    let entries = std::fs::read_dir(&dir).with_context(|| format!("{}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    ensure!(!files.is_empty(), "{} holds no JSON file", dir.display());
    Ok(files)
}

fn check(option: &str, file: &Path) -> Result<Finished> {
    // Beside the file, so that messages name it without its directory.
    let dir = file.parent().context("a file without a directory")?;
    let mut command = std::process::Command::new(tools::tidegate()?);
    command.args(["check", option]).arg(file.file_name().context("a file without a name")?).current_dir(dir);
    run(&mut command, TIME)
}

/// Every bad file must be refused with each line of its `.expect` file, place and message.
fn refused(dir: &str, option: &str) -> Result<()> {
    for file in json_files(dir)? {
        let expect = file.with_extension("expect");
        let expected = std::fs::read_to_string(&expect).with_context(|| format!("{}", expect.display()))?;
        ensure!(!expected.trim().is_empty(), "{} expects nothing", expect.display());
        let Finished { status, stdout, stderr } = check(option, &file)?;
        ensure!(status.code() == Some(1), "{} was not refused ({status}): {stdout}{stderr}", file.display());
        for line in expected.lines().filter(|line| !line.trim().is_empty()) {
            let said = format!("{stdout}{stderr}");
            ensure!(said.contains(line), "{}: the message lacks\n  {line}\nit was\n{said}", file.display());
        }
    }
    Ok(())
}

fn bad_policies_each_with_their_message() -> Result<()> {
    refused("invalid", "--policy")
}

fn bad_configs_each_with_their_message() -> Result<()> {
    refused("invalid-config", "--config")
}

fn examples_are_good() -> Result<()> {
    for file in json_files("examples")? {
        check("--policy", &file)?.ok().with_context(|| format!("{}", file.display()))?;
    }
    Ok(())
}

fn run_refuses_a_bad_config() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("bad.json");
    std::fs::write(&file, "{\n  \"listeners\": [],\n  \"listners\": [],\n  \"routes\": [],\n  \"upstreams\": {}\n}\n")?;
    let mut command = std::process::Command::new(tools::tidegate()?);
    let Finished { status, stderr, .. } = run(command.args(["run", "--config"]).arg(&file), TIME)?;
    ensure!(!status.success(), "a bad config was run");
    for part in ["bad.json:3", "/listners", "listeners"] {
        ensure!(stderr.contains(part), "the message lacks `{part}`: {stderr}");
    }
    let missing = scratch.path().join("missing.json");
    let mut command = std::process::Command::new(tools::tidegate()?);
    let Finished { status, stderr, .. } = run(command.args(["run", "--config"]).arg(&missing), TIME)?;
    ensure!(!status.success() && stderr.contains("missing.json"), "{stderr}");
    Ok(())
}
