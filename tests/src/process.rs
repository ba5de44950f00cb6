//! Child processes: started in a network namespace, with their output in a file, and ended when dropped.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ward::{self, Item};

/// How often a wait looks.
const POLL: Duration = Duration::from_millis(5);

/// Variable that says how many times longer everything may take: more than once in a machine that is emulated.
const SLOWNESS: &str = "TIDEGATE_TEST_SLOWNESS";

/// A bound on waiting, on a machine as slow as this one.
pub fn patient(time: Duration) -> Duration {
    time * std::env::var(SLOWNESS).ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Makes the command start inside a network namespace.
///
/// Not `ip netns exec`: that also gives the process its own mounts, without the bpffs that holds the pins.
pub fn in_netns(command: &mut Command, netns: BorrowedFd<'_>) -> Result<()> {
    let netns = netns.try_clone_to_owned()?;
    // SAFETY: the closure runs between fork and exec and makes one system call on a descriptor that it owns; it neither
    // allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from));
    }
    Ok(())
}

/// A process that runs beside the test; killed when dropped, and with it those it started. It leads a process group: what Ctrl-C
/// sends to the runner's does not reach it.
#[derive(Debug)]
pub struct Daemon {
    child: std::process::Child,
    name: String,
    log: PathBuf,
    item: Option<Item>,
}

impl Daemon {
    /// Starts it with its output going to the end of `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("could not start {name}"))?;
        let item = Item::group(child.id());
        if let Some(item) = item.clone() {
            ward::guard(item);
        }
        Ok(Self { child, name, log: log.to_owned(), item })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, and not those that it started.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)
            .with_context(|| format!("{signal} to {}", self.name))
    }

    /// Its exit status once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {at_most:?}; its output ends with:\n{}", self.name, self.log_tail());
            }
            std::thread::sleep(POLL);
        }
    }

    /// The end of its output.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 25;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }

    /// Everything it wrote so far (and any process before it with the same log).
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Before it is waited for: until then its number, which is its group's, is nobody else's.
        if let Some(Err(error)) = self.item.take().map(ward::release) {
            eprintln!("{error:#}");
        }
        // Already ended is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program that ran to its end left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Its output, taken as UTF-8.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
}

impl Finished {
    /// Its output, or an error with all it said.
    pub fn ok(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let how = match self.status.signal() {
            Some(signal) => format!("ended by signal {signal}"),
            None => format!("exit status {}", self.status.code().unwrap_or(-1)),
        };
        bail!("{how}: {}{}", self.stdout, self.stderr)
    }
}

/// Runs a program to its end, killing it after `at_most`.
pub fn run(command: &mut Command, at_most: Duration) -> Result<Finished> {
    match run_to(command, at_most)? {
        Ok(finished) => Ok(finished),
        Err(said) => {
            bail!("{} did not end within {at_most:?}: {said}", command.get_program().to_string_lossy())
        }
    }
}

/// As [`run`]; `None` where it did not end in time, and was ended.
pub fn run_unless_hung(command: &mut Command, at_most: Duration) -> Result<Option<Finished>> {
    Ok(run_to(command, at_most)?.ok())
}

/// What it came to, or what it said until it was ended.
fn run_to(command: &mut Command, at_most: Duration) -> Result<std::result::Result<Finished, String>> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("could not start {name}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let out = scope.spawn(|| read_all(stdout));
        let err = scope.spawn(|| read_all(stderr));
        let deadline = Instant::now() + at_most;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(POLL);
        };
        let (stdout, stderr) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        match status {
            Some(status) => Ok(Ok(Finished { status, stdout, stderr })),
            None => Ok(Err(stdout + &stderr)),
        }
    })
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read until an error is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tries until it succeeds or time is up; then the last error says why not.
pub fn eventually<T>(what: &str, at_most: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + at_most;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what} did not happen within {at_most:?}")));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
