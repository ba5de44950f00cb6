//! Model: the checks of the gate, each off, counted or enforced.

use proxy_common::abi::{CheckSettings, Reason};
use proxy_common::bucket::Limit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Gate;

/// What a check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing.
    Off,
    /// Counts what enforcing it would drop.
    Count,
    /// Drops.
    Enforce,
}

/// The checks that are made of every packet before the rules. What no honest packet can be is enforced unless said
/// otherwise, what is only doubtful is counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// TCP without any flag.
    pub tcp_null: Mode,
    /// TCP with FIN, PSH and URG and nothing else.
    pub tcp_xmas: Mode,
    /// TCP with SYN and FIN.
    pub tcp_syn_fin: Mode,
    /// TCP with SYN and RST.
    pub tcp_syn_rst: Mode,
    /// TCP with FIN, PSH or URG, but without ACK, SYN and RST.
    pub tcp_no_ack: Mode,
    /// Source and destination are the same address and port.
    pub land: Mode,
    /// A UDP length that contradicts the packet's, or a fragment that ends beyond 65,535 bytes.
    pub bad_length: Mode,
    /// TCP or UDP with a port 0.
    pub zero_port: Mode,
    /// A source that no packet on a wire can have: `0.0.0.0/8`, loopback, multicast, `240.0.0.0/4`, v4-mapped.
    pub bogon: Mode,
    /// A source for private, shared, link-local, documentation or benchmark use (RFC 6890 and its registries). For
    /// gates on the open internet; looking for these costs every packet a little.
    pub special_source: Mode,
    /// A source that is one of our own addresses.
    pub spoofed_own: Mode,
    /// IPv4 with options.
    pub ip_options: Mode,
    /// An IPv6 routing header of a type other than 0.
    pub routing_header: Mode,
    /// An IPv6 routing header of type 0, which RFC 5095 took out of use.
    pub routing_header_0: Mode,
    /// Any fragment. Enforced, fragments are dropped.
    pub fragment: Mode,
    /// A later fragment whose first one was dropped or not seen within 30 seconds. Enforced, later fragments follow
    /// their first one.
    pub fragment_stray: Mode,
    /// ICMP above `icmp_per_second` that is neither for path MTU discovery nor neighbour discovery.
    pub icmp_limit: Mode,
    /// A QUIC Initial in less than 1,200 bytes of UDP payload (RFC 9000 section 14.1).
    pub quic_short_initial: Mode,
    /// A QUIC version other than 1, 2 and those reserved for greasing. A server answers these with version negotiation.
    pub quic_version: Mode,
    /// UDP to one of our own addresses, at a port below the ephemeral ones where no listener is. Other servers on this
    /// host count as no listener.
    pub udp_no_service: Mode,
    /// Headers cut short, or lengths that cannot be. Only in the scope `all`: nobody can say whom they are for.
    pub malformed: Mode,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            tcp_null: Mode::Enforce,
            tcp_xmas: Mode::Enforce,
            tcp_syn_fin: Mode::Enforce,
            tcp_syn_rst: Mode::Enforce,
            tcp_no_ack: Mode::Enforce,
            land: Mode::Enforce,
            bad_length: Mode::Enforce,
            zero_port: Mode::Enforce,
            bogon: Mode::Enforce,
            special_source: Mode::Off,
            spoofed_own: Mode::Enforce,
            ip_options: Mode::Count,
            routing_header: Mode::Count,
            routing_header_0: Mode::Enforce,
            fragment: Mode::Count,
            fragment_stray: Mode::Count,
            icmp_limit: Mode::Count,
            quic_short_initial: Mode::Enforce,
            quic_version: Mode::Count,
            udp_no_service: Mode::Count,
            malformed: Mode::Enforce,
        }
    }
}

impl Checks {
    /// Each check's mode by its reason.
    pub const fn modes(&self) -> [(Reason, Mode); 21] {
        [
            (Reason::TcpNull, self.tcp_null),
            (Reason::TcpXmas, self.tcp_xmas),
            (Reason::TcpSynFin, self.tcp_syn_fin),
            (Reason::TcpSynRst, self.tcp_syn_rst),
            (Reason::TcpNoAck, self.tcp_no_ack),
            (Reason::Land, self.land),
            (Reason::BadLength, self.bad_length),
            (Reason::ZeroPort, self.zero_port),
            (Reason::Bogon, self.bogon),
            (Reason::SpecialSource, self.special_source),
            (Reason::SpoofedOwn, self.spoofed_own),
            (Reason::IpOptions, self.ip_options),
            (Reason::RoutingHeader, self.routing_header),
            (Reason::RoutingHeader0, self.routing_header_0),
            (Reason::Fragment, self.fragment),
            (Reason::FragmentStray, self.fragment_stray),
            (Reason::IcmpLimit, self.icmp_limit),
            (Reason::QuicShortInitial, self.quic_short_initial),
            (Reason::QuicVersion, self.quic_version),
            (Reason::UdpNoService, self.udp_no_service),
            (Reason::MalformedDropped, self.malformed),
        ]
    }

    /// The words of [`proxy_common::abi::GateConfig`]: what is checked, and what of that is enforced.
    pub fn words(&self) -> (u64, u64) {
        let bits = |wanted: fn(Mode) -> bool| {
            self.modes().into_iter().filter(|(_, mode)| wanted(*mode)).fold(0, |bits, (reason, _)| bits | reason.bit())
        };
        (bits(|mode| mode != Mode::Off), bits(|mode| mode == Mode::Enforce))
    }
}

impl Gate {
    /// What is checked and what of it is enforced, bits of [`Reason`]s. On a `loopback` interface our own addresses talk to
    /// each other.
    pub fn check_words(&self, loopback: bool) -> (u64, u64) {
        let (checked, enforced) = self.checks.words();
        let keep = if loopback { !(Reason::Bogon.bit() | Reason::SpoofedOwn.bit()) } else { u64::MAX };
        (checked & keep, enforced & keep)
    }

    /// What the checks go by. `ephemeral` is the first port that the kernel gives to clients.
    pub fn check_settings(&self, seed: u64, ephemeral: u32) -> CheckSettings {
        let rate = u64::from(self.icmp_per_second);
        CheckSettings { seed, icmp: Limit::per_second(rate, rate), udp_below: ephemeral, pad: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_its_field_and_its_bit() {
        let named: Vec<Reason> = Checks::default().modes().map(|(reason, _)| reason).into();
        let checks: Vec<Reason> = Reason::ALL.into_iter().filter(|reason| reason.is_check()).collect();
        assert_eq!(named, checks);
        let text = serde_json::to_value(Checks::default()).unwrap();
        for (reason, mode) in Checks::default().modes() {
            let field = if reason == Reason::MalformedDropped { "malformed" } else { reason.name() };
            assert_eq!(text[field], serde_json::to_value(mode).unwrap(), "{field}");
        }
    }

    #[test]
    fn words_say_what_is_checked_and_enforced() {
        let checks = Checks { land: Mode::Off, bogon: Mode::Count, ..Checks::default() };
        let (checked, enforced) = checks.words();
        assert_eq!((checked & Reason::Land.bit(), enforced & Reason::Land.bit()), (0, 0));
        assert_eq!((checked & Reason::Bogon.bit(), enforced & Reason::Bogon.bit()), (Reason::Bogon.bit(), 0));
        assert_ne!(enforced & Reason::TcpNull.bit(), 0);
        assert_eq!(enforced & !checked, 0);
    }
}
