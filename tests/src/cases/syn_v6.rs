//! SYN cookies over IPv6: the way in and out of the mode under a bounded flood from spoofed sources, several workers behind
//! `steer` while cookies are on, and acknowledgments that no handshake stands behind.

use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket};
use serde_json::json;

use super::Case;
use super::syn::{SHOWS_WITHIN, edge_with, tcp_ext, with_cookies};
use crate::clients::Version;
use crate::netns::Netns;
use crate::packets::{ACK, Frame, SYN};
use crate::random::Random;
use crate::street::EDGE_V6;

pub const CASES: &[Case] = &[
    Case { name: "auto_follows_a_flood_and_returns", run: auto_follows_a_flood },
    Case { name: "several_workers_take_cookies", run: several_workers },
    Case { name: "bogus_acks_open_nothing", run: bogus_acks },
];

/// Spoofed sources: addresses that nothing routes to.
const SPOOFED: u128 = 0xfd99 << 112;
/// Time between two packets of the flood: at most 500 a second.
const BETWEEN: Duration = Duration::from_millis(2);
/// The flood ends by itself after this.
const LONGEST: Duration = Duration::from_secs(90);
/// Acknowledgments that no handshake stands behind.
const BOGUS: u64 = 50;
/// Connections over the workers: that all go to one of four is as good as impossible.
const CONNECTIONS: u64 = 40;
const HEADER: usize = 40;
const ETHER: usize = 14;
const CHECKSUM: usize = HEADER + 16;

/// A TCP segment to the edge's HTTPS port as an IPv6 packet with its checksum.
fn segment(source: Ipv6Addr, flags: u8, random: &mut Random) -> Result<Vec<u8>> {
    let mut upper = [(random.between(1_024, 65_535) as u16).to_be_bytes(), 443_u16.to_be_bytes()].concat();
    upper.extend(random.word().to_be_bytes());
    upper.extend([6 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 5, 0xa0]);
    let to: Ipv6Addr = EDGE_V6.parse()?;
    let length = upper.len() as u16;
    let mut packet = Frame::between(source.into(), to.into(), 6, upper).build().split_off(ETHER);
    // RFC 8200 section 8.1: addresses, length, protocol, then the segment.
    let pairs = packet[8..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = pairs.sum::<u32>() + u32::from(length) + 6;
    let folded = (1..3).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    packet[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    Ok(packet)
}

/// Sends such segments from spoofed sources until told to stop, at most `count`.
fn send(netns: &Netns, flags: u8, count: u64, stop: &AtomicBool) -> Result<()> {
    netns.enter(|| {
        // With this protocol the socket takes whole packets.
        let raw = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
        let to = SockaddrIn6::from(SocketAddrV6::new(EDGE_V6.parse()?, 0, 0, 0));
        let (mut random, begun) = (Random::new(1), Instant::now());
        let mut sent = 0;
        while sent < count && begun.elapsed() < LONGEST && !stop.load(Ordering::Relaxed) {
            let source = Ipv6Addr::from_bits(SPOOFED | u128::from(random.word()));
            sendto(raw.as_raw_fd(), &segment(source, flags, &mut random)?, &to, MsgFlags::empty())?;
            sent += 1;
            std::thread::sleep(BETWEEN);
        }
        Ok(())
    })?
}

fn auto_follows_a_flood() -> Result<()> {
    let (_peer, edge) = edge_with(&json!({ "mode": "auto", "threshold": 40, "release": 20, "hold": "2s" }))?;
    edge.good_v6().expect_origin(Version::H2, "https://edge.test/")?;
    ensure!(with_cookies(&edge)?.is_empty(), "cookies are on without a flood");
    let attacked = format!("[{EDGE_V6}]:443");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let flood = scope.spawn(|| send(&edge.street.scanner, SYN, u64::MAX, &stop));
        let under = || -> Result<()> {
            edge.until("SYN cookies under the flood", SHOWS_WITHIN, || Ok(with_cookies(&edge)? == [attacked.clone()]))?;
            edge.until("answers from XDP", SHOWS_WITHIN, || Ok(edge.packets("syn_cookie")? >= 200))?;
            let before = tcp_ext(&edge.street.edge, "SyncookiesRecv")?;
            for _ in 0..5 {
                edge.good_v6().expect_origin(Version::H2, "https://edge.test/")?;
                // The other family's listener is not attacked, and has no cookies.
                edge.good().expect_origin(Version::H1, "https://edge.test/")?;
            }
            let taken = tcp_ext(&edge.street.edge, "SyncookiesRecv")? - before;
            ensure!(taken >= 5, "the kernel took {taken} cookies of good clients");
            Ok(())
        };
        let result = under();
        stop.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?.context("the flood")?;
        result
    })?;
    edge.until("the end of SYN cookies", SHOWS_WITHIN, || Ok(with_cookies(&edge)?.is_empty()))?;
    let after = edge.packets("syn_cookie")?;
    edge.good_v6().expect_origin(Version::H2, "https://edge.test/")?;
    ensure!(edge.packets("syn_cookie")? == after, "a SYN was still answered by XDP");
    Ok(())
}

fn several_workers() -> Result<()> {
    let (_peer, edge) = edge_with(&json!({ "mode": "always" }))?;
    let before = edge.workers()?;
    ensure!(before.len() >= 2, "{} workers", before.len());
    let taken = tcp_ext(&edge.street.edge, "SyncookiesRecv")?;
    let to = std::net::SocketAddr::new(EDGE_V6.parse()?, 443);
    let held: Vec<TcpStream> = edge.street.good.enter(|| -> Result<Vec<TcpStream>> {
        (0..CONNECTIONS).map(|_| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(20))?)).collect()
    })??;
    let spread = || -> Result<Vec<u64>> {
        Ok(edge.workers()?.iter().zip(&before).map(|(now, before)| now.0 - before.0).collect())
    };
    // Each acknowledgment finds the listener that its SYN's cookie was made for, whatever the loads are by then.
    edge.until("the workers' connections", SHOWS_WITHIN, || Ok(spread()?.iter().sum::<u64>() == CONNECTIONS))
        .with_context(|| format!("{:?}", spread()))?;
    let spread = spread()?;
    ensure!(spread.iter().filter(|count| **count > 0).count() >= 2, "all came to one worker: {spread:?}");
    let taken = tcp_ext(&edge.street.edge, "SyncookiesRecv")? - taken;
    ensure!(taken >= CONNECTIONS, "the kernel took {taken} cookies of {CONNECTIONS} connections");
    ensure!(edge.packets("syn_cookie")? >= CONNECTIONS, "the SYNs were not all answered by XDP");
    ensure!(edge.packets("syn_cookie_bad")? == 0, "an honest acknowledgment was dropped");
    drop(held);
    edge.good_v6().expect_origin(Version::H2, "https://edge.test/")?;
    Ok(())
}

fn bogus_acks() -> Result<()> {
    let (_peer, edge) = edge_with(&json!({ "mode": "always" }))?;
    // The kernel takes cookies from now on.
    edge.good_v6().expect_origin(Version::H1, "https://edge.test/")?;
    let accepted = || -> Result<u64> { Ok(edge.workers()?.iter().map(|worker| worker.0).sum()) };
    let before = accepted()?;
    send(&edge.street.scanner, ACK, BOGUS, &AtomicBool::new(false))?;
    edge.until("the drop of bogus acknowledgments", SHOWS_WITHIN, || Ok(edge.packets("syn_cookie_bad")? >= BOGUS))?;
    ensure!(accepted()? == before, "an acknowledgment without a handshake opened a connection");
    edge.good_v6().expect_origin(Version::H1, "https://edge.test/")?;
    Ok(())
}
