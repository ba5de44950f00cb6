//! Attaching: `front` to interfaces, `steer` to the network namespace. Links are pinned, so that the gate outlives the
//! daemon; a pinned link of ours takes the new program without a gap, anybody else's program is never replaced.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};

use aya::programs::{SkLookup, Xdp, XdpMode as AyaMode, loaded_programs};
use aya_obj::programs::XdpAttachType;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BondMode, InfoBond, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use proxy_core::config::{Gate, XdpMode};
use proxy_core::doctor::Stacked;

/// Name of the pinned program.
const FRONT: &str = "front";
/// Bytes of one netlink answer about one link; the kernel's own dumps use 32 KiB.
const NETLINK_BUFFER: usize = 32 * 1024;

fn link_path(pins: &Path, name: &str) -> PathBuf {
    pins.join("links").join(name)
}

/// Where the link of `front` on an interface is pinned. bpffs reserves names with a dot, which VLAN interfaces tend to have
/// (`bpf_lookup` of `kernel/bpf/inode.c`).
pub fn front_pin(pins: &Path, interface: &str) -> PathBuf {
    link_path(pins, &format!("front-{}", interface.replace('%', "%25").replace('.', "%2e")))
}

/// Attaches `front` to each configured interface; returns `(interface, "driver" | "generic")`.
pub fn front(ebpf: &mut Ebpf, gate: &Gate) -> Result<Vec<(String, String)>> {
    let program: &mut Xdp = ebpf.program_mut("front").ok_or_else(|| anyhow!("the object lacks `front`"))?.try_into()?;
    // For interfaces that a reload adds.
    let pin = gate.pins.join(FRONT);
    if pin.exists() {
        fs::remove_file(&pin).with_context(|| format!("replacing {}", pin.display()))?;
    }
    program.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
    let mut attached = Vec::new();
    for interface in &gate.interfaces {
        let mode = front_one(program, interface, gate).with_context(|| format!("interface {interface}"))?;
        attached.push((interface.clone(), mode.to_owned()));
    }
    drop_links_but(&gate.pins, &gate.interfaces)?;
    Ok(attached)
}

/// Attaches the pinned `front` to one more interface; returns its mode.
pub fn front_more(interface: &str, gate: &Gate) -> Result<&'static str> {
    let pin = gate.pins.join(FRONT);
    let mut program = Xdp::from_pin(&pin, XdpAttachType::Interface)
        .with_context(|| format!("opening the program pinned at {}", pin.display()))?;
    front_one(&mut program, interface, gate).with_context(|| format!("interface {interface}"))
}

/// Whether an interface still carries a program.
pub fn carries_program(interface: &str) -> bool {
    let index = nix::net::if_::if_nametoindex(interface).map_err(anyhow::Error::from);
    index.and_then(attached_program).is_ok_and(|program| program.is_some())
}

fn front_one(program: &mut Xdp, interface: &str, gate: &Gate) -> Result<&'static str> {
    let index = nix::net::if_::if_nametoindex(interface)
        .map_err(|_| anyhow!("there is no such interface here: see `ip link`, and gate.interfaces in the config"))?;
    let pin = front_pin(&gate.pins, interface);
    if pin.exists() {
        if adopt(program, &pin, index)? {
            return mode_of(index);
        }
        fs::remove_file(&pin).with_context(|| format!("removing the stale pin {}", pin.display()))?;
    }
    if let Some((id, mode)) = attached_program(index)? {
        let name = program_name(id).unwrap_or_else(|| "unnamed".to_owned());
        bail!(
            "it already carries the XDP program `{name}` (id {id}, {mode} mode), which Tidegate does not replace: \
             detach it first (`bpftool net detach xdp dev {interface}`), or leave {interface} out of gate.interfaces"
        );
    }
    let link = match gate.mode {
        XdpMode::Driver => program
            .attach_to_if_index(index, AyaMode::Driver)
            .context("driver mode failed: the device may lack it (try gate.mode \"auto\")")?,
        XdpMode::Generic => program.attach_to_if_index(index, AyaMode::Skb).context("generic mode failed")?,
        XdpMode::Auto => match program.attach_to_if_index(index, AyaMode::Driver) {
            Ok(link) => link,
            Err(error) => {
                tracing::warn!(interface, %error, "no driver mode on this interface: generic XDP, which is slower");
                program.attach_to_if_index(index, AyaMode::Skb).context("generic mode failed too")?
            }
        },
    };
    let link: FdLink = program.take_link(link)?.try_into().map_err(|_| {
        anyhow!("the kernel has no BPF links for XDP (Linux 5.9 and newer do): the gate could not outlive the daemon")
    })?;
    link.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
    mode_of(index)
}

/// Puts the new program into a pinned link; false when the link's device is gone or another one.
fn adopt(program: &mut Xdp, pin: &Path, index: u32) -> Result<bool> {
    let pinned = PinnedLink::from_pin(pin).with_context(|| format!("opening the pin {}", pin.display()))?;
    let before = attached_program(index)?;
    let link: FdLink = pinned.into();
    let Ok(link) = aya::programs::xdp::XdpLink::try_from(link) else { return Ok(false) };
    // A link to a device that is gone answers ENOLINK.
    let Ok(id) = program.attach_to_link(link) else { return Ok(false) };
    let after = attached_program(index)?;
    // The pin holds the link; the descriptor may go.
    drop(program.take_link(id)?);
    Ok(after.is_some() && after != before)
}

fn mode_of(index: u32) -> Result<&'static str> {
    Ok(attached_program(index)?.map_or("none", |(_, mode)| mode))
}

/// Removes the pins of interfaces that are no longer configured: the kernel detaches them.
pub fn drop_links_but(pins: &Path, interfaces: &[String]) -> Result<()> {
    let kept: HashSet<PathBuf> = interfaces.iter().map(|interface| front_pin(pins, interface)).collect();
    for entry in fs::read_dir(pins.join("links"))? {
        let entry = entry?;
        let of_front = entry.file_name().to_str().is_some_and(|name| name.starts_with("front-"));
        if of_front && !kept.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Attaches `steer` to this network namespace. The new link stands before an older pinned one goes.
pub fn steer(ebpf: &mut Ebpf, pins: &Path) -> Result<()> {
    let program: &mut SkLookup =
        ebpf.program_mut("steer").ok_or_else(|| anyhow!("the object lacks `steer`"))?.try_into()?;
    let netns = File::open("/proc/thread-self/ns/net").context("opening /proc/thread-self/ns/net")?;
    let id = program.attach(netns)?;
    let link: FdLink = program.take_link(id)?.into();
    let pin = link_path(pins, "steer");
    if pin.exists() {
        fs::remove_file(&pin).with_context(|| format!("replacing {}", pin.display()))?;
    }
    link.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
    Ok(())
}

/// What rtnetlink says of a link in this network namespace.
fn link(index: u32) -> Result<LinkMessage> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(request)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(NETLINK_BUFFER);
    socket.recv(&mut answer, 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).context("reading the netlink answer")?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = answer.payload else {
        bail!("the kernel did not answer what the link carries");
    };
    Ok(link)
}

/// What `tidegate doctor` asks of a link.
#[derive(Clone, Debug, Default)]
pub struct LinkState {
    /// Whether it is up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// What stands on other links, and what bears on XDP there.
    pub stacked: Option<Stacked>,
}

/// Looks at a link.
pub fn link_state(index: u32) -> Result<LinkState> {
    let link = link(index)?;
    let stacked = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => stacked(infos),
        _ => None,
    });
    Ok(LinkState { up: link.header.flags.contains(LinkFlags::Up), mtu: mtu(&link).unwrap_or(0), stacked })
}

/// A bond whose mode the kernel lets carry XDP in its ports' drivers: `bond_xdp_check` of `drivers/net/bonding/bond_main.c`.
fn stacked(infos: &[LinkInfo]) -> Option<Stacked> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Vlan) => Some(Stacked::Vlan),
        LinkInfo::Data(InfoData::Bond(bond)) => {
            let mode = bond.iter().find_map(|info| if let InfoBond::Mode(mode) = info { Some(*mode) } else { None });
            let native = matches!(
                mode.unwrap_or_default(),
                BondMode::BalanceRr | BondMode::ActiveBackup | BondMode::BalanceXor | BondMode::Ieee8023Ad
            );
            Some(Stacked::Bond { native })
        }
        _ => None,
    })
}

fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

/// Whether an interface is a loopback one; false where there is none of this name.
pub fn is_loopback(interface: &str) -> bool {
    let index = nix::net::if_::if_nametoindex(interface).map_err(anyhow::Error::from);
    index.and_then(link).is_ok_and(|link| link.header.flags.contains(LinkFlags::Loopback))
}

/// What an interface is, as far as it bears on answering from XDP.
#[derive(Clone, Debug)]
pub struct LinkFacts {
    /// Its name.
    pub name: String,
    /// Bytes of its largest IP packet.
    pub mtu: u32,
    /// Whether it is one end of a veth pair.
    pub veth: bool,
    /// Whether `front` runs in its driver.
    pub driver_mode: bool,
}

/// Looks at the interfaces that `front` is attached to, given with their modes.
pub fn facts(interfaces: &[(String, String)]) -> Result<Vec<LinkFacts>> {
    interfaces
        .iter()
        .map(|(name, mode)| {
            let link = link(nix::net::if_::if_nametoindex(name.as_str())?)?;
            let veth = link.attributes.iter().any(|attribute| match attribute {
                LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
                _ => false,
            });
            let mtu = mtu(&link).with_context(|| format!("the kernel does not say the MTU of {name}"))?;
            Ok(LinkFacts { name: name.clone(), mtu, veth, driver_mode: mode == "driver" })
        })
        .collect()
}

/// The XDP program on a link and its mode, by rtnetlink (`IFLA_XDP`).
pub fn attached_program(index: u32) -> Result<Option<(u32, &'static str)>> {
    let xdp = link(index)?.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    let mut id = None;
    let mut mode = "none";
    for item in xdp.unwrap_or_default() {
        match item {
            LinkXdp::ProgId(program) | LinkXdp::DrvProgId(program) | LinkXdp::SkbProgId(program) => {
                id = id.or(Some(program));
            }
            LinkXdp::Attached(XdpAttached::Driver) => mode = "driver",
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = "generic",
            LinkXdp::Attached(XdpAttached::Hardware) => mode = "hardware",
            LinkXdp::Attached(XdpAttached::Multiple) => mode = "multiple",
            _ => {}
        }
    }
    Ok(id.map(|id| (id, mode)))
}

/// A loaded program's name, where it has one and it may be asked.
pub fn program_name(id: u32) -> Option<String> {
    let info = loaded_programs().filter_map(std::result::Result::ok).find(|info| info.id() == id)?;
    info.name_as_str().map(str::to_owned)
}

/// Removes the links' and maps' pins; what nothing else holds is detached and freed. Returns what was removed.
pub fn unload(pins: &Path) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for dir in [pins.join("links"), pins.to_path_buf()] {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                continue;
            }
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            removed.push(path.display().to_string());
        }
        fs::remove_dir(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    Ok(removed)
}
