//! `bench idle`: ten thousand TLS connections that have had one answer and wait, and what each costs the server in memory of its
//! own (`RssAnon`), for Tidegate and for nginx in the same run. What the kernel holds for sockets is not in it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Serialize;
use serde_json::json;

use crate::certs::Authority;
use crate::edge::SITE;
use crate::loopback::{ADDRESS, Loopback, free_ports};
use crate::origin::NGINX_FILES;
use crate::process::{Daemon, eventually};
use crate::scratch::Scratch;
use crate::tools;

/// Connections.
const CONNECTIONS: usize = 10_000;
/// Those before the first look at the memory: what a server makes once is not a connection's.
const WARM: usize = 200;
/// Threads that open them.
const OPENERS: usize = 8;
/// Files that a server or the clients may have open.
const FILES: u64 = 16_384;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may be idle.
const IDLE: &str = "3600s";
/// Bound of what one connection of Tidegate may cost, in bytes.
const BOUND: u64 = 64 << 10;
/// Workers of either server.
const WORKERS: u32 = 2;

/// What was asked for over each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    H1,
    H2,
}

/// A server's memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Held {
    /// Bytes of each idle connection.
    pub each: u64,
    /// Bytes in all, with every connection open.
    pub all: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Connections of each server.
    pub connections: usize,
    /// Tidegate over HTTP/1.1 and HTTP/2.
    pub tidegate: [Held; 2],
    /// nginx, likewise.
    pub nginx: [Held; 2],
    /// Whether Tidegate stays below the bound.
    pub ok: bool,
}

/// Runs it; `say` is told of progress.
pub fn run_all(mut say: impl FnMut(&str)) -> Result<Report> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(hard >= FILES, "{FILES} open files are needed, and at most {hard} allowed: `ulimit -Hn`");
    setrlimit(Resource::RLIMIT_NOFILE, FILES, hard).context("the bound on open files")?;
    let mut held = Vec::new();
    for protocol in [Protocol::H1, Protocol::H2] {
        say(&format!("{CONNECTIONS} connections to Tidegate, {protocol:?}"));
        let edge = Loopback::start(|config, _| {
            config["workers"] = json!(WORKERS);
            config["routes"] = json!([{ "path": "/", "respond": { "body": crate::origin::BODY } }]);
            config["limits"] = json!({ "connections_per_source": 2 * CONNECTIONS });
            config["timeouts"] = json!({ "idle": IDLE });
            Ok(())
        })?;
        let target = format!("{ADDRESS}:{}", edge.https).parse()?;
        let tidegate = measured(target, &edge.authority().pem(), protocol, &[edge.daemon().pid()])?;
        drop(edge);
        say(&format!("{CONNECTIONS} connections to nginx, {protocol:?}"));
        let nginx = Nginx::start(protocol)?;
        held.push((tidegate, measured(nginx.address, &nginx.authority.pem(), protocol, &nginx.processes()?)?));
    }
    let [(h1, nginx_h1), (h2, nginx_h2)] = held[..] else { anyhow::bail!("two protocols were measured") };
    let ok = [h1, h2].iter().all(|held| held.each <= BOUND);
    Ok(Report { connections: CONNECTIONS, tidegate: [h1, h2], nginx: [nginx_h1, nginx_h2], ok })
}

/// Opens the connections, and looks at the server's memory before and with them.
fn measured(target: SocketAddr, ca: &Path, protocol: Protocol, processes: &[u32]) -> Result<Held> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![if protocol == Protocol::H1 { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
    let tls = Arc::new(tls);
    let _warm = open(target, &tls, protocol, WARM)?;
    let before = memory(processes)?;
    let _idle = open(target, &tls, protocol, CONNECTIONS)?;
    let all = memory(processes)?;
    Ok(Held { each: all.saturating_sub(before) / CONNECTIONS as u64, all })
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// So many connections that have had an answer.
fn open(target: SocketAddr, tls: &Arc<ClientConfig>, protocol: Protocol, count: usize) -> Result<Vec<Stream>> {
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|opener| {
                let share = count / OPENERS + usize::from(opener < count % OPENERS);
                scope.spawn(move || (0..share).map(|_| one(target, tls, protocol)).collect::<Result<Vec<_>>>())
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for opener in openers {
            all.extend(opener.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok(all)
    })
}

fn one(target: SocketAddr, tls: &Arc<ClientConfig>, protocol: Protocol) -> Result<Stream> {
    let tcp = TcpStream::connect_timeout(&target, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let session = ClientConnection::new(Arc::clone(tls), ServerName::try_from(SITE)?)?;
    let mut stream = StreamOwned::new(session, tcp);
    match protocol {
        Protocol::H1 => {
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {SITE}\r\n\r\n").as_bytes())?;
            let mut answer = Vec::new();
            while !answer.ends_with(crate::origin::BODY.as_bytes()) {
                let mut piece = [0; 1_024];
                let count = stream.read(&mut piece)?;
                ensure!(count > 0, "the server closed: {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..count]);
            }
        }
        Protocol::H2 => {
            stream.write_all(&h2_request())?;
            h2_answer(&mut stream)?;
        }
    }
    Ok(stream)
}

/// Preface, empty SETTINGS, and a GET by literals of HPACK (RFC 7541 section 6.2.2).
fn h2_request() -> Vec<u8> {
    let mut block = b"\x82\x87\x84\x01".to_vec();
    block.push(SITE.len() as u8);
    block.extend_from_slice(SITE.as_bytes());
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    wire.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    wire.extend_from_slice(&block);
    wire
}

/// Reads frames until one ends the stream, and acknowledges the settings.
fn h2_answer(stream: &mut Stream) -> Result<()> {
    const END_STREAM: u8 = 1;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).context("the server closed")?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        match kind {
            0 | 1 if flags & END_STREAM != 0 => return Ok(()),
            4 if flags & 1 == 0 => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0")?,
            3 | 7 => anyhow::bail!("the server refused: frame {kind}, {payload:?}"),
            _ => {}
        }
    }
}

/// Bytes of these processes that no file stands behind (`proc_pid_status(5)`).
fn memory(processes: &[u32]) -> Result<u64> {
    let mut bytes = 0;
    for process in processes {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        bytes += line.trim().trim_end_matches(" kB").parse::<u64>()? << 10;
    }
    Ok(bytes)
}

/// nginx with the same page.
struct Nginx {
    daemon: Daemon,
    address: SocketAddr,
    authority: Authority,
    _scratch: Scratch,
}

impl Nginx {
    fn start(protocol: Protocol) -> Result<Self> {
        let scratch = Scratch::new()?;
        let dir = scratch.path();
        let authority = Authority::new(dir)?;
        let leaf = authority.leaf("nginx", &[SITE], 1)?;
        let [port] = free_ports()?;
        let http2 = if protocol == Protocol::H2 { " http2" } else { "" };
        let (cert, key, body) = (leaf.cert.display(), leaf.key.display(), crate::origin::BODY.trim_end());
        let config = format!(
            "daemon off;
worker_processes {WORKERS};
worker_rlimit_nofile {FILES};
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections {FILES}; }}
http {{
  access_log off;
{NGINX_FILES}  keepalive_timeout {IDLE};
  server {{
    listen {ADDRESS}:{port} ssl{http2} backlog=4096;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location / {{ return 200 \"{body}\\n\"; }}
  }}
}}
"
        );
        std::fs::write(dir.join("nginx.conf"), config)?;
        let mut command = Command::new(tools::find("nginx")?);
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(dir);
        let daemon = Daemon::spawn(command, &dir.join("nginx.log"))?;
        let address: SocketAddr = format!("{ADDRESS}:{port}").parse()?;
        eventually("nginx's start", PATIENCE, || Ok(TcpStream::connect(address).map(drop)?))
            .with_context(|| daemon.log_tail())?;
        Ok(Self { daemon, address, authority, _scratch: scratch })
    }

    /// Its master and its workers.
    fn processes(&self) -> Result<Vec<u32>> {
        let master = self.daemon.pid();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let workers: Vec<u32> = children.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(workers.len() == WORKERS as usize, "nginx has the children {children}");
        Ok([vec![master], workers].concat())
    }
}

/// The report for people.
pub fn table(report: &Report) -> String {
    let mut text = format!(
        "{} idle TLS connections, bytes of memory each (and MiB in all)\n\n{:<10} {:>18} {:>18}\n",
        report.connections, "", "Tidegate", "nginx"
    );
    // Writing to a string does not fail.
    for (name, (ours, theirs)) in ["HTTP/1.1", "HTTP/2"].iter().zip(report.tidegate.iter().zip(&report.nginx)) {
        let cell = |held: &Held| format!("{} ({})", held.each, held.all >> 20);
        let _ = writeln!(text, "{name:<10} {:>18} {:>18}", cell(ours), cell(theirs));
    }
    text
}
