//! The gate on interfaces: attached, enforcing, and kept over a crash. These cases want `ip` and `tidegate` only: they also
//! run on the kernels that `cargo xtask test --kernels` boots.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_common::same_host::CREDIT_BYTES;
use serde_json::{Value, json};

use super::Case;
use super::bodies::pattern;
use crate::porch::{Knock, PORT, Porch};
use crate::process::{eventually, patient};

pub const CASES: &[Case] = &[
    Case { name: "driver_mode_drops_and_outlives_the_daemon", run: || drops_and_outlives("driver") },
    Case { name: "generic_mode_drops_and_outlives_the_daemon", run: || drops_and_outlives("generic") },
    Case { name: "an_abandoned_gate_stands_open_or_closed_as_told", run: open_or_closed },
    Case { name: "tcp_syncookies_is_set_back_after_a_kill", run: syncookies_are_set_back },
    Case { name: "several_interfaces_come_and_go_by_reload", run: several_interfaces },
    Case { name: "jumbo_frames_pass_and_are_dropped_whole", run: jumbo_frames },
    Case { name: "responses_of_this_host_are_handed_over", run: handed_over },
];

/// Where the kernel has bonds.
pub const BOND_CASES: &[Case] = &[Case { name: "a_bond_carries_the_gate_in_its_ports", run: a_bond }];

/// Where the kernel has VLANs.
pub const VLAN_CASES: &[Case] = &[Case { name: "a_vlan_carries_the_gate_and_so_does_its_parent", run: a_vlan }];

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Longer than the `fail_after` of the cases, which is the least that a config takes.
const ABANDONED: Duration = Duration::from_secs(5);

fn drops_and_outlives(mode: &str) -> Result<()> {
    let mut porch = Porch::build(1)?;
    porch.config["gate"]["mode"] = mode.into();
    porch.launch()?;
    let status = porch.ctl(&["status", "--json"])?;
    ensure!(status["kernel"]["interfaces"][0] == serde_json::json!({ "name": "wan0", "mode": mode }), "{status}");
    porch.until_knock(0, Knock::Taken).context("an open gate")?;
    porch.ban(0)?;
    ensure!(porch.knock(0)? == Knock::Silence, "a banned source is let by");
    let (packets, bytes) = porch.counted("verdict")?;
    // Segments of the connection before may be among them: from Ethernet, IPv4 and TCP without options to a SYN of Linux.
    ensure!(packets > 0 && (packets * 54..=packets * 74).contains(&bytes), "{packets} packets, {bytes} bytes");
    porch.crash()?;
    ensure!(porch.knock(0)? == Knock::Silence, "the gate went with the daemon");
    porch.launch()?;
    ensure!(porch.knock(0)? == Knock::Silence, "the restarted daemon lets a banned source by");
    ensure!(porch.counted("verdict")?.0 > packets, "the counters were lost");
    porch.ctl(&["verdict", "remove", &Porch::client(0)])?;
    porch.until_knock(0, Knock::Taken).context("after the verdict was removed")?;
    porch.stop()
}

fn open_or_closed() -> Result<()> {
    let mut porch = Porch::build(1)?;
    porch.config["gate"]["fail"] = "open".into();
    porch.config["gate"]["fail_after"] = "3s".into();
    porch.launch()?;
    porch.ban(0)?;
    ensure!(porch.knock(0)? == Knock::Silence, "a banned source is let by while the daemon is there");
    ensure!(
        porch.ctl(&["status", "--json"])?["kernel"]["open_after_seconds"] == json!(3.0),
        "the status does not tell"
    );
    porch.crash()?;
    // Nobody listens any more: what passes is refused by the kernel.
    porch.until_knock(0, Knock::Refused).context("the abandoned gate")?;
    let doctor = porch.diagnosis("heartbeat")?;
    ensure!(doctor["level"] == "fail", "doctor does not tell: {doctor}");
    porch.launch()?;
    ensure!(porch.knock(0)? == Knock::Silence, "the restarted daemon does not enforce");
    ensure!(porch.counted("unattended")?.0 > 0, "what passed meanwhile was not counted");

    porch.config["gate"]["fail"] = "closed".into();
    let reloaded = porch.reload()?;
    ensure!(reloaded["needs_restart"] == json!([]), "{reloaded}");
    let passed = porch.counted("unattended")?.0;
    porch.crash()?;
    std::thread::sleep(ABANDONED);
    ensure!(porch.knock(0)? == Knock::Silence, "a closed gate opened");
    ensure!(porch.diagnosis("heartbeat")?["level"] == "warn", "doctor does not tell that the daemon is gone");
    porch.launch()?;
    ensure!(porch.counted("unattended")?.0 == passed, "packets passed a closed gate as unattended");
    ensure!(porch.diagnosis("heartbeat")?["level"] == "ok", "doctor does not see the daemon");
    porch.stop()
}

/// `net.ipv4.tcp_syncookies` of the edge.
fn syncookies(porch: &Porch) -> Result<String> {
    Ok(porch.edge.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies"))??.trim().to_owned())
}

fn syncookies_are_set_back() -> Result<()> {
    let mut porch = Porch::build(1)?;
    porch.edge.sysctl("net/ipv4/tcp_syncookies", "1")?;
    for by_unload in [false, true] {
        porch.config["gate"]["syn_cookies"] = json!({ "mode": "always" });
        porch.launch()?;
        ensure!(syncookies(&porch)? == "2", "not raised: {}", porch.log());
        porch.crash()?;
        ensure!(syncookies(&porch)? == "2", "who set it back?");
        if by_unload {
            porch.run(&["unload"])?;
        } else {
            porch.config["gate"]["syn_cookies"] = json!({ "mode": "off" });
            porch.launch()?;
            porch.stop()?;
        }
        ensure!(syncookies(&porch)? == "1", "left raised, unload {by_unload}");
    }
    // One that ends in order sets it back by itself.
    porch.launch()?;
    ensure!(syncookies(&porch)? == "2", "not raised: {}", porch.log());
    porch.stop()?;
    ensure!(syncookies(&porch)? == "1", "left raised by a daemon that ended");
    Ok(())
}

/// Interfaces that the status names.
fn attached(porch: &Porch) -> Result<Value> {
    Ok(porch.ctl(&["status", "--json"])?["kernel"]["interfaces"].take())
}

fn several_interfaces() -> Result<()> {
    let mut porch = Porch::build(3)?;
    porch.config["gate"]["mode"] = "auto".into();
    porch.config["gate"]["interfaces"] = json!(["wan0", "wan1"]);
    porch.launch()?;
    for n in 0..3 {
        porch.ban(n)?;
    }
    let mut dropped = porch.counted("verdict")?.0;
    for n in 0..2 {
        ensure!(porch.knock(n)? == Knock::Silence, "pair {n} is open");
        let now = porch.counted("verdict")?.0;
        ensure!(now > dropped, "what was dropped on pair {n} is not counted");
        dropped = now;
    }
    porch.until_knock(2, Knock::Taken).context("a pair without the gate")?;

    let stays = porch.link("wan1")?;
    porch.config["gate"]["interfaces"] = json!(["wan1", "wan2"]);
    let reloaded = porch.reload()?;
    ensure!(reloaded["needs_restart"] == json!([]), "{reloaded}");
    let driver = |name: &str| json!({ "name": name, "mode": "driver" });
    ensure!(attached(&porch)? == json!([driver("wan1"), driver("wan2")]), "{}", attached(&porch)?);
    ensure!(porch.link("wan1")? == stays, "the interface that stays was attached anew");
    ensure!(porch.knock(1)? == Knock::Silence && porch.knock(2)? == Knock::Silence, "a pair with the gate is open");
    porch.until_knock(0, Knock::Taken).context("the pair that was let go")?;

    // One that is not there: nothing changes.
    porch.config["gate"]["interfaces"] = json!(["wan0", "nowhere"]);
    ensure!(porch.reload().is_err(), "an interface that is not there was taken");
    ensure!(attached(&porch)? == json!([driver("wan1"), driver("wan2")]), "{}", attached(&porch)?);
    ensure!(porch.knock(1)? == Knock::Silence, "a failed reload opened the gate");
    porch.until_knock(0, Knock::Taken).context("the pair that a failed reload named")?;
    porch.stop()
}

fn a_bond() -> Result<()> {
    let mut porch = Porch::build(1)?;
    let edge = &porch.edge;
    for words in [
        "address flush dev wan0",
        "link set wan0 down",
        "link add bond0 type bond mode active-backup",
        "link set wan0 master bond0",
        "link set bond0 up",
        "link set wan0 up",
        "address add 10.81.0.1/24 dev bond0",
    ] {
        edge.ip(words)?;
    }
    porch.config["gate"]["interfaces"] = json!(["bond0"]);
    porch.launch()?;
    ensure!(attached(&porch)? == json!([{ "name": "bond0", "mode": "driver" }]), "{}", attached(&porch)?);
    porch.until_knock(0, Knock::Taken)?;
    porch.ban(0)?;
    ensure!(porch.knock(0)? == Knock::Silence, "a banned source is let by");
    ensure!(porch.counted("verdict")?.0 > 0, "the drop is not counted");
    ensure!(porch.diagnosis("bond0: bond")?["level"] == "ok", "doctor does not know the bond");
    porch.stop()
}

fn a_vlan() -> Result<()> {
    let mut porch = Porch::build(1)?;
    for (netns, parent, address) in [(&porch.edge, "wan0", "10.81.0.1/24"), (&porch.far, "far0", "10.81.0.2/24")] {
        for words in [
            format!("address flush dev {parent}"),
            format!("link add link {parent} name {parent}.7 type vlan id 7"),
            format!("link set {parent}.7 up"),
            format!("address add {address} dev {parent}.7"),
        ] {
            netns.ip(&words)?;
        }
    }
    for (interface, asked, mode) in [("wan0.7", "auto", "generic"), ("wan0", "driver", "driver")] {
        porch.config["gate"]["interfaces"] = json!([interface]);
        porch.config["gate"]["mode"] = asked.into();
        porch.launch()?;
        ensure!(attached(&porch)? == json!([{ "name": interface, "mode": mode }]), "{}", attached(&porch)?);
        porch.until_knock(0, Knock::Taken)?;
        porch.ban(0)?;
        ensure!(porch.knock(0)? == Knock::Silence, "a banned source is let by on {interface}");
        porch.ctl(&["verdict", "remove", &Porch::client(0)])?;
        if interface == "wan0.7" {
            ensure!(porch.diagnosis("wan0.7: vlan")?["level"] == "warn", "doctor does not know the VLAN");
        }
        porch.stop()?;
        porch.run(&["unload"])?;
    }
    Ok(())
}

/// A port that the daemon does not listen on.
const OTHER_PORT: u16 = 7_000;
/// Bytes of each datagram: with its headers a frame beyond what lies in one page, below the MTU.
const JUMBO: usize = 8_900;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: u64 = 14 + 20 + 8;
/// Datagrams of a run.
const DATAGRAMS: u64 = 20;
/// Bytes of the transfer.
const TRANSFER: usize = 16 << 20;
const WAIT: Duration = Duration::from_secs(60);

fn jumbo_frames() -> Result<()> {
    let mut porch = Porch::build(2)?;
    for n in 0..2 {
        porch.edge.ip(&format!("link set wan{n} mtu 9000"))?;
        porch.far.ip(&format!("link set far{n} mtu 9000"))?;
    }
    porch.config["gate"]["scope"] = "all".into();
    porch.config["gate"]["interfaces"] = json!(["wan0", "wan1"]);
    porch.launch()?;
    let target = SocketAddr::new(Porch::near(0), OTHER_PORT);
    let receiver = porch.edge.enter(|| UdpSocket::bind(target))??;
    let sender = porch.far.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    receiver.set_read_timeout(Some(patient(WAIT)))?;
    let malformed = porch.counted("malformed")?;
    let mut room = vec![0; 1 << 16];
    for n in 0..DATAGRAMS {
        sender.send_to(&[n as u8; JUMBO], target)?;
        let (length, _) = receiver.recv_from(&mut room).context("a large datagram did not arrive")?;
        ensure!(room[..length] == [n as u8; JUMBO], "datagram {n} arrived otherwise");
    }
    transfer(&porch, target).context("a large transfer")?;
    ensure!(porch.counted("malformed")? == malformed, "a frame in several buffers counts as malformed");

    // The other pair's client, of whom nothing else is under way.
    porch.ban(1)?;
    let before = porch.counted("verdict")?;
    for _ in 0..DATAGRAMS {
        sender.send_to(&[0; JUMBO], (Porch::near(1), OTHER_PORT))?;
    }
    eventually("the drops", patient(WAIT), || {
        let (packets, _) = porch.counted("verdict")?;
        ensure!(packets >= before.0 + DATAGRAMS, "{packets}");
        Ok(())
    })?;
    let (packets, bytes) = porch.counted("verdict")?;
    let wanted = DATAGRAMS * (JUMBO as u64 + HEADERS);
    ensure!((packets - before.0, bytes - before.1) == (DATAGRAMS, wanted), "{packets} and {bytes}, before {before:?}");
    porch.stop()
}

/// Sends bytes over TCP to a listener that is not the daemon's, and has it count them.
fn transfer(porch: &Porch, target: SocketAddr) -> Result<()> {
    let listener = porch.edge.enter(|| TcpListener::bind(target))??;
    let receiving = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(patient(WAIT)))?;
        std::io::copy(&mut stream, &mut std::io::sink())
    });
    let mut stream = porch.far.enter(|| TcpStream::connect_timeout(&target, patient(WAIT)))??;
    stream.set_write_timeout(Some(patient(WAIT)))?;
    stream.write_all(&vec![7; TRANSFER])?;
    drop(stream);
    let received = receiving.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    ensure!(received == TRANSFER as u64, "{received} of {TRANSFER} bytes arrived");
    Ok(())
}

/// Bodies of [`handed_over`]: within the credit of `same_host`, beyond it, and within it again.
const BODIES: [usize; 3] = [10_000, 3 * CREDIT_BYTES as usize, 20_000];
/// What the server writes at once.
const PIECE: usize = 5_000;

/// A server of the tests in the daemon's own namespace: each of three responses over one connection comes as it was sent,
/// whichever way the kernel brings it.
fn handed_over() -> Result<()> {
    let mut porch = Porch::build(1)?;
    let listener = porch.edge.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
    let server = listener.local_addr()?;
    porch.config["upstreams"]["none"] = json!({ "servers": [format!("http://{server}")], "same_host": true });
    porch.launch()?;
    let serve = move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(patient(ANSWER)))?;
        stream.set_nodelay(true)?;
        for bytes in BODIES {
            head(&mut stream)?;
            stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").as_bytes())?;
            for piece in pattern(bytes).chunks(PIECE) {
                stream.write_all(piece)?;
            }
        }
        Ok(())
    };
    let server = std::thread::spawn(serve);
    let to = SocketAddr::from((Porch::near(0), PORT));
    let mut stream = porch.far.enter(|| TcpStream::connect_timeout(&to, patient(ANSWER)))??;
    stream.set_read_timeout(Some(patient(ANSWER)))?;
    for bytes in BODIES {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")?;
        let head = head(&mut stream)?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut read = vec![0; bytes];
        stream.read_exact(&mut read)?;
        ensure!(read == pattern(bytes), "a body of {bytes} bytes differs");
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    let status = porch.ctl(&["status", "--json"])?;
    let bytes = |way: &str| status["same_host"]["sent"][way]["bytes"].as_u64().with_context(|| format!("{status}"));
    let (handed, tcp) = (bytes("handed_over")?, bytes("tcp")?);
    let within = (BODIES[0] + BODIES[2]) as u64;
    ensure!(handed > within && handed < within + CREDIT_BYTES, "{handed} bytes were handed over");
    ensure!(tcp > CREDIT_BYTES && tcp < 3 * CREDIT_BYTES, "{tcp} bytes went through TCP");
    Ok(())
}

/// A message's header, read up to its empty line.
pub(super) fn head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head)?)
}
