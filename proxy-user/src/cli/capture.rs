//! `tidegate capture`: dropped packets as a pcap file, for tcpdump, tshark and their like.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};
use proxy_common::event::EVENT_SNAP;
use proxy_core::config::Span;
use proxy_user::events::record::{PacketEvent, from_hex};

use super::events::{Came, Following, Wish};
use super::output;
use super::remote::{self, Ask as Remote};

/// Every packet, unless told otherwise.
const EACH: u32 = 1;
/// Bytes that gather before they are written.
const GATHER_BYTES: usize = 64 << 10;

/// Write packets that the gate drops to a pcap file, which tcpdump, tshark and Wireshark read
///
/// Each packet of the reasons named is taken, up to its first 256 bytes, until a count, a time or Ctrl-C ends it. The
/// gate goes on as before: nothing waits for the file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate capture -w drops.pcap --count 100
  tidegate capture --reason verdict --source 192.0.2.7 -w - --duration 10s | tcpdump -nr -")]
pub(super) struct Args {
    /// File to write, over what was in it; `-` is standard output
    #[arg(short, long = "write", value_name = "FILE")]
    write: PathBuf,
    /// End after so many packets
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
    /// Most bytes of each packet
    #[arg(long, value_name = "BYTES", default_value_t = EVENT_SNAP as u32,
          value_parser = clap::value_parser!(u32).range(1..=EVENT_SNAP as i64))]
    snaplen: u32,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let ask = args.wish.ask(Some(EACH), true)?;
    let to_stdout = args.write == Path::new("-");
    remote::runtime()?.block_on(async {
        // The daemon first: without one no file is touched.
        let time = args.duration.map(|Span(time)| time);
        let mut events = Following::start(&args.remote.socket, &ask, time, args.count).await?;
        let mut file = Capture::new(open(&args.write, to_stdout)?, args.snaplen)?;
        let mut packets = 0_u64;
        while let Some(came) = events.next().await? {
            if let Came::Event(event) = came {
                file.write(&event)?;
                packets += 1;
            } else {
                // Once a second: who watches the file sees it grow.
                file.flush()?;
            }
        }
        file.flush()?;
        let losses = events.losses;
        if args.remote.form.json && !to_stdout {
            return output::json(&serde_json::json!({ "packets": packets, "lost": losses }));
        }
        let mut err = anstream::stderr().lock();
        writeln!(err, "{packets} packets; lost {} in the kernel, {} on the way here", losses.kernel, losses.reader)?;
        Ok(())
    })
}

fn open(path: &Path, to_stdout: bool) -> anyhow::Result<Box<dyn Write>> {
    if to_stdout {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?))
}

/// A pcap file in the making. Whole packets gather in memory and go out together.
struct Capture<W: Write> {
    encoder: PcapWriter<Gathered>,
    gathered: Gathered,
    to: W,
    snaplen: u32,
}

/// Bytes that were written and not yet taken; the encoder holds one end.
#[derive(Clone, Debug, Default)]
struct Gathered(Rc<RefCell<Vec<u8>>>);

impl Write for Gathered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Capture<W> {
    fn new(to: W, snaplen: u32) -> anyhow::Result<Self> {
        let header = PcapHeader {
            snaplen,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::native(),
            ..PcapHeader::default()
        };
        let gathered = Gathered::default();
        let encoder = PcapWriter::with_header(gathered.clone(), header)?;
        let mut capture = Self { encoder, gathered, to, snaplen };
        // Who reads along sees at once that it is a capture.
        capture.flush()?;
        Ok(capture)
    }

    fn write(&mut self, event: &PacketEvent) -> anyhow::Result<()> {
        let foreign = "the daemon sent a packet that cannot be read; is it of another version?";
        let hex = event.packet.as_deref().context(foreign)?;
        let mut bytes = from_hex(hex).map_err(|_| anyhow!(foreign))?;
        bytes.truncate(self.snaplen as usize);
        let time: jiff::Timestamp = event.time.parse().context(foreign)?;
        let packet = PcapPacket {
            timestamp: Duration::try_from(time.as_duration()).unwrap_or_default(),
            orig_len: event.length,
            data: Cow::Owned(bytes),
        };
        self.encoder.write_packet(&packet)?;
        if self.gathered.0.borrow().len() >= GATHER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.gathered.0.take();
        self.to.write_all(&bytes)?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcap::PcapReader;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        let mut capture = Capture::new(&mut bytes, 4).unwrap();
        let event = PacketEvent {
            time: "2026-01-02T03:04:05.600000Z".to_owned(),
            length: 1_514,
            packet: Some("0102030405".to_owned()),
            ..PacketEvent::default()
        };
        capture.write(&event).unwrap();
        assert!(capture.write(&PacketEvent { packet: None, ..event }).is_err());
        capture.flush().unwrap();
        drop(capture);
        let mut reader = PcapReader::new(bytes.as_slice()).unwrap();
        assert_eq!((reader.header().snaplen, reader.header().datalink), (4, DataLink::ETHERNET));
        let packet = reader.next_raw_packet().unwrap().unwrap();
        assert_eq!(packet.data[..], [1, 2, 3, 4]);
        assert_eq!(packet.orig_len, 1_514);
        assert_eq!((packet.ts_sec, packet.ts_frac), (1_767_323_045, 600_000_000));
        assert!(reader.next_raw_packet().is_none());
    }
}
