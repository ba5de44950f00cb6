//! Network namespaces of the tests: made, wired, entered, and removed when dropped.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::process;
use crate::ward::{self, Item};

/// How long one `ip` may take.
const IP_TIME: Duration = Duration::from_secs(20);

/// A named network namespace; `ip netns` shows it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    fd: OwnedFd,
}

impl Netns {
    /// Makes a namespace with the loopback interface up.
    pub fn create(label: &str) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = ward::netns_name(NUMBER.fetch_add(1, Ordering::Relaxed), label);
        ward::guard(Item::Netns(name.clone()));
        process::run(Command::new("ip").args(["netns", "add", &name]), IP_TIME)?.ok().context("ip netns add")?;
        let fd = File::open(format!("/run/netns/{name}"))?.into();
        let netns = Self { name, fd };
        // Duplicate address detection would hold every IPv6 address back for a second.
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        netns.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip -n <name>` with these words.
    pub fn ip(&self, words: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(words.split_whitespace());
        process::run(&mut command, IP_TIME)?.ok().with_context(|| format!("ip -n {} {words}", self.name)).map(drop)
    }

    /// Sets a kernel parameter, named by its path under `/proc/sys`.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{path}");
        self.enter(|| std::fs::write(&file, value))?.with_context(|| format!("could not set {file}"))
    }

    /// Calls `work` in a thread that is inside the namespace; what it opens stays there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).context("setns")?;
                Ok(work())
            });
            inside.join().map_err(|_| anyhow::anyhow!("the thread inside {} panicked", self.name))?
        })
    }

    /// A command that starts inside the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let mut command = Command::new(program);
        process::in_netns(&mut command, self.fd.as_fd())?;
        Ok(command)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = ward::release(Item::Netns(self.name.clone())) {
            eprintln!("{error:#}");
        }
    }
}

/// One end of a [`wire`]: where, the interface's name there, and its addresses with prefix lengths.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace.
    pub netns: &'a Netns,
    /// Name of the interface.
    pub name: &'a str,
    /// Addresses as `ip address add` takes them.
    pub addresses: &'a [&'a str],
}

/// A veth pair between two namespaces, up and with addresses.
pub fn wire(a: End<'_>, b: End<'_>) -> Result<()> {
    a.netns.ip(&format!("link add {} type veth peer name {} netns {}", a.name, b.name, b.netns.name()))?;
    for end in [a, b] {
        for address in end.addresses {
            end.netns.ip(&format!("address add {address} dev {}", end.name))?;
        }
        end.netns.ip(&format!("link set {} up", end.name))?;
    }
    Ok(())
}
