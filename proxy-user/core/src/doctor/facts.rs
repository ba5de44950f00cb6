//! What is known of a host before it is judged.

/// A host, as far as it could be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Kernel release as `uname -r` says it.
    pub release: String,
    /// Whether `/sys/kernel/btf/vmlinux` is there.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`; none where it cannot be read, as in a kernel that always compiles.
    pub jit: Option<u64>,
    /// Whether the directory of the pins lies in a mounted bpffs.
    pub bpffs: bool,
    /// Directory of the pins.
    pub pins: String,
    /// Capabilities that are wanted and not there.
    pub missing_capabilities: Vec<&'static str>,
    /// Limit of locked memory in bytes; none without one.
    pub memlock: Option<u64>,
    /// What the programs are made of, and whether the kernel has it; the text says why it could not be asked.
    pub features: Vec<(&'static str, Result<bool, String>)>,
    /// Whether XDP programs may take frames that lie in several buffers.
    pub frags: bool,
    /// `net.ipv4.tcp_syncookies`.
    pub syncookies: Option<u64>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// Soft and hard limit of open files.
    pub files: (u64, u64),
    /// Entries of the connection table and the most it takes; none where it is not in use.
    pub conntrack: Option<(u64, u64)>,
    /// Milliseconds since a daemon was last at the gate that is pinned there, and how many it may be away before the gate
    /// stands open; none without a gate.
    pub heartbeat: Option<(u64, Option<u64>)>,
    /// The kernel's clock source.
    pub clock: Option<String>,
    /// Interfaces that the gate shall stand on.
    pub interfaces: Vec<Interface>,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether it is up.
    pub up: bool,
    /// Driver; none where it has no name.
    pub driver: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// What it is, where it stands on other links.
    pub stacked: Option<Stacked>,
    /// XDP program on it.
    pub program: Option<Program>,
    /// Whether large receive offload is on; none where it cannot be asked.
    pub lro: Option<bool>,
    /// `rp_filter` in force: the larger of the interface's and `all`'s.
    pub rp_filter: Option<u64>,
}

/// A link that stands on other links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacked {
    /// A bond.
    Bond {
        /// Whether its mode lets it carry XDP in its ports' drivers.
        native: bool,
    },
    /// A VLAN.
    Vlan,
}

/// An attached XDP program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The kernel's number of it.
    pub id: u32,
    /// Name; none where it may not be asked.
    pub name: Option<String>,
    /// `driver`, `generic`, …
    pub mode: String,
    /// Whether the gate's own pin holds it.
    pub ours: bool,
}
