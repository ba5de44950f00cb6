//! `tidegate explain`: what the gate would do with a packet, step by step; requests are [`super::request`]'s.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use proxy_common::parse::LOOPBACK;
use proxy_core::explain::{Explanation, Snapshot, explain};
use proxy_core::planned::Planned;
use proxy_user::control::wire::Question;
use proxy_user::daemon::load;
use proxy_user::daemon::policies::interfaces;
use proxy_user::events::packet_file;
use proxy_user::events::record::{from_hex, to_hex};
use proxy_user::kernel::host_facts;

use super::output::{self, BAD, GOOD, HEADING};
use super::remote::Ask;
use super::request;

/// Bytes of a packet that are sent to the daemon: more than all headers that the gate reads.
const MAX_BYTES: usize = 2_048;

/// Show what becomes of a packet or a request, and why: each step, the rule, the map key
///
/// Of a packet the running daemon decides as its kernel programs do, over the live maps; with --config no daemon is asked, and
/// config and policies alone decide. Of a request every rule of the config's policies is shown, with the values it sees; no
/// daemon is asked. Nothing is counted or changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate explain --packet drops.pcap
  tidegate explain --packet drops.pcap --config edge.json
  tidegate explain --request 'POST https://shop.example/login' --header 'User-Agent: curl/8' --from 203.0.113.9
  tidegate explain --id 5e1f09c20000000007              a request that was blocked, by the id in its answer
  tidegate explain --packet 0200000000010200000000020800450000281234... --json
  tidegate explain --packet drops.pcap --interface eth1")]
pub(super) struct Args {
    /// The packet from its Ethernet header on: in hex, or a pcap or pcapng file with one or more
    #[arg(long, short, value_name = "HEX|FILE", required_unless_present_any = ["request", "id"], conflicts_with = "request")]
    packet: Option<String>,
    /// Id of a request that the running daemon refused lately, as it stands in the answer and in the access log
    #[arg(long, value_name = "REQUEST_ID", conflicts_with_all = ["packet", "request", "config"])]
    id: Option<String>,
    /// Interface that it came in on; the first of the gate unless named
    #[arg(long, short, value_name = "NAME", requires = "packet")]
    interface: Option<String>,
    #[command(flatten)]
    request: request::Args,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(id) = &args.id {
        return request::of_id(id, &args.ask);
    }
    let Some(packet) = &args.packet else {
        return request::run(&args.request, args.request.request.as_deref().unwrap_or_default(), args.ask.form.json);
    };
    let mut questions = questions(packet)?;
    for question in &mut questions {
        question.interface.clone_from(&args.interface);
    }
    let answers = if let Some(path) = &args.request.config {
        planned(path, &questions)?
    } else {
        let ask = |question: &Question| args.ask.socket.post::<Explanation>("/v1/explain", question);
        questions.iter().map(ask).collect::<anyhow::Result<Vec<_>>>()?
    };
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

/// Answers from a config and its policies, as a gate that was just started would give them.
fn planned(path: &Path, questions: &[Question]) -> anyhow::Result<Vec<Explanation>> {
    let (config, policies) = load::load_policies(path).map_err(|faults| anyhow!("{faults}"))?;
    let tables = Planned::new(&config, policies.kernel_image(), host_facts(&config));
    // For people; what is asked as JSON has stdout to itself.
    writeln!(
        anstream::stderr(),
        "note: decided by {} alone: no verdicts, no fragments seen, no rates used up; without --config the running \
         daemon is asked",
        path.display()
    )?;
    let names = &policies.kernel_image().names;
    let name = |slot: u32| {
        let found = names.iter().find(|(number, _)| *number == slot);
        found.map_or_else(|| format!("slot {slot}"), |(_, name)| name.clone())
    };
    let interfaces = interfaces(&config);
    questions
        .iter()
        .map(|question| {
            let asked = question.interface.as_ref();
            let found = interfaces.iter().find(|(name, _)| asked.is_none_or(|wanted| wanted == name));
            let interface = match (found, asked) {
                (Some((_, index)), _) => *index,
                (None, None) => LOOPBACK,
                (None, Some(name)) => bail!("the gate of {} has no interface `{name}`", path.display()),
            };
            let bytes = from_hex(&question.packet).map_err(anyhow::Error::msg)?;
            let length = question.length.map_or(bytes.len(), |length| length as usize);
            Ok(explain(&Snapshot { bytes: &bytes, length, interface }, &tables, &name))
        })
        .collect()
}

/// Packets from hex or from a file.
fn questions(text: &str) -> anyhow::Result<Vec<Question>> {
    let path = Path::new(text);
    let packets = if path.is_file() {
        let packets = File::open(path).map_err(anyhow::Error::from).and_then(packet_file::read);
        let packets = packets.with_context(|| format!("cannot read {}", path.display()))?;
        packets.iter().map(|packet| question(&packet.bytes, packet.length)).collect()
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
    Question { packet: to_hex(first), length: Some(length), interface: None }
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
        assert_eq!(one, [Question { packet: "02000a".to_owned(), length: Some(3), interface: None }]);
        let mut bytes = header(1);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 60, 0, 0, 0, 0xab, 0xcd]);
        let path = scratch("good", &bytes);
        let cut = questions(path.to_str().unwrap()).unwrap();
        assert_eq!(cut, [Question { packet: "abcd".to_owned(), length: Some(60), interface: None }]);
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
