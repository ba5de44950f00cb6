//! `tidegate explain`: what the gate would do with a packet, step by step; requests are [`super::request`]'s.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use proxy_core::explain::Explanation;
use proxy_user::control::wire::Question;
use proxy_user::events::record::{from_hex, to_hex};

use super::output::{self, BAD, GOOD, HEADING};
use super::remote::Ask;
use super::request;

/// Most packets of a file that are explained.
const MAX_PACKETS: usize = 1_000;
/// Bytes of a packet that are sent to the daemon: more than all headers that the gate reads.
const MAX_BYTES: usize = 2_048;
/// First bytes of a pcapng file (its section header block).
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Show what becomes of a packet or a request, and why: each step, the rule, the map key
///
/// Of a packet the running daemon decides as its kernel programs do, over the live maps. Of a request every rule of the
/// config's policies is shown, with the values it sees; no daemon is asked. Nothing is counted or changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate explain --packet drops.pcap
  tidegate explain --request 'POST https://shop.example/login' --header 'User-Agent: curl/8' --from 203.0.113.9
  tidegate explain --packet 0200000000010200000000020800450000281234... --json")]
pub(super) struct Args {
    /// The packet from its Ethernet header on: in hex, or a pcap or pcapng file with one or more
    #[arg(long, short, value_name = "HEX|FILE", required_unless_present = "request", conflicts_with = "request")]
    packet: Option<String>,
    #[command(flatten)]
    request: request::Args,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let Some(packet) = &args.packet else {
        return request::run(&args.request, args.request.request.as_deref().unwrap_or_default(), args.ask.form.json);
    };
    let questions = questions(packet)?;
    let ask = |question: &Question| args.ask.socket.post::<Explanation>("/v1/explain", question);
    let answers = questions.iter().map(ask).collect::<anyhow::Result<Vec<_>>>()?;
    if args.ask.form.json {
        return output::json(&answers);
    }
    let mut out = output::stdout();
    for (number, answer) in (1..).zip(&answers) {
        if answers.len() > 1 {
            writeln!(out, "{HEADING}packet {number}{HEADING:#}")?;
        }
        print(&mut out, answer)?;
    }
    Ok(())
}

/// Packets from hex or from a file.
fn questions(text: &str) -> anyhow::Result<Vec<Question>> {
    let path = Path::new(text);
    let packets = if path.is_file() {
        from_file(path).with_context(|| format!("cannot read {}", path.display()))?
    } else {
        let bytes = from_hex(text).map_err(|error| {
            anyhow!("--packet is neither a file nor hex ({error}); give a packet from its Ethernet header on")
        })?;
        vec![question(&bytes, bytes.len() as u32)]
    };
    if packets.is_empty() {
        bail!("{text} holds no packet");
    }
    Ok(packets)
}

fn question(bytes: &[u8], length: u32) -> Question {
    let first = bytes.get(..MAX_BYTES).unwrap_or(bytes);
    Question { packet: to_hex(first), length: Some(length) }
}

fn from_file(path: &Path) -> anyhow::Result<Vec<Question>> {
    let mut file = File::open(path)?;
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
                packets.push(question(&packet.data, packet.original_len));
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
            packets.push(question(&packet.data, packet.orig_len));
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

fn print(out: &mut impl Write, answer: &Explanation) -> io::Result<()> {
    writeln!(out, "packet    {} ({} bytes on the wire)", answer.packet, answer.length)?;
    for step in &answer.steps {
        write!(out, "{:<13} {}: {}", step.table, step.asked, step.answer)?;
        match &step.key {
            Some(key) => writeln!(out, "  [key {key}]")?,
            None => writeln!(out)?,
        }
    }
    let style = if answer.action == "drop" { BAD } else { GOOD };
    write!(out, "{style}{}{style:#}      reason {}", answer.action, answer.reason)?;
    if let Some(rule) = &answer.rule {
        write!(out, ", rule {rule}")?;
    }
    if let Some(key) = &answer.key {
        write!(out, ", entry {key}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("tidegate-explain-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A pcap header of version 2.4 with this link type, little-endian, microseconds.
    fn header(link: u8) -> Vec<u8> {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        bytes.extend([link, 0, 0, 0]);
        bytes
    }

    #[test]
    fn hex_and_files_are_told_apart() {
        let one = questions("02 00:0a").unwrap();
        assert_eq!(one, [Question { packet: "02000a".to_owned(), length: Some(3) }]);
        let mut bytes = header(1);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 60, 0, 0, 0, 0xab, 0xcd]);
        let path = scratch("good", &bytes);
        let cut = questions(path.to_str().unwrap()).unwrap();
        assert_eq!(cut, [Question { packet: "abcd".to_owned(), length: Some(60) }]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_packet_is_said() {
        for (name, bytes, said) in [
            ("empty", &[][..], "too short"),
            ("text", b"hello, I am a text file", "neither a pcap nor a pcapng"),
            ("none", &header(1), "holds no packet"),
            ("cooked", &header(113), "the gate sees Ethernet"),
        ] {
            let path = scratch(name, bytes);
            let error = format!("{:#}", questions(path.to_str().unwrap()).unwrap_err());
            assert!(error.contains(said), "{name}: {error}");
            std::fs::remove_file(path).unwrap();
        }
        let error = questions("no-such-file").unwrap_err().to_string();
        assert!(error.contains("neither a file nor hex"), "{error}");
    }
}
