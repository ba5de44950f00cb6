//! Starting the test runner (`tests/`), as root where that can be had, and seeing to it that it ends with this process.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::build::{self, Built};
use crate::run;

/// A command of the runner, through sudo unless this is root already. Without both it runs as it is, and says itself
/// what it leaves out. `more` are variables that it shall see, `NAME=value`.
pub fn command(built: &Built, python: Option<&Path>, more: &[OsString]) -> Command {
    let mut variables = vec![
        format!("TIDEGATE_TEST_BINARY={}", built.binary.display()),
        format!("TIDEGATE_TEST_OBJECT={}", built.object.with_file_name(build::BENCH_BINARY).display()),
    ];
    if let Ok(this) = std::env::current_exe() {
        variables.push(format!("TIDEGATE_TEST_XTASK={}", this.display()));
    }
    if let Some(python) = python {
        variables.push(format!("TIDEGATE_TEST_PYTHON={}", python.display()));
    }
    // What sudo would drop and the runner looks at.
    for name in ["CI", "NO_COLOR", "RUST_BACKTRACE", "TIDEGATE_LOG"] {
        if let Some(value) = std::env::var(name).ok().filter(|value| !value.is_empty()) {
            variables.push(format!("{name}={value}"));
        }
    }
    // `env` passes them on where sudo would not.
    let mut command = run::as_root("env").filter(|_| may_be_root()).unwrap_or_else(|| run::command("env"));
    command.args(variables).args(more).arg(built.dir.join("tidegate-tests")).arg("--tied");
    command
}

/// Whether root is to be had: sudo may be installed and yet refuse. Asks for the password where there is a terminal.
fn may_be_root() -> bool {
    run::is_root()
        || run::as_root("true").is_some_and(|mut probe| {
            probe.stdin(Stdio::inherit()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        })
}

/// Runs the runner to its end. Each line of its stdout goes to `line`; without one, its stdout is this process's.
///
/// A signal to this process (Ctrl-C, a kill) makes the runner clean up, and only then does this return. Even a SIGKILL
/// closes the pipe that the runner watches.
pub fn supervise(mut command: Command, line: Option<&mut dyn FnMut(&str)>) -> Result<ExitStatus> {
    command.stdin(Stdio::piped());
    if line.is_some() {
        command.stdout(Stdio::piped());
    }
    let mut child: Child = command.spawn().with_context(|| format!("could not start `{}`", run::line(&command)))?;
    let pipe: Arc<Mutex<Option<ChildStdin>>> = Arc::new(Mutex::new(child.stdin.take()));
    let held = Arc::clone(&pipe);
    // Its end is what the runner takes as "stop". A signal in the moment before this ends the process, and with it the pipe.
    ctrlc::set_handler(move || drop(held.lock().unwrap_or_else(PoisonError::into_inner).take()))
        .context("handling signals")?;
    if let (Some(line), Some(stdout)) = (line, child.stdout.take()) {
        let mut reader = BufReader::new(stdout);
        let mut buffer = Vec::new();
        while reader.read_until(b'\n', &mut buffer)? > 0 {
            line(String::from_utf8_lossy(&buffer).trim_end_matches('\n'));
            buffer.clear();
        }
    }
    let status = child.wait()?;
    drop(pipe);
    std::io::stdout().flush()?;
    Ok(status)
}

/// The runner's exit status as this process's own.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
