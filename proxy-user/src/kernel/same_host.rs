//! Servers on the same host, as the daemon sees them: the programs that hand their responses over, a place for each connection
//! whose responses come that way. What they decide is in [`proxy_common::same_host`].

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::SockHash;
use aya::programs::{CgroupAttachMode, SkMsg, SockOps};
use aya::{Ebpf, EbpfLoader};
use proxy_common::abi::{Counter, Credit, Flow, Ticket};
use proxy_common::addr::Addr;
use proxy_common::same_host::{CREDIT_BYTES, MAX_SAME_HOST, Way};

use super::load::{explain, handle, raise_memlock};
use super::mapped::{Mapped, Shared};
use super::syscall::{Map, netns_cookie, socket_cookie};

/// The compiled programs; empty in a build without them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate-same-host.bpf.o"));
/// What is mounted where (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// A [`Credit`].
#[repr(C)]
#[derive(Debug)]
struct Line {
    end: AtomicU64,
    left: AtomicU64,
    pad: [AtomicU64; 6],
}

const _: () = assert!(size_of::<Line>() == size_of::<Credit>());

// SAFETY: atomic integers of eight bytes each, as large as the map's value (asserted above).
unsafe impl Shared for Line {}

/// The loaded programs; they are detached, and the maps go, with this.
#[derive(Debug)]
pub struct SameHost {
    /// Held for the programs and their links.
    _ebpf: Ebpf,
    expected: Map<Flow, Ticket>,
    ends: Map<u64, u32>,
    credits: Mapped<Line>,
    by_way: Map<u32, Counter>,
    /// Places that no connection has.
    free: Mutex<Vec<u32>>,
    cgroup: PathBuf,
    cpus: usize,
}

/// A connection whose responses are handed over, until it is dropped.
#[derive(Debug)]
pub struct Handover {
    host: Arc<SameHost>,
    flow: Flow,
    ticket: Ticket,
}

impl SameHost {
    /// Loads the programs, and attaches them to the processes in `cgroup` and below: to all where none is named. The error says
    /// what is missing and what to do.
    pub fn load(cgroup: Option<&Path>) -> Result<Self> {
        if OBJECT.is_empty() {
            bail!("this binary was built without the kernel programs: build it with `cargo xtask build`");
        }
        let cgroup = match cgroup {
            Some(named) => named.to_owned(),
            None => mount_point(&fs::read_to_string(MOUNTS).context(MOUNTS)?).context(
                "no cgroup v2 hierarchy is mounted: run `mount -t cgroup2 none /sys/fs/cgroup/unified` after making that \
                 directory, or name one in `cgroup`",
            )?,
        };
        let directory = File::open(&cgroup).with_context(|| format!("the cgroup {}", cgroup.display()))?;
        raise_memlock();
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(explain).context("loading the kernel programs")?;
        let servers = ebpf.map("SERVERS").context("the object lacks the map `SERVERS`")?;
        let servers = SockHash::<_, u64>::try_from(servers)?.fd().try_clone()?;
        let hand_over: &mut SkMsg = program(&mut ebpf, "hand_over")?.try_into()?;
        hand_over.load().map_err(explain).context("the kernel refused the program `hand_over`")?;
        hand_over.attach(&servers).map_err(explain).context("attaching `hand_over`")?;
        let join: &mut SockOps = program(&mut ebpf, "join")?.try_into()?;
        join.load().map_err(explain).context("the kernel refused the program `join`")?;
        // Links always stand beside others; the flags of older commands are refused with them.
        join.attach(&directory, CgroupAttachMode::Single)
            .map_err(explain)
            .with_context(|| format!("attaching `join` to {}: is it a directory of cgroup v2?", cgroup.display()))?;
        Ok(Self {
            expected: handle(&ebpf, "EXPECTED")?,
            ends: handle(&ebpf, "ENDS")?,
            credits: Mapped::new(handle::<u32, Credit>(&ebpf, "CREDITS")?, MAX_SAME_HOST).context("CREDITS")?,
            by_way: handle(&ebpf, "BY_WAY")?,
            free: Mutex::new((0..MAX_SAME_HOST).rev().collect()),
            cgroup,
            cpus: aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))?,
            _ebpf: ebpf,
        })
    }

    /// For the connection that `socket` makes next, between these addresses. None where all places are taken.
    pub fn expect(
        self: &Arc<Self>,
        socket: impl AsFd,
        from: SocketAddr,
        to: SocketAddr,
    ) -> io::Result<Option<Handover>> {
        let flow = Flow {
            netns: netns_cookie(socket.as_fd())?,
            client: Addr::from(from.ip()).to_bytes(),
            server: Addr::from(to.ip()).to_bytes(),
            client_port: from.port(),
            server_port: to.port(),
            pad: 0,
        };
        let end = socket_cookie(socket.as_fd())?;
        let Some(slot) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(None) };
        let handover = Handover { host: Arc::clone(self), flow, ticket: Ticket { end, slot, pad: 0 } };
        if let Some(line) = handover.line() {
            line.left.store(0, Ordering::Relaxed);
            line.end.store(end, Ordering::Relaxed);
        }
        self.expected.set(&flow, &handover.ticket)?;
        Ok(Some(handover))
    }

    /// The cgroup whose processes may be such servers.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Connections that have a place.
    pub fn connections(&self) -> usize {
        MAX_SAME_HOST as usize - self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Messages and bytes by the way that they took, summed over CPUs.
    pub fn counters(&self) -> Result<Vec<(String, Counter)>> {
        let counter =
            |way: Way| Ok((way.name().to_owned(), super::sum(self.by_way.get_per_cpu(&(way as u32), self.cpus)?)));
        Way::ALL.into_iter().map(counter).collect()
    }
}

impl Handover {
    fn line(&self) -> Option<&Line> {
        self.host.credits.entries().get(self.ticket.slot as usize)
    }

    /// The connection stands: its end is told to the programs.
    pub fn stands(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.host.ends.set_socket(&self.ticket.end, socket)
    }

    /// A request begins, and the last response was read to its end: there is new credit.
    pub fn renew(&self) {
        if let Some(line) = self.line() {
            // The request is sent behind this, and its response behind the request.
            line.left.store(CREDIT_BYTES, Ordering::Release);
        }
    }

    /// Whether nothing of the response went through TCP so far.
    pub fn is_handed(&self) -> bool {
        self.line().is_some_and(|line| line.left.load(Ordering::Acquire) > 0)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        // The socket itself leaves its map when it is closed.
        if let Err(error) = self.host.expected.remove(&self.flow) {
            tracing::debug!(%error, "a connection to this host remains expected");
        }
        if let Some(line) = self.line() {
            line.end.store(0, Ordering::Relaxed);
        }
        self.host.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.ticket.slot);
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut aya::programs::Program> {
    ebpf.program_mut(name).ok_or_else(|| anyhow!("the object lacks the program `{name}`"))
}

/// Where a cgroup v2 hierarchy is mounted: the fifth field of the lines whose file system, behind ` - `, is `cgroup2`.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let of_line = |line: &str| {
        let (before, behind) = line.split_once(" - ")?;
        (behind.split(' ').next() == Some("cgroup2")).then(|| before.split(' ').nth(4).map(PathBuf::from))?
    };
    mounts.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found() {
        let mounts = "\
            22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n\
            31 24 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
            30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:8 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("22 1 0:21 / /cgroup2 rw - proc cgroup2 rw\nshort\n"), None);
    }
}
