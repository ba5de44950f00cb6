//! What on a host would hinder Tidegate, and how to mend it: a judgement over collected facts. Looks at nothing itself.

mod facts;

pub use facts::{Facts, Interface, Program, Stacked};

use std::time::Duration;

use serde::Serialize;

use crate::config::Span;

/// Oldest kernel that the gate is made for.
const OLDEST_KERNEL: (u32, u32) = (5, 15);
/// Locked memory that maps need where the kernel charges it so (before 5.11), in bytes.
const WANTED_MEMLOCK: u64 = 512 << 20;
/// Open files that a busy edge needs.
const WANTED_FILES: u64 = 65_536;
/// Connections that may wait to be accepted; the listeners ask for as many.
const WANTED_SOMAXCONN: u64 = 4_096;
/// Largest MTU whose packets lie in one page with the room that XDP needs, as most drivers count it.
const ONE_PAGE_MTU: u32 = 3_498;
/// A heart that beat so lately beats.
const BEAT_IN_TIME_MS: u64 = 2_500;
/// A connection table fuller than this, in percent, is about to refuse.
const CONNTRACK_PERCENT: u64 = 80;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but slower or less than it could.
    Warn,
    /// The kernel half, or part of it, cannot work.
    Fail,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; with the interface's name where it is one's.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// All findings, in the order of the checks.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut report = Report::default();
    kernel(facts, &mut report);
    rights(facts, &mut report);
    heartbeat(facts.heartbeat, &mut report);
    network(facts, &mut report);
    for interface in &facts.interfaces {
        one_interface(interface, facts.frags, &mut report);
    }
    report.0
}

/// Whether something is there that cannot work.
pub fn fails(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Fail)
}

#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, check: impl Into<String>, found: impl Into<String>) {
        self.0.push(Finding { check: check.into(), level: Level::Ok, found: found.into(), mend: None });
    }

    fn warn(&mut self, check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) {
        let (check, found, mend) = (check.into(), found.into(), Some(mend.into()));
        self.0.push(Finding { check, level: Level::Warn, found, mend });
    }

    fn fail(&mut self, check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) {
        let (check, found, mend) = (check.into(), found.into(), Some(mend.into()));
        self.0.push(Finding { check, level: Level::Fail, found, mend });
    }
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel(facts: &Facts, report: &mut Report) {
    let (major, minor) = OLDEST_KERNEL;
    match version(&facts.release) {
        Some(version) if version >= OLDEST_KERNEL => report.ok("kernel", &facts.release),
        Some(_) => report.warn(
            "kernel",
            &facts.release,
            format!("older than {major}.{minor}, which the gate is made for: parts of it may be refused; take a newer kernel"),
        ),
        None => report.warn("kernel", format!("`{}` is no version that is known", facts.release), "see `uname -r`"),
    }
    if facts.btf {
        report.ok("btf", "the kernel describes its types");
    } else {
        report.fail(
            "btf",
            "no /sys/kernel/btf/vmlinux",
            "take a kernel with CONFIG_DEBUG_INFO_BTF; those of the distributions have it",
        );
    }
    match facts.jit {
        Some(0) => report.warn(
            "jit",
            "off: programs are interpreted, several times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => report.ok("jit", "on"),
        None => report.ok("jit", "always on, or not to be read"),
    }
    if facts.bpffs {
        report.ok("bpffs", format!("mounted at {}", facts.pins));
    } else {
        report.warn(
            "bpffs",
            format!("{} is not in a mounted one", facts.pins),
            "the daemon mounts it as root; else `mount -t bpf bpf /sys/fs/bpf`",
        );
    }
    for (name, there) in &facts.features {
        match there {
            Ok(true) => report.ok(*name, "there"),
            Ok(false) => report.fail(*name, "the kernel has none", "take a kernel that has it, see `kernel` above"),
            Err(why) => report.warn(*name, format!("could not be asked: {why}"), "run this as root"),
        }
    }
}

fn rights(facts: &Facts, report: &mut Report) {
    if facts.missing_capabilities.is_empty() {
        report.ok("capabilities", "all there");
    } else {
        report.fail(
            "capabilities",
            format!("without {}", facts.missing_capabilities.join(", ")),
            "run as root, or give the unit AmbientCapabilities with these",
        );
    }
    match facts.memlock {
        Some(limit) if limit < WANTED_MEMLOCK && version(&facts.release).is_some_and(|v| v < (5, 11)) => report.fail(
            "memlock",
            format!("{limit} bytes, and this kernel charges maps to it"),
            "LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`",
        ),
        Some(limit) => report.ok("memlock", format!("{limit} bytes, which this kernel does not charge maps to")),
        None => report.ok("memlock", "no limit"),
    }
    let (soft, hard) = facts.files;
    if soft.max(hard) < WANTED_FILES {
        report.warn(
            "files",
            format!("at most {hard} open files"),
            format!("LimitNOFILE={WANTED_FILES} in the unit: each connection is a file, and each to an origin"),
        );
    } else {
        report.ok("files", format!("{soft}, up to {hard}"));
    }
}

fn heartbeat(beat: Option<(u64, Option<u64>)>, report: &mut Report) {
    let Some((age_ms, open_after_ms)) = beat else {
        report.ok("heartbeat", "no gate is loaded");
        return;
    };
    let ago = format!("a daemon was there {} ago", Span(Duration::from_millis(age_ms)));
    let start = "start the daemon, or take the gate away with `tidegate unload`";
    match open_after_ms {
        _ if age_ms <= BEAT_IN_TIME_MS => report.ok("heartbeat", ago),
        Some(after) if age_ms > after => report.fail("heartbeat", format!("{ago}: the gate drops nothing now"), start),
        Some(after) => {
            let open = format!("{ago}: the gate will drop nothing after {}", Span(Duration::from_millis(after)));
            report.warn("heartbeat", open, start);
        }
        None => report.warn("heartbeat", format!("{ago}: the gate goes on dropping until verdicts expire"), start),
    }
}

fn network(facts: &Facts, report: &mut Report) {
    match facts.syncookies {
        Some(0) => report.warn(
            "tcp_syncookies",
            "off: a SYN flood fills the listeners' queues",
            "sysctl -w net.ipv4.tcp_syncookies=1, or 2 where the gate shall answer SYNs itself",
        ),
        Some(value) => report.ok("tcp_syncookies", value.to_string()),
        None => report.warn("tcp_syncookies", "not to be read", "is /proc mounted?"),
    }
    match facts.somaxconn {
        Some(value) if value < WANTED_SOMAXCONN => report.warn(
            "somaxconn",
            format!("{value}: a burst of connections finds the queue full"),
            format!("sysctl -w net.core.somaxconn={WANTED_SOMAXCONN}"),
        ),
        Some(value) => report.ok("somaxconn", value.to_string()),
        None => report.warn("somaxconn", "not to be read", "is /proc mounted?"),
    }
    match facts.conntrack {
        None => report.ok("conntrack", "not in use"),
        Some((count, max)) if count.saturating_mul(100) >= max.saturating_mul(CONNTRACK_PERCENT) => report.warn(
            "conntrack",
            format!("{count} of {max} entries: beyond that new connections are dropped"),
            "sysctl -w net.netfilter.nf_conntrack_max=… , or leave the listeners' ports out (`notrack`)",
        ),
        Some((count, max)) => report.ok("conntrack", format!("{count} of {max} entries")),
    }
    match facts.clock.as_deref() {
        Some(source @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page")) => {
            report.ok("clock", source);
        }
        Some(source) => report.warn(
            "clock",
            format!("{source}: each look at the time is slow"),
            "see /sys/devices/system/clocksource/clocksource0/available_clocksource for a better one",
        ),
        None => report.ok("clock", "not to be read"),
    }
}

fn one_interface(interface: &Interface, frags: bool, report: &mut Report) {
    let name = &interface.name;
    let check = |what: &str| format!("{name}: {what}");
    if !interface.exists {
        report.fail(
            check("link"),
            "there is no such interface here",
            "see `ip link`, and gate.interfaces in the config",
        );
        return;
    }
    let driver = interface.driver.as_deref().unwrap_or("no driver's name");
    if interface.up {
        report.ok(check("link"), format!("up, {driver}"));
    } else {
        report.warn(check("link"), format!("down, {driver}"), format!("ip link set {name} up"));
    }
    match &interface.program {
        None => report.ok(check("xdp"), "no program: free for the gate"),
        Some(program) if program.ours && program.mode == "generic" => report.warn(
            check("xdp"),
            format!("the gate (id {}), in generic mode", program.id),
            "each packet costs several times what it costs in driver mode: take a card whose driver has XDP, or one queue \
             fewer where it wants queues to spare",
        ),
        Some(program) if program.ours => {
            report.ok(check("xdp"), format!("the gate (id {}), in {} mode", program.id, program.mode));
        }
        Some(program) => report.fail(
            check("xdp"),
            format!(
                "it carries the program `{}` (id {}, {} mode), which Tidegate does not replace",
                program.name.as_deref().unwrap_or("unnamed"),
                program.id,
                program.mode
            ),
            format!("detach it (`bpftool net detach xdp dev {name}`), or leave {name} out of gate.interfaces"),
        ),
    }
    match interface.stacked {
        None => {}
        Some(Stacked::Bond { native: true }) => report.ok(
            check("bond"),
            "the program runs in the ports' drivers, from Linux 5.15 on and where each of them has XDP",
        ),
        Some(Stacked::Bond { native: false }) => report.warn(
            check("bond"),
            "the kernel has no driver mode for a bond of this mode",
            "make it balance-rr, active-backup, balance-xor or 802.3ad, or set gate.mode \"generic\"",
        ),
        Some(Stacked::Vlan) => report.warn(
            check("vlan"),
            "a VLAN has no driver mode of its own: the gate runs in generic mode there",
            "name its parent in gate.interfaces instead: the gate looks through two tags",
        ),
    }
    if interface.lro == Some(true) {
        report.warn(
            check("offloads"),
            "large receive offload is on: many drivers refuse XDP with it",
            format!("ethtool -K {name} lro off"),
        );
    } else {
        report.ok(check("offloads"), "no large receive offload");
    }
    if interface.mtu > ONE_PAGE_MTU && frags {
        let found = "in several buffers, which the gate takes where the driver does";
        report.ok(check("mtu"), format!("{}: {found}", interface.mtu));
    } else if interface.mtu > ONE_PAGE_MTU {
        report.warn(
            check("mtu"),
            format!("{}: such packets do not lie in one page, and drivers refuse XDP before Linux 5.18", interface.mtu),
            format!("ip link set {name} mtu {ONE_PAGE_MTU}, or gate.mode \"generic\""),
        );
    } else {
        report.ok(check("mtu"), interface.mtu.to_string());
    }
    match interface.rp_filter {
        Some(1) => report.warn(
            check("rp_filter"),
            "strict: where answers leave by another interface, packets are dropped behind the gate",
            format!("right on a host with one uplink; else sysctl -w net.ipv4.conf.{name}.rp_filter=2"),
        ),
        Some(value) => report.ok(check("rp_filter"), if value == 0 { "off" } else { "loose" }),
        None => report.ok(check("rp_filter"), "not to be read"),
    }
}

#[cfg(test)]
mod tests;
