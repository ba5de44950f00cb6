//! All maps, typed with BTF, named as `bpftool` shows them. Userspace pins them under `tidegate/` in bpffs.

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, HashMap, LpmTrie, PerCpuArray, ProgramArray, ReusePortSockArray, RingBuf, SockMap,
};
use aya_ebpf::macros::btf_map;
use proxy_common::abi::{
    Binding, CheckSettings, Clock, Counter, DEFAULT_VERDICT_SLOTS, DEFAULT_VERDICT_WORDS, DaemonState, FRAGMENT_SLOTS,
    GateConfig, HINT_WORDS, HOST_HINT_WORDS, HOST_LINE_WORDS, HostKey, MAX_LISTENER_SLOTS, MAX_OWN_ADDRESSES,
    MAX_PREFIXES, MAX_QUIC_SLOTS, MAX_RULE_SLOTS, MAX_SERVICES, MAX_WORKERS, PORT_WORDS, PrefixData, PrefixValue,
    QuicKey, RATE_BUCKETS as RATE_BUCKET_WORDS, RATE_LIMIT_ENTRIES, REASONS, RateLimit, RateSettings, RuleName,
    SEEN_SLOTS, SIDES, Service, ServiceKey, SynState, VerdictSlot, WorkerLoad, bucket_index,
};
use proxy_common::classify::{ClassTable, RowTable, Work};
use proxy_common::event::{EVENT_RING_BYTES, Event, EventControl, EventCounts};
use proxy_common::fingerprint::Options;
use proxy_common::syn_ack::Exchange;

/// Run-time settings, one entry.
#[btf_map]
pub static GATE: Array<GateConfig, 1> = Array::new();

/// Banned hosts and IPv6 prefixes, with expiry, placed by [`proxy_common::slots`]. Mapped into the daemon, which sets the
/// size.
#[btf_map]
pub static VERDICTS: Array<VerdictSlot, { DEFAULT_VERDICT_SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// One bit a hash of addresses where a verdict may stand; mapped into the daemon, which sets the size with that of
/// `VERDICTS`.
#[btf_map]
pub static VERDICT_HINT: Array<u64, { DEFAULT_VERDICT_WORDS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Allowed prefixes, side 0.
#[btf_map]
pub static ALLOW_A: LpmTrie<PrefixData, PrefixValue, { MAX_PREFIXES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    LpmTrie::new();

/// Allowed prefixes, side 1.
#[btf_map]
pub static ALLOW_B: LpmTrie<PrefixData, PrefixValue, { MAX_PREFIXES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    LpmTrie::new();

/// Denied prefixes, side 0.
#[btf_map]
pub static DENY_A: LpmTrie<PrefixData, PrefixValue, { MAX_PREFIXES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    LpmTrie::new();

/// Denied prefixes, side 1.
#[btf_map]
pub static DENY_B: LpmTrie<PrefixData, PrefixValue, { MAX_PREFIXES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    LpmTrie::new();

/// One bit a bucket of addresses where a denied prefix may lie: IPv4 first, then IPv6; side 0 first, then side 1.
#[btf_map]
pub static DENY_HINT: Array<u64, { (SIDES * 2 * HINT_WORDS) as usize }> = Array::new();

/// Hosts of the lists, one table a side; userspace makes each in the size that its lists need, and leaves out what has none.
///
/// Lines are the words of a [`proxy_common::abi::HostLine`], not the struct: kernels before 6.2 take a table without types for another kind than
/// one whose values are a struct (`btf_find_spin_lock` tells the two apart), and refuse it.
#[btf_map]
pub static HOSTS: ArrayOfMaps<
    Array<[u64; HOST_LINE_WORDS], 1, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>,
    { SIDES as usize },
> = ArrayOfMaps::new();

/// The filter before the denied hosts, side 0 first; mapped into the daemon.
#[btf_map]
pub static HOST_HINT: Array<u64, { (SIDES * HOST_HINT_WORDS) as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Packet rules, one entry a side: where each value of each packet field leads.
#[btf_map]
pub static RULE_CLASSES: Array<ClassTable, { SIDES as usize }> = Array::new();

/// Packet rules, one entry a side: the bit vectors, and the rule of each bit.
#[btf_map]
pub static RULE_ROWS: Array<RowTable, { SIDES as usize }> = Array::new();

/// What is left to look through of a packet's rules: too large for the stack. Not pinned; it outlives no packet.
#[btf_map]
pub static RULE_WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

/// The options of a SYN that a rule asked for, likewise.
#[btf_map]
pub static SYN_OPTIONS: PerCpuArray<Options, 1> = PerCpuArray::new();

/// Packets and bytes by reason.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counter, { REASONS as usize }> = PerCpuArray::new();

/// Packets and bytes by rule slot.
#[btf_map]
pub static RULE_HITS: PerCpuArray<Counter, { MAX_RULE_SLOTS as usize }> = PerCpuArray::new();

/// Packets and bytes that a shadow rule would have had otherwise, by rule slot.
#[btf_map]
pub static SHADOW_HITS: PerCpuArray<Counter, { MAX_RULE_SLOTS as usize }> = PerCpuArray::new();

/// Names of the rule slots; read by people and by userspace after a restart, never by the programs.
#[btf_map]
pub static RULE_NAMES: Array<RuleName, { MAX_RULE_SLOTS as usize }> = Array::new();

/// Where services listen.
#[btf_map]
pub static BINDINGS: HashMap<ServiceKey, Binding, { 2 * MAX_SERVICES as usize }> = HashMap::new();

/// One byte a port: whether `BINDINGS` has it at all.
#[btf_map]
pub static PORTS: Array<u64, { PORT_WORDS as usize }> = Array::new();

/// The clock as of this tick, on this CPU.
#[btf_map]
pub static CLOCK: PerCpuArray<Clock, 1> = PerCpuArray::new();

/// Services by index.
#[btf_map]
pub static SERVICES: Array<Service, { MAX_SERVICES as usize }> = Array::new();

/// Load of each worker; mapped into the daemon, so that publishing is a store.
#[btf_map]
pub static WORKERS: Array<WorkerLoad, { MAX_WORKERS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Listening TCP sockets: service × worker.
#[btf_map]
pub static LISTENERS: SockMap<{ MAX_LISTENER_SLOTS as usize }> = SockMap::new();

/// UDP sockets: service × generation × worker.
#[btf_map]
pub static QUIC_SOCKS: ReusePortSockArray<{ MAX_QUIC_SLOTS as usize }> = ReusePortSockArray::new();

/// Key of the connection ids, one entry.
#[btf_map]
pub static QUIC_KEY: Array<QuicKey, 1> = Array::new();

/// Sampled packets, on their way to userspace.
#[btf_map]
pub static EVENTS: RingBuf<Event, { EVENT_RING_BYTES as usize }> = RingBuf::new();

/// Which packets become events, one entry.
#[btf_map]
pub static EVENT_CONTROL: Array<EventControl, 1> = Array::new();

/// Events written and lost, on each CPU.
#[btf_map]
pub static EVENT_COUNTS: PerCpuArray<EventCounts, 1> = PerCpuArray::new();

/// Packets and bytes by check that would have dropped them, were it enforced.
#[btf_map]
pub static WOULD: PerCpuArray<Counter, { REASONS as usize }> = PerCpuArray::new();

/// What the checks go by, one entry.
#[btf_map]
pub static CHECKS: Array<CheckSettings, 1> = Array::new();

/// Our own addresses.
#[btf_map]
pub static OWN: HashMap<HostKey, u32, { MAX_OWN_ADDRESSES as usize }> = HashMap::new();

/// What became of first fragments, a word each.
#[btf_map]
pub static FRAGMENTS: Array<u64, { FRAGMENT_SLOTS as usize }> = Array::new();

/// Token buckets, a word each.
#[btf_map]
pub static BUCKETS: Array<u64, { bucket_index::COUNT as usize }> = Array::new();

/// What the rate limits have in common, one entry.
#[btf_map]
pub static RATES: Array<RateSettings, 1> = Array::new();

/// Rate limits: packets read one half while the other is filled.
#[btf_map]
pub static RATE_LIMITS: Array<RateLimit, { RATE_LIMIT_ENTRIES as usize }> = Array::new();

/// Token buckets of the rate limits, a word each.
#[btf_map]
pub static RATE_BUCKETS: Array<u64, { RATE_BUCKET_WORDS as usize }> = Array::new();

/// Sources that completed a handshake lately, a word each; mapped into the daemon, so that noting one is a store.
#[btf_map]
pub static KNOWN: Array<u64, { SEEN_SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// UDP flows that were seen lately, a word each.
#[btf_map]
pub static FLOWS: Array<u64, { SEEN_SLOTS as usize }> = Array::new();

/// When the daemon was last there, and what it leaves for the next; mapped into it.
#[btf_map]
pub static DAEMON: Array<DaemonState, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// SYN defence of each service; mapped into the daemon, so that counting an accepted connection is a store.
#[btf_map]
pub static SYN_STATE: Array<SynState, { MAX_SERVICES as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Programs that `front` goes on in. Slot 0: `front_syn`.
#[btf_map]
pub static STAGES: ProgramArray<1> = ProgramArray::new();

/// The SYN that `front_syn` answers: too large for the stack. Not pinned; it outlives no packet.
#[btf_map]
pub static SYN_WORK: PerCpuArray<Exchange, 1> = PerCpuArray::new();
