//! Programs of `tests/clients`, which are foreign clients and origins written in Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A Python with the packages that those need: the one that `xtask` names, or the one that its set-up has made.
fn interpreter() -> PathBuf {
    if let Some(named) = std::env::var_os("TIDEGATE_TEST_PYTHON").filter(|named| !named.is_empty()) {
        return named.into();
    }
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map_or_else(home, PathBuf::from);
    let python = cache.join("tidegate/venv/bin/python");
    assert!(python.exists(), "there is no {}: run `cargo xtask setup --test`", python.display());
    python
}

fn command(file: &str, words: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients").join(file)).args(words);
    command
}

/// Runs one to its end; what it printed.
pub fn run(file: &str, words: &[&str]) -> String {
    let output = command(file, words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{file} {words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// One that runs on; ended when dropped.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it.
    pub fn start(file: &str, words: &[&str]) -> Self {
        let mut child = command(file, words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take(), child, output }
    }

    /// Its next line; empty where it has ended.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Gives it a line and returns the one that it answers.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.line()
    }

    /// Its input ends, and so does it; whether well.
    pub fn finish(mut self) -> bool {
        self.input = None;
        self.child.wait().unwrap().success()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
