//! Looking at a host for `tidegate doctor`: collects facts and changes nothing. What they mean is `proxy_core::doctor`'s.

mod ethtool;

use std::fs;
use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::programs::links::{FdLink, PinnedLink};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use proxy_core::doctor::{Facts, Interface, Program};

use crate::kernel::{
    LinkState, attached_program, attendance, frags_supported, front_pin, in_bpffs, link_state, program_name, sysctl,
};

/// Capabilities of a loaded gate, by bit (`include/uapi/linux/capability.h`).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Stands for all of them.
const CAP_SYS_ADMIN: u32 = 21;

/// Looks at the host. `pins` is the gate's directory; interfaces are named as in the config.
pub fn facts(pins: &Path, interfaces: &[String]) -> Facts {
    Facts {
        release: nix::sys::utsname::uname()
            .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned()),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: sysctl("net/core/bpf_jit_enable"),
        bpffs: in_bpffs(pins),
        pins: pins.display().to_string(),
        missing_capabilities: missing_capabilities(),
        memlock: limit(Resource::RLIMIT_MEMLOCK).0,
        features: features(),
        frags: frags_supported(),
        syncookies: sysctl("net/ipv4/tcp_syncookies"),
        somaxconn: sysctl("net/core/somaxconn"),
        files: files(),
        conntrack: sysctl("net/netfilter/nf_conntrack_count").zip(sysctl("net/netfilter/nf_conntrack_max")),
        heartbeat: attendance(pins).map(|gate| (millis(gate.age), gate.open_after.map(millis))),
        clock: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        interfaces: interfaces.iter().map(|name| interface(name, pins)).collect(),
    }
}

/// Interfaces of this network namespace that carry traffic from elsewhere: all but the loopback.
pub fn all_interfaces() -> Vec<String> {
    let mut names: Vec<String> = nix::net::if_::if_nameindex().map_or_else(
        |_| Vec::new(),
        |list| list.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect(),
    );
    names.retain(|name| name != "lo");
    names
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The first line of a file, without blanks around it.
fn line(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.trim().to_owned())
}

fn sysctl(name: &str) -> Option<u64> {
    sysctl::last_number(name).ok()
}

/// Soft and hard limit; none is no limit.
fn limit(resource: Resource) -> (Option<u64>, Option<u64>) {
    let known = |limit| (limit != RLIM_INFINITY).then_some(limit);
    getrlimit(resource).map_or((None, None), |(soft, hard)| (known(soft), known(hard)))
}

fn files() -> (u64, u64) {
    let (soft, hard) = limit(Resource::RLIMIT_NOFILE);
    (soft.unwrap_or(u64::MAX), hard.unwrap_or(u64::MAX))
}

fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let has = |bit: u32| (bits >> bit) & 1 != 0;
    let missing = CAPABILITIES.iter().filter(|(bit, _)| !has(*bit) && !has(CAP_SYS_ADMIN));
    missing.map(|(_, name)| *name).collect()
}

/// What the programs are made of, each asked of the kernel by making a small one.
fn features() -> Vec<(&'static str, Result<bool, String>)> {
    fn text(error: &impl std::error::Error) -> String {
        error.source().map_or_else(|| error.to_string(), |source| format!("{error} ({source})"))
    }
    let program = |kind| is_program_supported(kind).map_err(|error| text(&error));
    let map = |kind| is_map_supported(kind).map_err(|error| text(&error));
    let helper = |helper| is_helper_supported(ProgramType::Xdp, helper).map_err(|error| text(&error));
    vec![
        ("XDP programs", program(ProgramType::Xdp)),
        ("sk_lookup programs", program(ProgramType::SkLookup)),
        ("sk_reuseport programs", program(ProgramType::SkReuseport)),
        ("prefix maps", map(MapType::LpmTrie)),
        ("socket maps", map(MapType::SockMap)),
        ("reuseport maps", map(MapType::ReuseportSockArray)),
        ("ring buffers", map(MapType::RingBuf)),
        ("coarse clock", helper(BpfHelper::BPF_FUNC_ktime_get_coarse_ns)),
    ]
}

fn interface(name: &str, pins: &Path) -> Interface {
    let Ok(index) = nix::net::if_::if_nametoindex(name) else {
        return Interface { name: name.to_owned(), ..Interface::default() };
    };
    let rp_filter = |of: &str| sysctl(&format!("net/ipv4/conf/{of}/rp_filter"));
    // Not from /sys, which shows the network namespace that it was mounted in.
    let LinkState { up, mtu, stacked } = link_state(index).unwrap_or_default();
    Interface {
        name: name.to_owned(),
        exists: true,
        up,
        driver: ethtool::driver(name),
        mtu,
        stacked,
        program: program(name, index, pins),
        lro: ethtool::lro(name),
        rp_filter: rp_filter(name).max(rp_filter("all")),
    }
}

fn program(interface: &str, index: u32, pins: &Path) -> Option<Program> {
    let (id, mode) = attached_program(index).ok()??;
    let pin = front_pin(pins, interface);
    let link = PinnedLink::from_pin(pin).ok().map(FdLink::from);
    let ours = link.and_then(|link| link.info().ok()).is_some_and(|info| info.program_id() == id);
    Some(Program { id, name: program_name(id), mode: mode.to_owned(), ours })
}
