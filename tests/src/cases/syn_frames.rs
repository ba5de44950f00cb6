//! SYN cookies frame by frame (`BPF_PROG_TEST_RUN`): what cannot be wired on every machine, VLAN tags above all. Each SYN
//! must come back as an answer that a client would take, and of the acknowledgments only the one with its cookie may pass.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::packets::{ACK, Frame, QINQ, RST, SYN, VLAN};
use crate::syn_gate::{PORT, SynGate};
use crate::verdict_table::{EDGE, EDGE6};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const CLIENT: &str = "9.9.9.9";
const CLIENT6: &str = "2606:4700::9";
const SPORT: u16 = 40_001;
const SEQ: u32 = 0x0102_0304;
const MACS: usize = 6;
const ETHER: usize = 14;

/// Ignored where the programs cannot be loaded.
pub fn trial(skip: bool) -> Trial {
    let check = || {
        // Loading moves its thread into another network namespace: not this one.
        let thread = std::thread::spawn(all);
        let result = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")));
        result.map_err(|error| Failed::from(format!("{error:#}")))
    };
    Trial::test("syn_frames::cookies behind VLAN tags", check).with_ignored_flag(skip)
}

fn all() -> Result<()> {
    let gate = SynGate::load("syn-frames")?;
    for (family, src, dst) in [("IPv4", CLIENT, EDGE), ("IPv6", CLIENT6, EDGE6)] {
        for tags in [&[][..], &[VLAN], &[QINQ], &[QINQ, VLAN], &[VLAN, VLAN]] {
            handshake(&gate, src, dst, tags).with_context(|| format!("{family}, tags {tags:x?}"))?;
        }
        untouched(&gate, src, dst).with_context(|| family.to_owned())?;
    }
    Ok(())
}

/// A TCP segment with options, behind tags.
fn segment(src: &str, dst: &str, tags: &[u16], (flags, seq, ack): (u8, u32, u32), options: &[u8]) -> Frame {
    let mut upper = [SPORT.to_be_bytes(), PORT.to_be_bytes()].concat();
    upper.extend(seq.to_be_bytes());
    upper.extend(ack.to_be_bytes());
    upper.extend([((5 + options.len() / 4) as u8) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    upper.extend(options);
    tags.iter().fold(Frame::new(src, dst, 6, upper), |frame, tag| frame.vlan(*tag, 0x2007))
}

fn handshake(gate: &SynGate, src: &str, dst: &str, tags: &[u16]) -> Result<()> {
    let options = [2, 4, 5, 0xa0, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
    let syn = segment(src, dst, tags, (SYN, SEQ, 0), &options).build();
    let (action, answer) = gate.frame(&syn)?;
    ensure!(action == XDP_TX, "a SYN is answered by {action}, not sent back");
    let cookie = answered(&syn, &answer, tags.len(), src.contains(':'))?;

    let ack = |ack: u32, flags| segment(src, dst, tags, (flags, SEQ + 1, ack), &[]).build();
    let good = ack(cookie.wrapping_add(1), ACK);
    let (action, after) = gate.frame(&good)?;
    ensure!(action == XDP_PASS && after == good, "the acknowledgment of the cookie comes to {action}");
    for (what, bytes, wanted) in [
        // Its low bits name one of four MSS: a neighbour may be a cookie too, what is farther off is none.
        ("another MSS than there is", ack(cookie.wrapping_add(0x0010_0001), ACK), XDP_DROP),
        ("a cookie of another time", ack(cookie.wrapping_add(0x4000_0001), ACK), XDP_DROP),
        ("a number of no kind", ack(0xdead_beef, ACK), XDP_DROP),
        ("a reset", ack(0xdead_beef, RST), XDP_PASS),
        (
            "another port",
            segment(src, dst, tags, (ACK, SEQ + 1, 7), &[]).lie(ETHER + 4 * tags.len() + ports(src), &[0, 9]).build(),
            XDP_PASS,
        ),
    ] {
        let (action, _) = gate.frame(&bytes)?;
        ensure!(action == wanted, "the acknowledgment of {what} comes to {action}, not {wanted}");
    }
    Ok(())
}

/// Offset of the destination port in the IP packet.
fn ports(src: &str) -> usize {
    if src.contains(':') { 42 } else { 22 }
}

/// What is wrong with the answer to a SYN; its cookie otherwise.
fn answered(syn: &[u8], answer: &[u8], tags: usize, v6: bool) -> Result<u32> {
    let ip = ETHER + 4 * tags;
    let (header, address) = if v6 { (40, 16) } else { (20, 4) };
    let source = ip + if v6 { 8 } else { 12 };
    let tcp = ip + header;
    ensure!(answer.len() >= tcp + 24, "{} bytes are too few for an answer with an MSS", answer.len());
    ensure!(answer[..MACS] == syn[MACS..2 * MACS] && answer[MACS..2 * MACS] == syn[..MACS], "hardware addresses");
    ensure!(answer[2 * MACS..ip] == syn[2 * MACS..ip], "the tags are not kept");
    ensure!(answer[source..source + address] == syn[source + address..source + 2 * address], "source address");
    ensure!(answer[source + address..source + 2 * address] == syn[source..source + address], "destination address");
    ensure!(answer[tcp..tcp + 2] == syn[tcp + 2..tcp + 4] && answer[tcp + 2..tcp + 4] == syn[tcp..tcp + 2], "ports");
    ensure!(answer[tcp + 13] == SYN | ACK, "flags {:#x}", answer[tcp + 13]);
    let word = |at: usize| u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    ensure!(word(tcp + 8) == SEQ + 1, "it acknowledges {:#x}", word(tcp + 8));
    let length = usize::from(answer[tcp + 12] >> 4) * 4;
    ensure!(length >= 24 && answer[tcp + 20..tcp + 22] == [2, 4], "no MSS");
    let said = usize::from(u16::from_be_bytes([answer[ip + 2], answer[ip + 3]]));
    let said6 = usize::from(u16::from_be_bytes([answer[ip + 4], answer[ip + 5]]));
    let wanted = answer.len() - ip - if v6 { header } else { 0 };
    ensure!(if v6 { said6 } else { said } == wanted && answer.len() == tcp + length, "lengths do not agree");
    if !v6 {
        ensure!(folded(&[&answer[ip..tcp]]) == 0xffff, "the IPv4 checksum is wrong");
    }
    let pseudo = [0, 6, (length >> 8) as u8, length as u8];
    let addresses = &answer[source..source + 2 * address];
    ensure!(folded(&[addresses, &pseudo, &answer[tcp..]]) == 0xffff, "the TCP checksum is wrong");
    Ok(word(tcp + 4))
}

/// RFC 1071 over pieces of even length; 0xffff where the checksum inside is right.
fn folded(pieces: &[&[u8]]) -> u32 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    (1..3).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16))
}

/// What `front_syn` leaves to the kernel, unchanged.
fn untouched(gate: &SynGate, src: &str, dst: &str) -> Result<()> {
    let syn = |tags: &[u16]| segment(src, dst, tags, (SYN, SEQ, 0), &[2, 4, 5, 0xa0]);
    for (what, frame) in [
        ("three tags", syn(&[VLAN, VLAN, VLAN])),
        ("a fragment behind a tag", syn(&[VLAN]).fragment(0, true)),
        ("a SYN that acknowledges", segment(src, dst, &[VLAN], (SYN | ACK, SEQ, 7), &[])),
    ] {
        let bytes = frame.build();
        let (action, after) = gate.frame(&bytes)?;
        ensure!(action == XDP_PASS && after == bytes, "{what}: {action}");
    }
    Ok(())
}
