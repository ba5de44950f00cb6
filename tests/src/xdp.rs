//! Small XDP programs of the bench object, attached to interfaces of the tests' own namespaces.
//!
//! A veth takes frames that its peer sends from XDP (`XDP_TX`, redirects) only if it polls, which it does with an XDP
//! program of its own: [`attach`] with `empty` is what makes answers from `front_syn` arrive.

use anyhow::{Context as _, Result};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

use crate::netns::Netns;
use crate::tools;

/// An attached program; it goes with this.
#[derive(Debug)]
pub struct Attached {
    _ebpf: Ebpf,
}

/// Loads `program` of the bench object.
pub fn load(program: &str) -> Result<Ebpf> {
    let object = tools::object()?;
    let mut ebpf = EbpfLoader::new().load_file(&object).with_context(|| format!("loading {}", object.display()))?;
    let xdp: &mut Xdp = ebpf.program_mut(program).with_context(|| format!("no program `{program}`"))?.try_into()?;
    xdp.load()?;
    Ok(ebpf)
}

/// Attaches `program` of the bench object to an interface, in driver mode.
pub fn attach(netns: &Netns, interface: &str, program: &str) -> Result<Attached> {
    let mut ebpf = load(program)?;
    let xdp: &mut Xdp = ebpf.program_mut(program).context("gone")?.try_into()?;
    netns.enter(|| xdp.attach(interface, XdpMode::Driver))?.with_context(|| format!("{program} on {interface}"))?;
    Ok(Attached { _ebpf: ebpf })
}
