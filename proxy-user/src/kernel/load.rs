//! Loading: bpffs, layout check of what is pinned, the programs with their globals, typed handles on the maps.

use std::borrow::Cow;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{MapData, ProgramArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};
use proxy_common::abi::{
    Binding, CheckSettings, Counter, DaemonState, GateConfig, HostKey, LAYOUT_VERSION, PrefixData, PrefixValue,
    QuicKey, RateLimit, RateSettings, RuleName, Service, ServiceKey, SynState, VerdictSlot, WorkerLoad, verdict_slots,
    verdict_words,
};
use proxy_common::classify::{ClassTable, RowTable};
use proxy_common::event::{EventControl, EventCounts};
use proxy_core::config::{Gate, KernelLog};

use super::syscall::{Map, frags_supported};

/// The compiled programs; empty in a build without them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate.bpf.o"));

/// Global of the programs that says whether frames may lie in several buffers.
const FRAGS: &str = "FRAGS";
/// Section of programs that take frames in several buffers, and the usual one.
const FRAGS_SECTION: &[u8] = b"xdp.frags\0";
const SECTION: &[u8] = b"xdp\0\0\0\0\0\0\0";

/// Slot of `front_syn` in `STAGES`.
const SYN_STAGE: u32 = 0;

/// Maps that are pinned, in the order in which they are checked.
pub const PINNED: [&str; 40] = [
    "GATE",
    "VERDICTS",
    "VERDICT_HINT",
    "ALLOW_A",
    "ALLOW_B",
    "DENY_A",
    "DENY_B",
    "DENY_HINT",
    "HOSTS",
    "HOST_HINT",
    "RULE_CLASSES",
    "RULE_ROWS",
    "COUNTERS",
    "RULE_HITS",
    "SHADOW_HITS",
    "RULE_NAMES",
    "BINDINGS",
    "PORTS",
    "CLOCK",
    "SERVICES",
    "WORKERS",
    "LISTENERS",
    "QUIC_SOCKS",
    "QUIC_KEY",
    "EVENTS",
    "EVENT_CONTROL",
    "EVENT_COUNTS",
    "WOULD",
    "CHECKS",
    "OWN",
    "FRAGMENTS",
    "BUCKETS",
    "RATES",
    "RATE_LIMITS",
    "RATE_BUCKETS",
    "KNOWN",
    "FLOWS",
    "DAEMON",
    "SYN_STATE",
    "STAGES",
];

/// Key of the tries as the kernel lays it out: prefix length, then the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TrieKey {
    /// Bits that count, 0–128 (IPv4 plus 96).
    pub bits: u32,
    /// Address, v4-mapped.
    pub addr: PrefixData,
}

// SAFETY: `repr(C)`, integers only, 4 + 16 bytes without padding.
unsafe impl Pod for TrieKey {}

/// Typed handles on all maps.
#[derive(Debug)]
pub struct Maps {
    pub(super) gate: Map<u32, GateConfig>,
    pub(super) verdicts: Map<u32, VerdictSlot>,
    pub(super) verdict_hint: Map<u32, u64>,
    /// Allowed prefixes by side.
    pub(super) allow: [Map<TrieKey, PrefixValue>; 2],
    /// Denied prefixes by side.
    pub(super) deny: [Map<TrieKey, PrefixValue>; 2],
    pub(super) deny_hint: Map<u32, u64>,
    pub(super) host_hint: Map<u32, u64>,
    pub(super) rule_classes: Map<u32, ClassTable>,
    pub(super) rule_rows: Map<u32, RowTable>,
    pub(super) counters: Map<u32, Counter>,
    pub(super) rule_hits: Map<u32, Counter>,
    pub(super) shadow_hits: Map<u32, Counter>,
    pub(super) rule_names: Map<u32, RuleName>,
    pub(super) bindings: Map<ServiceKey, Binding>,
    pub(super) ports: Map<u32, u64>,
    pub(super) services: Map<u32, Service>,
    pub(super) workers: Map<u32, WorkerLoad>,
    pub(super) listeners: Map<u32, u32>,
    pub(super) quic_socks: Map<u32, u32>,
    pub(super) quic_key: Map<u32, QuicKey>,
    pub(super) event_control: Map<u32, EventControl>,
    pub(super) event_counts: Map<u32, EventCounts>,
    pub(super) would: Map<u32, Counter>,
    pub(super) checks: Map<u32, CheckSettings>,
    pub(super) own: Map<HostKey, u32>,
    pub(super) fragments: Map<u32, u64>,
    pub(super) buckets: Map<u32, u64>,
    pub(super) rates: Map<u32, RateSettings>,
    pub(super) rate_limits: Map<u32, RateLimit>,
    pub(super) rate_buckets: Map<u32, u64>,
    pub(super) known: Map<u32, u64>,
    pub(super) flows: Map<u32, u64>,
    pub(super) daemon: Map<u32, DaemonState>,
    pub(super) syn_state: Map<u32, SynState>,
}

/// Loads the object with its maps pinned in `gate.pins` (adopting what is pinned there) and the three programs.
pub fn load(gate: &Gate) -> Result<(Ebpf, Maps)> {
    if OBJECT.is_empty() {
        bail!("this binary was built without the kernel programs: build it with `cargo xtask build`");
    }
    prepare_pins(&gate.pins)?;
    check_layout(gate)?;
    raise_memlock();
    let level: u8 = match gate.log {
        KernelLog::Off => 0,
        KernelLog::Info => 3,
        KernelLog::Debug => 4,
    };
    let paths = PINNED.map(|name| (name, gate.pins.join(name)));
    let frags = frags_supported();
    let frags_global = u8::from(frags);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(aya_log::LEVEL, &level, false)
        .override_global(FRAGS, &frags_global, true)
        .map_max_entries("VERDICTS", verdict_slots(gate.max_verdicts))
        .map_max_entries("VERDICT_HINT", verdict_words(gate.max_verdicts));
    for (name, path) in &paths {
        loader.map_pin_path(name, path.as_path());
    }
    let mut ebpf = loader.load(&object_for(OBJECT, frags)).map_err(explain).context("loading the kernel programs")?;
    let maps = Maps::of(&ebpf)?;
    for name in ["front", "steer", "steer_quic"] {
        let program = ebpf.program_mut(name).ok_or_else(|| anyhow!("the object lacks the program `{name}`"))?;
        let result = match program {
            aya::programs::Program::Xdp(program) => program.load(),
            aya::programs::Program::SkLookup(program) => program.load(),
            aya::programs::Program::SkReuseport(program) => program.load(),
            _ => bail!("the program `{name}` is of an unexpected type"),
        };
        result.map_err(explain).with_context(|| format!("the kernel refused the program `{name}`"))?;
    }
    Ok((ebpf, maps))
}

/// Loads `front_syn` and puts it where `front` looks for it. Older kernels lack its helpers: the rest works without it.
pub fn load_syn(ebpf: &mut Ebpf) -> Result<()> {
    let program: &mut Xdp =
        ebpf.program_mut("front_syn").ok_or_else(|| anyhow!("the object lacks the program `front_syn`"))?.try_into()?;
    program.load().map_err(explain).context("the kernel refused the program `front_syn`")?;
    let fd = program.fd()?.try_clone()?;
    let map = ebpf.map_mut("STAGES").ok_or_else(|| anyhow!("the object lacks the map `STAGES`"))?;
    ProgramArray::try_from(map)?.set(SYN_STAGE, &fd, 0).context("entering `front_syn` into STAGES")
}

/// An object whose XDP programs take frames in several buffers, as it is or so that they do not: a kernel before 5.18 knows
/// no such programs, and all programs of one array must be alike. The section's name is all that tells them apart.
pub fn object_for(object: &[u8], frags: bool) -> Cow<'_, [u8]> {
    if frags {
        return Cow::Borrowed(object);
    }
    let mut plain = object.to_vec();
    let mut at = 0;
    while let Some(found) = memchr::memmem::find(&plain[at..], FRAGS_SECTION) {
        at += found;
        plain[at..at + SECTION.len()].copy_from_slice(SECTION);
    }
    Cow::Owned(plain)
}

impl Maps {
    fn of(ebpf: &Ebpf) -> Result<Self> {
        Ok(Self {
            gate: handle(ebpf, "GATE")?,
            verdicts: handle(ebpf, "VERDICTS")?,
            verdict_hint: handle(ebpf, "VERDICT_HINT")?,
            allow: [handle(ebpf, "ALLOW_A")?, handle(ebpf, "ALLOW_B")?],
            deny: [handle(ebpf, "DENY_A")?, handle(ebpf, "DENY_B")?],
            deny_hint: handle(ebpf, "DENY_HINT")?,
            host_hint: handle(ebpf, "HOST_HINT")?,
            rule_classes: handle(ebpf, "RULE_CLASSES")?,
            rule_rows: handle(ebpf, "RULE_ROWS")?,
            counters: handle(ebpf, "COUNTERS")?,
            rule_hits: handle(ebpf, "RULE_HITS")?,
            shadow_hits: handle(ebpf, "SHADOW_HITS")?,
            rule_names: handle(ebpf, "RULE_NAMES")?,
            bindings: handle(ebpf, "BINDINGS")?,
            ports: handle(ebpf, "PORTS")?,
            services: handle(ebpf, "SERVICES")?,
            workers: handle(ebpf, "WORKERS")?,
            listeners: handle(ebpf, "LISTENERS")?,
            quic_socks: handle(ebpf, "QUIC_SOCKS")?,
            quic_key: handle(ebpf, "QUIC_KEY")?,
            event_control: handle(ebpf, "EVENT_CONTROL")?,
            event_counts: handle(ebpf, "EVENT_COUNTS")?,
            would: handle(ebpf, "WOULD")?,
            checks: handle(ebpf, "CHECKS")?,
            own: handle(ebpf, "OWN")?,
            fragments: handle(ebpf, "FRAGMENTS")?,
            buckets: handle(ebpf, "BUCKETS")?,
            rates: handle(ebpf, "RATES")?,
            rate_limits: handle(ebpf, "RATE_LIMITS")?,
            rate_buckets: handle(ebpf, "RATE_BUCKETS")?,
            known: handle(ebpf, "KNOWN")?,
            flows: handle(ebpf, "FLOWS")?,
            daemon: handle(ebpf, "DAEMON")?,
            syn_state: handle(ebpf, "SYN_STATE")?,
        })
    }
}

pub(super) fn handle<K: Pod, V: Pod>(ebpf: &Ebpf, name: &str) -> Result<Map<K, V>> {
    let map = ebpf.map(name).ok_or_else(|| anyhow!("the object lacks the map `{name}`"))?;
    let data = map_data(map).ok_or_else(|| anyhow!("the map `{name}` is of an unexpected type"))?;
    let info = data.info()?;
    let fd = data.fd().as_fd().try_clone_to_owned()?;
    Map::new(fd, (info.key_size(), info.value_size())).with_context(|| format!("map `{name}`"))
}

pub(super) fn map_data(map: &aya::maps::Map) -> Option<&MapData> {
    use aya::maps::Map;
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::PerCpuArray(data)
        | Map::SockHash(data)
        | Map::SockMap(data)
        | Map::ReusePortSockArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// Makes sure that `pins` is a directory in a BPF file system, mounting one at `/sys/fs/bpf` if there is none.
fn prepare_pins(pins: &Path) -> Result<()> {
    if !in_bpffs(pins) {
        let root = Path::new("/sys/fs/bpf");
        if !pins.starts_with(root) {
            bail!(
                "{} is not in a BPF file system: set gate.pins to a directory under /sys/fs/bpf, or mount one with \
                 `mount -t bpf bpf DIR`",
                pins.display()
            );
        }
        nix::mount::mount(Some("bpf"), root, Some("bpf"), nix::mount::MsFlags::empty(), None::<&str>).context(
            "no BPF file system at /sys/fs/bpf and mounting one failed: run `mount -t bpf bpf /sys/fs/bpf` as root",
        )?;
    }
    fs::create_dir_all(pins.join("links"))
        .with_context(|| format!("making {}: the daemon needs to be root there, or own the directory", pins.display()))
}

/// Whether the nearest existing ancestor of `path` lies in a BPF file system.
pub fn in_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|dir| dir.exists())
        .and_then(|dir| nix::sys::statfs::statfs(dir).ok())
        .is_some_and(|stat| stat.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}

/// Refuses pinned maps whose shape is not this build's: writing through the wrong layout would corrupt both.
fn check_layout(gate: &Gate) -> Result<()> {
    let object = aya_obj::Object::parse(OBJECT).context("reading the embedded kernel programs")?;
    let advice = format!(
        "the maps pinned in {} were made by another version or with another gate.max_verdicts: run `tidegate unload` \
         first (standing verdicts are lost)",
        gate.pins.display()
    );
    for name in PINNED {
        let path = gate.pins.join(name);
        if !path.exists() {
            continue;
        }
        // By the pin, not by id: that would take CAP_SYS_ADMIN.
        let pinned = MapData::from_pin(&path).with_context(|| format!("reading the pin {}", path.display()))?;
        let info = pinned.info()?;
        let wanted = object.maps.get(name).ok_or_else(|| anyhow!("the object lacks the map `{name}`"))?;
        let entries = match name {
            "VERDICTS" => verdict_slots(gate.max_verdicts),
            "VERDICT_HINT" => verdict_words(gate.max_verdicts),
            _ => wanted.max_entries(),
        };
        let wanted = (wanted.map_type(), wanted.key_size(), wanted.value_size(), entries);
        let found = (info.map_type()? as u32, info.key_size(), info.value_size(), info.max_entries());
        if wanted != found {
            bail!("map `{name}` is {found:?}, not {wanted:?} (type, key, value, entries): {advice}");
        }
        if name == "GATE" {
            let gate_map: Map<u32, GateConfig> =
                Map::new(pinned.fd().as_fd().try_clone_to_owned()?, (found.1, found.2))?;
            let layout = gate_map.get(&0)?.unwrap_or_default().layout;
            if layout != 0 && layout != LAYOUT_VERSION {
                bail!("map layout {layout} is pinned, this build writes {LAYOUT_VERSION}: {advice}");
            }
        }
    }
    Ok(())
}

/// Before Linux 5.11 maps were charged to the locked-memory limit. Failing to raise it shows when a map is made.
pub(super) fn raise_memlock() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!(%error, "could not raise RLIMIT_MEMLOCK (needed before Linux 5.11 only)");
    }
}

/// Adds what to do to the errors that people meet.
pub(super) fn explain<E: std::error::Error + Send + Sync + 'static>(error: E) -> anyhow::Error {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    let mut denied = false;
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            denied |= matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES));
        }
        source = inner.source();
    }
    let error = anyhow::Error::new(error);
    if denied {
        error.context("needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (run as root, or give the unit these capabilities)")
    } else {
        error
    }
}
