//! Packets of pcap and pcapng files, as `tidegate explain` reads them. A file is outside bytes: whatever it holds, it leads to
//! packets or to an error, and to no more than [`MAX_PACKETS`].

use std::io::{BufReader, Read, Seek};

use anyhow::{Context as _, bail};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

/// Most packets that are read of a file.
pub const MAX_PACKETS: usize = 1_000;
/// First bytes of a pcapng file (its section header block).
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// What the file holds of it, from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Bytes that it had on the wire.
    pub length: u32,
}

/// Reads the first packets of a file.
///
/// # Errors
/// It is neither form, is cut short, or holds packets of another link type than Ethernet.
pub fn read(mut file: impl Read + Seek) -> anyhow::Result<Vec<Captured>> {
    let mut magic = [0; 4];
    file.read_exact(&mut magic).context("it is too short to hold packets")?;
    file.rewind()?;
    let file = BufReader::new(file);
    let mut packets = Vec::new();
    if magic == PCAPNG {
        let mut reader = PcapNgReader::new(file)?;
        while packets.len() < MAX_PACKETS
            && let Some(block) = reader.next_block()
        {
            if let Block::EnhancedPacket(packet) = block?.into_owned() {
                let link = reader.packet_interface(&packet).map(|interface| interface.linktype);
                ethernet(link)?;
                packets.push(Captured { bytes: packet.data.into_owned(), length: packet.original_len });
            }
        }
    } else {
        let mut reader = PcapReader::new(file).context("it is neither a pcap nor a pcapng file")?;
        ethernet(Some(reader.header().datalink))?;
        while packets.len() < MAX_PACKETS
            // Raw: a packet longer than the snapshot length is what a snapshot length is for.
            && let Some(packet) = reader.next_raw_packet()
        {
            let packet = packet?;
            packets.push(Captured { bytes: packet.data.into_owned(), length: packet.orig_len });
        }
    }
    Ok(packets)
}

fn ethernet(link: Option<DataLink>) -> anyhow::Result<()> {
    match link {
        Some(DataLink::ETHERNET) | None => Ok(()),
        Some(other) => {
            bail!("its packets are of link type {other:?}; the gate sees Ethernet: capture on one interface, not `any`")
        }
    }
}
