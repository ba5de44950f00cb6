//! What `bench xdp` measures `front` with beyond the bare tables: every check on, everything on, and SYNs that are answered.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use ipnet::{IpNet, Ipv4Net};
use proxy_common::abi::{MAX_VERDICTS, rule_action};
use proxy_core::config::Mode;
use proxy_core::policy::{Cube, PacketRule};
use proxy_core::ranges::{RangeSet, network_ranges};
use serde_json::json;

use crate::gate::{Gate, all_checks};
use crate::packets::{Frame, SYN};
use crate::syn_gate::{PORT, SynGate};
use crate::tables::World;
use crate::verdict_table::EDGE;

/// Packet rules of the case with everything on.
const RULES: u32 = 1_000;
/// Allowed prefixes of it.
const ALLOWED: u32 = 100;
/// Runs of one measurement.
const REPEAT: u32 = 1_000_000;
/// Bytes of a SYN whose one option is the MSS: as many as its answer has, so that the frame's length stays.
const SYN_BYTES: usize = 58;
/// As the kernel program lays the frame out.
const SYN_ROOM: usize = 64;

/// A gate for the bench, all checks in `mode`.
pub fn gate(mode: Mode) -> Result<Gate> {
    Gate::load_with("bench", json!({ "scope": "own", "max_verdicts": MAX_VERDICTS, "checks": all_checks(mode) }))
}

/// Adds what else a gate may hold, none of which the bench's packets meet: packet rules over several fields, and an
/// allow list.
pub fn with_everything(mut world: World) -> World {
    let net = |n: u32| Ipv4Net::new_assert(Ipv4Addr::from(0x5000_0000 + n * 256), 24);
    world.rules = (0..RULES)
        .map(|n| {
            let from = u128::from(1_024 + n * 32);
            let cube = Cube {
                src: RangeSet::new(network_ranges(IpNet::V4(net(n)))),
                dport: RangeSet::new(vec![(from, from + 20)]),
                protos: if n % 3 == 0 { 1 } else { 2 },
                ..Cube::all()
            };
            PacketRule { cube, action: rule_action::DROP, slot: 2, shadow: n % 10 == 0 }
        })
        .collect();
    world.allow = (0..ALLOWED).map(|n| (IpNet::V4(net(RULES + n)), 3)).collect();
    world
}

/// A frame as the program `resyn` writes it.
#[repr(C)]
#[derive(Clone, Copy)]
struct SynFrame([u8; SYN_ROOM]);

// SAFETY: bytes.
unsafe impl Pod for SynFrame {}

/// SYNs from random sources, each written anew, in front of a program.
pub struct Syns {
    ebpf: Ebpf,
}

impl Syns {
    /// Loads the generator.
    pub fn load(object: &Path) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load_file(object).context("loading the bench programs")?;
        for name in ["empty", "resyn"] {
            let program: &mut Xdp = ebpf.program_mut(name).context("a bench program is missing")?.try_into()?;
            program.load()?;
        }
        let mut frame = SynFrame([0; SYN_ROOM]);
        frame.0[..SYN_BYTES].copy_from_slice(&syn());
        let mut frames: Array<_, SynFrame> = Array::try_from(ebpf.map_mut("RESYN").context("no RESYN")?)?;
        frames.set(0, frame, 0)?;
        Ok(Self { ebpf })
    }

    /// The program that does nothing.
    pub fn empty(&self) -> Result<ProgramFd> {
        let program: &Xdp = self.ebpf.program("empty").context("`empty` is missing")?.try_into()?;
        Ok(program.fd()?.try_clone()?)
    }

    /// Mean nanoseconds of a run with `program` behind it, which must answer `action` to the last SYN.
    pub fn run(&mut self, program: &ProgramFd, action: u32) -> Result<u64> {
        let mut next = ProgramArray::try_from(self.ebpf.map_mut("NEXT").context("`NEXT` is missing")?)?;
        next.set(0, program, 0)?;
        let frame = syn();
        let resyn: &Xdp = self.ebpf.program("resyn").context("`resyn` is missing")?.try_into()?;
        let options = TestRunOptions { data_in: Some(&frame), repeat: REPEAT, ..TestRunOptions::default() };
        let result = resyn.test_run(options)?;
        ensure!(result.return_value == action, "a SYN comes to {}, not {action}", result.return_value);
        Ok(result.duration.as_nanos() as u64)
    }
}

fn syn() -> [u8; SYN_BYTES] {
    let mut upper = [40_000_u16.to_be_bytes(), PORT.to_be_bytes()].concat();
    upper.extend([0, 0, 0, 1, 0, 0, 0, 0, 6 << 4, SYN, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 5, 0xb4]);
    let built = Frame::new("32.0.0.1", EDGE, 6, upper).build();
    let mut bytes = [0; SYN_BYTES];
    bytes.copy_from_slice(&built[..SYN_BYTES]);
    bytes
}

/// Nanoseconds of `rounds` runs each: SYNs in front of the empty program, and SYNs that XDP answers with a cookie. The calling
/// thread moves into a network namespace of its own.
pub fn cookies(object: &Path, rounds: usize) -> Result<(Vec<u64>, Vec<u64>)> {
    const XDP_PASS: u32 = 2;
    const XDP_TX: u32 = 3;
    let gate = SynGate::load("bench-syn")?;
    let mut syns = Syns::load(object)?;
    let (empty, front) = (syns.empty()?, gate.gate.kernel.front()?.fd()?.try_clone()?);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(syns.run(&empty, XDP_PASS)?);
        with.push(syns.run(&front, XDP_TX)?);
    }
    Ok((without, with))
}
