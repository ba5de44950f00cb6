//! The kernel half as the daemon sees it: load, bind, publish, push. One [`Kernel`] for the process, shared by `&self`.

mod apply;
mod attach;
mod checks;
mod cid;
mod events;
mod filter;
mod heart;
mod hosts;
mod interfaces;
mod load;
mod log;
mod mapped;
mod rates;
mod same_host;
mod sockets;
mod syn;
mod syn_settings;
mod syscall;
pub(crate) mod sysctl;
mod tables;
mod verdict_table;
mod verdicts;
mod workers;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aya::Ebpf;
use aya::programs::{SkReuseport, TestRun as _, TestRunOptions, Xdp};
use proxy_common::abi::{
    Counter, GATE_FAIL_OPEN, GATE_OWN_ONLY, GATE_V4_PREFIX, GateConfig, LAYOUT_VERSION, MAX_GENERATIONS,
    MAX_RULE_SLOTS, MAX_SERVICES, MAX_WORKERS, QuicKey, Reason, ServiceKey, verdict_bits,
};
use proxy_common::addr::v6_mask;
use proxy_common::cid::Place;
use proxy_core::config::{Config, Scope};
use serde::Serialize;

pub use apply::Applied;
pub use attach::{LinkState, attached_program, front_pin, link_state, program_name};
pub use checks::host_facts;
pub use events::EventRing;
pub use heart::{Attendance, attendance};
pub use load::{in_bpffs, object_for};
pub use same_host::{Handover, SameHost};
pub use syscall::frags_supported;
pub use verdicts::{BulkAdded, MAX_TTL, VerdictInfo, now_ns};

/// Rule slot of verdicts that a person added.
const OPERATOR: u32 = 0;

/// Makes connection-id generators; one for each endpoint of a worker.
pub type CidFactory = Box<dyn Fn() -> Box<dyn quinn::ConnectionIdGenerator> + Send + Sync>;

/// Loaded programs and pinned maps. One for the process, behind an `Arc`; all methods take `&self`.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    maps: load::Maps,
    workers: workers::Workers,
    /// `VERDICTS`, mapped.
    verdicts: verdict_table::VerdictTable,
    /// The filter before `VERDICTS`.
    filter: filter::Filter,
    /// Listed hosts.
    hosts: hosts::Hosts,
    /// Beats while this process lives.
    heart: Arc<heart::Heart>,
    /// SYN cookies.
    syn: syn::SynDefence,
    /// Sources that completed a handshake lately.
    known: rates::Known,
    /// Interfaces that `front` is attached to, with their modes.
    interfaces: Mutex<Vec<(String, String)>>,
    scope: Scope,
    ipv4_prefix: u8,
    ipv6_prefix: u8,
    key: QuicKey,
    /// Process generation of this daemon's QUIC sockets.
    generation: u32,
    /// Held while policies are written: one at a time.
    applying: Mutex<()>,
    /// Whether a rule in force pushes verdicts on IPv4 prefixes.
    on_v4_prefixes: AtomicBool,
    /// Side of the prefixes in force, as `GATE` has it.
    prefixes_side: AtomicU32,
    /// Bindings that this process wrote.
    bound: Mutex<HashSet<ServiceKey>>,
    cpus: usize,
}

/// The kernel half's state for `tidegate status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelStatus {
    /// `(interface, "driver" | "generic")`.
    pub interfaces: Vec<(String, String)>,
    /// Whether `steer` is attached.
    pub steer: bool,
    /// Policy revision in the maps.
    pub revision: u32,
    /// Addresses of the listeners whose SYNs are answered with cookies now.
    pub syn_cookies: Vec<String>,
    /// How long the daemon may stay away before the gate drops nothing; none where it goes on dropping.
    pub open_after: Option<Duration>,
}

impl Kernel {
    /// Loads and attaches what the config asks for, adopting pinned maps. The error says what is missing and what to do.
    pub fn load(config: &Config) -> Result<Self> {
        let gate = &config.gate;
        let (mut ebpf, maps) = load::load(gate)?;
        let workers = workers::Workers::map(&maps.workers)?;
        let filter = filter::Filter::map(&maps.verdict_hint, gate.max_verdicts, gate.ipv6_prefix)?;
        let hosts = hosts::Hosts::adopt(load::handle(&ebpf, "HOSTS")?, &maps.host_hint, &gate.pins)?;
        workers.clear();
        let key = quic_key(&maps)?;
        let generation = next_generation(&maps)?;
        // Policies that an earlier run loaded stay in force until this one applies its own.
        let before = maps.gate.get(&0)?.unwrap_or_default();
        let own = if gate.scope == Scope::Own { GATE_OWN_ONLY } else { 0 };
        let v6_mask = v6_mask(gate.ipv6_prefix);
        let verdict_bits = verdict_bits(gate.max_verdicts);
        let verdict_seed = if before.verdict_seed == 0 { random_key()?.k0 } else { before.verdict_seed };
        let verdicts = verdict_table::VerdictTable::map(&maps.verdicts, gate.max_verdicts, verdict_seed)?;
        let mut v4_prefixes = 0;
        for (_, key, _) in verdicts.entries() {
            filter.set(&key);
            if key.v4_bits() == Some(gate.ipv4_prefix.into()) {
                v4_prefixes = verdicts::v4_prefix_flags(gate.ipv4_prefix);
            }
        }
        let flags = (before.flags & !(GATE_OWN_ONLY | GATE_V4_PREFIX)) | own | v4_prefixes;
        let settings = GateConfig { layout: LAYOUT_VERSION, flags, v6_mask, verdict_bits, verdict_seed, ..before };
        maps.gate.set(&0, &settings)?;
        let heart = Arc::new(heart::Heart::start(&maps.daemon)?);
        heart.set_fail(&maps, gate)?;
        checks::set(&maps, config)?;
        rates::set(&maps, config)?;
        let known = rates::Known::map(&maps, gate.ipv6_prefix)?;
        log::start(&mut ebpf, gate.log)?;
        let stage = load::load_syn(&mut ebpf).err().map(|error| {
            let whole = format!("{error:#}");
            tracing::debug!(error = whole, "loading front_syn");
            // The verifier's output is for those who ask for it.
            whole.split(" Verifier output").next().unwrap_or_default().to_owned()
        });
        attach::steer(&mut ebpf, &gate.pins).context("attaching steer to the network namespace")?;
        let interfaces = attach::front(&mut ebpf, gate).context("attaching front")?;
        let links = attach::facts(&interfaces).context("looking at the interfaces")?;
        let syn = syn::SynDefence::new(gate, &maps.syn_state, stage, &links, Arc::clone(&heart))?;
        Ok(Self {
            ebpf,
            maps,
            workers,
            verdicts,
            filter,
            hosts,
            heart,
            syn,
            known,
            interfaces: Mutex::new(interfaces),
            scope: gate.scope,
            ipv4_prefix: gate.ipv4_prefix,
            ipv6_prefix: gate.ipv6_prefix,
            key,
            generation,
            applying: Mutex::default(),
            on_v4_prefixes: AtomicBool::new(false),
            prefixes_side: AtomicU32::new(before.prefixes_side()),
            bound: Mutex::default(),
            cpus: aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))?,
        })
    }

    /// quinn's connection-id generators for a worker: ids that `steer_quic` can decode. Without a kernel half the ids
    /// have the same form under a key of this process.
    pub fn cid_generator(kernel: Option<&Self>, worker: u32) -> CidFactory {
        let (key, generation) = kernel.map_or_else(|| (random_key().unwrap_or_default(), 0), |k| (k.key, k.generation));
        let place = Place { worker, generation };
        Box::new(move || Box::new(cid::Generator::new(key, place)))
    }

    /// Publishes the worker's open connections for `steer`; a plain store into a mapped page, no syscall.
    pub fn publish_active(&self, worker: u32, active: u32) {
        self.workers.set_active(worker, active);
    }

    /// Whether `steer` may choose the worker.
    pub fn publish_accepting(&self, worker: u32, accepting: bool) {
        self.workers.set_accepting(worker, accepting);
    }

    /// Counters by reason name, summed over CPUs.
    pub fn counters(&self) -> Result<Vec<(&'static str, Counter)>> {
        self.by_reason(&self.maps.counters, |_| true)
    }

    /// What counted checks and rate limits would have dropped, by reason name, summed over CPUs.
    pub fn would_counters(&self) -> Result<Vec<(&'static str, Counter)>> {
        self.by_reason(&self.maps.would, |reason| reason.is_check() || reason.is_rate())
    }

    fn by_reason(
        &self,
        map: &syscall::Map<u32, Counter>,
        wanted: fn(Reason) -> bool,
    ) -> Result<Vec<(&'static str, Counter)>> {
        Reason::ALL
            .into_iter()
            .filter(|reason| wanted(*reason))
            .map(|reason| Ok((reason.name(), sum(map.get_per_cpu(&(reason as u32), self.cpus)?))))
            .collect()
    }

    /// Counters of the rules that have any, by `policy/rule`.
    pub fn rule_hits(&self) -> Result<Vec<(String, Counter)>> {
        self.hits(&self.maps.rule_hits)
    }

    fn hits(&self, map: &syscall::Map<u32, Counter>) -> Result<Vec<(String, Counter)>> {
        let mut hits = Vec::new();
        for (slot, name) in self.slot_names()? {
            let counter = sum(map.get_per_cpu(&slot, self.cpus)?);
            if counter.packets > 0 {
                hits.push((name, counter));
            }
        }
        hits.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(hits)
    }

    /// Packets that shadow rules would have had otherwise, of the rules that have any, by `policy/rule`.
    pub fn shadow_hits(&self) -> Result<Vec<(String, Counter)>> {
        self.hits(&self.maps.shadow_hits)
    }

    /// Rule slots already named in the maps (from an earlier run), so that the compiler keeps them.
    pub fn rule_names(&self) -> Result<Vec<(u32, String)>> {
        Ok(self.slot_names()?.into_iter().filter(|(slot, _)| *slot != OPERATOR).collect())
    }

    /// Names by slot, the operator's among them. Slots are given out from 1 upwards: the first free one ends the list.
    pub fn slot_names(&self) -> Result<HashMap<u32, String>> {
        let mut names = HashMap::from([(OPERATOR, "operator".to_owned())]);
        for slot in 1..MAX_RULE_SLOTS {
            let entry = self.maps.rule_names.get(&slot)?.unwrap_or_default();
            let end = entry.name.iter().position(|byte| *byte == 0).unwrap_or(entry.name.len());
            if end == 0 {
                break;
            }
            names.insert(slot, String::from_utf8_lossy(&entry.name[..end]).into_owned());
        }
        Ok(names)
    }

    /// The loaded `front`.
    pub fn front(&self) -> Result<&Xdp> {
        Ok(self.ebpf.program("front").ok_or_else(|| anyhow!("the object lacks `front`"))?.try_into()?)
    }

    /// Runs the loaded `front` on a frame (14 bytes and more) `repeat` times without any interface
    /// (`BPF_PROG_TEST_RUN`): the XDP action and the mean nanoseconds of a run. The counters count it.
    pub fn try_frame(&self, frame: &[u8], repeat: u32) -> Result<(u32, u64)> {
        let front = self.front()?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = front.test_run(options).context("running `front` on a frame")?;
        Ok((result.return_value, u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Index of the first interface that `front` is attached to.
    pub fn first_interface(&self) -> Option<u32> {
        let interfaces = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner);
        interfaces.iter().find_map(|(name, _)| nix::net::if_::if_nametoindex(name.as_str()).ok())
    }

    /// State for `tidegate status`.
    pub fn status(&self) -> KernelStatus {
        let gate = self.maps.gate.get(&0).ok().flatten().unwrap_or_default();
        let daemon = self.maps.daemon.get(&0).ok().flatten().unwrap_or_default();
        let open_after = (gate.flags & GATE_FAIL_OPEN != 0).then(|| Duration::from_nanos(daemon.fail_after_ns));
        let interfaces = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        KernelStatus { interfaces, steer: true, revision: gate.revision, syn_cookies: self.syn.active(), open_after }
    }

    /// Detaches everything and removes the pins under `config.gate.pins`; returns what was removed. What a killed daemon
    /// had raised in this network namespace is set back.
    pub fn unload(config: &Config) -> Result<Vec<String>> {
        if let Some(before) = heart::left_behind(&config.gate.pins).and_then(|state| state.syncookies.checked_sub(1)) {
            syn::set_back(before);
        }
        attach::unload(&config.gate.pins)
    }

    fn quic_program(&self) -> Result<&SkReuseport> {
        Ok(self.ebpf.program("steer_quic").ok_or_else(|| anyhow!("the object lacks `steer_quic`"))?.try_into()?)
    }

    fn quic_slot(&self, service: u32, worker: u32) -> u32 {
        (service * MAX_GENERATIONS + self.generation) * MAX_WORKERS + worker
    }
}

fn sum(values: Vec<Counter>) -> Counter {
    values.into_iter().fold(Counter::default(), |a, b| Counter {
        packets: a.packets.wrapping_add(b.packets),
        bytes: a.bytes.wrapping_add(b.bytes),
    })
}

/// The key of the connection ids: kept over restarts, so that ids of older processes are still known as ours.
fn quic_key(maps: &load::Maps) -> Result<QuicKey> {
    let standing = maps.quic_key.get(&0)?.unwrap_or_default();
    if standing != QuicKey::default() {
        return Ok(standing);
    }
    let key = random_key()?;
    maps.quic_key.set(&0, &key)?;
    Ok(key)
}

fn random_key() -> Result<QuicKey> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
    let number = u128::from_ne_bytes(bytes);
    Ok(QuicKey { k0: number as u64, k1: (number >> 64) as u64 })
}

/// The generation after the one that the maps name.
fn next_generation(maps: &load::Maps) -> Result<u32> {
    let mut last = None;
    for service in 0..MAX_SERVICES {
        let entry = maps.services.get(&service)?.unwrap_or_default();
        if entry.workers > 0 {
            last = last.max(Some(entry.generation));
        }
    }
    Ok(last.map_or(0, |generation| (generation + 1) % MAX_GENERATIONS))
}
