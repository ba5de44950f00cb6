//! What the runner starts ends with what started it, children included: a daemon that forks workers leaves none of them.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::libc::O_NONBLOCK;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::Case;
use crate::process::{Daemon, eventually};
use crate::scratch::Scratch;
use crate::tools;
use crate::ward::{self, Item, Note};

pub const CASES: &[Case] = &[
    Case { name: "a_dropped_daemon_takes_its_children_along", run: a_dropped_daemon_takes_its_children_along },
    Case { name: "so_does_one_that_ended_by_itself", run: so_does_one_that_ended_by_itself },
    Case { name: "the_ward_ends_children_too", run: the_ward_ends_children_too },
];

/// How long programs of this machine may take to start.
const TIME: Duration = Duration::from_secs(30);
/// A shell with a child and a grandchild, all of which hold the named pipe open for writing. They end by themselves, if late.
const FAMILY: &str = "exec 3>\"$0\"; sleep 90 & (sleep 90; :) & echo ready >&3; wait";

/// A daemon with children, and the pipe that ends for its reader when the last of them has ended.
struct Family {
    daemon: Daemon,
    pipe: File,
    _scratch: Scratch,
}

impl Family {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU)?;
        let mut pipe = File::options().read(true).custom_flags(O_NONBLOCK).open(&path)?;
        let mut command = Command::new(tools::find("sh")?);
        command.args(["-c", FAMILY]).arg(&path);
        let daemon = Daemon::spawn(command, &scratch.path().join("sh.log"))?;
        let mut said = Vec::new();
        eventually("the start of the children", TIME, || {
            // Nothing yet, or not all.
            let _ = pipe.read_to_end(&mut said);
            ensure!(said == b"ready\n", "{said:?}");
            Ok(())
        })?;
        ensure!(!over(&pipe)?, "its children did not start");
        Ok(Self { daemon, pipe, _scratch: scratch })
    }
}

/// Whether nobody holds the other end.
fn over(mut pipe: &File) -> Result<bool> {
    match pipe.read(&mut [0; 16]) {
        Ok(read) => Ok(read == 0),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn a_dropped_daemon_takes_its_children_along() -> Result<()> {
    let Family { daemon, pipe, _scratch } = Family::start()?;
    drop(daemon);
    ensure!(over(&pipe)?, "its children live on");
    Ok(())
}

fn so_does_one_that_ended_by_itself() -> Result<()> {
    let Family { mut daemon, pipe, _scratch } = Family::start()?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait(TIME)?;
    ensure!(!over(&pipe)?, "a signal to the daemon reached its children");
    drop(daemon);
    ensure!(over(&pipe)?, "its children live on");
    Ok(())
}

fn the_ward_ends_children_too() -> Result<()> {
    let Family { daemon, pipe, _scratch } = Family::start()?;
    let item = Item::group(daemon.pid()).context("it leads no group")?;
    let mut ward = Command::new(std::env::current_exe()?)
        .arg(ward::SUBCOMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("could not start another ward")?;
    let mut notes = ward.stdin.take().context("no pipe to it")?;
    writeln!(notes, "{}", serde_json::to_string(&Note::Guard(item))?)?;
    // As when the process that wrote this is killed.
    drop(notes);
    let status = ward.wait()?;
    ensure!(status.success() && over(&pipe)?, "{status}: its children live on");
    Ok(())
}
