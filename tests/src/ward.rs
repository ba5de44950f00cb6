//! Nothing that the tests or the demo made outlives them, however they end.
//!
//! A second process, the ward, is told of each namespace, process, pin directory and scratch directory through a pipe.
//! When the pipe closes (the first process ended, also by SIGKILL) the ward removes what is left. It runs in a session
//! of its own, so that Ctrl-C and a kill of the process group do not reach it.

use std::collections::HashSet;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Subcommand of the runner that becomes the ward.
pub const SUBCOMMAND: &str = "ward";
/// Namespaces are named `tg<pid of the maker>-<number>-<label>`.
const NETNS_MARK: &str = "tg";
/// Directories of pins and scratch files are named `tidegate-test-<pid of the maker>-…`.
pub const DIR_MARK: &str = "tidegate-test-";
/// Where `ip netns` keeps namespaces.
const NETNS_DIR: &str = "/run/netns";
/// Where pins are made.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Exit status of a run that was stopped by a signal, as shells count SIGINT.
const STOPPED: i32 = 130;
/// How long killed processes may take to go.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether they have.
const POLL: Duration = Duration::from_millis(2);

/// Something that must not be left behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A named network namespace and every process inside.
    Netns(String),
    /// A process that leads a group, and whom it started that did not leave it; the start time tells it from a later one with the
    /// same number.
    Group {
        /// Process id, and the group's.
        leader: i32,
        /// Clock ticks after boot.
        started: u64,
    },
    /// A directory in bpffs.
    Pins(PathBuf),
    /// A directory of files.
    Dir(PathBuf),
    /// A cgroup; those who were in it have to be gone.
    Cgroup(PathBuf),
}

impl Item {
    /// The group of the process with this id, which leads it, as it runs now.
    pub fn group(leader: u32) -> Option<Self> {
        let leader = i32::try_from(leader).ok()?;
        let state = State::of(leader).filter(|state| state.group == leader)?;
        Some(Self::Group { leader, started: state.started })
    }

    /// Removes it; what is already gone is fine.
    pub fn remove(&self) -> Result<()> {
        match self {
            Self::Netns(name) => remove_netns(name),
            Self::Group { leader, started } => end_group(*leader, *started),
            // Its files are the kernel's and go with it.
            Self::Cgroup(dir) => gone(dir, std::fs::remove_dir(dir)),
            Self::Pins(dir) | Self::Dir(dir) => gone(dir, remove_tree(dir)),
        }
    }

    /// Processes go first, then what they hold.
    fn order(&self) -> u8 {
        match self {
            Self::Group { .. } => 0,
            Self::Netns(_) => 1,
            Self::Pins(_) => 2,
            Self::Dir(_) | Self::Cgroup(_) => 3,
        }
    }
}

/// What the ward is told, each in a line of JSON.
#[derive(Serialize, Deserialize)]
pub(crate) enum Note {
    Guard(Item),
    Release(Item),
}

struct Ward {
    child: Mutex<Child>,
    pipe: Mutex<Option<ChildStdin>>,
}

static WARD: OnceLock<Ward> = OnceLock::new();

/// Starts the ward and removes what earlier runs left whose ward was killed too. Called once, before threads start.
///
/// With `tied`, the end of stdin ends this process as a signal would: `xtask` holds the other end.
pub fn start(tied: bool) -> Result<()> {
    sweep();
    let mut child = Command::new(std::env::current_exe()?)
        .arg(SUBCOMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("could not start the process that cleans up")?;
    let pipe = child.stdin.take();
    WARD.set(Ward { child: Mutex::new(child), pipe: Mutex::new(pipe) }).ok().context("the ward was started twice")?;
    // SIGINT, SIGTERM and SIGHUP. (Not blocked and waited for: children would inherit the mask.)
    ctrlc::set_handler(stop).context("handling signals")?;
    if tied {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            stop();
        });
    }
    Ok(())
}

/// Tells the ward of something to remove in the end.
pub fn guard(item: Item) {
    tell(&Note::Guard(item));
}

/// Removes it now and tells the ward that it is gone.
pub fn release(item: Item) -> Result<()> {
    item.remove()?;
    tell(&Note::Release(item));
    Ok(())
}

/// A directory in bpffs, which is removed when this is dropped.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// Guards it from now on.
    pub fn guard(path: PathBuf) -> Self {
        guard(Item::Pins(path.clone()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = release(Item::Pins(self.0.clone())) {
            eprintln!("{error:#}");
        }
    }
}

/// Ends this process before its time.
fn stop() {
    finish();
    std::process::exit(STOPPED);
}

/// Has the ward remove all that is left and waits for it.
pub fn finish() {
    let Some(ward) = WARD.get() else { return };
    drop(ward.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
    // Its failures are on stderr, and there is nobody left to act on them.
    let _ = ward.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
}

fn tell(note: &Note) {
    let Some(ward) = WARD.get() else { return };
    let Ok(mut line) = serde_json::to_vec(note) else { return };
    line.push(b'\n');
    if let Some(pipe) = ward.pipe.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        && let Err(error) = pipe.write_all(&line)
    {
        eprintln!("the process that cleans up is gone ({error}): namespaces may be left behind");
    }
}

/// The ward's own life: listen until the pipe closes, then remove what is left.
pub fn run() -> Result<()> {
    nix::unistd::setsid().context("setsid")?;
    let mut items: HashSet<Item> = HashSet::new();
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line?) {
            Ok(Note::Guard(item)) => drop(items.insert(item)),
            Ok(Note::Release(item)) => drop(items.remove(&item)),
            // The writer died in the middle of a line.
            Err(_) => break,
        }
    }
    let mut items: Vec<Item> = items.into_iter().collect();
    items.sort_by_key(Item::order);
    for item in items {
        if let Err(error) = item.remove() {
            eprintln!("left behind: {item:?}: {error:#}");
        }
    }
    Ok(())
}

/// Removes what runs left whose process is gone.
fn sweep() {
    let dead = |name: &str, mark: &str| {
        let pid = name.strip_prefix(mark).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        pid.and_then(|pid| pid.parse::<i32>().ok()).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut stale: Vec<Item> =
        names(Path::new(NETNS_DIR)).into_iter().filter(|name| dead(name, NETNS_MARK)).map(Item::Netns).collect();
    for (dir, item) in [(PathBuf::from(BPFFS), Item::Pins as fn(PathBuf) -> Item), (std::env::temp_dir(), Item::Dir)] {
        stale.extend(names(&dir).into_iter().filter(|name| dead(name, DIR_MARK)).map(|name| item(dir.join(name))));
    }
    for item in stale {
        if let Err(error) = item.remove() {
            eprintln!("left behind by an earlier run: {item:?}: {error:#}");
        }
    }
}

/// Name for a namespace of this process.
pub fn netns_name(number: usize, label: &str) -> String {
    format!("{NETNS_MARK}{}-{number}-{label}", std::process::id())
}

fn remove_netns(name: &str) -> Result<()> {
    if !Path::new(NETNS_DIR).join(name).exists() {
        return Ok(());
    }
    let deadline = Instant::now() + KILL_WAIT;
    loop {
        let pids = Command::new("ip").args(["netns", "pids", name]).output().context("could not run ip")?;
        let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
        let pids: Vec<i32> = pids.lines().filter_map(|line| line.trim().parse().ok()).collect();
        // A thread of this process that is inside for a moment is not to be killed.
        let others: Vec<i32> = pids.into_iter().filter(|pid| u32::try_from(*pid) != Ok(std::process::id())).collect();
        if others.is_empty() || Instant::now() > deadline {
            break;
        }
        for pid in others {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = Command::new("ip").args(["netns", "del", name]).output().context("could not run ip")?;
    anyhow::ensure!(output.status.success(), "ip netns del {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// How removing a directory went: one that was not there is gone as well.
fn gone(dir: &Path, removed: std::io::Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// As `remove_dir_all`, which bpffs does not take: there an entry is unlinked without being opened.
fn remove_tree(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir(dir)
}

/// Kills a group, and returns when nobody of it runs any more.
fn end_group(leader: i32, started: u64) -> Result<()> {
    // Nobody gets a number that a group still has: where another process has it, the group is empty.
    if State::of(leader).is_some_and(|state| state.started != started) {
        return Ok(());
    }
    let deadline = Instant::now() + KILL_WAIT;
    // That there is no such group is an error of `killpg`. Again each time: one may have been about to start another.
    while killpg(Pid::from_raw(leader), Signal::SIGKILL).is_ok() && runs(leader) {
        anyhow::ensure!(Instant::now() < deadline, "the group of process {leader} does not end");
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Whether anybody of a group runs. Those who ended and whose parent does not know yet do not.
fn runs(group: i32) -> bool {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(State::of).any(|state| state.group == group && !state.ended)
}

/// What `/proc/<pid>/stat` says (proc(5)).
struct State {
    /// It is a zombie, or about to go.
    ended: bool,
    /// Its process group.
    group: i32,
    /// When it started: clock ticks after boot.
    started: u64,
}

impl State {
    fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields 3, 5 and 22. The command's name, in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, group, started) = (fields.first()?, fields.get(2)?, fields.get(19)?);
        Some(Self { ended: matches!(*state, "Z" | "X"), group: group.parse().ok()?, started: started.parse().ok()? })
    }
}
