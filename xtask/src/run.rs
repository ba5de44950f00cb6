//! Running other programs: with their output kept and shown when they fail, or passed through.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::tree;

/// Lines of a failed program's output that are shown.
const TAIL_LINES: usize = 40;

/// Variables that `cargo run` sets for this process and that would make a nested cargo rebuild for nothing.
const NOT_INHERITED: [&str; 6] =
    ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PRIMARY_PACKAGE", "LD_LIBRARY_PATH", "RUSTFLAGS", "OUT_DIR"];

/// A command in the workspace's root, without what cargo set for this process.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(tree::root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_BIN_") {
            command.env_remove(&name);
        }
    }
    // RUSTFLAGS stays as the user set it for the workspace; cargo sets the others.
    for name in NOT_INHERITED.iter().filter(|name| **name != "RUSTFLAGS") {
        command.env_remove(name);
    }
    command
}

/// The cargo that runs this task.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The command line as a person would type it.
pub fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| {
            let part = part.to_string_lossy();
            if part.is_empty() || part.contains([' ', '"', '\'', '$']) {
                format!("'{part}'")
            } else {
                part.into_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs to the end without a word; the last lines of its output are in the error when it fails. Returns stdout.
pub fn quietly(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("could not start `{}`", line(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let all = stdout + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = all.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
    bail!("`{}` failed ({}):\n{tail}", line(command), output.status)
}

/// Runs with its output passed through to stderr, or as [`quietly`] when `quiet`.
pub fn shown(command: &mut Command, quiet: bool) -> Result<()> {
    if quiet {
        return quietly(command).map(drop);
    }
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("could not start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// A program on PATH; the administrator's directories count too, which many users' PATH lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file()
}

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `program` as root: directly, or through sudo where it is installed. `None` where neither is to be had.
pub fn as_root(program: impl AsRef<OsStr>) -> Option<Command> {
    if is_root() {
        return Some(command(program));
    }
    let mut sudo = command(find("sudo")?);
    // Without a terminal sudo cannot ask for a password: then it must do without one.
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        sudo.arg("-n");
    }
    sudo.arg("--").arg(program);
    Some(sudo)
}
