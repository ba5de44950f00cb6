//! What generated expressions are asked about: a packet with its bytes, and strings that may be missing. Its facts are read in the
//! plainest way.

use super::*;

/// What a tree is about: a packet, and strings that may be missing.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) packet: Packet,
    /// Its bytes, and the name of its interface.
    pub(super) frame: Vec<u8>,
    pub(super) interface: &'static str,
    /// Which of [`SENT`] it is, if it is a SYN.
    pub(super) sent: usize,
    pub(super) host: Option<&'static str>,
    pub(super) many: Vec<&'static str>,
}

impl World {
    pub(super) fn has_header(&self, name: &str) -> bool {
        let protos: &[u8] = match name {
            "tcp" => &[6],
            "udp" => &[17],
            _ => &[1, 58],
        };
        self.packet.frag != frag::LATER && protos.contains(&self.packet.proto)
    }

    pub(super) fn frame(&self) -> SampleFrame {
        SampleFrame::of(self.frame.clone(), stand_in(self.interface))
    }
}

pub(super) fn naive_number(packet: &Packet, field: &str) -> Option<u64> {
    Some(match field {
        "ip.ttl" => packet.ttl.into(),
        "ip.len" => packet.len.into(),
        "tcp.dstport" if packet.proto == 6 && packet.ports => packet.dport.into(),
        "tcp.window_size_value" if packet.proto == 6 && packet.ports => packet.window.into(),
        "icmp.type" if matches!(packet.proto, 1 | 58) && packet.frag != frag::LATER => packet.icmp_type.into(),
        "icmp.code" if matches!(packet.proto, 1 | 58) && packet.frag != frag::LATER => packet.icmp_code.into(),
        "vlan.id" if packet.vlan != NO_VLAN => packet.vlan.into(),
        "tcp.srcport" if packet.proto == 6 && packet.ports => packet.sport.into(),
        "udp.dstport" if packet.proto == 17 && packet.ports => packet.dport.into(),
        _ => return None,
    })
}

impl Facts for World {
    fn ip(&self, field: IpField) -> Option<u128> {
        let addr = if field == IpField::Src { self.packet.src } else { self.packet.dst };
        Some(u128::from_be_bytes(addr.to_bytes()))
    }

    fn int(&self, field: IntField) -> Option<u128> {
        let name = match field {
            IntField::Ttl => "ip.ttl",
            IntField::Len => "ip.len",
            IntField::TcpSrc => "tcp.srcport",
            IntField::TcpDst => "tcp.dstport",
            IntField::UdpSrc => "udp.srcport",
            IntField::UdpDst => "udp.dstport",
            IntField::TcpWindow => "tcp.window_size_value",
            IntField::IcmpType => "icmp.type",
            IntField::IcmpCode => "icmp.code",
            IntField::Vlan => "vlan.id",
            IntField::Http(_) => return None,
        };
        naive_number(&self.packet, name).map(Into::into)
    }

    fn proto(&self) -> Option<ProtoSet> {
        ProtoSet::NAMES
            .iter()
            .find(|(_, n)| *n == self.packet.proto)
            .and_then(|(name, _)| ProtoSet::by_name(name.as_bytes()))
    }

    fn flag(&self, field: FlagField) -> Option<bool> {
        match field {
            FlagField::Fragment => Some(self.packet.frag != frag::NONE),
            FlagField::Tcp(bit) => {
                (self.packet.proto == 6 && self.packet.ports).then_some(self.packet.tcp_flags & bit != 0)
            }
            FlagField::Ssl | FlagField::BodyTruncated | FlagField::ClientVerified | FlagField::EarlyData => None,
        }
    }

    fn slice(&self, place: &Place) -> Option<u64> {
        let (packet, name) = (
            &self.packet,
            if place.proto == 6 {
                "tcp"
            } else if place.proto == 17 {
                "udp"
            } else {
                "icmp"
            },
        );
        if place.proto != 0 && !self.has_header(name) {
            return None;
        }
        let start = match place.base {
            Base::Network => packet.network,
            Base::Upper => packet.upper,
            Base::Payload => packet.payload,
        };
        let at = usize::from(start) + usize::from(place.offset);
        let end = at + usize::from(place.length);
        let bytes = self.frame.get(at..end).filter(|_| end <= packet.end())?;
        let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Some((number & place.mask) >> place.shift)
    }

    fn packet(&self, term: &PacketTerm) -> bool {
        let (frame, packet) = (self.frame(), &self.packet);
        match term {
            PacketTerm::Interface(names) => names.contains(self.interface),
            PacketTerm::Syn(pattern) => {
                let mut syn = Syn::default();
                fingerprint::read(&frame, packet, &mut syn);
                syn.state == fingerprint::READ && pattern.holds(&syn)
            }
        }
    }

    fn text(&self, field: &TextField, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match field {
            TextField::Host => self.host.is_some_and(|host| test(host.as_bytes())),
            _ => self.many.iter().any(|value| test(value.as_bytes())),
        }
    }
}
