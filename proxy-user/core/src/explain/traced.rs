//! Tables that note what they are asked, between `decide()` and the true ones.

use std::cell::RefCell;
use std::net::IpAddr;

use proxy_common::abi::{
    CheckSettings, DaemonState, GATE_FAIL_OPEN, GATE_HAS_ALLOW, GATE_HAS_DENY, GATE_HAS_HOSTS, GATE_HAS_RATES,
    GATE_HAS_RULES, GATE_OWN_ONLY, GateConfig, HINT_WORDS, HOST_HINT_WORDS, HostKey, RateLimit, RateSettings, Reason,
    ServiceKey, VERDICT_OWN_ONLY, rate_unit, rule_action,
};
use proxy_common::addr::Addr;
use proxy_common::classify::Found;
use proxy_common::decide::Tables;
use proxy_common::fingerprint::{self, Syn};
use proxy_common::hosts::HostFound;
use proxy_common::parse::{Frame, Packet};

use super::{Step, protocol, to_hex};
use crate::policy::signature;

/// Tables that note what they are asked.
pub(super) struct Traced<'a, T> {
    pub tables: &'a T,
    pub name: &'a dyn Fn(u32) -> String,
    pub steps: RefCell<Vec<Step>>,
}

impl<T> Traced<'_, T> {
    fn note(&self, table: &str, asked: impl Into<String>, key: Option<&[u8]>, answer: impl Into<String>) {
        let step = Step { table: table.to_owned(), asked: asked.into(), key: key.map(to_hex), answer: answer.into() };
        self.steps.borrow_mut().push(step);
    }

    fn note_binding(&self, key: &ServiceKey, answer: impl Into<String>) {
        let asked =
            format!("{} port {} of {}", protocol(key.proto), key.port, IpAddr::from(Addr::from_bytes(key.addr)));
        let mut bytes = key.addr.to_vec();
        bytes.extend(key.port.to_ne_bytes());
        bytes.extend([key.proto, key.pad]);
        bytes.extend(key.pad_word.to_ne_bytes());
        self.note("BINDINGS", asked, Some(&bytes), answer);
    }

    /// What rules may ask of the packet's bytes, and where it came in.
    fn probed<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet) {
        /// Bytes of the payload that are shown.
        const SHOWN: usize = 32;
        self.note("packet", "its interface", None, format!("index {}", frame.interface()));
        let mut syn = Syn::default();
        fingerprint::read(frame, packet, &mut syn);
        if syn.state == fingerprint::READ {
            self.note("packet", "fingerprint of the SYN", None, signature::describe(&syn));
        }
        let payload = usize::from(packet.payload)..packet.end();
        let first: Vec<u8> =
            payload.clone().take(SHOWN).map_while(|at| frame.bytes(at)).map(|[byte]: [u8; 1]| byte).collect();
        if packet.payload != 0 && !first.is_empty() {
            let dots = if first.len() < payload.len() { "…" } else { "" };
            self.note("packet", format!("its payload of {} bytes", payload.len()), None, to_hex(&first) + dots);
        }
    }

    fn rule(&self, slot: Option<u32>) -> String {
        slot.map_or_else(|| "none".to_owned(), |slot| format!("rule {}", (self.name)(slot)))
    }
}

// Each method asks the tables, notes, and answers the same.
impl<T: Tables> Tables for Traced<'_, T> {
    type Verdict = T::Verdict;

    fn config(&self) -> GateConfig {
        let config = self.tables.config();
        let scope = if config.flags & GATE_OWN_ONLY != 0 { "scope own" } else { "scope all" };
        let has = |flag, text| if config.flags & flag != 0 { text } else { "" };
        let (hosts, deny) = (has(GATE_HAS_HOSTS, ", denied hosts"), has(GATE_HAS_DENY, ", denied prefixes"));
        let allow = has(GATE_HAS_ALLOW, ", allowed prefixes");
        let rules = has(GATE_HAS_RULES, ", packet rules");
        let rates = has(GATE_HAS_RATES, ", rate limits");
        let open = has(GATE_FAIL_OPEN, ", open while the daemon stays away");
        let answer = format!("revision {}, {scope}{hosts}{deny}{allow}{rules}{rates}{open}", config.revision);
        self.note("GATE", "settings", Some(&0_u32.to_ne_bytes()), answer);
        config
    }

    fn verdict_hint(&self, word: u32) -> u64 {
        let bits = self.tables.verdict_hint(word);
        let answer = if bits == 0 { "no verdict near".to_owned() } else { format!("{bits:#018x}") };
        self.note("VERDICT_HINT", format!("word {word}"), Some(&word.to_ne_bytes()), answer);
        bits
    }

    fn verdict(&self, key: &HostKey) -> Option<Self::Verdict> {
        let found = self.tables.verdict(key);
        let asked = match key.prefix() {
            Some(prefix) => match key.v4_bits() {
                Some(bits) => format!("prefix {}/{bits}", IpAddr::from(prefix)),
                None => format!("prefix of {}", IpAddr::from(prefix)),
            },
            None => format!("host {}", IpAddr::from(key.first_addr())),
        };
        let answer = if found.is_some() { "a verdict" } else { "none" };
        self.note("VERDICTS", asked, Some(&key.addr), answer);
        found
    }

    fn verdict_terms(&self, verdict: Self::Verdict, source: Addr) -> (u64, u32, u32) {
        let terms = self.tables.verdict_terms(verdict, source);
        let reach = if terms.2 & VERDICT_OWN_ONLY != 0 { "on the listeners" } else { "on whatever the scope covers" };
        let answer = format!("by {}, until {} ns, {reach}", (self.name)(terms.1), terms.0);
        // A detail of the answer before, not a question of its own to the table.
        self.note("verdict", "its terms", None, answer);
        terms
    }

    fn now_ns(&self) -> u64 {
        let now = self.tables.now_ns();
        self.note("CLOCK", "the time", None, format!("{now} ns"));
        now
    }

    fn hint(&self, side: u32, word: u32) -> u64 {
        let bits = self.tables.hint(side, word);
        let answer = if bits == 0 { "no denied prefix near".to_owned() } else { format!("{bits:#018x}") };
        let key = side * 2 * HINT_WORDS + word;
        self.note("DENY_HINT", format!("word {key}"), Some(&key.to_ne_bytes()), answer);
        bits
    }

    fn host_hint(&self, side: u32, word: u32) -> u64 {
        let bits = self.tables.host_hint(side, word);
        let answer = if bits == 0 { "no denied host near".to_owned() } else { format!("{bits:#018x}") };
        let key = side * HOST_HINT_WORDS + word;
        self.note("HOST_HINT", format!("word {key}"), Some(&key.to_ne_bytes()), answer);
        bits
    }

    fn host(&self, side: u32, packet: &Packet) -> HostFound {
        let found = self.tables.host(side, packet);
        let table = if side == 0 { "HOSTS_A" } else { "HOSTS_B" };
        let answer = match (found.denied(), found.allowed()) {
            (None, None) => "none".to_owned(),
            (Some(slot), None) => format!("denied by rule {}", (self.name)(slot)),
            (None, Some(slot)) => format!("allowed by rule {}", (self.name)(slot)),
            (Some(deny), Some(allow)) => {
                format!("denied by rule {}, allowed by rule {}", (self.name)(deny), (self.name)(allow))
            }
        };
        // The table's key is the line in which the host stands.
        let key = found.line.to_ne_bytes();
        self.note(table, IpAddr::from(packet.src).to_string(), (found.line != 0).then_some(&key), answer);
        found
    }

    fn denied(&self, side: u32, addr: Addr) -> Option<u32> {
        let found = self.tables.denied(side, addr);
        let table = if side == 0 { "DENY_A" } else { "DENY_B" };
        self.note(table, IpAddr::from(addr).to_string(), Some(&trie_key(addr)), self.rule(found));
        found
    }

    fn allowed(&self, side: u32, addr: Addr) -> Option<u32> {
        let found = self.tables.allowed(side, addr);
        let table = if side == 0 { "ALLOW_A" } else { "ALLOW_B" };
        self.note(table, IpAddr::from(addr).to_string(), Some(&trie_key(addr)), self.rule(found));
        found
    }

    fn port_word(&self, word: u32) -> u64 {
        let bits = self.tables.port_word(word);
        let asked = format!("ports {} to {}", word * 8, word * 8 + 7);
        let answer = if bits == 0 { "no listener".to_owned() } else { format!("{bits:#018x}") };
        self.note("PORTS", asked, Some(&word.to_ne_bytes()), answer);
        bits
    }

    fn bound(&self, key: &ServiceKey) -> bool {
        let found = self.tables.bound(key);
        self.note_binding(key, if found { "a listener" } else { "none" });
        found
    }

    fn classify<F: Frame + ?Sized>(&self, frame: &F, packet: &Packet, side: u32) -> Found {
        self.probed(frame, packet);
        let found = self.tables.classify(frame, packet, side);
        let say = |action, slot| match action {
            0 => "none matches".to_owned(),
            rule_action::ALLOW => format!("allowed by {}", (self.name)(slot)),
            _ => format!("dropped by {}", (self.name)(slot)),
        };
        let mut answer = say(found.action, found.slot);
        if found.shadow_action != 0 {
            answer += "; in shadow ";
            answer += &say(found.shadow_action, found.shadow_slot);
        }
        self.note("RULE_CLASSES", "packet rules", Some(&side.to_ne_bytes()), answer);
        found
    }

    fn daemon(&self) -> DaemonState {
        let daemon = self.tables.daemon();
        let answer = format!("last there at {} ns, away after {} ns more", daemon.beat_ns, daemon.fail_after_ns);
        self.note("DAEMON", "the daemon's heartbeat", Some(&0_u32.to_ne_bytes()), answer);
        daemon
    }

    fn check_settings(&self) -> CheckSettings {
        self.tables.check_settings()
    }

    fn own(&self, addr: Addr) -> bool {
        let found = self.tables.own(addr);
        self.note(
            "OWN",
            IpAddr::from(addr).to_string(),
            Some(&addr.to_bytes()),
            if found { "ours" } else { "not ours" },
        );
        found
    }

    fn fragment(&self, slot: u32) -> u64 {
        let word = self.tables.fragment(slot);
        self.note("FRAGMENTS", format!("slot {slot}"), Some(&slot.to_ne_bytes()), format!("{word:#018x}"));
        word
    }

    // Explaining a packet leaves no trace of it.
    fn set_fragment(&self, _: u32, _: u64) {}

    fn bucket(&self, index: u32) -> u64 {
        let word = self.tables.bucket(index);
        self.note("BUCKETS", format!("bucket {index}"), Some(&index.to_ne_bytes()), format!("full at {word} ns"));
        word
    }

    fn advance_bucket(&self, _: u32, _: u64, _: u64) -> bool {
        true
    }

    fn service(&self, key: &ServiceKey) -> Option<u32> {
        let found = self.tables.service(key);
        let answer = found.map_or_else(|| "none".to_owned(), |service| format!("service {service}"));
        self.note_binding(key, answer);
        found
    }

    fn rate_settings(&self) -> RateSettings {
        self.tables.rate_settings()
    }

    fn rate_limit(&self, index: u32) -> Option<RateLimit> {
        let found = self.tables.rate_limit(index);
        let answer = found.map_or_else(|| "none".to_owned(), |limit| limit_text(&limit));
        self.note("RATE_LIMITS", format!("limit {index}"), Some(&index.to_ne_bytes()), answer);
        found
    }

    fn rate_bucket(&self, index: u32) -> u64 {
        let word = self.tables.rate_bucket(index);
        self.note("RATE_BUCKETS", format!("bucket {index}"), Some(&index.to_ne_bytes()), format!("full at {word} ns"));
        word
    }

    fn advance_rate_bucket(&self, _: u32, _: u64, _: u64) -> bool {
        true
    }

    fn known(&self, slot: u32) -> u64 {
        let word = self.tables.known(slot);
        self.note("KNOWN", format!("source, slot {slot}"), Some(&slot.to_ne_bytes()), format!("{word:#018x}"));
        word
    }

    fn flow(&self, slot: u32) -> u64 {
        let word = self.tables.flow(slot);
        self.note("FLOWS", format!("UDP flow, slot {slot}"), Some(&slot.to_ne_bytes()), format!("{word:#018x}"));
        word
    }

    fn set_flow(&self, _: u32, _: u64) {}

    fn examine(&self, packet: &Packet, quic: bool, fact: u64) -> u64 {
        let failed = self.tables.examine(packet, quic, fact);
        let names: Vec<_> = Reason::ALL.into_iter().filter(|r| failed & r.bit() != 0).map(Reason::name).collect();
        let answer = if names.is_empty() { "none fails".to_owned() } else { format!("fails: {}", names.join(", ")) };
        self.note("headers", "checks, whether made or not", None, answer);
        failed
    }
}

/// What a rate limit counts, and against what.
fn limit_text(limit: &RateLimit) -> String {
    let of = match limit.unit {
        rate_unit::PACKETS => "packets",
        rate_unit::BYTES => "bytes",
        rate_unit::SYNS => "SYNs",
        rate_unit::UDP_FLOWS => "new UDP flows",
        _ => "QUIC Initials",
    };
    let does = if limit.enforce != 0 { "enforced" } else { "only counted" };
    let ms = limit.limit.burst_ns / 1_000_000;
    format!("{}: {of}, a bucket that fills in {ms} ms, {does}", Reason::of(limit.reason).name())
}

/// The tries' key of one address: prefix length, then the address.
fn trie_key(addr: Addr) -> [u8; 20] {
    const BITS: u32 = 128;
    let mut key = [0; 20];
    let (bits, bytes) = key.split_at_mut(4);
    bits.copy_from_slice(&BITS.to_ne_bytes());
    bytes.copy_from_slice(&addr.to_bytes());
    key
}
